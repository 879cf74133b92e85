"""`/lookups`, `/lookup`, `/audit`: what was asked, what would be answered, and who did what. Looking is audited."""

import asyncio

from admin_api import forms
from admin_api.presenting import present
from admin_api.routing import PREFIX, Call, Reply, Route, page
from admin_api.times import parse_time
from querylog.errors import InvalidQueryError
from querylog.records import VERDICTS
from querylog.search import DEFAULT_LIMIT, LogQuery, record_to_json
from querylog.times import parse_time as parse_log_time
from storage import audit, checks
from storage.database import now
from storage.errors import InvalidError
from storage.tokens import Role

_TIME = {"format": "date-time"}
MAX_PAGE = 1000


async def search_lookups(call: Call) -> Reply:
    """Search the log; that it was searched, by whom and for what, is on record before anything is shown."""
    query = LogQuery.of(**call.query)
    filters = {name: call.request.query[name] for name in call.query}
    await asyncio.to_thread(audit.note, call.api.database, call.actor, "log.search", "lookups", filters)
    records, cursor = await call.api.control.search_log(query)
    return Reply({"items": [record_to_json(record) for record in records], "next_cursor": cursor})


async def explain_lookup(call: Call) -> Reply:
    """Explain what a client would get."""
    client = call.query.get("client") or call.request.remote or ""
    qtype = call.query.get("type", "A")
    try:
        return Reply(await call.api.control.lookup(call.query["name"], client, qtype))
    except ValueError as error:  # name and client have been read by now
        raise InvalidError("type", str(error)) from error


async def list_audit(call: Call) -> Reply:
    """List audit events, the newest first."""
    return page(await call.read(lambda connection: audit.list_page(connection, **call.query)), present)


def _log_time(text: str) -> int:
    try:
        return parse_log_time(text, now())
    except InvalidQueryError as error:
        raise ValueError(error.message) from error


ROUTES = (
    Route(
        "GET",
        f"{PREFIX}/lookups",
        search_lookups,
        "Search the log of lookups, the newest first. Every search is audited.",
        "LogRecordPage",
        Role.VIEWER,
        query={
            "client": forms.parameter("An address or a network."),
            "name": forms.parameter("Exactly this name."),
            "subtree": forms.parameter("This name and all below it."),
            "verdict": forms.parameter("What came of it.", schema={"enum": list(VERDICTS)}),
            "since": forms.parameter("From this time on; also 15m, 2h, 7d for how long ago.", _log_time),
            "until": forms.parameter("Before this time; also 15m, 2h, 7d for how long ago.", _log_time),
            "limit": forms.limited(default=DEFAULT_LIMIT, maximum=MAX_PAGE),
            "cursor": forms.parameter("The next_cursor of the page before."),
        },
    ),
    Route(
        "GET",
        f"{PREFIX}/lookup",
        explain_lookup,
        "Tell what a client would get for a name, and why.",
        "LookupAnswer",
        Role.VIEWER,
        query={
            "name": forms.parameter("The name.", checks.domain, required=True),
            "client": forms.parameter("The client's address; yours where it isn't given.", checks.address),
            "type": forms.parameter("The query type.", schema={"default": "A", "examples": ["AAAA"]}),
        },
    ),
    Route(
        "GET",
        f"{PREFIX}/audit",
        list_audit,
        "List who did what, the newest first.",
        "AuditPage",
        Role.VIEWER,
        query={
            "actor": forms.parameter("Only what this token did."),
            "action": forms.parameter("Only this.", schema={"examples": ["exception.create"]}),
            "target": forms.parameter("Only what was done to this: an id, a key, a name, a network."),
            "since": forms.parameter("From this time on.", parse_time, schema=_TIME),
            "until": forms.parameter("Before this time.", parse_time, schema=_TIME),
            "cursor": forms.numbered_cursor(),
            "limit": forms.limited(default=100, maximum=1000),
        },
    ),
)
