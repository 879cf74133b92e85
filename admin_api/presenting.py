"""What stored things look like outside: dictionaries for JSON, the same from the API and from the command line."""

from dataclasses import asdict
from functools import singledispatch
from typing import Any

from admin_api.times import format_time
from storage.audit import AuditEvent
from storage.categories import Category
from storage.database import now
from storage.exceptions import PolicyException
from storage.groups import Group
from storage.networks import Network
from storage.sources import Source
from storage.tokens import Token
from storage.versions import Version

_TIMES = ("time", "at", "created_at", "expires_at", "revoked_at", "last_used_at", "last_attempt_at", "last_success_at")

# What a source remembers for its next refresh is nobody else's business.
_OF_A_REFRESH = ("id", "fetched_from", "etag", "last_modified", "content_hash", "reader", "writing_ahead")


@singledispatch
def present(thing: object) -> dict[str, Any]:
    """Return a thing's fields under their names outside. Raises `TypeError` for what is never shown."""
    raise TypeError(f"there is no form for {type(thing).__name__}")


@present.register
def _category(category: Category) -> dict[str, Any]:
    return _fields(category)


@present.register
def _group(group: Group) -> dict[str, Any]:
    return _fields(group)


@present.register
def _network(network: Network) -> dict[str, Any]:
    return _fields(network)


@present.register
def _token(token: Token) -> dict[str, Any]:
    return _fields(token)


@present.register
def _source(source: Source) -> dict[str, Any]:
    fields = _fields(source)
    for name in _OF_A_REFRESH:
        del fields[name]
    return fields | {"last_error": source.last_error or None, "stale": source.is_stale(now())}


@present.register
def _version(version: Version) -> dict[str, Any]:
    fields = _fields(version)
    del fields["source_id"]
    return fields


@present.register
def _exception(exception: PolicyException) -> dict[str, Any]:
    fields = _fields(exception)
    return {"id": fields.pop("id"), "status": str(exception.status(now())), **fields}


@present.register
def _event(event: AuditEvent) -> dict[str, Any]:
    fields = _fields(event)
    for side in ("before", "after"):
        if fields[side] is not None:
            fields[side] = _with_times(fields[side])
    return fields


def _fields(thing: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the dataclasses above
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(thing).items()}
    return _with_times(fields)


def _with_times(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: format_time(value) if name in _TIMES and isinstance(value, int) else value
        for name, value in fields.items()
    }
