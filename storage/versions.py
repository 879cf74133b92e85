"""Versions: what each source held when, so that "was this name listed on that day?" has an answer."""

from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, delete, func, insert, select

from storage import schema


@dataclass(frozen=True)
class Version:
    """One state of a source's list. Numbers begin with 1 for each source."""

    source_id: int
    number: int
    at: int
    """Since when it is in force; microseconds since the epoch."""
    actor: str
    content_hash: str
    """SHA-256 of what was fetched."""
    rules: int
    rejected: int
    """Lines that are no rules."""
    added: int
    removed: int
    """Rules that it has less than the version before it."""
    restored: int | None
    """The version that a rollback brought back; None: it was fetched."""


def of_source(connection: Connection, source_id: int) -> list[Version]:
    """Return the versions of a source, newest first."""
    table = schema.versions
    query = select(table).where(table.c.source_id == source_id).order_by(table.c.number.desc())
    return [_build(row) for row in connection.execute(query).mappings()]


def get(connection: Connection, source_id: int, number: int) -> Version | None:
    """Return a version of a source; None when there is none of that number, or none any more."""
    table = schema.versions
    query = select(table).where(table.c.source_id == source_id, table.c.number == number)
    row = connection.execute(query).mappings().first()
    return None if row is None else _build(row)


def in_force(connection: Connection, at: int) -> dict[int, int]:
    """Return the number of the version that each source had at a time; a source that had none is absent."""
    table = schema.versions
    query = (
        select(table.c.source_id, func.max(table.c.number).label("number"))
        .where(table.c.at <= at)
        .group_by(table.c.source_id)
    )
    return {row.source_id: row.number for row in connection.execute(query)}


def oldest(connection: Connection, source_id: int) -> Version | None:
    """Return the oldest version of a source that is known; None: it never had one."""
    table = schema.versions
    query = select(table).where(table.c.source_id == source_id).order_by(table.c.number).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else _build(row)


def add(connection: Connection, version: Version) -> None:
    """Add a version."""
    connection.execute(insert(schema.versions).values(vars(version)))


def forget(connection: Connection, source_id: int, before: int | None = None) -> None:
    """Delete a source's versions: those of a number below `before`, or all."""
    table = schema.versions
    query = delete(table).where(table.c.source_id == source_id)
    connection.execute(query if before is None else query.where(table.c.number < before))


def _build(row: RowMapping) -> Version:
    return Version(**row)
