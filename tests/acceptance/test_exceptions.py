"""Exceptions and groups on a running server: alive when the API has answered, gone when they end. On both databases."""

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from tests.support.behaviours import computed_rdata
from tests.support.dns_client import dig, udp
from tests.support.processes import eventually
from tests.support.server import HallMonitor

BLOCKED = "pokerstars.com"
NUMBERS = count(1)


def fresh() -> str:
    """Return a name below a blocked one that no test has used: exceptions of others don't reach it."""
    return f"case{next(NUMBERS)}.{BLOCKED}"


def allow(server: HallMonitor, domain: str, **fields: object) -> dict[str, Any]:
    body = {"domain": domain, "action": "allow", "reason": "statistics lesson"} | fields
    reply = server.api("POST", "/exceptions", body)
    assert reply.status == 201, reply.body
    made = reply.json()
    assert isinstance(made, dict)
    return made


def is_blocked(server: HallMonitor, name: str, source: str = "127.0.0.1") -> bool:
    """Tell what a client gets, and hold that it gets the one or the other."""
    rdata = dig(server.dns, name, source=source).rdata
    assert rdata in (["0.0.0.0"], [computed_rdata(name, "A")])
    return rdata == ["0.0.0.0"]


@pytest.fixture(scope="module")
def staff_network(server: HallMonitor) -> Iterator[str]:
    """Give an address on a network of the staff's, within one of the guests'."""
    networks = {"127.0.0.0/16": "guests", "127.0.5.0/24": "staff"}
    for cidr, group in networks.items():
        assert server.api("POST", "/networks", {"cidr": cidr, "group": group}).status == 201
    yield "127.0.5.1"
    for cidr in networks:
        assert server.api("DELETE", f"/networks/{cidr}").status == 200


class TestComingAlive:
    def test_alive_on_every_worker_when_the_api_has_answered(self, server: HallMonitor) -> None:
        name = fresh()
        # Sources differ in address and port, which spreads them over both workers.
        sources = [f"127.0.0.{number}" for number in range(1, 21)]
        assert all(is_blocked(server, name, source) for source in sources[:4])
        allow(server, name)
        answers = [udp(server.dns, name, source=source) for source in sources]
        assert {rrset[0].to_text() for answer in answers for rrset in answer.answer} == {computed_rdata(name, "A")}

    def test_alive_when_the_command_has_ended(self, server: HallMonitor) -> None:
        name = fresh()
        assert is_blocked(server, name)
        made = server.hallmonitor(
            "exceptions",
            "add",
            name,
            "--action",
            "allow",
            "--reason",
            "chess club",
            "--requested-by",
            "Ms Ito",
            "--json",
        ).object()
        assert not is_blocked(server, name)
        assert (made["domain"], made["status"], made["match"]) == (name, "active", "subtree")
        assert (made["requested_by"], made["reason"], made["expires_at"]) == ("Ms Ito", "chess club", None)

    def test_the_command_prints_what_the_api_returns(self, server: HallMonitor) -> None:
        from_api = allow(server, fresh())
        by_command = server.hallmonitor(
            "exceptions", "add", fresh(), "--action", "allow", "--reason", "the same", "--json"
        ).object()
        assert list(by_command) == list(from_api)
        assert {"id", "status", "approved_by", "created_at", "policy_version"} <= set(from_api)

    def test_one_that_blocks(self, server: HallMonitor) -> None:
        assert not is_blocked(server, "www.quiz.example")
        made = server.api(
            "POST", "/exceptions", {"domain": "quiz.example", "action": "block", "reason": "exam week"}
        ).json()
        assert is_blocked(server, "www.quiz.example")
        answer = dig(server.dns, "quiz.example")
        assert answer.ede is not None
        assert answer.ede[0] == 15
        (record,) = server.api("GET", "/lookups?name=quiz.example").json()["items"]
        assert (record["verdict"], record["exception_id"]) == ("blocked", made["id"])

    def test_the_log_names_the_exception(self, server: HallMonitor) -> None:
        name = fresh()
        made = allow(server, name)
        assert not is_blocked(server, name)
        (record,) = server.hallmonitor("logs", "search", "--name", name, "--json").objects()
        assert (record["verdict"], record["exception_id"]) == ("exception", made["id"])
        assert record["policy_version"] == made["policy_version"]


