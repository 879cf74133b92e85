"""Entries: every rule of every list, millions of rows, and the few traits that they share.

A row is (source_id, key, traits_id): the key is `policy.names.key_of` the rule's name, or for a pattern the
expression between slashes, which no key of a name begins with. A list is staged in a temporary table first, without
any lock, and then the difference is made by the database itself in one transaction.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from policy.names import key_of, name_of
from policy.rules import Action, Rule, Scope, Traits
from storage import schema, staging
from storage.database import Change


class Difference(NamedTuple):
    """What a refresh did to a source's entries."""

    added: int
    removed: int
    unchanged: int


@dataclass(frozen=True)
class Listing:
    """One entry that speaks about a name."""

    source_id: int
    name: str
    """The name itself or a parent of it."""
    traits: Traits


def replace(change: Change, source_id: int, rules: Iterable[Rule]) -> Difference:
    """Make a source's entries those of the rules; equal rules count once.

    Called first in a change, the rules are taken in before the lock is. Raises `InvalidError` for a rule that
    can't be stored, and whatever the iterable raises.
    """
    with staging.staged(change, rules) as staged:
        connection = change.connection
        staged.number(_numbers(connection, staged.traits))
        before = count(connection, source_id)
        wanted = staged.count()
        added = staged.insert_new(source_id)
        removed = before - (wanted - added)
        if removed:
            staged.delete_gone(source_id)
    if added or removed:
        change.entries_changed()
    return Difference(added, removed, wanted - added)


def remove(change: Change, source_id: int) -> int:
    """Delete a source's entries and return how many there were. The caller says what that changes."""
    table = schema.entries
    return change.connection.execute(table.delete().where(table.c.source_id == source_id)).rowcount


def iterate(connection: Connection) -> Iterator[tuple[str, int, int]]:
    """Yield (key, source_id, traits_id) of every source, enabled or not, source by source, without holding them all.

    The order of keys within a source is unspecified.
    """
    known = connection.execute(select(schema.sources.c.id).order_by(schema.sources.c.id))
    for source_id in known.scalars().all():
        yield from staging.stream(connection, source_id)


def traits(connection: Connection) -> dict[int, Traits]:
    """Return all traits by id."""
    return {
        row.id: Traits(
            Scope(row.scope), Action(row.action), row.important, tuple(row.types.split()), tuple(row.unless.split())
        )
        for row in connection.execute(schema.traits.select())
    }


def count(connection: Connection, source_id: int) -> int:
    """Return how many entries a source has."""
    query = select(func.count()).select_from(schema.entries).where(schema.entries.c.source_id == source_id)
    return connection.execute(query).scalar_one()


def holding(connection: Connection, name: str) -> list[Listing]:
    """Return the entries of all sources, enabled or not, for exactly this name or a parent of it, nearest first.

    Patterns are not tried.
    """
    labels = name.split(".")
    keys = [key_of(".".join(labels[position:])) for position in range(len(labels))]
    table = schema.entries
    # By source and key, which is the primary key: no scan.
    sources = list(connection.execute(select(schema.sources.c.id)).scalars())
    query = table.select().where(table.c.source_id.in_(sources), table.c.key.in_(keys))
    rows = connection.execute(query.order_by(table.c.key.desc(), table.c.source_id)).all()
    if not rows:
        return []
    known = traits(connection)
    return [Listing(row.source_id, name_of(row.key), known[row.traits_id]) for row in rows]


def _numbers(connection: Connection, wanted: Iterable[Traits]) -> list[int]:
    """Return the id of each of the traits, in their order; adds those that are new."""
    known = {found: number for number, found in traits(connection).items()}
    table = schema.traits
    for new in wanted:
        if new not in known:
            row = {
                "scope": str(new.scope),
                "action": str(new.action),
                "important": new.important,
                "types": " ".join(new.types),
                "unless": " ".join(new.unless),
            }
            known[new] = connection.execute(table.insert().values(row).returning(table.c.id)).scalar_one()
    return [known[found] for found in wanted]
