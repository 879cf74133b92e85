"""The log on a running server: every lookup once, found by command and over HTTP, and followed. On both databases."""

import contextlib
import json
import os
import re
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from tests.support.behaviours import silent
from tests.support.dns_client import dig, exchange, udp
from tests.support.fake_upstream import FakeUpstream
from tests.support.processes import eventually
from tests.support.server import HallMonitor

FIELDS = [
    "time", "node", "client", "group", "qname", "qtype", "transport", "verdict", "category", "source", "rule",
    "exception_id", "policy_version", "rcode", "upstream", "cached", "duration_us",
]  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def search(server: HallMonitor, *options: str) -> list[dict[str, Any]]:
    return server.hallmonitor("logs", "search", *options, "--json").objects()


def over_http(server: HallMonitor, query: str) -> list[dict[str, Any]]:
    reply = server.api("GET", f"/lookups?{query}")
    assert reply.status == 200, reply.body
    items = reply.json()["items"]
    assert isinstance(items, list)
    return items


class TestRecord:
    def test_an_allowed_lookup(self, server: HallMonitor, upstream: FakeUpstream) -> None:
        dig(server.dns, "Told.Example", "AAAA", source="127.0.0.4")
        (record,) = search(server, "--name", "told.example")
        assert list(record) == FIELDS
        version = server.hallmonitor("status", "--json").object()["policy_version"]
        assert TIME.fullmatch(record.pop("time"))
        assert record.pop("duration_us") > 0
        assert str(upstream.port) in record.pop("upstream")
        assert record == {
            "node": "test-node",
            "client": "127.0.0.4",
            "group": "students",
            "qname": "told.example",
            "qtype": "AAAA",
            "transport": "udp",
            "verdict": "allowed",
            "category": None,
            "source": None,
            "rule": None,
            "exception_id": None,
            "policy_version": version,
            "rcode": "NOERROR",
            "cached": False,
        }

    def test_from_the_cache_and_over_tcp(self, server: HallMonitor) -> None:
        dig(server.dns, "twice.example", "A", "+tcp")
        first = over_http(server, "name=twice.example")[0]
        # Whichever worker is asked next: after so many, one has been asked twice.
        for _ in range(8):
            dig(server.dns, "twice.example", "A", "+tcp")
        records = over_http(server, "name=twice.example")
        assert len(records) == 9
        assert {record["transport"] for record in records} == {"tcp"}
        assert first["cached"] is False
        assert any(record["cached"] for record in records)

    def test_a_blocked_lookup(self, server: HallMonitor) -> None:
        dig(server.dns, "logged.pokerstars.com")
        (record,) = over_http(server, "name=logged.pokerstars.com")
        assert (record["verdict"], record["category"], record["source"]) == ("blocked", "gambling", "starter-gambling")
        assert (record["rule"], record["rcode"], record["upstream"]) == ("||pokerstars.com^", "NOERROR", None)

    def test_a_failed_lookup(self, server: HallMonitor, upstream: FakeUpstream) -> None:
        upstream.behave("failing.example", silent)
        dig(server.dns, "failing.example", seconds=15)
        (record,) = over_http(server, "name=failing.example&verdict=failed")
        assert (record["rcode"], record["cached"]) == ("SERVFAIL", False)

    def test_a_message_that_is_no_query_of_use(self, server: HallMonitor) -> None:
        before = len(over_http(server, "verdict=malformed"))
        # A header that promises a question, and none.
        wire = bytes.fromhex("abcd01000001000000000000")
        assert exchange(server.dns, wire)[3] & 15 == 1, "FORMERR"
        assert len(over_http(server, "verdict=malformed")) == before + 1


@pytest.fixture(scope="module")
def lookups(server: HallMonitor) -> list[str]:
    """Give what was looked up: some names from some clients."""
    names = ["one.found.example", "two.found.example", "found.example", "notfound.example", "found.pokerstars.com"]
    for number, name in enumerate(names):
        udp(server.dns, name, source=f"127.0.50.{number}")
    return names


