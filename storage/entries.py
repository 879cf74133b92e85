"""Entries: every rule of every list, millions of rows, and the few traits that they share. Read here alone.

A row is (part, key, traits, since, until): the key is `policy.names.key_of` the rule's name, or for a pattern the
expression between slashes, which no key of a name begins with. It is listed from version `since` of its source on and
until version `until`, so what a source held in any of its versions is one query. `loading` writes them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, false, func, or_, select

from policy.names import key_of, lineage, name_of
from policy.rules import Action, Rule, Scope, Traits
from storage import parts, schema, staging, versions

PATTERN = "/"
"""Begins and ends the key of a pattern."""
_AFTER_PATTERNS = chr(ord(PATTERN) + 1)


@dataclass(frozen=True)
class Listing:
    """One entry that speaks about a name."""

    part_id: int
    source_id: int
    rule: Rule
    """Of the name itself, of a parent of it, or a pattern."""
    since: int
    """The version of its source that brought it."""


def iterate(connection: Connection) -> Iterator[tuple[str, int, int]]:
    """Yield (key, part, traits) of what every source lists now, enabled or not, without holding it all.

    Part by part; the order within a part is unspecified.
    """
    for part, version in _in_force(connection).items():
        yield from staging.stream(connection, part, version)


def traits(connection: Connection) -> dict[int, Traits]:
    """Return all traits by id."""
    return {
        row.id: Traits(
            Scope(row.scope), Action(row.action), row.important, tuple(row.types.split()), tuple(row.unless.split())
        )
        for row in connection.execute(schema.traits.select())
    }


def number_of(connection: Connection, wanted: Traits) -> int:
    """Return the id of traits that may be new. One caller at a time: `loading`."""
    table = schema.traits
    row = {
        "scope": str(wanted.scope),
        "action": str(wanted.action),
        "important": wanted.important,
        "types": " ".join(wanted.types),
        "unless": " ".join(wanted.unless),
    }
    known = select(table.c.id).where(*(table.c[column] == value for column, value in row.items()))
    found: int | None = connection.execute(known).scalars().first()
    if found is None:
        found = connection.execute(table.insert().values(row).returning(table.c.id)).scalar_one()
    return found


def count(connection: Connection, source_id: int) -> int:
    """Return how many entries a source has now."""
    table = schema.entries
    own = {part.id for part in parts.of_source(connection, source_id)}
    conditions = [_visible(part, version) for part, version in _in_force(connection).items() if part in own]
    query = select(func.count()).select_from(table).where(or_(false(), *conditions))
    return connection.scalar(query) or 0


def holding(connection: Connection, name: str, *, at: int | None = None) -> list[Listing]:
    """Return the entries of all sources, enabled or not, for a name in normal form or a parent of it, nearest first.

    Patterns that may match are among them at the end: whether one does is for an expression engine to say. At a time
    in microseconds: what was listed then, as far as sources and their versions are still known.
    """
    keys = [key_of(parent) for parent in lineage(name)]
    table = schema.entries
    # Each by part and key, which begin the primary key; both at once would be a scan of the part.
    wanted = (table.c.key.in_(keys), and_(table.c.key >= PATTERN, table.c.key < _AFTER_PATTERNS))
    sources = {part.id: part.source_id for part in parts.list_all(connection)}
    found = [
        row
        for part, version in _in_force(connection, at).items()
        for some in wanted
        for row in connection.execute(select(table).where(_visible(part, version), some))
    ]
    known = traits(connection) if found else {}
    names = sorted((row for row in found if not _is_pattern(row.key)), key=lambda row: row.key, reverse=True)
    expressions = (row for row in found if _is_pattern(row.key))
    return [
        Listing(row.part_id, sources[row.part_id], rule_of(row.key, known[row.traits_id]), row.since)
        for row in (*names, *expressions)
    ]


def rule_of(key: str, of: Traits) -> Rule:
    """Return the rule that an entry's key stands for."""
    return Rule(key[1:-1], of, pattern=True) if _is_pattern(key) else Rule(name_of(key), of)


def _is_pattern(key: str) -> bool:
    return key.startswith(PATTERN)


def _in_force(connection: Connection, at: int | None = None) -> dict[int, int]:
    """Return, by part, the version of its source that is in force: now, or at a time."""
    table = schema.sources
    if at is not None:
        numbers = versions.in_force(connection, at)
    else:
        query = select(table.c.id, table.c.version).where(table.c.version > 0)
        numbers = {row.id: row.version for row in connection.execute(query)}
    return {part.id: numbers[part.source_id] for part in parts.list_all(connection) if part.source_id in numbers}


def _visible(part: int, version: int) -> ColumnElement[bool]:
    table = schema.entries
    return and_(
        table.c.part_id == part, table.c.since <= version, or_(table.c.until.is_(None), table.c.until > version)
    )
