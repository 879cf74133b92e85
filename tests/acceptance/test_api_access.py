"""Who may do what over HTTP, and what is said about requests that can't be taken, on a running server."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.api import ApiReply
from tests.support.dns_client import dig
from tests.support.server import HallMonitor

GOOD = {"domain": "asked.example", "action": "block", "reason": "asked for"}


@pytest.fixture(scope="module")
def tokens(sqlite_server: HallMonitor) -> Mapping[str, str]:
    """Give a token of each role, and one that was revoked."""
    made = {role: sqlite_server.new_token(role, role) for role in ("viewer", "approver", "admin")}
    made["revoked"] = sqlite_server.new_token("revoked", "admin")
    sqlite_server.hallmonitor("tokens", "revoke", "revoked")
    return made


def problem(reply: ApiReply, status: int) -> dict[str, Any]:
    """Hold that a reply is a problem (RFC 9457) of that status, and return it."""
    assert reply.status == status, reply.body
    assert reply.content_type == "application/problem+json"
    body = reply.json()
    assert isinstance(body, dict)
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


class TestTokens:
    @pytest.mark.parametrize("path", ["/exceptions", "/lookups", "/lookup?name=a.example", "/audit", "/sources"])
    def test_without_one_nothing_is_told(self, sqlite_server: HallMonitor, path: str) -> None:
        reply = sqlite_server.api("GET", path, token="")
        # So many failures in a row are slowed down.
        assert reply.status in {401, 429}, reply.body
        problem(reply, reply.status)

    def test_a_revoked_or_wrong_one_is_none(self, sqlite_server: HallMonitor, tokens: Mapping[str, str]) -> None:
        for token in (tokens["revoked"], "hm_" + "A" * 43, "nonsense"):
            reply = sqlite_server.api("POST", "/exceptions", GOOD, token=token)
            assert reply.status in {401, 429}
            assert tokens["revoked"].encode() not in reply.body
        assert sqlite_server.api("GET", "/exceptions?domain=asked.example").json()["items"] == []

    @pytest.mark.parametrize(
        ("role", "reads", "excepts", "manages"),
        [("viewer", 200, 403, 403), ("approver", 200, 201, 403), ("admin", 200, 201, 201)],
    )
    def test_a_role_may_so_much(
        self,
        sqlite_server: HallMonitor,
        tokens: Mapping[str, str],
        role: str,
        reads: int,
        excepts: int,
        manages: int,
    ) -> None:
        token = tokens[role]
        replies = {
            "read": sqlite_server.api("GET", "/exceptions", token=token),
            "except": sqlite_server.api("POST", "/exceptions", GOOD | {"domain": f"{role}.example"}, token=token),
            "manage": sqlite_server.api("POST", "/networks", {"cidr": "10.0.0.0/8", "group": "staff"}, token=token),
        }
        assert [reply.status for reply in replies.values()] == [reads, excepts, manages]
        for reply in replies.values():
            if reply.status == 403:
                assert role in problem(reply, 403)["detail"]
        assert (dig(sqlite_server.dns, f"{role}.example").rdata == ["0.0.0.0"]) is (excepts == 201)

    def test_they_are_listed_without_their_secrets(self, sqlite_server: HallMonitor, tokens: Mapping[str, str]) -> None:
        done = sqlite_server.hallmonitor("tokens", "list", "--json")
        listed = {token["name"]: token for token in done.objects()}
        assert {"viewer", "approver", "admin", "revoked"} <= set(listed)
        assert listed["revoked"]["revoked_at"]
        assert listed["viewer"]["role"] == "viewer"
        assert not any(secret in done.out for secret in tokens.values())

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (("create", "viewer", "--role", "viewer"), 1),
            (("create", "emperor", "--role", "emperor"), 2),
            (("create", "nobody"), 2),
            (("revoke", "nobody"), 1),
        ],
        ids=["taken", "no such role", "no role", "no such token"],
    )
    def test_bad_requests_by_command(
        self, sqlite_server: HallMonitor, tokens: Mapping[str, str], arguments: tuple[str, ...], code: int
    ) -> None:
        done = sqlite_server.hallmonitor("tokens", *arguments, expect=code)
        assert done.err
        assert done.out == ""


class TestBadRequests:
    @pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b"[1]", b'"text"', b"{'a': 1}"])
    def test_json_that_is_no_json_object(self, sqlite_server: HallMonitor, body: bytes) -> None:
        reply = sqlite_server.api("POST", "/exceptions", body=body)
        assert reply.status in {400, 422}, reply.body
        problem(reply, reply.status)

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"domain": "bad..example"}, "domain"),
            ({"domain": "not a domain"}, "domain"),
            ({"domain": "192.0.2.1"}, "domain"),
            ({"domain": ""}, "domain"),
            ({"domain": 7}, "domain"),
            ({"action": "perhaps"}, "action"),
            ({"match": "some"}, "match"),
            ({"groups": ["nobody"]}, "groups"),
            ({"clients": ["10.0.0.1/8"]}, "clients"),
            ({"reason": " "}, "reason"),
            ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
            ({"expires_at": "tomorrow"}, "expires_at"),
            ({"wish": 1}, "wish"),
        ],
        ids=str,
    )
    def test_a_field_that_is_wrong_is_named(
        self, sqlite_server: HallMonitor, fields: dict[str, object], wrong: str
    ) -> None:
        body = problem(sqlite_server.api("POST", "/exceptions", GOOD | fields), 422)
        assert any(error["field"].startswith(wrong) for error in body["errors"]), body
        assert all(error["message"] for error in body["errors"])

    def test_all_that_is_wrong_is_said_at_once(self, sqlite_server: HallMonitor) -> None:
        reply = sqlite_server.api("POST", "/exceptions", {"domain": "-", "action": "perhaps"})
        body = problem(reply, 422)
        assert {error["field"] for error in body["errors"]} == {"domain", "action", "reason"}

    def test_what_is_not_there(self, sqlite_server: HallMonitor) -> None:
        problem(sqlite_server.api("GET", "/exceptions/999999"), 404)
        problem(sqlite_server.api("GET", "/nothing"), 404)
        problem(sqlite_server.api("PUT", "/exceptions", GOOD), 405)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("bad..example", "--action", "allow", "--reason", "r"), "domain"),
            (("a.example", "--action", "allow", "--reason", "r", "--group", "nobody"), "nobody"),
            (("a.example", "--action", "allow", "--reason", "r", "--client", "10.0.0.1/8"), "10.0.0.0/8"),
            (("a.example", "--action", "allow", "--reason", "r", "--expires", "2020-01-01T00:00:00Z"), "expires"),
        ],
        ids=["no domain", "no group", "no network", "in the past"],
    )
    def test_the_command_says_the_same_in_one_line(
        self, sqlite_server: HallMonitor, options: tuple[str, ...], said: str
    ) -> None:
        done = sqlite_server.hallmonitor("exceptions", "add", *options, expect=1)
        assert len(done.err.splitlines()) == 1
        assert done.err.startswith("hallmonitor: ")
        assert said in done.err


class TestDescription:
    def test_openapi_describes_what_is_there(self, sqlite_server: HallMonitor) -> None:
        reply = sqlite_server.api("GET", "/openapi.json", token="")
        assert reply.status == 200
        document = reply.json()
        assert document["openapi"].startswith("3.1")
        paths = {path.removeprefix("/api/v1") for path in document["paths"]}
        assert {
            "/exceptions", "/sources", "/categories", "/groups", "/networks", "/lookups", "/stats", "/audit", "/health",
            "/lookup",
        } <= paths  # fmt: skip
        assert {"get", "patch", "delete"} <= set(document["paths"]["/api/v1/exceptions/{id}"])
        # A client may be written from it: everything that is listed answers.
        for path in ("/sources", "/categories", "/groups", "/networks", "/lookups", "/stats", "/audit"):
            assert sqlite_server.api("GET", path).status == 200

    def test_health_needs_no_token(self, sqlite_server: HallMonitor) -> None:
        reply = sqlite_server.api("GET", "/health", token="")
        assert (reply.status, reply.json()["status"]) == (200, "ok")

    def test_metrics_are_prometheus_text(self, sqlite_server: HallMonitor) -> None:
        reply = sqlite_server.api("GET", "/metrics", token="")
        assert reply.status == 200
        assert reply.content_type == "text/plain"
        assert b"# TYPE hallmonitor_" in reply.body

    def test_lists_are_paged_by_cursor(self, sqlite_server: HallMonitor) -> None:
        made = {
            sqlite_server.api("POST", "/exceptions", GOOD | {"domain": f"p{n}.example"}).json()["id"] for n in "123"
        }
        found: list[int] = []
        cursor = ""
        while made - set(found):
            page = sqlite_server.api("GET", f"/exceptions?limit=2{cursor}").json()
            assert 0 < len(page["items"]) <= 2
            found += [exception["id"] for exception in page["items"]]
            cursor = f"&cursor={page['next_cursor']}"
        assert found == sorted(set(found), reverse=True), "the newest first, each once"


CHANGES = [
    (("groups", "block", "guests", "webmail"), "group.", "guests"),
    (("groups", "unblock", "guests", "webmail"), "group.", "guests"),
    (("networks", "add", "127.0.99.0/24", "--group", "guests"), "network.", "127.0.99.0/24"),
    (("networks", "remove", "127.0.99.0/24"), "network.", "127.0.99.0/24"),
    (("sources", "disable", "starter-shopping"), "source.", "starter-shopping"),
    (("sources", "enable", "starter-shopping"), "source.", "starter-shopping"),
    (("tokens", "create", "for-audit", "--role", "viewer"), "token.", "for-audit"),
    (("tokens", "revoke", "for-audit"), "token.", "for-audit"),
]


@pytest.mark.parametrize(
    ("change", "action", "target"), CHANGES, ids=[" ".join(change[:2]) for change, _, _ in CHANGES]
)
def test_every_command_that_changes_something_is_on_record(
    sqlite_server: HallMonitor, change: tuple[str, ...], action: str, target: str
) -> None:
    sqlite_server.hallmonitor(*change)
    event = sqlite_server.api("GET", f"/audit?target={target}&limit=1").json()["items"][0]
    assert event["actor"].startswith("cli:")
    assert event["action"].startswith(action)
    assert event["before"] != event["after"]
    assert "hm_" not in json.dumps(event), "no secret is kept"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("networks", "add", "127.2.0.0/16", "--group", "nobody"), "nobody"),
        (("networks", "add", "not-a-network", "--group", "staff"), "not-a-network"),
        (("groups", "block", "staff", "knitting"), "knitting"),
        (("groups", "block", "nobody", "games"), "nobody"),
        (("groups", "add", "staff"), "staff"),
        (("groups", "set", "staff", "--mode", "address"), "address"),
    ],
    ids=["network of no group", "no network", "no category", "no group", "taken", "no address"],
)
def test_what_cannot_be_fails_with_one_line(sqlite_server: HallMonitor, arguments: tuple[str, ...], said: str) -> None:
    done = sqlite_server.hallmonitor(*arguments, expect=1)
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("hallmonitor: ")
    assert said in done.err
    assert done.out == ""
