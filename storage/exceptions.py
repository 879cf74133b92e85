"""Exceptions: one name let through or blocked, for whom, why, who approved it and until when.

An exception is never deleted: it expires or is revoked, and stays for whoever asks later.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from types import EllipsisType

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, or_

from policy.rules import Action
from storage import audit, checks, schema
from storage.database import Change
from storage.errors import ConflictError, NotFoundError
from storage.groups import names as group_names
from storage.paging import Page, page

MAX_GROUPS = 100
MAX_CLIENTS = 1000


class Match(StrEnum):
    """Which names an exception covers."""

    SUBTREE = "subtree"
    EXACT = "exact"


class Status(StrEnum):
    """Where an exception is in its life."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True)
class PolicyException:
    """One exception."""

    id: int
    domain: str
    action: str
    match: str
    groups: tuple[str, ...]
    """Names; with no group and no client it is for everyone."""
    clients: tuple[str, ...]
    """Networks in CIDR notation."""
    reason: str
    requested_by: str
    created_by: str
    approved_by: str
    created_at: int
    expires_at: int | None
    revoked_at: int | None = None
    revoked_by: str | None = None

    def status(self, now: int) -> Status:
        """Tell where it is in its life."""
        if self.revoked_at is not None:
            return Status.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return Status.EXPIRED
        return Status.ACTIVE


def add(  # noqa: PLR0913 - the fields, each named at the call
    change: Change,
    *,
    domain: str,
    action: str,
    reason: str,
    match: str = Match.SUBTREE,
    groups: Iterable[str] = (),
    clients: Iterable[str] = (),
    requested_by: str = "",
    expires_at: int | None = None,
) -> PolicyException:
    """Add an exception; whoever makes the change has approved it. Raises `InvalidError` with every problem."""
    form = checks.Checks()
    row = {
        "domain": form.take("domain", checks.domain, domain),
        "action": form.take("action", checks.one_of, Action, action),
        "match": form.take("match", checks.one_of, Match, match),
        "groups": _groups(change, form, groups),
        "clients": _clients(form, clients),
        "reason": form.take("reason", checks.text, reason, required=True),
        "requested_by": form.take("requested_by", checks.text, requested_by),
        "created_by": change.actor,
        "approved_by": change.actor,
        "created_at": change.now,
        "expires_at": None if expires_at is None else _future(change, form, expires_at),
    }
    form.finish()
    table = schema.exceptions
    found = _build(change.connection.execute(table.insert().values(row).returning(*table.c)).mappings().one())
    audit.record(change, "exception.create", found.id, after=found)
    change.policy_changed()
    return found


def get(connection: Connection, exception_id: int) -> PolicyException:
    """Return one exception. Raises `NotFoundError`."""
    if checks.identifier(exception_id):
        query = schema.exceptions.select().where(schema.exceptions.c.id == exception_id)
        row = connection.execute(query).mappings().first()
        if row is not None:
            return _build(row)
    raise NotFoundError("exception", exception_id)


def list_page(
    connection: Connection,
    now: int,
    *,
    status: Status | None = None,
    domain: str | None = None,
    cursor: int | None = None,
    limit: int = 100,
) -> Page[PolicyException]:
    """Return exceptions, newest first; those for exactly one name where `domain` is given."""
    table = schema.exceptions
    query = table.select()
    if status is not None:
        query = query.where(_has_status(status, now))
    if domain is not None:
        query = query.where(table.c.domain == domain)
    return page(connection, query, table.c.id, _build, cursor=cursor, limit=limit)


def live(connection: Connection, now: int) -> list[PolicyException]:
    """Return every exception that is in force, oldest first."""
    table = schema.exceptions
    rows = connection.execute(table.select().where(_has_status(Status.ACTIVE, now)).order_by(table.c.id))
    return [_build(row) for row in rows.mappings()]


def update(
    change: Change,
    exception_id: int,
    *,
    expires_at: int | EllipsisType | None = ...,
    reason: str | None = None,
    groups: Iterable[str] | None = None,
    clients: Iterable[str] | None = None,
    requested_by: str | None = None,
) -> PolicyException:
    """Change what may change about an exception; what isn't given stays, and `expires_at` None means for ever.

    Its name and action stay: another decision is another exception. Raises `NotFoundError`, `InvalidError`, and
    `ConflictError` when it is revoked.
    """
    before = get(change.connection, exception_id)
    if before.revoked_at is not None:
        raise ConflictError(f"exception {exception_id} is revoked: make a new one")
    form = checks.Checks()
    values: dict[str, object] = {}
    if not isinstance(expires_at, EllipsisType):
        values["expires_at"] = None if expires_at is None else _future(change, form, expires_at)
    if reason is not None:
        values["reason"] = form.take("reason", checks.text, reason, required=True)
    if groups is not None:
        values["groups"] = _groups(change, form, groups)
    if clients is not None:
        values["clients"] = _clients(form, clients)
    if requested_by is not None:
        values["requested_by"] = form.take("requested_by", checks.text, requested_by)
    form.finish()
    return _store(change, "exception.update", before, values)


def revoke(change: Change, exception_id: int) -> PolicyException:
    """End an exception now. One that was revoked before stays as it is. Raises `NotFoundError`."""
    before = get(change.connection, exception_id)
    if before.revoked_at is not None:
        return before
    return _store(change, "exception.revoke", before, {"revoked_at": change.now, "revoked_by": change.actor})


def _store(change: Change, action: str, before: PolicyException, values: dict[str, object]) -> PolicyException:
    if not values:
        return before
    table = schema.exceptions
    change.connection.execute(table.update().where(table.c.id == before.id).values(values))
    after = get(change.connection, before.id)
    if after != before:
        audit.record(change, action, before.id, before, after)
        change.policy_changed()
    return after


def _groups(change: Change, form: checks.Checks, given: Iterable[str]) -> list[str]:
    known = group_names(change.connection)

    def exists(name: str) -> str:
        if name not in known:
            raise ValueError(f"there is no group {name[:80]!r}")
        return name

    return list(form.take("groups", checks.many, given, exists, limit=MAX_GROUPS) or ())


def _clients(form: checks.Checks, given: Iterable[str]) -> list[str]:
    return list(form.take("clients", checks.many, given, checks.cidr, limit=MAX_CLIENTS) or ())


def _future(change: Change, form: checks.Checks, time: int) -> int | None:
    return form.take("expires_at", checks.future, time, change.now)


def _has_status(status: Status, now: int) -> ColumnElement[bool]:
    table = schema.exceptions
    if status is Status.REVOKED:
        return table.c.revoked_at.is_not(None)
    if status is Status.EXPIRED:
        return and_(table.c.revoked_at.is_(None), table.c.expires_at <= now)
    return and_(table.c.revoked_at.is_(None), or_(table.c.expires_at.is_(None), table.c.expires_at > now))


def _build(row: RowMapping) -> PolicyException:
    return replace(PolicyException(**row), groups=tuple(row["groups"]), clients=tuple(row["clients"]))
