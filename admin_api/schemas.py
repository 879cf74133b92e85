"""The schemas of replies, for the OpenAPI document (JSON Schema 2020-12)."""

from collections.abc import Mapping
from typing import Any

from policy.rules import Action
from querylog.records import VERDICTS
from storage.categories import Kind
from storage.exceptions import Match, Status
from storage.groups import Mode
from storage.sources import Format

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_WHOLE: Schema = {"type": "integer"}
_WHOLE_OR_NULL: Schema = {"type": ["integer", "null"]}
_FLAG: Schema = {"type": "boolean"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}


def _one_of(values: Any) -> Schema:  # noqa: ANN401 - an enumeration or a tuple
    return {"type": "string", "enum": [str(value) for value in values]}


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


_EXCEPTION = {
    "id": _WHOLE,
    "status": _one_of(Status),
    "domain": _TEXT,
    "action": _one_of(Action),
    "match": _one_of(Match),
    "groups": _TEXTS,
    "clients": _TEXTS,
    "reason": _TEXT,
    "requested_by": _TEXT,
    "created_by": _TEXT,
    "approved_by": _TEXT,
    "created_at": _TIME,
    "expires_at": _TIME_OR_NULL,
    "revoked_at": _TIME_OR_NULL,
    "revoked_by": _TEXT_OR_NULL,
}
_CATEGORY = {
    "key": _TEXT,
    "name": _TEXT,
    "description": _TEXT,
    "clause": _TEXT,
    "kind": _one_of(Kind),
    "severity": _WHOLE,
}
_SOURCE = {
    "key": _TEXT,
    "location": _TEXT,
    "mirrors": _TEXTS,
    "format": _one_of(Format),
    "category": _TEXT,
    "scope": _TEXT_OR_NULL,
    "enabled": _FLAG,
    "allow_private": _FLAG,
    "allow_public_suffix": _FLAG,
    "interval_seconds": _WHOLE,
    "stale_seconds": _WHOLE,
    "starter": _FLAG,
    "licence": _TEXT,
    "homepage": _TEXT,
    "version": _WHOLE | {"description": "Of its list; 0: none was ever loaded."},
    "rules": _WHOLE,
    "rejected": _WHOLE,
    "last_attempt_at": _TIME_OR_NULL,
    "last_success_at": _TIME_OR_NULL,
    "last_error": _TEXT_OR_NULL,
    "stale": _FLAG | {"description": "Whether it counts and has not been refreshed for longer than its limit."},
}
_SOURCE_VERSION = {
    "number": _WHOLE,
    "at": _TIME | {"description": "Since when it is in force."},
    "actor": _TEXT,
    "content_hash": _TEXT | {"description": "SHA-256 of what was fetched."},
    "rules": _WHOLE,
    "rejected": _WHOLE,
    "added": _WHOLE,
    "removed": _WHOLE,
    "restored": _WHOLE_OR_NULL | {"description": "The version that was brought back; null: it was fetched."},
}
_LISTING = {
    "source": _TEXT,
    "directory": _TEXT_OR_NULL | {"description": "Of an archive; null for a plain list."},
    "category": _TEXT,
    "rule": _TEXT,
    "action": _one_of(Action),
    "enabled": _FLAG | {"description": "Whether the source counts now."},
    "since": _TIME_OR_NULL | {"description": "When the list began to hold it; null: before its history begins."},
    "version": _WHOLE | {"description": "The version of the list that is, or was, in force."},
}
_GROUP = {"name": _TEXT, "mode": _one_of(Mode), "addresses": _TEXTS, "blocked": _TEXTS}
_NETWORK = {"cidr": _TEXT, "group": _TEXT, "site": _TEXT}
_LOG_RECORD = {
    "time": _TIME,
    "node": _TEXT,
    "client": _TEXT,
    "group": _TEXT,
    "qname": _TEXT_OR_NULL,
    "qtype": _TEXT_OR_NULL,
    "transport": _TEXT,
    "verdict": _one_of(VERDICTS),
    "category": _TEXT_OR_NULL,
    "source": _TEXT_OR_NULL,
    "rule": _TEXT_OR_NULL,
    "exception_id": _WHOLE_OR_NULL,
    "policy_version": _WHOLE,
    "rcode": _TEXT_OR_NULL,
    "upstream": _TEXT_OR_NULL,
    "cached": _FLAG,
    "duration_us": _WHOLE,
}
_LOOKUP_ANSWER = {
    "name": _TEXT,
    "client": _TEXT,
    "group": _TEXT,
    "verdict": _one_of(VERDICTS),
    "category": _TEXT_OR_NULL,
    "source": _TEXT_OR_NULL,
    "rule": _TEXT_OR_NULL,
    "clause": _TEXT_OR_NULL,
    "exception_id": _WHOLE_OR_NULL,
    "policy_version": _WHOLE,
}
_AUDIT_EVENT = {
    "id": _WHOLE,
    "time": _TIME,
    "actor": _TEXT,
    "action": _TEXT,
    "target": _TEXT,
    "before": {"type": ["object", "null"]},
    "after": {"type": ["object", "null"]},
}
_STATS = {
    "node": _TEXT,
    "policy_version": _WHOLE,
    "uptime_seconds": {"type": "number"},
    **dict.fromkeys(
        (
            "workers",
            "workers_serving",
            "worker_restarts",
            "lookups",
            "cached_answers",
            "in_flight",
            "unlogged",
            "turned_away",
        ),
        _WHOLE,
    ),
    "sources": _WHOLE_OR_NULL,
    "sources_failing": _WHOLE,
    "rules": _WHOLE_OR_NULL,
    **dict.fromkeys(("journal_backlog_bytes", "journal_segments", "log_rows_shipped"), _WHOLE),
}
_PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": _WHOLE,
        "detail": _TEXT,
        "errors": {
            "type": "array",
            "description": "With 422: every field that is wrong.",
            "items": _object({"field": _TEXT, "message": _TEXT}),
        },
        "id": _WHOLE | {"description": "With 503: what was stored, though it is not in force everywhere yet."},
        "policy_version": _WHOLE | {"description": "With 503: the version in which it will be in force."},
    },
    "required": ["type", "title", "status", "detail"],
}

