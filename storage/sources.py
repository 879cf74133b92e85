"""Sources: where lists come from, which category they feed, and how their last refresh went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, and_, bindparam, case, func, or_, select

from policy.rules import Scope
from storage import audit, categories, parts, schema, versions
from storage.checks import MAX_LOCATION, Checks, key, many, one_of, text
from storage.database import Change, Database
from storage.errors import ConflictError, NotFoundError

DAY_SECONDS = 86_400
MIN_INTERVAL_SECONDS = 300
MAX_INTERVAL_SECONDS = 366 * DAY_SECONDS
STALE_INTERVALS = 3
MAX_STALE_SECONDS = STALE_INTERVALS * MAX_INTERVAL_SECONDS
MAX_MIRRORS = 8
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
    UT1 = "ut1"


class ListScope(StrEnum):
    """What a name alone on its line may be set to mean."""

    EXACT = Scope.EXACT.value
    SUBTREE = Scope.SUBTREE.value


class Seen(NamedTuple):
    """What tells the list that was fetched from a later one."""

    fetched_from: str
    """The location, or the mirror, that etag and last_modified are of."""
    etag: str
    last_modified: str
    content_hash: str
    """SHA-256 of its octets, in hexadecimal."""
    reader: int


@dataclass(frozen=True)
class Source:
    """One source, with the state that its last refresh left."""

    id: int
    key: str
    location: str
    mirrors: tuple[str, ...]
    """Where the same list is to be had when the location fails, the first one first."""
    format: str
    category: str
    scope: str | None
    enabled: bool
    allow_private: bool
    allow_public_suffix: bool
    interval_seconds: int
    stale_seconds: int
    """How old its last success may grow before people should hear of it."""
    starter: bool
    licence: str
    homepage: str
    fetched_from: str = ""
    etag: str = ""
    last_modified: str = ""
    content_hash: str = ""
    reader: int = 0
    """Which state of our reading of lists it was last read by."""
    version: int = 0
    """Of its list; 0: none was ever loaded."""
    writing_ahead: bool = False
    """Whether a load has begun to write the next version."""
    rules: int = 0
    rejected: int = 0
    last_attempt_at: int | None = None
    last_success_at: int | None = None
    last_error: str = ""

    @property
    def seen(self) -> Seen:
        """Return what was fetched last."""
        return Seen(self.fetched_from, self.etag, self.last_modified, self.content_hash, self.reader)

    def is_stale(self, now: int) -> bool:
        """Tell whether it counts and hasn't been refreshed for longer than its limit, or never could be."""
        if not self.enabled:
            return False
        if self.last_success_at is None:
            return self.last_error != ""
        return now - self.last_success_at > self.stale_seconds * SECOND


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


