"""Who changed what, and when; and who looked into the log of lookups. Events are only ever added."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection, RowMapping, insert, select

from storage import schema
from storage.database import Change, Database, now
from storage.paging import Page, page

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Details: TypeAlias = "Mapping[str, Any] | DataclassInstance | None"
"""What an event keeps of a thing: its fields. Never a token's secret: no dataclass here holds one."""


@dataclass(frozen=True)
class AuditEvent:
    """One thing that was done."""

    id: int
    time: int
    actor: str
    """The name of a token, or of whoever acted without one: ``cli``, ``refresh``."""
    action: str
    """Noun and verb: ``exception.create``."""
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


_INSERT = insert(schema.audit)


def record(change: Change, action: str, target: str | int, before: Details = None, after: Details = None) -> None:
    """Write the event of a change, in its transaction."""
    _write(change.connection, change.now, change.actor, action, str(target), before, after)


def note(database: Database, actor: str, action: str, target: str, after: Details = None) -> None:
    """Write the event of something that changed nothing, such as a view of the log."""
    with database.note() as connection:
        _write(connection, now(), actor, action, target, None, after)


def list_page(  # noqa: PLR0913 - the fields, each named at the call
    connection: Connection,
    *,
    actor: str | None = None,
    action: str | None = None,
    target: str | None = None,
    since: int | None = None,
    until: int | None = None,
    cursor: int | None = None,
    limit: int = 100,
) -> Page[AuditEvent]:
    """Return events, newest first; `since` is included, `until` is not."""
    table = schema.audit
    query = select(table)
    for column, value in ((table.c.actor, actor), (table.c.action, action), (table.c.target, target)):
        if value is not None:
            query = query.where(column == value)
    if since is not None:
        query = query.where(table.c.time >= since)
    if until is not None:
        query = query.where(table.c.time < until)
    return page(connection, query, table.c.id, _build, cursor=cursor, limit=limit)


def _write(
    connection: Connection, time: int, actor: str, action: str, target: str, before: Details, after: Details
) -> None:
    row = {"time": time, "actor": actor, "action": action, "target": target}
    connection.execute(_INSERT, row | {"before": _fields(before), "after": _fields(after)})


def _fields(details: Details) -> Mapping[str, Any] | None:
    return details if details is None or isinstance(details, Mapping) else asdict(details)


def _build(row: RowMapping) -> AuditEvent:
    return AuditEvent(**row)
