"""Sources: where lists come from, which category they feed, and how their last refresh went."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, case, func, or_

from policy.rules import Scope
from storage import audit, categories, entries, schema
from storage.checks import MAX_LOCATION, Checks, key, one_of, text
from storage.database import Change, Database
from storage.errors import ConflictError, NotFoundError

DAY_SECONDS = 86_400
MIN_INTERVAL_SECONDS = 300
MAX_INTERVAL_SECONDS = 366 * DAY_SECONDS
RETRY_SECONDS = 900
"""A source that failed is tried again after this, or after its interval where that is shorter."""

SECOND = 1_000_000  # microseconds


class Format(StrEnum):
    """How a list is written; `auto` finds out."""

    AUTO = "auto"
    HOSTS = "hosts"
    DOMAINS = "domains"
    WILDCARD = "wildcard"
    ADBLOCK = "adblock"
    DNSMASQ = "dnsmasq"
    RPZ = "rpz"
    UNBOUND = "unbound"


class ListScope(StrEnum):
    """What a name alone on its line may be set to mean."""

    EXACT = Scope.EXACT.value
    SUBTREE = Scope.SUBTREE.value


@dataclass(frozen=True)
class Source:
    """One source, with the state that its last refresh left."""

    id: int
    key: str
    location: str
    format: str
    category: str
    scope: str | None
    enabled: bool
    allow_private: bool
    allow_public_suffix: bool
    interval_seconds: int
    starter: bool
    licence: str
    homepage: str
    etag: str = ""
    last_modified: str = ""
    content_hash: str = ""
    rules: int = 0
    rejected: int = 0
    last_attempt_at: int | None = None
    last_success_at: int | None = None
    last_error: str = ""


def list_all(connection: Connection) -> list[Source]:
    """Return every source, by key."""
    rows = connection.execute(schema.sources.select().order_by(schema.sources.c.key)).mappings()
    return [_build(row) for row in rows]


def get(connection: Connection, source: str) -> Source:
    """Return the source of a key. Raises `NotFoundError`."""
    found = _find(connection, source)
    if found is None:
        raise NotFoundError("source", source)
    return found


def due(connection: Connection, now: int) -> list[Source]:
    """Return the enabled sources whose time has come, by key."""
    table = schema.sources
    waits = case(
        (and_(table.c.last_error != "", table.c.interval_seconds > RETRY_SECONDS), RETRY_SECONDS),
        else_=table.c.interval_seconds,
    )
    rested = or_(table.c.last_attempt_at.is_(None), table.c.last_attempt_at + waits * SECOND <= now)
    rows = connection.execute(table.select().where(table.c.enabled, rested).order_by(table.c.key)).mappings()
    return [_build(row) for row in rows]


def add(  # noqa: PLR0913 - the fields, each named at the call
    change: Change,
    source: str,
    location: str,
    *,
    category: str,
    format: str = Format.AUTO,  # noqa: A002 - the field's word, as in the command's option
    scope: str | None = None,
    enabled: bool = True,
    allow_private: bool = False,
    allow_public_suffix: bool = False,
    interval_seconds: int = DAY_SECONDS,
    starter: bool = False,
    licence: str = "",
    homepage: str = "",
) -> Source:
    """Add a source, with nothing fetched yet. Raises `InvalidError`, or `ConflictError` when its key is taken."""
    form = Checks()
    row = {
        "key": form.take("key", key, source),
        "location": form.take("location", _location, location),
        "format": form.take("format", one_of, Format, format),
        "category": form.take("category", _existing_category, change.connection, category),
        "enabled": enabled,
        "allow_private": allow_private,
        "allow_public_suffix": allow_public_suffix,
        "starter": starter,
        "scope": None if scope is None else form.take("scope", one_of, ListScope, scope),
        "interval_seconds": form.take("interval_seconds", _interval, interval_seconds),
        "licence": form.take("licence", text, licence),
        "homepage": form.take("homepage", text, homepage, limit=MAX_LOCATION),
    }
    form.finish()
    if _find(change.connection, source) is not None:
        raise ConflictError(f"there is a source {source!r} already")
    change.connection.execute(schema.sources.insert().values(_UNFETCHED | row))
    found = get(change.connection, source)
    audit.record(change, "source.add", source, after=found)
    return found


def remove(change: Change, source: str) -> Source:
    """Remove a source and all its entries. Raises `NotFoundError`."""
    found = get(change.connection, source)
    entries.remove(change, found.id)
    change.connection.execute(schema.sources.delete().where(schema.sources.c.id == found.id))
    audit.record(change, "source.remove", source, before=found)
    # The index may go on naming it: what a snapshot doesn't know counts for nothing, and ids are never used again.
    change.policy_changed()
    return found


def enable(change: Change, source: str) -> Source:
    """Let a source's entries count. Raises `NotFoundError`."""
    return _set_enabled(change, source, enabled=True)