def by_id(connection: Connection, source_id: int) -> Source:
    """Return the source of a number. Raises `NotFoundError`."""
    query = schema.sources.select().where(schema.sources.c.id == source_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError("source", source_id)
    return _build(row)


def due(connection: Connection, now: int) -> list[Source]:
    """Return the enabled sources whose time has come, by key."""
    table = schema.sources
    # One that was begun and never ended, by a node that died, has failed too.
    failed = or_(table.c.last_success_at.is_(None), table.c.last_success_at < table.c.last_attempt_at)
    waits = case(
        (and_(failed, table.c.interval_seconds > RETRY_SECONDS), RETRY_SECONDS),
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
    mirrors: Sequence[str] = (),
    format: str = Format.AUTO,  # noqa: A002 - the field's word, as in the command's option
    scope: str | None = None,
    enabled: bool = True,
    allow_private: bool = False,
    allow_public_suffix: bool = False,
    interval_seconds: int = DAY_SECONDS,
    stale_seconds: int | None = None,
    starter: bool = False,
    licence: str = "",
    homepage: str = "",
) -> Source:
    """Add a source, with nothing fetched yet. It is stale after `STALE_INTERVALS` where nothing else is said.

    Raises `InvalidError`, or `ConflictError` when its key is taken.
    """
    form = Checks()
    row = {
        "key": form.take("key", key, source),
        "location": form.take("location", _location, location),
        "mirrors": form.take("mirrors", many, mirrors, _mirror, limit=MAX_MIRRORS),
        "format": form.take("format", one_of, Format, format),
        "category": form.take("category", _existing_category, change.connection, category),
        "enabled": enabled,
        "allow_private": allow_private,
        "allow_public_suffix": allow_public_suffix,
        "starter": starter,
        "scope": None if scope is None else form.take("scope", one_of, ListScope, scope),
        "interval_seconds": form.take("interval_seconds", _interval, interval_seconds),
        "stale_seconds": interval_seconds * STALE_INTERVALS
        if stale_seconds is None
        else form.take("stale_seconds", _stale, stale_seconds),
        "licence": form.take("licence", text, licence),
        "homepage": form.take("homepage", text, homepage, limit=MAX_LOCATION),
    }
    form.finish()
    if _find(change.connection, source) is not None:
        raise ConflictError(f"there is a source {source!r} already")
    found = _build(change.connection.execute(_INSERT, _UNFETCHED | row).mappings().one())
    parts.add(change.connection, found.id)
    audit.record(change, "source.add", source, after=found)
    return found


def remove(change: Change, source: str) -> Source:
    """Remove a source with all its versions. Raises `NotFoundError`.

    Its entries count no more; `loading.clear_away` deletes them, which may take a while.
    """
    found = get(change.connection, source)
    parts.orphan(change.connection, found.id)
    versions.forget(change.connection, found.id)
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


def update(
    change: Change,
    source: str,
    *,
    mirrors: Sequence[str] | None = None,
    interval_seconds: int | None = None,
    stale_seconds: int | None = None,
) -> Source:
    """Set what is given of where and how often a source is fetched.

    A limit of staleness that goes by the interval goes on doing so. Raises `NotFoundError`, `InvalidError`.
    """
    before = get(change.connection, source)
    form = Checks()
    given: dict[str, Any] = {
        "mirrors": None if mirrors is None else form.take("mirrors", many, mirrors, _mirror, limit=MAX_MIRRORS),
        "interval_seconds": None
        if interval_seconds is None
        else form.take("interval_seconds", _interval, interval_seconds),
        "stale_seconds": None if stale_seconds is None else form.take("stale_seconds", _stale, stale_seconds),
    }
    form.finish()
    by_interval = before.stale_seconds == before.interval_seconds * STALE_INTERVALS
    if interval_seconds is not None and stale_seconds is None and by_interval:
        given["stale_seconds"] = interval_seconds * STALE_INTERVALS
    values = {field: value for field, value in given.items() if value is not None and value != getattr(before, field)}
    if not values:
        return before
    after = _store(change, before, values)
    audit.record(change, "source.set", source, before, after)
    return after


def claim(database: Database, source: Source, at: int) -> bool:
    """Begin a refresh that is due; False when somebody else, on another node say, has begun it meanwhile."""
    table = schema.sources
    unclaimed = table.c.last_attempt_at.is_not_distinct_from(source.last_attempt_at)
    query = table.update().where(table.c.id == source.id, unclaimed).values(last_attempt_at=at)
    with database.note() as connection:
        return connection.execute(query).rowcount == 1


def record_success(change: Change, source_id: int, seen: Seen, *, rejected: int) -> None:
    """Remember that a refresh worked, and what was seen.

    Raises `NotFoundError` when the source was removed meanwhile.
    """
    values = seen._asdict() | {
        "rejected": rejected,
        "last_attempt_at": change.now,
        "last_success_at": change.now,
        "last_error": "",
    }
    table = schema.sources
    if not change.connection.execute(table.update().where(table.c.id == source_id).values(values)).rowcount:
        raise NotFoundError("source", source_id)


def set_version(connection: Connection, source_id: int, version: int, rules: int) -> None:
    """Bring a version into force: what was written ahead for it is what the source lists from now on."""
    table = schema.sources
    connection.execute(table.update().where(table.c.id == source_id).values(version=version, rules=rules))


def set_writing_ahead(connection: Connection, source_id: int, *, writing_ahead: bool) -> None:
    """Remember that the next version's entries are being written, in case that never ends, or that they all are."""
    table = schema.sources
    connection.execute(table.update().where(table.c.id == source_id).values(writing_ahead=writing_ahead))


def record_failure(database: Database, source_id: int, error: str, at: int) -> None:
    """Remember that a refresh failed. What was loaded before stays in force, so no version rises."""
    message = "".join(c if c.isprintable() else " " for c in error.strip())[:MAX_LOCATION] or "it failed"
    table = schema.sources
    with database.note() as connection:
        connection.execute(table.update().where(table.c.id == source_id).values(last_attempt_at=at, last_error=message))


def count_by_category(connection: Connection) -> dict[str, int]:
    """Return how many rules the enabled sources of each category have, by their last refresh."""
    table = schema.sources
    part = schema.parts
    category = func.coalesce(part.c.category, table.c.category)
    query = select(category, func.sum(part.c.rules)).join_from(table, part, part.c.source_id == table.c.id)
    return {key: int(rules) for key, rules in connection.execute(query.where(table.c.enabled).group_by(category))}


_INSERT = schema.sources.insert().returning(*schema.sources.c)
_OF_KEY = schema.sources.select().where(schema.sources.c.key == bindparam("of"))
_UNFETCHED: dict[str, Any] = {
    "fetched_from": "",
    "etag": "",
    "last_modified": "",
    "content_hash": "",
    "reader": 0,
    "version": 0,
    "writing_ahead": False,
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
    row = connection.execute(_OF_KEY, {"of": source}).mappings().first()
    return None if row is None else _build(row)


def _location(location: str) -> str:
    found = text(location, limit=MAX_LOCATION, required=True)
    scheme, separator, _ = found.partition("://")
    if separator and scheme.lower() not in {"http", "https"}:
        raise ValueError(f"lists are fetched from http:// and https:// URLs and from files, not from {scheme[:20]}://")
    return found


def _mirror(location: str) -> str:
    found = _location(location)
    if "://" not in found:
        raise ValueError("mirrors are http:// and https:// URLs")
    return found


def _existing_category(connection: Connection, category: str) -> str:
    if not categories.exists(connection, category):
        raise ValueError(f"there is no category {category[:80]!r}")
    return category


def _interval(seconds: int) -> int:
    if not MIN_INTERVAL_SECONDS <= seconds <= MAX_INTERVAL_SECONDS:
        raise ValueError(f"must be from {MIN_INTERVAL_SECONDS} to {MAX_INTERVAL_SECONDS} seconds")
    return seconds


def _stale(seconds: int) -> int:
    if not MIN_INTERVAL_SECONDS <= seconds <= MAX_STALE_SECONDS:
        raise ValueError(f"must be from {MIN_INTERVAL_SECONDS} to {MAX_STALE_SECONDS} seconds")
    return seconds


def _build(row: RowMapping) -> Source:
    return Source(**dict(row) | {"mirrors": tuple(row["mirrors"])})
