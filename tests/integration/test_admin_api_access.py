"""Who may do what, and what becomes of requests that are none of ours."""

import asyncio
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from admin_api import app, openapi
from admin_api.authentication import Authenticator
from admin_api.routing import Route
from storage import tokens
from storage.database import Database
from storage.tokens import Role
from tests.support.admin_api import ROLES, ApiClient, running_api

EXAMPLES = {"{id}": "1", "{key}": "list-a", "{name}": "staff", "{category}": "games", "{cidr}": "192.0.2.0/24"}
READS = {"GET", "HEAD"}
REFUSED = {401, 403}


@pytest.fixture
async def api(sqlite_database: Database) -> AsyncIterator[ApiClient]:
    async with running_api(sqlite_database, "filter.district.example") as client:
        yield client


def path_of(route: Route) -> str:
    path = route.template
    for part, example in EXAMPLES.items():
        path = path.replace(part, example)
    return "/" + path


def least_role(route: Route) -> Role | None:
    """Return who may, as the design says it: viewers read, approvers care for exceptions, admins do the rest."""
    if route.template.endswith(("/health", "/openapi.json", "/metrics")):
        return None
    if route.method in READS:
        return Role.VIEWER
    return Role.APPROVER if "/exceptions" in route.template else Role.ADMIN


@pytest.mark.parametrize("route", app.ROUTES, ids=lambda route: f"{route.method} {route.template}")
async def test_every_route_lets_in_who_may_and_nobody_else(api: ApiClient, route: Route) -> None:
    least = least_role(route)
    body: dict[str, Any] | None = None if route.body is None else {}
    for role in (None, *ROLES):
        reply = await api.call(route.method, path_of(route), body, role=role)
        if least is None:
            assert reply.status == 200
        elif role is None:
            assert reply.status == 401
            assert reply.headers["WWW-Authenticate"] == 'Bearer realm="hallmonitor"'
        elif not Role(role).includes(least):
            assert reply.status == 403
            assert f"of role {least}" in reply.json["detail"]
        else:
            assert reply.status not in REFUSED


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer hm_" + "A" * 43,
        "Bearer hm_short",
        "Bearer " + "x" * 5000,
        "Bearer hm_" + "\u00e9" * 43,
        "Basic YWRtaW46YWRtaW4=",
        "hm_" + "A" * 43,
        "Token hm_" + "A" * 43,
    ],
)
async def test_a_wrong_token_is_none(api: ApiClient, header: str) -> None:
    reply = await api.get("/exceptions", role=None, Authorization=header)
    assert reply.status == 401
    assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]


async def test_the_scheme_is_written_in_any_case(api: ApiClient) -> None:
    secret = api.secrets["viewer"]
    assert (await api.get("/exceptions", role=None, Authorization=f"bearer  {secret}")).status == 200


async def test_a_revoked_token_is_none_at_once(api: ApiClient) -> None:
    assert (await api.get("/exceptions", role="viewer")).status == 200
    with api.database.change("cli") as change:
        tokens.revoke(change, "viewer-token")
    assert (await api.get("/exceptions", role="viewer")).status == 401


async def test_a_token_in_the_address_is_none(api: ApiClient) -> None:
    secret = api.secrets["viewer"]
    assert (await api.get(f"/exceptions?access_token={secret}", role=None)).status == 401


async def test_use_is_noted(api: ApiClient) -> None:
    await api.get("/exceptions", role="viewer")
    with api.database.reading() as connection:
        used = {token.name: token.last_used_at for token in tokens.list_all(connection)}
    assert used["viewer-token"] is not None
    assert used["admin-token"] is None