def disable(change: Change, source: str) -> Source:
    """Keep a source's entries but let them count no more. Raises `NotFoundError`."""
    return _set_enabled(change, source, enabled=False)


def set_category(change: Change, source: str, category: str) -> Source:
    """Let a source feed another category. Raises `NotFoundError`, `InvalidError`."""
    before = get(change.connection, source)
    form = Checks()
    form.take("category", _existing_category, change.connection, category)
    form.finish()
    if category == before.category:
        return before
    after = _store(change, before, {"category": category})
    audit.record(change, "source.set", source, before, after)
    change.policy_changed()
    return after


def record_success(  # noqa: PLR0913 - the fields, each named at the call
    change: Change,
    source_id: int,
    *,
    etag: str,
    last_modified: str,
    content_hash: str,
    rules: int,
    rejected: int,
    added: int,
    removed: int,
) -> Source:
    """Remember that a refresh worked, and what it brought. It is an event only when it brought something.

    Raises `NotFoundError` when the source was removed meanwhile.
    """
    query = schema.sources.select().where(schema.sources.c.id == source_id)
    row = change.connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError("source", source_id)
    before = _build(row)
    values = {
        "etag": etag,
        "last_modified": last_modified,
        "content_hash": content_hash,
        "rules": rules,
        "rejected": rejected,
        "last_attempt_at": change.now,
        "last_success_at": change.now,
        "last_error": "",
    }
    after = _store(change, before, values)
    if added or removed:
        counts = {"rules": rules, "rejected": rejected}
        earlier = {"rules": before.rules, "rejected": before.rejected}
        audit.record(change, "source.refresh", before.key, earlier, counts | {"added": added, "removed": removed})
    return after


def record_failure(database: Database, source_id: int, error: str, at: int) -> None:
    """Remember that a refresh failed. What was loaded before stays in force, so no version rises."""
    message = "".join(c if c.isprintable() else " " for c in error.strip())[:MAX_LOCATION] or "it failed"
    table = schema.sources
    with database.note() as connection:
        connection.execute(table.update().where(table.c.id == source_id).values(last_attempt_at=at, last_error=message))


def count_by_category(connection: Connection) -> dict[str, int]:
    """Return how many rules the enabled sources of each category have, by their last refresh."""
    table = schema.sources
    query = table.select().with_only_columns(table.c.category, func.sum(table.c.rules)).where(table.c.enabled)
    return {category: int(rules) for category, rules in connection.execute(query.group_by(table.c.category))}


_UNFETCHED: dict[str, Any] = {
    "etag": "",
    "last_modified": "",
    "content_hash": "",
    "rules": 0,
    "rejected": 0,
    "last_error": "",
}


def _set_enabled(change: Change, source: str, *, enabled: bool) -> Source:
    before = get(change.connection, source)
    if before.enabled == enabled:
        return before
    after = _store(change, before, {"enabled": enabled})
    audit.record(change, "source.enable" if enabled else "source.disable", source, before, after)
    change.policy_changed()  # the index holds every source's entries: the snapshot says which count
    return after


def _store(change: Change, before: Source, values: Mapping[str, Any]) -> Source:
    table = schema.sources
    change.connection.execute(table.update().where(table.c.id == before.id).values(**values))
    return get(change.connection, before.key)


def _find(connection: Connection, source: str) -> Source | None:
    row = connection.execute(schema.sources.select().where(schema.sources.c.key == source)).mappings().first()
    return None if row is None else _build(row)


def _location(location: str) -> str:
    found = text(location, limit=MAX_LOCATION, required=True)
    scheme, separator, _ = found.partition("://")
    if separator and scheme.lower() not in {"http", "https"}:
        raise ValueError(f"lists are fetched from http:// and https:// URLs and from files, not from {scheme[:20]}://")
    return found


def _existing_category(connection: Connection, category: str) -> str:
    if not categories.exists(connection, category):
        raise ValueError(f"there is no category {category[:80]!r}")
    return category


def _interval(seconds: int) -> int:
    if not MIN_INTERVAL_SECONDS <= seconds <= MAX_INTERVAL_SECONDS:
        raise ValueError(f"must be from {MIN_INTERVAL_SECONDS} to {MAX_INTERVAL_SECONDS} seconds")
    return seconds


def _build(row: RowMapping) -> Source:
    return Source(**row)
