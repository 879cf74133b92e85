"""Parts: what the entries of a source hang on, and what the index and the policy call a list.

A plain list is one part without a name, filed under its source's category. An archive has a part for each directory,
filed under a category of its own. A part has entries for as long as its row is there: one whose source was removed
belongs to nobody, and `loading` clears it away.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, select, update

from storage import schema


@dataclass(frozen=True)
class Part:
    """One part of a source."""

    id: int
    source_id: int
    name: str
    """Its directory in an archive; empty for the one part of a plain list."""
    category: str | None
    """None: its source's."""
    rules: int
    """How many it holds now."""


def list_all(connection: Connection) -> list[Part]:
    """Return the parts of every source there is, by source and name."""
    table = schema.parts
    query = select(table).where(table.c.source_id.is_not(None)).order_by(table.c.source_id, table.c.name)
    return [_build(row) for row in connection.execute(query).mappings()]


def of_source(connection: Connection, source_id: int) -> list[Part]:
    """Return a source's parts, by name."""
    table = schema.parts
    query = select(table).where(table.c.source_id == source_id).order_by(table.c.name)
    return [_build(row) for row in connection.execute(query).mappings()]


def orphans(connection: Connection) -> list[int]:
    """Return the numbers of the parts whose source was removed."""
    table = schema.parts
    return list(connection.execute(select(table.c.id).where(table.c.source_id.is_(None))).scalars())


def add(connection: Connection, source_id: int, name: str = "", category: str | None = None) -> Part:
    """Add a part without entries."""
    table = schema.parts
    row = {"source_id": source_id, "name": name, "category": category, "rules": 0}
    number = connection.execute(table.insert().returning(table.c.id), row).scalar_one()
    return Part(number, source_id, name, category, 0)


def store(connection: Connection, part: Part) -> None:
    """Store a part's category and how many rules it holds."""
    table = schema.parts
    connection.execute(update(table).where(table.c.id == part.id).values(category=part.category, rules=part.rules))


def orphan(connection: Connection, source_id: int) -> None:
    """Take a source's parts from it."""
    table = schema.parts
    connection.execute(update(table).where(table.c.source_id == source_id).values(source_id=None, category=None))


def forget(connection: Connection, part_id: int) -> None:
    """Delete a part that has no entries any more."""
    connection.execute(schema.parts.delete().where(schema.parts.c.id == part_id))


def _build(row: RowMapping) -> Part:
    return Part(**row)
