"""Builders for what a configuration database holds."""

from collections.abc import Iterable

from policy.rules import Rule
from storage import categories, groups, sources
from storage.database import Change, Database
from storage.loading import Difference, loading
from storage.sources import Seen, Source

SEEN = Seen("/lists/a.txt", "", "", "ab", 1)


def add_source(change: Change, key: str, *, category: str = "adult", **fields: object) -> Source:
    """Add a source, and its category where that isn't there yet."""
    categories.ensure(change, category)
    return sources.add(change, key, f"/lists/{key}.txt", category=category, **fields)  # type: ignore[arg-type] # the test's


def add_groups(database: Database, *names: str) -> None:
    """Add groups that block nothing."""
    with database.change("set-up") as change:
        for name in names:
            groups.add(change, name)


def list_rules(database: Database, source_id: int, rules: Iterable[Rule], seen: Seen = SEEN) -> Difference:
    """Let a source list exactly these rules, as a refresh would."""
    with loading(database, source_id) as load:
        load.take(rules)
        difference = load.compare()
        load.write()
        load.finish("refresh", seen, rejected=0)
    return difference