class TestScope:
    def test_a_subtree_and_not_what_is_beside_it(self, server: HallMonitor) -> None:
        name = fresh()
        allow(server, name, match="subtree")
        assert not is_blocked(server, f"a.b.{name}")
        assert is_blocked(server, f"x{name}")
        assert is_blocked(server, BLOCKED)

    def test_exactly_the_name(self, server: HallMonitor) -> None:
        name = fresh()
        allow(server, name, match="exact")
        assert not is_blocked(server, name)
        assert is_blocked(server, f"www.{name}")

    def test_the_longest_name_wins(self, server: HallMonitor) -> None:
        name = fresh()
        allow(server, name)
        allow(server, f"bets.{name}", action="block")
        assert not is_blocked(server, f"www.{name}")
        assert is_blocked(server, f"www.bets.{name}")

    def test_a_group_alone(self, server: HallMonitor, staff_network: str) -> None:
        name = fresh()
        allow(server, name, groups=["staff"])
        assert not is_blocked(server, name, staff_network)
        assert is_blocked(server, name, "127.0.0.1")

    def test_an_address_or_a_network_alone(self, server: HallMonitor) -> None:
        name = fresh()
        allow(server, name, clients=["127.0.0.9", "127.0.7.0/24"])
        assert not is_blocked(server, name, "127.0.0.9")
        assert not is_blocked(server, name, "127.0.7.77")
        assert is_blocked(server, name, "127.0.0.8")

    def test_the_nearer_scope_wins(self, server: HallMonitor) -> None:
        name = fresh()
        allow(server, name)
        allow(server, name, action="block", clients=["127.0.0.9"])
        assert not is_blocked(server, name, "127.0.0.8")
        assert is_blocked(server, name, "127.0.0.9")

    def test_by_command(self, server: HallMonitor, staff_network: str) -> None:
        name = fresh()
        arguments = ("--action", "allow", "--reason", "r", "--group", "staff", "--client", "127.0.0.0/30")
        made = server.hallmonitor("exceptions", "add", name, *arguments, "--match", "exact", "--json").object()
        assert (made["groups"], made["clients"], made["match"]) == (["staff"], ["127.0.0.0/30"], "exact")


