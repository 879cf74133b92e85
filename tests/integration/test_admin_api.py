"""What each endpoint does, on SQLite and on Postgres."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from admin_api.times import parse_time
from policy.rules import Rule
from querylog.errors import StoreDownError
from storage import audit, categories, exceptions, groups, networks, sources
from storage.audit import AuditEvent
from storage.database import Database, now
from storage.errors import DatabaseDownError
from tests.support.admin_api import NOT_IN_TIME, ApiClient, running_api
from tests.support.configuration import add_groups, add_source, list_rules

FULL = {
    "domain": "Example.ORG.",
    "action": "allow",
    "match": "exact",
    "groups": ["staff"],
    "clients": ["10.1.2.0/24", "192.0.2.7"],
    "reason": "A lesson on elections",
    "requested_by": "Ms Lee",
    "expires_at": "2126-12-01T17:00:00+02:00",
}
SMALL = {"domain": "a.example", "action": "block", "reason": "asked for"}


@pytest.fixture
async def api(database: Database) -> AsyncIterator[ApiClient]:
    add_groups(database, "staff", "students")
    with database.change("set-up") as change:
        add_source(change, "list-a", category="games")
        categories.add(change, "learning", kind="allow")
    async with running_api(database) as client:
        yield client


def events(api: ApiClient) -> list[AuditEvent]:
    with api.database.reading() as connection:
        return list(audit.list_page(connection).items)


class TestExceptions:
    async def test_created_live_and_told_whole(self, api: ApiClient) -> None:
        reply = await api.post("/exceptions", FULL, role="approver")
        assert reply.status == 201
        body = reply.json
        assert reply.headers["Location"] == f"/api/v1/exceptions/{body['id']}"
        assert abs(parse_time(body.pop("created_at")) - now()) < 60_000_000
        assert body == {
            "id": body["id"],
            "status": "active",
            "domain": "example.org",
            "action": "allow",
            "match": "exact",
            "groups": ["staff"],
            "clients": ["10.1.2.0/24", "192.0.2.7/32"],
            "reason": "A lesson on elections",
            "requested_by": "Ms Lee",
            "created_by": "approver-token",
            "approved_by": "approver-token",
            "expires_at": "2126-12-01T15:00:00Z",
            "revoked_at": None,
            "revoked_by": None,
            "policy_version": api.database.state().policy_version,
        }
        assert api.control.published == [body["policy_version"]]
        shown = await api.get(reply.headers["Location"].removeprefix("/api/v1"), role="viewer")
        assert shown.status == 200
        assert shown.json["domain"] == "example.org"
        assert events(api)[0].action == "exception.create"

    async def test_what_is_left_out_has_its_default(self, api: ApiClient) -> None:
        body = (await api.post("/exceptions", SMALL)).json
        assert (body["match"], body["groups"], body["clients"]) == ("subtree", [], [])
        assert (body["requested_by"], body["expires_at"]) == ("", None)

    async def test_every_wrong_field_is_named_at_once(self, api: ApiClient) -> None:
        state = api.database.state()
        reply = await api.post(
            "/exceptions",
            {
                "domain": "not a domain",
                "action": "deny",
                "match": "subdomains",
                "groups": ["nobody"],
                "clients": "10.0.0.0/8",
                "requested_by": "x" * 501,
                "expires_at": "2020-01-01T00:00:00Z",
                "resaon": "mistyped",
            },
        )
        assert sorted(reply.wrong_fields) == [
            "action",
            "clients",
            "domain",
            "expires_at",
            "groups",
            "match",
            "reason",
            "requested_by",
            "resaon",
        ]
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert api.database.state() == state
        assert api.control.published == []

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("expires_at", "2020-01-01T00:00:00Z", "in the future"),
            ("expires_at", "2126-12-01T15:00:00", "time zone"),
            ("expires_at", "tomorrow", "must be a time such as"),
            ("expires_at", 4_950_000_000, "must be text"),
            ("expires_at", "9999-12-31T23:59:59-14:00", "before the year 10000"),
            ("domain", "192.0.2.1", "an address, not a domain name"),
            ("domain", "", "not a domain name"),
            ("domain", "a\x00.example", "not a domain name"),
            ("clients", ["10.1.2.3/24"], "did you mean 10.1.2.0/24"),
            ("reason", " ", "must not be blank"),
            ("reason", "half \ud800 pair", "control characters"),
            ("reason", None, "must be text, not null"),
            ("groups", [["staff"]], "list of texts"),
        ],
    )
    async def test_a_wrong_field_says_why(self, api: ApiClient, field: str, value: Any, message: str) -> None:
        reply = await api.post("/exceptions", SMALL | {field: value})
        assert reply.wrong_fields == [field]
        assert message in reply.json["errors"][0]["message"]

    async def test_listed_in_pages_and_by_filter(self, api: ApiClient) -> None:
        for number in range(5):
            await api.post("/exceptions", SMALL | {"domain": f"n{number}.example"})
        seen: list[str] = []
        path = "/exceptions?limit=2"
        for _ in range(3):
            page = (await api.get(path, role="viewer")).json
            seen += [item["domain"] for item in page["items"]]
            path = f"/exceptions?limit=2&cursor={page['next_cursor']}"
        assert seen == [f"n{number}.example" for number in (4, 3, 2, 1, 0)]
        assert page["next_cursor"] is None
        found = (await api.get("/exceptions?domain=N3.example.&status=active")).json["items"]
        assert [item["domain"] for item in found] == ["n3.example"]
        assert (await api.get("/exceptions?status=expired")).json == {"items": [], "next_cursor": None}

    @pytest.mark.parametrize(
        ("query", "fields"),
        [
            ("status=live", ["status"]),
            ("limit=0&cursor=x", ["cursor", "limit"]),
            ("domian=a.example", ["domian"]),
            ("domain=-", ["domain"]),
        ],
    )
    async def test_a_mistyped_filter_is_no_wider_search(self, api: ApiClient, query: str, fields: list[str]) -> None:
        assert (await api.get(f"/exceptions?{query}")).wrong_fields == fields

    async def test_updated_in_part(self, api: ApiClient) -> None:
        added = (await api.post("/exceptions", FULL)).json
        path = f"/exceptions/{added['id']}"
        reply = await api.call("PATCH", path, {"expires_at": None, "reason": "a project"}, role="approver")
        assert reply.status == 200
        assert reply.json["policy_version"] == added["policy_version"] + 1
        changed = {"expires_at": None, "reason": "a project", "policy_version": reply.json["policy_version"]}
        assert reply.json == added | changed
        reply = await api.call("PATCH", path, {"domain": "b.example", "expires_at": "2020-01-01T00:00:00Z"})
        assert reply.wrong_fields == ["domain", "expires_at"]

    async def test_revoked_with_its_history(self, api: ApiClient) -> None:
        added = (await api.post("/exceptions", SMALL)).json
        path = f"/exceptions/{added['id']}"
        revoked = await api.call("DELETE", path, role="approver")
        assert revoked.status == 200
        assert (revoked.json["status"], revoked.json["revoked_by"]) == ("revoked", "approver-token")
        assert (await api.get(path)).json["status"] == "revoked"
        assert (await api.call("DELETE", path)).json["revoked_by"] == "approver-token"
        assert (await api.call("PATCH", path, {"reason": "again"})).status == 409
        assert len((await api.get("/exceptions?status=revoked")).json["items"]) == 1

    @pytest.mark.parametrize("number", ["0", "999", "-1", "x", "9" * 30, "1.0", "%31%00"])
    async def test_what_is_not_there(self, api: ApiClient, number: str) -> None:
        for method, body in (("GET", None), ("PATCH", {"reason": "x"}), ("DELETE", None)):
            reply = await api.call(method, f"/exceptions/{number}", body)
            assert (reply.status, reply.json["title"]) == (404, "Not Found")

    async def test_stored_but_not_in_force_everywhere(self, api: ApiClient) -> None:
        api.control.failure = NOT_IN_TIME
        reply = await api.post("/exceptions", SMALL)
        assert reply.status == 503
        problem = reply.json
        assert "The change is stored" in problem["detail"]
        assert "worker 1 did not take policy version 9" in problem["detail"]
        with api.database.reading() as connection:
            assert exceptions.get(connection, problem["id"]).domain == "a.example"
        assert problem["policy_version"] == api.database.state().policy_version

    @pytest.mark.parametrize("lag", [1, 3])
    async def test_workers_that_are_behind_are_not_live(self, api: ApiClient, lag: int) -> None:
        api.control.lag = lag
        reply = await api.post("/exceptions", SMALL)
        assert reply.status == 503
        assert "is live" in reply.json["detail"]

    async def test_the_database_goes_away_while_publishing(self, api: ApiClient) -> None:
        api.control.failure = DatabaseDownError("the database is away")
        reply = await api.post("/exceptions", SMALL)
        assert reply.status == 503
        assert "id" in reply.json


class TestListsAndCategories:
    async def test_categories(self, api: ApiClient) -> None:
        reply = await api.post("/categories", {"key": "gambling", "name": "Gambling", "severity": 3})
        assert (reply.status, reply.headers["Location"]) == (201, "/api/v1/categories/gambling")
        assert (await api.get("/categories/gambling")).json["severity"] == 3
        keys = [item["key"] for item in (await api.get("/categories")).json["items"]]
        assert keys == ["gambling", "games", "learning"]
        assert (await api.post("/categories", {"key": "gambling"})).status == 409
        assert (await api.post("/categories", {"kind": "x", "severity": 0})).wrong_fields == [
            "key",
            "kind",
            "severity",
        ]
        assert (await api.get("/categories/nothing")).status == 404

    async def test_categories_are_changed_and_removed_when_nothing_uses_them(self, api: ApiClient) -> None:
        changed = await api.call("PATCH", "/categories/games", {"name": "Games", "severity": 7})
        assert (changed.json["name"], changed.json["severity"], changed.json["kind"]) == ("Games", 7, "block")
        assert changed.json["policy_version"] == api.control.published[-1]
        wrong = await api.call("PATCH", "/categories/games", {"severity": 0, "kind": "x", "name": " "})
        assert wrong.wrong_fields == ["name", "kind", "severity"]
        await api.call("PUT", "/groups/students/blocked/games")
        assert (await api.call("PATCH", "/categories/games", {"kind": "allow"})).status == 409
        used = await api.call("DELETE", "/categories/games")
        assert (used.status, used.json["detail"]) == (
            409,
            "category 'games' is used by source list-a and by group students",
        )
        await api.call("DELETE", "/groups/students/blocked/games")
        await api.call("DELETE", "/sources/list-a")
        assert (await api.call("DELETE", "/categories/games")).json["name"] == "Games"
        assert (await api.get("/categories/games")).status == 404
        assert [event.action for event in events(api)[:1]] == ["category.remove"]

    async def test_sources(self, api: ApiClient) -> None:
        new = {"key": "list-b", "location": "https://lists.example/b.txt", "category": "games", "format": "hosts"}
        reply = await api.post("/sources", new)
        assert (reply.status, reply.headers["Location"]) == (201, "/api/v1/sources/list-b")
        assert (reply.json["enabled"], reply.json["rules"], reply.json["last_error"]) == (True, 0, None)
        assert [item["key"] for item in (await api.get("/sources")).json["items"]] == ["list-a", "list-b"]
        assert (await api.post("/sources", new)).status == 409
        assert (await api.post("/sources", {**new, "category": "x", "format": "csv", "key": 1})).wrong_fields == [
            "key",
            "format",
            "category",
        ]

    async def test_where_and_when_a_source_is_fetched(self, api: ApiClient) -> None:
        new = {"key": "list-b", "location": "https://lists.example/b.txt", "category": "games"}
        made = await api.post("/sources", new | {"mirrors": ["https://m.example/b.txt"], "interval_seconds": 600})
        assert (made.json["mirrors"], made.json["stale_seconds"]) == (["https://m.example/b.txt"], 1800)
        assert (made.json["version"], made.json["stale"]) == (0, False)
        changed = await api.call("PATCH", "/sources/list-b", {"interval_seconds": 1200, "mirrors": []})
        assert (changed.json["mirrors"], changed.json["interval_seconds"], changed.json["stale_seconds"]) == (
            [],
            1200,
            3600,
        )
        alone = await api.call("PATCH", "/sources/list-b", {"stale_seconds": 4000})
        assert (alone.json["interval_seconds"], alone.json["stale_seconds"]) == (1200, 4000)
        wrong = {"mirrors": ["/a/path"], "interval_seconds": 1, "stale_seconds": "x"}
        assert sorted((await api.call("PATCH", "/sources/list-b", wrong)).wrong_fields) == sorted(wrong)
        assert sorted((await api.post("/sources", new | wrong)).wrong_fields) == sorted(wrong)

    async def test_versions_are_told_searched_and_brought_back(self, api: ApiClient) -> None:
        with api.database.reading() as connection:
            number = sources.get(connection, "list-a").id
        list_rules(api.database, number, [Rule("a.example"), Rule("b.example")])
        list_rules(api.database, number, [Rule("b.example")])
        newest, first = (await api.get("/sources/list-a/versions", role="viewer")).json["items"]
        assert (newest["number"], newest["added"], newest["removed"], newest["restored"]) == (2, 0, 1, None)
        assert (first["number"], first["rules"], first["actor"]) == (1, 2, "refresh")

        assert (await api.get("/sources/search?name=www.a.example")).json["items"] == []
        then = await api.get(f"/sources/search?name=www.A.example.&at={first['at']}", role="viewer")
        held = {
            "source": "list-a",
            "directory": None,
            "category": "games",
            "rule": "||a.example^",
            "action": "block",
            "enabled": True,
            "since": first["at"],
            "version": 1,
        }
        assert then.json["items"] == [held]

        assert (await api.post("/sources/list-a/rollback", role="approver")).status == 403
        back = await api.post("/sources/list-a/rollback")
        assert (back.status, back.json["version"], back.json["rules"]) == (200, 3, 2)
        assert api.control.waited_for_index
        assert events(api)[0].action == "source.rollback"
        again = (await api.get("/sources/search?name=a.example")).json["items"]
        assert again == [held | {"since": again[0]["since"], "version": 3}]
        assert (await api.post("/sources/list-a/rollback", {"to": 2})).json["rules"] == 1

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("/sources/list-a/rollback", None, 409),
            ("/sources/list-a/rollback", {"to": 7}, 404),
            ("/sources/list-a/rollback", {"to": "first"}, 422),
            ("/sources/list-a/rollback", {"version": 1}, 422),
            ("/sources/nothing/rollback", None, 404),
        ],
    )
    async def test_what_cannot_be_brought_back(self, api: ApiClient, path: str, body: Any, status: int) -> None:
        assert (await api.post(path, body)).status == status
        assert api.control.published == []

    async def test_a_rollback_that_is_stored_but_not_live_yet(self, api: ApiClient) -> None:
        with api.database.reading() as connection:
            number = sources.get(connection, "list-a").id
        list_rules(api.database, number, [Rule("a.example")])
        list_rules(api.database, number, [Rule("b.example")])
        api.control.failure = NOT_IN_TIME
        reply = await api.post("/sources/list-a/rollback")
        assert (reply.status, "Version 3 of list-a is stored" in reply.json["detail"]) == (503, True)
        assert (await api.get("/sources/list-a")).json["version"] == 3

    @pytest.mark.parametrize(("query", "field"), [("", "name"), ("name=-", "name"), ("name=a.example&at=then", "at")])
    async def test_a_search_for_nothing(self, api: ApiClient, query: str, field: str) -> None:
        assert (await api.get(f"/sources/search?{query}")).wrong_fields == [field]
        assert (await api.get("/sources/nothing/versions")).status == 404

    async def test_sources_are_switched_and_removed(self, api: ApiClient) -> None:
        with api.database.reading() as connection:
            number = sources.get(connection, "list-a").id
        list_rules(api.database, number, [Rule("a.example")])
        before = api.database.state().entries_version
        off = await api.call("PATCH", "/sources/list-a", {"enabled": False, "category": "learning"})
        assert (off.status, off.json["enabled"], off.json["category"]) == (200, False, "learning")
        assert off.json["policy_version"] == api.control.published[-1]
        assert (await api.call("PATCH", "/sources/list-a", {"enabled": "no", "category": "x"})).wrong_fields == [
            "enabled",
            "category",
        ]
        assert (await api.get("/sources/list-a")).json["enabled"] is False
        assert (await api.call("DELETE", "/sources/list-a")).json["key"] == "list-a"
        assert (await api.get("/sources/list-a")).status == 404
        assert (await api.call("DELETE", "/sources/list-a")).status == 404
        assert api.database.state().entries_version == before


class TestGroupsAndNetworks:
    async def test_groups(self, api: ApiClient) -> None:
        assert (await api.post("/groups", {"name": "library"})).headers["Location"] == "/api/v1/groups/library"
        assert (await api.post("/groups", {"name": "library"})).status == 409
        assert (await api.post("/groups", {"name": "Li brary"})).wrong_fields == ["name"]
        names = [item["name"] for item in (await api.get("/groups")).json["items"]]
        assert names == ["library", "staff", "students"]
        assert (await api.get("/groups/library")).json["blocked"] == []
        assert (await api.get("/groups/nobody")).status == 404

    async def test_how_blocked_names_are_answered(self, api: ApiClient) -> None:
        wanted = {"mode": "address", "addresses": ["192.0.2.1", "2001:DB8::1"]}
        reply = await api.call("PATCH", "/groups/staff", wanted)
        assert (reply.json["mode"], reply.json["addresses"]) == ("address", ["192.0.2.1", "2001:db8::1"])
        assert (await api.call("PATCH", "/groups/students", {"mode": "address"})).wrong_fields == ["addresses"]
        assert (await api.call("PATCH", "/groups/nobody", {"mode": "null"})).status == 404

    async def test_categories_are_blocked_and_unblocked(self, api: ApiClient) -> None:
        path = "/groups/students/blocked/games"
        assert (await api.call("PUT", path)).json["blocked"] == ["games"]
        assert (await api.call("PUT", path)).json["blocked"] == ["games"]
        assert (await api.call("DELETE", path)).json["blocked"] == []
        assert (await api.call("DELETE", path)).status == 200
        assert (await api.call("PUT", "/groups/students/blocked/nothing")).status == 404
        assert (await api.call("PUT", "/groups/nobody/blocked/games")).status == 404
        assert (await api.call("PUT", "/groups/students/blocked/learning")).wrong_fields == ["category"]

    async def test_networks(self, api: ApiClient) -> None:
        reply = await api.post("/networks", {"cidr": "10.1.0.0/16", "group": "staff", "site": "North High"})
        assert (reply.status, reply.headers["Location"]) == (201, "/api/v1/networks/10.1.0.0/16")
        await api.post("/networks", {"cidr": "2001:db8::7", "group": "staff"})
        assert [item["cidr"] for item in (await api.get("/networks")).json["items"]] == [
            "10.1.0.0/16",
            "2001:db8::7/128",
        ]
        assert (await api.get("/networks/10.1.0.0/16")).json["site"] == "North High"
        assert (await api.post("/networks", {"cidr": "10.1.0.0/16", "group": "students"})).status == 409
        assert (await api.post("/networks", {"cidr": "10.1.0.1/16", "group": "nobody"})).wrong_fields == [
            "cidr",
            "group",
        ]
        assert (await api.call("DELETE", "/networks/10.1.0.0%2F16")).json["group"] == "staff"
        assert (await api.call("DELETE", "/networks/2001:db8::7")).status == 200
        assert (await api.call("DELETE", "/networks/10.1.0.0/16")).status == 404
        assert (await api.call("DELETE", "/networks/nonsense/x")).status == 404


class TestTheLog:
    async def test_searched_and_on_record(self, api: ApiClient) -> None:
        state = api.database.state()
        api.control.cursor = "ab.1"
        path = "/lookups?client=192.0.2.0/24&subtree=A.example&verdict=blocked&since=2026-11-24T00:00:00Z&limit=50"
        reply = await api.get(path, role="viewer")
        assert reply.status == 200
        assert reply.json["next_cursor"] == "ab.1"
        [record] = reply.json["items"]
        assert (record["client"], record["qname"], record["verdict"]) == ("192.0.2.7", "www.a.example", "blocked")
        [query] = api.control.queries
        assert (query.client, query.subtree, query.verdict) == ("192.0.2.0/24", "a.example", "blocked")
        assert (query.since, query.limit) == (parse_time("2026-11-24T00:00:00Z"), 50)
        event = events(api)[0]
        assert (event.actor, event.action, event.target) == ("viewer-token", "log.search", "lookups")
        assert event.after == {
            "client": "192.0.2.0/24",
            "subtree": "A.example",
            "verdict": "blocked",
            "since": "2026-11-24T00:00:00Z",
            "limit": "50",
        }
        assert api.database.state() == state

    async def test_a_search_that_fails_was_still_made(self, api: ApiClient) -> None:
        api.control.failure = StoreDownError("the log is away")
        reply = await api.get("/lookups?name=a.example")
        assert (reply.status, reply.json["detail"]) == (503, "the log is away")
        assert events(api)[0].action == "log.search"

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("client=school", "client"),
            ("name=a..example%20", "name"),
            ("verdict=denied", "verdict"),
            ("since=yesterday", "since"),
            ("until=2026-11-24T00:00:00", "until"),
            ("since=1h&until=2h", "since"),
            ("limit=1001", "limit"),
            ("cursor=x", "cursor"),
            ("qname=a.example", "qname"),
        ],
    )
    async def test_a_wrong_search_is_none(self, api: ApiClient, query: str, field: str) -> None:
        before = len(events(api))
        assert (await api.get(f"/lookups?{query}")).wrong_fields == [field]
        assert api.control.queries == []
        assert len(events(api)) == before

    async def test_explained(self, api: ApiClient) -> None:
        reply = await api.get("/lookup?name=WWW.A.example.&client=192.0.2.7&type=AAAA", role="viewer")
        assert (reply.json["name"], reply.json["client"]) == ("www.a.example", "192.0.2.7")
        assert (await api.get("/lookup?name=a.example")).json["client"] == "127.0.0.1"

    @pytest.mark.parametrize(
        ("query", "fields"),
        [
            ("", ["name"]),
            ("name=a%20b&client=x", ["name", "client"]),
            ("name=a.example&type=!", ["type"]),
        ],
    )
    async def test_what_cannot_be_explained(self, api: ApiClient, query: str, fields: list[str]) -> None:
        assert (await api.get(f"/lookup?{query}")).wrong_fields == fields

    async def test_nothing_is_explained_before_a_policy_is_there(self, api: ApiClient) -> None:
        api.control.failure = NOT_IN_TIME
        assert (await api.get("/lookup?name=a.example")).status == 503

    async def test_the_audit_is_listed(self, api: ApiClient) -> None:
        await api.post("/exceptions", SMALL, role="approver")
        page = (await api.get("/audit?actor=approver-token&action=exception.create", role="viewer")).json
        [event] = page["items"]
        assert event["before"] is None
        assert event["after"]["domain"] == "a.example"
        assert parse_time(event["after"]["created_at"]) == parse_time(event["time"])
        first = (await api.get("/audit?limit=1")).json
        second = (await api.get(f"/audit?limit=1&cursor={first['next_cursor']}")).json
        assert second["items"][0]["id"] < first["items"][0]["id"]
        assert (await api.get(f"/audit?until={event['time']}&target={event['target']}")).json["items"] == []
        assert (await api.get("/audit?since=2h")).wrong_fields == ["since"]


class TestTheService:
    async def test_health(self, api: ApiClient) -> None:
        well = {"status": "ok", "troubled": [], "lists": {"stale": []}}
        assert (await api.get("/health", role=None)).json == well
        api.control.store = "it is away"
        reply = await api.get("/health", role=None)
        assert (reply.status, reply.json) == (200, well | {"status": "degraded", "troubled": ["log_store"]})
        api.control.store, api.control.lists["stale"] = "ok", ["list-a"]
        reply = await api.get("/health", role=None)
        assert (reply.status, reply.json["troubled"], reply.json["lists"]) == (200, ["lists"], {"stale": ["list-a"]})
        api.control.workers = []
        assert (await api.get("/health", role=None)).status == 503

    async def test_stats(self, api: ApiClient) -> None:
        reply = await api.get("/stats", role="viewer")
        assert (reply.json["lookups"], reply.json["rules"], reply.json["workers_serving"]) == (300, 120, 2)

    @pytest.mark.parametrize("path", ["//metrics", "/metrics"])
    async def test_metrics_need_no_token_from_here(self, api: ApiClient, path: str) -> None:
        reply = await api.get(path, role=None)
        assert reply.status == 200
        assert 'hallmonitor_lookups_total{worker="0"} 100' in reply.text
        assert 'hallmonitor_source_rules{source="list-a"} 120' in reply.text

    @pytest.mark.parametrize("path", ["/sources", "/categories", "/groups", "/networks"])
    async def test_short_lists_come_in_pages_too(self, api: ApiClient, database: Database, path: str) -> None:
        with database.change("set-up") as change:
            for number in range(5):
                categories.ensure(change, f"c{number}")
                groups.ensure(change, f"g{number}")
                networks.add(change, f"192.0.2.{number}/32", "g0", "")
                add_source(change, f"s{number}")
        whole = (await api.get(path)).json
        assert len(whole["items"]) >= 5
        assert whole["next_cursor"] is None
        seen, cursor = [], "0"
        while cursor is not None:
            page = (await api.get(f"{path}?limit=2&cursor={cursor}")).json
            assert 1 <= len(page["items"]) <= 2
            seen += page["items"]
            cursor = page["next_cursor"]
        assert seen == whole["items"]
        assert (await api.get(f"{path}?limit=0&cursor=x&page=1")).wrong_fields == ["page", "cursor", "limit"]

    async def test_the_api_describes_itself(self, api: ApiClient) -> None:
        reply = await api.get("/openapi.json", role=None)
        assert reply.json["openapi"] == "3.1.0"
        assert "/api/v1/exceptions/{id}" in reply.json["paths"]

    async def test_head_is_get_without_a_body(self, api: ApiClient) -> None:
        assert (await api.call("HEAD", "/exceptions")).status == 200
        assert (await api.call("HEAD", "/exceptions", role=None)).status == 401


async def test_the_database_is_away(tmp_path: Any) -> None:
    """Every endpoint that needs it says so; the ones that don't go on."""
    path = tmp_path / "hallmonitor.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    with contextlib.closing(database):
        async with running_api(database) as api:
            database.close()
            for file in tmp_path.iterdir():
                file.unlink()
            path.mkdir()
            for request in (api.get("/exceptions"), api.post("/exceptions", SMALL), api.get("/lookups")):
                reply = await request
                assert reply.status == 503
                assert reply.headers["Retry-After"] == "5"
                assert "can't be used" in reply.json["detail"]
            assert (await api.get("/health", role=None)).status == 200
