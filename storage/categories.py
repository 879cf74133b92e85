"""Categories: what is filtered, and the clause of the district's protocol that asks for it."""

from dataclasses import asdict, dataclass
from enum import StrEnum

from sqlalchemy import Connection, insert, select

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
    return connection.execute(select(schema.categories.c.key).where(schema.categories.c.key == key)).first() is not None


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