@pytest.mark.usefixtures("lookups")
class TestSearch:
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"name": "found.example"}, {"found.example"}),
            ({"name": "FOUND.example."}, {"found.example"}),
            ({"subtree": "found.example"}, {"found.example", "one.found.example", "two.found.example"}),
            ({"client": "127.0.50.1"}, {"two.found.example"}),
            ({"client": "127.0.50.0/31"}, {"one.found.example", "two.found.example"}),
            ({"client": "127.0.50.0/24", "verdict": "blocked"}, {"found.pokerstars.com"}),
            ({"client": "127.0.50.0/24", "until": "1h"}, set()),
            ({"name": "never.example"}, set()),
        ],
        ids=lambda value: ",".join(sorted(map(str, value))),
    )
    def test_filters(self, server: HallMonitor, query: dict[str, str], found: set[str]) -> None:
        items = over_http(server, "&".join(f"{name}={value}" for name, value in query.items()))
        assert {record["qname"] for record in items} == found
        assert len(items) == len(found), "each once"

    def test_the_command_finds_the_same_the_newest_first(self, server: HallMonitor, lookups: list[str]) -> None:
        since = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        records = search(server, "--client", "127.0.50.0/24", "--since", since, "--until", "2100-01-01")
        assert [record["qname"] for record in records] == lookups[::-1]
        assert records == over_http(server, "client=127.0.50.0/24")
        limited = search(server, "--client", "127.0.50.0/24", "--verdict", "allowed", "--limit", "2")
        assert [record["qname"] for record in limited] == [lookups[3], lookups[2]]

    def test_pages_follow_one_another(self, server: HallMonitor, lookups: list[str]) -> None:
        found: list[str] = []
        cursor = ""
        while True:
            page = server.api("GET", f"/lookups?client=127.0.50.0/24&limit=2{cursor}").json()
            found += [record["qname"] for record in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert found == lookups[::-1]

    def test_for_people_it_is_a_table(self, server: HallMonitor) -> None:
        head, row = server.hallmonitor("logs", "search", "--name", "found.pokerstars.com").out.splitlines()
        assert head.split()[:5] == ["time", "client", "group", "qname", "qtype"]
        assert row.split()[1:7] == ["127.0.50.4", "students", "found.pokerstars.com", "A", "blocked", "gambling"]
        assert server.hallmonitor("logs", "search", "--name", "never.example").out == "Nothing was found.\n"

    @pytest.mark.parametrize(
        "options",
        [
            ("--client", "nobody"),
            ("--verdict", "perhaps"),
            ("--since", "yesterday"),
            ("--since", "1h", "--until", "2h"),
        ],
        ids=" ".join,
    )
    def test_a_filter_that_is_none(self, server: HallMonitor, options: tuple[str, ...]) -> None:
        done = server.hallmonitor("logs", "search", *options, expect=2)
        assert done.out == ""
        assert f"Error: {options[0]}: " in done.err
        query = "&".join(f"{name.removeprefix('--')}={value}" for name, value in zip(*[iter(options)] * 2, strict=True))
        assert server.api("GET", f"/lookups?{query}").status == 422

    def test_looking_is_itself_on_record(self, server: HallMonitor) -> None:
        over_http(server, "client=127.0.50.3&verdict=allowed")
        event = server.api("GET", "/audit?action=log.search&limit=1").json()["items"][0]
        assert event["actor"] == "first-admin"
        assert event["after"] == {"client": "127.0.50.3", "verdict": "allowed"}

    def test_every_search_is_audited(self, server: HallMonitor) -> None:
        server.hallmonitor("logs", "search", "--name", "found.example", "--limit", "3")
        event = server.api("GET", "/audit?limit=1").json()["items"][0]
        assert event["action"] == "log.search"
        assert event["actor"].startswith("cli:")
        assert event["after"] == {"name": "found.example", "limit": 3}

    def test_more_than_a_page_comes_in_one_go(self, server: HallMonitor) -> None:
        found = server.hallmonitor(
            "logs", "search", "--subtree", "found.example", "--limit", "100000", "--json"
        ).objects()
        names = {"one.found.example", "two.found.example", "found.example"}
        assert names <= {record["qname"] for record in found}

    def test_what_is_no_name_is_told(self, server: HallMonitor) -> None:
        done = server.hallmonitor("logs", "search", "--name", "a..b", expect=2)
        assert "not a domain name" in done.err


class TestTail:
    def test_it_follows(self, server: HallMonitor) -> None:
        with server.running("logs", "tail", "--json", "--subtree", "tail.example") as tail:
            lines = Lines(tail)
            numbers = count()

            def asked_and_seen() -> bool:
                # It follows from when it began, which only its first line shows.
                udp(server.dns, f"n{next(numbers)}.tail.example")
                udp(server.dns, "beside.example")
                return bool(lines.read())

            eventually(asked_and_seen, 30, every=0.2)
            udp(server.dns, "last.tail.example")
            eventually(lambda: any("last.tail.example" in line for line in lines.read()), 30)
        seen = [json.loads(line) for line in lines.read()]
        assert all(list(record) == FIELDS for record in seen)
        assert all(record["qname"].endswith(".tail.example") for record in seen)
        names = [record["qname"] for record in seen]
        assert len(names) == len(set(names)), "each once"


class Lines:
    """What a command has printed so far; fails when it ends."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._process = process
        self._fd = process.stdout.fileno()
        self._text = b""

    def read(self) -> list[str]:
        if self._process.poll() is None:
            with contextlib.suppress(BlockingIOError):
                self._text += os.read(self._fd, 1 << 20)
        if self._process.poll() not in {None, -signal.SIGKILL}:
            assert self._process.stderr is not None
            pytest.fail(f"it ended with code {self._process.returncode}\n{self._process.stderr.read()}")
        return [line.decode() for line in self._text.split(b"\n")[:-1]]


def test_status_counts(server: HallMonitor) -> None:
    """What is shipped is what was asked, once all of it is."""
    for number in range(5):
        udp(server.dns, f"counted{number}.example")

    def told() -> bool:
        status = server.hallmonitor("status", "--json").object()
        journal = status["journal"]
        return bool(
            journal["backlog_bytes"] == 0
            and journal["store"] == "ok"
            and journal["unlogged"] == 0
            and sum(worker["lookups"] for worker in status["workers"]) == journal["shipped_rows"]
        )

    eventually(told, 20, every=0.2)