_VERSION = {"policy_version": _WHOLE | {"description": "The policy in force on every worker when this was sent."}}
_THINGS = {
    "Exception": _EXCEPTION,
    "Category": _CATEGORY,
    "Source": _SOURCE,
    "SourceVersion": _SOURCE_VERSION,
    "Listing": _LISTING,
    "Group": _GROUP,
    "Network": _NETWORK,
    "LogRecord": _LOG_RECORD,
    "AuditEvent": _AUDIT_EVENT,
    "LookupAnswer": _LOOKUP_ANSWER,
    "Stats": _STATS,
    "Health": {
        "status": _one_of(["ok", "degraded"]),
        "troubled": _TEXTS,
        "lists": _object({"stale": _TEXTS | {"description": "Sources not refreshed for longer than their limit."}}),
    },
}
_PAGES = {
    "ExceptionPage": "Exception",
    "CategoryPage": "Category",
    "SourcePage": "Source",
    "SourceVersionPage": "SourceVersion",
    "ListingPage": "Listing",
    "GroupPage": "Group",
    "NetworkPage": "Network",
    "LogRecordPage": "LogRecord",
    "AuditPage": "AuditEvent",
}
_CHANGED = ("Exception", "Category", "Source", "Group", "Network")


def reference(name: str) -> Schema:
    """Return the reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas() -> dict[str, Schema]:
    """Return every schema by name."""
    found = {name: _object(properties) for name, properties in _THINGS.items()}
    for name in _CHANGED:
        found[f"Changed{name}"] = _object(_THINGS[name] | _VERSION)
    for name, item in _PAGES.items():
        found[name] = _object(
            {
                "items": {"type": "array", "items": reference(item)},
                "next_cursor": _TEXT_OR_NULL | {"description": "What to pass as cursor to go on; null at the end."},
            }
        )
    # The type of a lookup is shown too; the contract's fields are those that can be relied on.
    found["LookupAnswer"]["additionalProperties"] = True
    return found | {"Problem": _PROBLEM, "OpenAPI": {"type": "object"}, "Metrics": _TEXT}