async def test_guessing_is_slowed_down_and_shuts_nobody_out(api: ApiClient) -> None:
    statuses = [(await api.get("/exceptions", role=None)).status for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    reply = await api.get("/exceptions", role=None, Authorization="Bearer hm_" + "A" * 43)
    assert reply.status == 429
    assert 1 <= int(reply.headers["Retry-After"]) <= 6
    assert (await api.get("/exceptions", role="viewer")).status == 200


@pytest.mark.parametrize(
    ("remote", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.7", False),
        ("2001:db8::1", False),
        ("", False),
        (None, False),
    ],
)
def test_only_this_machine_is_loopback(sqlite_database: Database, remote: str | None, is_loopback: bool) -> None:
    request: Any = SimpleNamespace(remote=remote)
    assert Authenticator(sqlite_database).is_loopback(request) is is_loopback


class TestHost:
    @pytest.mark.parametrize("host", ["filter.district.example", "localhost:8053", "[::1]:8053", "192.0.2.1"])
    async def test_our_names(self, api: ApiClient, host: str) -> None:
        assert (await api.get("/health", role=None, Host=host)).status == 200

    @pytest.mark.parametrize("path", ["/health", "/exceptions", "//", "//metrics"])
    async def test_another_name_is_a_rebound_one(self, api: ApiClient, path: str) -> None:
        reply = await api.get(path, role="admin", Host="attacker.example")
        assert reply.status == 421
        assert "admin.host_names" in reply.json["detail"]


class TestNoneOfOurs:
    @pytest.mark.parametrize("path", ["//", "//api", "//api/v2/exceptions", "/tokens", "/exceptions/1/2", "//..%2f"])
    async def test_no_such_address(self, api: ApiClient, path: str) -> None:
        reply = await api.get(path)
        assert (reply.status, reply.json["title"]) == (404, "Not Found")

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
    async def test_no_such_method(self, api: ApiClient, method: str) -> None:
        reply = await api.call(method, "/exceptions")
        assert reply.status == 405
        assert reply.headers["Allow"] == "GET, HEAD, POST"

    @pytest.mark.parametrize("data", [b"", b"{", b"domain=a.example", b"\xff", b"[1]", b"[" * 50_000])
    async def test_json_that_is_none(self, api: ApiClient, data: bytes) -> None:
        reply = await api.post("/exceptions", data=data)
        assert reply.status == 400
        assert "JSON" in reply.json["detail"]

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
    async def test_what_does_not_say_that_it_is_json(self, api: ApiClient, kind: str) -> None:
        reply = await api.call("POST", "/exceptions", data=b"{}", **{"Content-Type": kind})
        assert reply.status == 415

    async def test_json_in_utf_8_may_say_so(self, api: ApiClient) -> None:
        reply = await api.call("POST", "/exceptions", data=b"{}", **{"Content-Type": "application/json; charset=utf-8"})
        assert reply.status == 422

    async def test_a_body_beyond_the_limit(self, api: ApiClient) -> None:
        body = b'{"reason": "' + b"x" * (64 << 10) + b'"}'
        reply = await api.post("/exceptions", data=body)
        assert reply.status == 413
        assert "65536" in reply.json["detail"]

    async def test_a_body_of_a_stranger_is_not_read(self, api: ApiClient) -> None:
        assert (await api.post("/exceptions", data=b"{", role=None)).status == 401

    async def test_a_parameter_that_stands_twice(self, api: ApiClient) -> None:
        assert (await api.get("/lookups?client=192.0.2.1&client=192.0.2.2")).status == 400

    async def test_no_page_elsewhere_may_read(self, api: ApiClient) -> None:
        reply = await api.get("/health", role=None, Origin="http://attacker.example")
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]
        assert reply.headers["Server"] == "hallmonitor"
        assert reply.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"

    async def test_a_mistake_of_ours_is_logged_and_not_explained(
        self, api: ApiClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        api.control.failure = RuntimeError("the password is hunter2")
        with caplog.at_level(logging.ERROR, "admin_api.problems"):
            reply = await api.get("/lookup?name=secret.example")
        assert reply.status == 500
        assert "hunter2" not in reply.text
        assert "hunter2" in caplog.text
        assert "secret.example" not in caplog.messages[0]


async def test_many_at_once_each_have_their_own(api: ApiClient) -> None:
    body = {"action": "allow", "reason": "x"}
    replies = await asyncio.gather(
        *(api.post("/exceptions", body | {"domain": f"n{number}.example"}) for number in range(20))
    )
    assert {reply.status for reply in replies} == {201}
    assert len({reply.json["id"] for reply in replies}) == 20
    for number, reply in enumerate(replies):
        assert reply.json["domain"] == f"n{number}.example"


async def test_the_document_is_made_once(api: ApiClient) -> None:
    application = api.http.app
    assert isinstance(application, web.Application)
    assert application[openapi.DOCUMENT] == (await api.get("/openapi.json", role=None)).json
