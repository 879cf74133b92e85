"""One route, and the way of one request through it: authenticate, authorise, read, act, reply."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web
from sqlalchemy import Connection

from admin_api import forms
from admin_api.authentication import Authenticator
from admin_api.control import Control, ControlError
from admin_api.forms import Field, Form
from admin_api.problems import ProblemError
from settings import Settings
from storage.database import Change, Database
from storage.errors import DatabaseDownError
from storage.paging import Page
from storage.sources import Source
from storage.tokens import Role, Token

LONGEST_PAGE = 1_000
PREFIX = "/api/v1"

T = TypeVar("T")


@dataclass(frozen=True)
class Api:
    """What every request may use."""

    database: Database
    control: Control
    settings: Settings
    authenticator: Authenticator


@dataclass(frozen=True)
class Reply:
    """What a handler answers."""

    body: Any
    """What becomes JSON; text stays text, and says in its headers what it is."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """One method of one path, and all that the OpenAPI document says of it."""

    method: str
    path: str
    """In the router's notation, from the root on."""
    handler: Callable[["Call"], Awaitable[Reply]]
    summary: str
    schema: str
    """The name of the reply's schema."""
    role: Role | None
    """The least role that may; None: no token is needed."""
    status: int = 200
    query: Mapping[str, Field] = field(default_factory=dict)
    body: Mapping[str, Field] | None = None
    body_is_optional: bool = False
    """Whether nothing at all may be sent, which stands for an empty object."""
    conflicts: bool = False
    """Whether it may contradict what is stored, though it has no body."""
    loopback_is_free: bool = False
    """Whether a peer on this machine needs no token."""

    @property
    def template(self) -> str:
        """The path in OpenAPI's notation: without the patterns of its parameters."""
        return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", self.path)

    @property
    def name(self) -> str:
        """The name of the operation."""
        return self.handler.__name__


@dataclass(frozen=True)
class Call:
    """One request that may be answered."""

    api: Api
    request: web.Request
    token: Token | None
    query: Mapping[str, Any]
    form: Form

    @property
    def actor(self) -> str:
        """Who asks, for the audit."""
        assert self.token is not None, "an open route changes nothing"
        return self.token.name

    def path(self, name: str) -> str:
        """Return a parameter of the path."""
        return self.request.match_info[name]

    def number(self, name: str) -> int:
        """Return a parameter of the path that is a number. Raises `ProblemError`."""
        text = self.path(name)
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise ProblemError(404, f"There is nothing at {self.request.path}.")
        return int(text)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Read from the database."""

        def run() -> T:
            with self.api.database.reading() as connection:
                return work(connection)

        return await asyncio.to_thread(run)

    async def change(self, work: Callable[[Change], T]) -> tuple[T, int]:
        """Make a change, bring it into force, and return what came of it and the policy version that is live.

        Raises `ProblemError` when it is stored but not in force everywhere yet.
        """

        def run() -> tuple[T, int]:
            with self.api.database.change(self.actor) as change:
                with self.form.checked():
                    result = work(change)
                return result, change.policy_version

        result, version = await asyncio.to_thread(run)
        try:
            live = await self.api.control.publish()
        except (ControlError, DatabaseDownError) as error:
            raise _stored(result, version, str(error)) from error
        if live < version:
            raise _stored(result, version, f"policy version {live} is live")
        return result, live

    async def publish_lists(self, source: Source) -> int:
        """Bring what a source lists since a moment ago into force; return the policy version that is live then.

        Raises `ProblemError` when that didn't come about.
        """
        try:
            return await self.api.control.publish(wait_for_index=True)
        except (ControlError, DatabaseDownError) as error:
            raise ProblemError(
                503,
                f"Version {source.version} of {source.key} is stored, but not every worker goes by it yet: {error}. "
                "It will be in force when they do.",
            ) from error


def _stored(result: object, version: int, reason: str) -> ProblemError:
    members = {"id": getattr(result, "id")} if hasattr(result, "id") else {}  # noqa: B009 - mypy knows no id of T
    return ProblemError(
        503,
        f"The change is stored, but not every worker has taken it yet: {reason}. It will be in force when they have.",
        policy_version=version,
        **members,
    )


def page(found: Page[T], present: Callable[[T], dict[str, Any]]) -> Reply:
    """Return the reply of one page."""
    cursor = None if found.next_cursor is None else str(found.next_cursor)
    return Reply({"items": [present(item) for item in found.items], "next_cursor": cursor})


IN_PAGES: Mapping[str, Field] = {
    "cursor": forms.numbered_cursor(),
    "limit": forms.limited(default=LONGEST_PAGE, maximum=LONGEST_PAGE),
}
"""The parameters of a list that is short enough to be read at once, and is one page mostly."""


def page_of(call: Call, items: list[dict[str, Any]]) -> Reply:
    """Return the reply of one page of a whole list; its cursor says how many items came before."""
    first = call.query.get("cursor", 0)
    behind = first + call.query.get("limit", LONGEST_PAGE)
    return Reply({"items": items[first:behind], "next_cursor": str(behind) if behind < len(items) else None})


def serve(api: Api, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return what the web server calls for a route."""

    async def respond(request: web.Request) -> web.Response:
        token = None
        if route.role is not None and not (route.loopback_is_free and api.authenticator.is_loopback(request)):
            token = await api.authenticator.authenticate(request, route.role)
        query = _query(request, route.query)
        query.finish()
        form = Form()
        if route.body is not None and (request.body_exists or not route.body_is_optional):
            form = forms.read(route.body, await _object(request))
        reply = await route.handler(Call(api, request, token, query.values, form))
        body = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        headers = {"Content-Type": "application/json", **reply.headers}
        return web.Response(status=reply.status, body=body.encode(), headers=headers)

    return respond


def _query(request: web.Request, fields: Mapping[str, Field]) -> Form:
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise ProblemError(400, f"The parameter {name[:80]!r} stands twice.")
        given[name] = value
    return forms.read(fields, given)


async def _object(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise ProblemError(415, "The body must be JSON: send it with Content-Type: application/json.")
    return forms.parse_object(await request.read())
