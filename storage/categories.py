"""Categories: what is filtered, and the clause of the district's protocol that asks for it."""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Connection, bindparam, insert, select

from storage import audit, schema
from storage.checks import Checks, key, one_of, text
from storage.database import Change
from storage.errors import ConflictError, NotFoundError

MAX_SEVERITY = 1000


class Kind(StrEnum):
    """What the sources of a category are for."""

    BLOCK = "block"  # a group may block it
    ALLOW = "allow"  # its allow rules act on every category


@dataclass(frozen=True)
class Category:
    """One category."""

    key: str
    name: str
    description: str
    clause: str
    kind: str
    severity: int
    """1 is the most severe; of several that block a name, the most severe is named."""


def list_all(connection: Connection) -> list[Category]:
    """Return every category, the most severe first."""
    table = schema.categories
    rows = connection.execute(select(table).order_by(table.c.severity, table.c.key)).mappings()
    return [Category(**row) for row in rows]


def get(connection: Connection, key: str) -> Category:
    """Return one category. Raises `NotFoundError`."""
    row = connection.execute(select(schema.categories).where(schema.categories.c.key == key)).mappings().first()
    if row is None:
        raise NotFoundError("category", key)
    return Category(**row)


def exists(connection: Connection, key: str) -> bool:
    """Tell whether there is such a category."""
    return connection.execute(_OF_KEY, {"of": key}).first() is not None


_OF_KEY = select(schema.categories.c.key).where(schema.categories.c.key == bindparam("of"))


def add(
    change: Change,
    category: str,
    *,
    name: str = "",
    description: str = "",
    clause: str = "",
    kind: str = Kind.BLOCK,
    severity: int = 500,
) -> Category:
    """Add a category. Raises `InvalidError`, or `ConflictError` when its key is taken."""
    checks = Checks()
    found = Category(
        key=checks.take("key", key, category) or "",
        name=checks.take("name", text, name) or category,
        description=checks.take("description", text, description) or "",
        clause=checks.take("clause", text, clause) or "",
        kind=checks.take("kind", one_of, Kind, kind) or Kind.BLOCK,
        severity=severity,
    )
    if not 1 <= severity <= MAX_SEVERITY:
        checks.refuse("severity", f"must be from 1 to {MAX_SEVERITY}")
    checks.finish()
    if exists(change.connection, category):
        raise ConflictError(f"there is a category {category!r} already")
    change.connection.execute(insert(schema.categories).values(asdict(found)))
    audit.record(change, "category.add", category, after=found)
    change.policy_changed()
    return found


def ensure(
    change: Change,
    category: str,
    *,
    name: str = "",
    description: str = "",
    clause: str = "",
    kind: str = Kind.BLOCK,
    severity: int = 500,
) -> Category:
    """Return the category of that key as it is, or add it. Raises `InvalidError`."""
    if exists(change.connection, category):
        return get(change.connection, category)
    return add(change, category, name=name, description=description, clause=clause, kind=kind, severity=severity)


def update(
    change: Change,
    category: str,
    *,
    name: str | None = None,
    description: str | None = None,
    clause: str | None = None,
    kind: str | None = None,
    severity: int | None = None,
) -> Category:
    """Set what is given of a category.

    Raises `NotFoundError`, `InvalidError`, or `ConflictError` when a group blocks what shall be for allowing.
    """
    before = get(change.connection, category)
    checks = Checks()
    given: dict[str, Any] = {
        "name": None if name is None else checks.take("name", text, name, required=True),
        "description": None if description is None else checks.take("description", text, description),
        "clause": None if clause is None else checks.take("clause", text, clause),
        "kind": None if kind is None else checks.take("kind", one_of, Kind, kind),
        "severity": severity,
    }
    if severity is not None and not 1 <= severity <= MAX_SEVERITY:
        checks.refuse("severity", f"must be from 1 to {MAX_SEVERITY}")
    checks.finish()
    after = replace(before, **{field: value for field, value in given.items() if value is not None})
    if after == before:
        return before
    blocking = _users(change.connection, schema.group_blocks.c.category, schema.group_blocks.c.group, category)
    if after.kind == Kind.ALLOW and blocking:
        raise ConflictError(f"category {category!r} can't be for allowing: {', '.join(blocking)} blocks it")
    table = schema.categories
    change.connection.execute(table.update().where(table.c.key == category).values(asdict(after)))
    audit.record(change, "category.set", category, before, after)
    change.policy_changed()
    return after


def remove(change: Change, category: str) -> Category:
    """Remove a category. Raises `NotFoundError`, or `ConflictError` while a source or a group uses it."""
    found = get(change.connection, category)
    sources, parts, blocks = schema.sources.c, schema.parts.c, schema.group_blocks.c
    feeding = _users(change.connection, sources.category, sources.key, category)
    with_parts = select(sources.key).where(parts.source_id == sources.id, parts.category == category)
    feeding = sorted({*feeding, *change.connection.execute(with_parts).scalars()})
    blocking = _users(change.connection, blocks.category, blocks.group, category)
    uses = [f"{kind} {', '.join(names)}" for kind, names in (("source", feeding), ("group", blocking)) if names]
    if uses:
        raise ConflictError(f"category {category!r} is used by {' and by '.join(uses)}")
    change.connection.execute(schema.categories.delete().where(schema.categories.c.key == category))
    audit.record(change, "category.remove", category, before=found)
    change.policy_changed()
    return found


def _users(connection: Connection, column: Column[str], named: Column[str], category: str) -> list[str]:
    """Return the names of rows that refer to a category."""
    return sorted(connection.execute(select(named).where(column == category)).scalars())