class TestEnding:
    def test_it_expires_by_itself_within_a_second(self, server: HallMonitor) -> None:
        name = fresh()
        expires = datetime.now(UTC) + timedelta(seconds=8)
        made = allow(server, name, expires_at=expires.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
        assert made["expires_at"].startswith(expires.strftime("%Y-%m-%dT%H:%M:%S"))
        assert not is_blocked(server, name)
        eventually(lambda: is_blocked(server, name), 30)
        # When the first blocked answer was given, the log knows.
        records = server.api("GET", f"/lookups?name={name}").json()["items"]
        sunk = [datetime.fromisoformat(record["time"]) for record in records if record["verdict"] == "blocked"]
        let_through = [datetime.fromisoformat(record["time"]) for record in records if record["verdict"] == "exception"]
        assert max(let_through) < expires + timedelta(seconds=1)
        assert min(sunk) >= expires
        assert server.api("GET", f"/exceptions/{made['id']}").json()["status"] == "expired"

    def test_revoked_over_the_api(self, server: HallMonitor) -> None:
        name = fresh()
        made = allow(server, name)
        assert not is_blocked(server, name)
        assert server.api("DELETE", f"/exceptions/{made['id']}").status in {200, 204}
        assert is_blocked(server, name)
        kept = server.api("GET", f"/exceptions/{made['id']}").json()
        assert (kept["status"], kept["revoked_by"]) == ("revoked", "first-admin")
        assert kept["reason"] == "statistics lesson", "history stays"

    def test_revoked_by_command(self, server: HallMonitor) -> None:
        name = fresh()
        made = allow(server, name)
        assert not is_blocked(server, name)
        revoked = server.hallmonitor("exceptions", "revoke", str(made["id"]), "--json").object()
        assert (revoked["id"], revoked["status"]) == (made["id"], "revoked")
        assert is_blocked(server, name)
        listed = server.hallmonitor("exceptions", "list", "--status", "revoked", "--json").objects()
        assert made["id"] in {exception["id"] for exception in listed}

    def test_changed(self, server: HallMonitor, staff_network: str) -> None:
        name = fresh()
        made = allow(server, name)
        reply = server.api("PATCH", f"/exceptions/{made['id']}", {"groups": ["staff"], "reason": "staff alone"})
        assert reply.status == 200, reply.body
        assert reply.json()["groups"] == ["staff"]
        assert is_blocked(server, name, "127.0.0.1")
        assert not is_blocked(server, name, staff_network)

    def test_one_that_is_not_there(self, server: HallMonitor) -> None:
        done = server.hallmonitor("exceptions", "revoke", "999999", expect=1)
        assert done.err == "hallmonitor: there is no exception 999999\n"
        assert server.api("DELETE", "/exceptions/999999").status == 404


class TestAudit:
    def test_who_did_what_when_with_before_and_after(self, server: HallMonitor) -> None:
        started = datetime.now(UTC) - timedelta(seconds=1)
        approver = server.new_token("approver-of-audit", "approver")
        body = {"domain": fresh(), "action": "allow", "reason": "to be told"}
        made = server.api("POST", "/exceptions", body, token=approver).json()
        assert made["approved_by"] == "approver-of-audit"
        server.api("PATCH", f"/exceptions/{made['id']}", {"reason": "told"})
        server.hallmonitor("exceptions", "revoke", str(made["id"]))

        events = server.api("GET", f"/audit?target={made['id']}").json()["items"]
        revoke, change, create = [event for event in events if event["action"].startswith("exception.")][:3]
        assert (create["actor"], change["actor"]) == ("approver-of-audit", "first-admin")
        assert revoke["actor"].startswith("cli:")
        assert create["before"] is None
        assert (create["after"]["domain"], create["after"]["reason"]) == (body["domain"], "to be told")
        assert (change["before"]["reason"], change["after"]["reason"]) == ("to be told", "told")
        assert revoke["before"]["revoked_at"] is None
        assert revoke["after"]["revoked_at"] is not None
        times = [datetime.fromisoformat(event["time"]) for event in (create, change, revoke)]
        assert started <= times[0] < times[1] < times[2] <= datetime.now(UTC)


class TestGroups:
    def test_an_address_on_no_network_is_in_the_default_group(self, server: HallMonitor) -> None:
        assert server.hallmonitor("lookup", BLOCKED, "--client", "192.0.2.1", "--json").object()["group"] == "students"

    def test_the_longest_network_wins(self, server: HallMonitor, staff_network: str) -> None:
        # Games are blocked for guests, not for the staff.
        for source, group, blocked in ((staff_network, "staff", False), ("127.0.6.1", "guests", True)):
            assert ipaddress.ip_address(source) in ipaddress.ip_network("127.0.0.0/16")
            assert is_blocked(server, "roblox.com", source) is blocked
            (record, *_) = server.api("GET", f"/lookups?client={source}&name=roblox.com").json()["items"]
            assert record["group"] == group

    def test_a_network_in_force_and_taken_out_again(self, server: HallMonitor) -> None:
        network = server.hallmonitor("networks", "add", "127.1.2.0/24", "--group", "staff", "--json").object()
        assert network == {"cidr": "127.1.2.0/24", "group": "staff", "site": ""}
        assert not is_blocked(server, "roblox.com", "127.1.2.3")
        assert server.hallmonitor("networks", "remove", "127.1.2.0/24").out
        assert is_blocked(server, "roblox.com", "127.1.2.3")

    def test_a_category_blocked_and_unblocked_for_a_group(self, server: HallMonitor, staff_network: str) -> None:
        group = server.hallmonitor("groups", "block", "staff", "games", "--json").object()
        assert "games" in group["blocked"]
        assert is_blocked(server, "roblox.com", staff_network)
        assert dig(server.dns, "roblox.com", source=staff_network).ede == (15, "games")
        server.hallmonitor("groups", "unblock", "staff", "games")
        assert not is_blocked(server, "roblox.com", staff_network)

    def test_a_new_group(self, server: HallMonitor) -> None:
        server.hallmonitor("groups", "add", "library")
        server.hallmonitor("networks", "add", "127.1.3.0/24", "--group", "library")
        assert not is_blocked(server, BLOCKED, "127.1.3.1")
        server.hallmonitor("groups", "block", "library", "gambling")
        assert is_blocked(server, f"library.{BLOCKED}", "127.1.3.1")
        listed = {group["name"]: group for group in server.hallmonitor("groups", "list", "--json").objects()}
        assert listed["library"]["blocked"] == ["gambling"]
