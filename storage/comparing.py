"""Comparing: what a list would change against what its source holds, without storing any of it."""

from collections.abc import Iterable

from policy.rules import Rule, Traits
from storage import entries, loading, staging
from storage.database import Database
from storage.loading import Difference


def compare(database: Database, source_id: int, listing: Iterable[tuple[str, Iterable[Rule]]]) -> Difference:
    """Return what a list, as parts by name and their rules, would change if it were the source's next version.

    A load that goes on, of whichever source, is waited for. Raises `NotFoundError`, and whatever the iterables raise.
    """
    with database.steps() as steps:
        source, parts = loading.swept(steps, source_id)
        numbers = {part.name: part.id for part in parts}
        with steps.reading() as connection:
            known = {traits: number for number, traits in entries.traits(connection).items()}

            def number_of(traits: Traits) -> int:
                return known.setdefault(traits, -1 - len(known))  # no id that any row has

            staging.create(connection)
            for name, rules in listing:
                part = numbers.setdefault(name, -1 - len(numbers))
                staging.load(connection, loading.rows_of(part, rules, number_of))
            staging.compare_staged(connection, numbers.values())
            added = sum(staging.counts(connection, "fresh").values())
            removed = sum(staging.counts(connection, "gone").values())
            staging.drop(connection)
    return Difference(added, removed, source.rules - removed)
