"""Lists on a running server: added, inspected, refreshed, failing, removed. On both databases."""

import gzip
import io
import re
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.support.behaviours import computed_rdata
from tests.support.dns_client import dig
from tests.support.processes import eventually
from tests.support.server import COMMAND, HallMonitor

HOSTS = "# note\n0.0.0.0 ads.example tracker.example # two\n127.0.0.1 localhost\n10.0.0.1 not-sunk.example\n"
DOMAINS = "casino.example\nhttp://bad.example/\nco.uk\n"
ADBLOCK = (
    "[Adblock Plus]\n! note\n||dice.example^\n@@||fair.dice.example^\nlonely.example\n"
    "||typed.example^$dnstype=AAAA\n||spread.example^$denyallow=open.spread.example\n/^slots[0-9]+\\.example$/\n"
    "||page.example/path^\n##.banner\n||modified.example^$third-party\n"
)
WAITS = "Another refresh goes on: waiting for its end."
"""What a command may say at any time: the service looks every 30 seconds for what is due."""
HTML = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in</body></html>\n"


@pytest.fixture(scope="module")
def lists(server: HallMonitor) -> Path:
    """Give the directory where the lists are kept."""
    directory = server.directory / "lists"
    directory.mkdir()
    # For the last test: the schedule looks every 30 seconds.
    (directory / "scheduled.txt").write_text("scheduled.example\n")
    add(server, "scheduled", directory / "scheduled.txt")
    return directory


def add(server: HallMonitor, key: str, location: Path, category: str = "gambling", **fields: object) -> None:
    body = {"key": key, "location": str(location), "category": category} | fields
    reply = server.api("POST", "/sources", body)
    assert reply.status == 201, reply.body


def is_sunk(server: HallMonitor, name: str, rdtype: str = "A") -> bool:
    answer = dig(server.dns, name, rdtype)
    assert answer.rdata in (["0.0.0.0"], ["::"], [computed_rdata(name, rdtype)])
    return answer.ede is not None and answer.ede[0] == 15


class TestRefresh:
    def test_the_three_formats_are_stored_and_in_force_without_a_restart(
        self, server: HallMonitor, lists: Path
    ) -> None:
        for key, text in (("hosts", HOSTS), ("domains", DOMAINS), ("adblock", ADBLOCK)):
            (lists / f"{key}.txt").write_text(text)
            add(server, f"as-{key}", lists / f"{key}.txt")
        done = server.hallmonitor("refresh", "as-hosts", "as-domains", "as-adblock", "--json")
        outcomes = {outcome["source"]: outcome for outcome in done.objects()}
        assert {key: outcome["rules"] for key, outcome in outcomes.items()} == {
            "as-hosts": 2,
            "as-domains": 1,
            "as-adblock": 6,
        }
        assert all(outcome["error"] is None for outcome in outcomes.values())

        sunk = ["ads.example", "tracker.example", "casino.example", "www.casino.example", "dice.example"]
        sunk += ("a.dice.example", "lonely.example", "www.spread.example", "slots77.example")
        passed = ["www.ads.example", "localhost.example", "not-sunk.example", "fair.dice.example"]
        passed += ("www.lonely.example", "typed.example", "x.open.spread.example", "slots.example", "page.example")
        assert {name: is_sunk(server, name) for name in sunk + passed} == dict.fromkeys(sunk, True) | dict.fromkeys(
            passed, False
        )
        assert is_sunk(server, "typed.example", "AAAA")

    def test_the_summary_counts_what_came_and_went(self, server: HallMonitor, lists: Path) -> None:
        path = lists / "counted.txt"
        path.write_text("one.example\ntwo.example\n")
        add(server, "counted", path)
        server.hallmonitor("refresh", "counted")
        path.write_text("two.example\nthree.example\nfour.example\nhttp://x.example/\n-bad-.example\n")
        (outcome,) = server.hallmonitor("refresh", "counted", "--json").objects()
        assert outcome.pop("seconds") >= 0
        assert outcome == {
            "version": 2,
            "skipped": {},
            "source": "counted",
            "category": "gambling",
            "status": "updated",
            "rules": 3,
            "added": 2,
            "removed": 1,
            "rejected": {"url": 1, "name": 1},
            "error": None,
        }
        assert [is_sunk(server, f"{name}.example") for name in ("one", "two", "three")] == [False, True, True]
        (again,) = server.hallmonitor("refresh", "counted", "--json").objects()
        assert (again["status"], again["added"], again["removed"]) == ("unchanged", 0, 0)

    def test_for_people_it_is_a_table_and_plain_lines(self, server: HallMonitor, lists: Path) -> None:
        done = server.hallmonitor("refresh", "starter-games", "starter-social")
        table, summary = done.out.split("\n\n")
        head, *rows = table.splitlines()
        assert head.split() == ["source", "category", "status", "rules", "added", "removed", "rejected", "seconds"]
        assert [row.split()[:3] for row in rows] == [
            ["starter-games", "games", "unchanged"],
            ["starter-social", "social", "unchanged"],
        ]
        assert re.fullmatch(r"2 unchanged; \d+ rules, 0 added, 0 removed\n", summary)
        said = {"starter-games: unchanged", "starter-social: unchanged"}
        assert set(done.err.splitlines()) - {WAITS} == said
        assert "\x1b" not in done.out + done.err, "no colours where nobody sees them"

    def test_forced_it_stores_again_what_has_not_changed(self, server: HallMonitor) -> None:
        (outcome,) = server.hallmonitor("refresh", "starter-games", "--force", "--json").objects()
        assert (outcome["status"], outcome["added"], outcome["removed"]) == ("unchanged", 0, 0)
        assert outcome["rules"] > 0

    def test_while_it_serves_no_answer_is_lost(self, server: HallMonitor, lists: Path) -> None:
        path = lists / "large.txt"
        path.write_text("".join(f"n{number}.large.example\n" for number in range(20_000)))
        add(server, "large", path)
        ended = threading.Event()
        answers: list[str] = []

        def ask() -> None:
            while not ended.is_set():
                answers.append(dig(server.dns, f"meanwhile{len(answers) % 7}.example").status)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            server.hallmonitor("refresh", "large")
            path.write_text("".join(f"n{number}.large.example\n" for number in range(0, 30_000, 2)))
            server.hallmonitor("refresh", "large")
        finally:
            ended.set()
            asking.join()
        assert len(answers) > 10
        assert set(answers) == {"NOERROR"}
        assert [is_sunk(server, f"n{number}.large.example") for number in (0, 1, 29_998)] == [True, False, True]

    def test_scope_exact_and_public_suffixes_when_asked_for(self, server: HallMonitor, lists: Path) -> None:
        (lists / "exact.txt").write_text("exactly.example\n")
        (lists / "suffix.txt").write_text("gob.mx\nmuch-more.example\n")
        add(server, "exact", lists / "exact.txt", scope="exact")
        add(server, "suffix", lists / "suffix.txt", allow_public_suffix=True)
        server.hallmonitor("refresh", "exact", "suffix")
        assert is_sunk(server, "exactly.example")
        assert not is_sunk(server, "www.exactly.example")
        assert server.hallmonitor("lookup", "www.gob.mx", "--json").object()["source"] == "suffix"


class TestFailing:
    def test_it_is_named_with_its_reason_and_keeps_its_last_good_version(
        self, server: HallMonitor, lists: Path
    ) -> None:
        path = lists / "vanishing.txt"
        path.write_text("vanishing.example\n")
        add(server, "vanishing", path)
        server.hallmonitor("refresh", "vanishing")
        path.unlink()

        done = server.hallmonitor("refresh", "vanishing", "starter-games", expect=1)
        (said,) = [line for line in done.err.splitlines() if line.startswith("hallmonitor:")]
        assert "vanishing" in said
        assert "no such file" in said
        assert "1 of 2" in said
        assert re.search(r"^vanishing: its last good version, 1, of .* ago with 1 rule, stays$", done.out, re.MULTILINE)
        assert is_sunk(server, "vanishing.example")

        status = server.hallmonitor("status", "--json").object()
        assert [failing["source"] for failing in status["lists"]["failing"]] == ["vanishing"]
        listed = {source["key"]: source for source in server.hallmonitor("sources", "list", "--json").objects()}
        assert "no such file" in listed["vanishing"]["last_error"]
        assert listed["vanishing"]["rules"] == 1

        path.write_text("vanishing.example\n")
        server.hallmonitor("refresh", "vanishing")
        assert server.hallmonitor("status", "--json").object()["lists"]["failing"] == []

    def test_what_is_no_list_replaces_nothing(self, server: HallMonitor, lists: Path) -> None:
        bad = {
            "html": HTML.encode(),
            "empty": b"",
            "rejected": b"http://x.example/\n",
            "torn": gzip.compress(b"a.example\n" * 100)[:-20],
        }
        for key in bad:
            (lists / f"{key}.txt").write_text(f"good-{key}.example\n")
            add(server, key, lists / f"{key}.txt")
        server.hallmonitor("refresh", *bad)
        for key, content in bad.items():
            (lists / f"{key}.txt").write_bytes(content)
        (server.directory / "never.txt").write_text(HTML)
        add(server, "never", server.directory / "never.txt")
        assert "\nnever: nothing of it was ever loaded\n" in server.hallmonitor("refresh", "never", expect=1).out
        status = server.hallmonitor("status", "--json").object()["lists"]
        assert status["stale"] == ["never"]
        assert server.api("GET", "/health").json()["lists"] == {"stale": ["never"]}
        assert 'hallmonitor_source_stale{source="never"} 1' in server.api("GET", "/metrics").body.decode()
        assert server.api("DELETE", "/sources/never").status == 200
        done = server.hallmonitor("refresh", *bad, "--json", expect=1)
        assert len(done.err.splitlines()) == 1
        for outcome in done.objects():
            assert (outcome["status"], outcome["added"], outcome["removed"]) == ("failed", 0, 0)
            assert outcome["error"]
            assert outcome["source"] in done.err
            assert is_sunk(server, f"good-{outcome['source']}.example")
        assert len(done.objects()) == len(bad)
        assert "HTML" in next(outcome["error"] for outcome in done.objects() if outcome["source"] == "html")
        for key in bad:
            assert server.api("DELETE", f"/sources/{key}").status == 200


def _zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("list.txt", data)
    return file.getvalue()


def _tarred(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo("gambling/domains")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zip": _zipped,
    "tar.gz": _tarred,
    "zst": zstandard.ZstdCompressor().compress,
}


class TestPacked:
    def test_each_form_is_unpacked(self, server: HallMonitor, lists: Path) -> None:
        keys = []
        for suffix, pack in PACKED.items():
            keys.append(f"packed-{suffix.replace('.', '-')}")
            path = lists / f"packed.{suffix}"
            path.write_bytes(pack(f"{keys[-1]}.example\n".encode()))
            add(server, keys[-1], path)
        server.hallmonitor("refresh", *keys)
        assert {key: is_sunk(server, f"www.{key}.example") for key in keys} == dict.fromkeys(keys, True)


class TestSources:
    def test_disabled_enabled_removed(self, server: HallMonitor, lists: Path) -> None:
        path = lists / "switched.txt"
        path.write_text("switched.example\n")
        add(server, "switched", path)
        server.hallmonitor("refresh", "switched")
        assert is_sunk(server, "switched.example")
        server.hallmonitor("sources", "disable", "switched")
        assert not is_sunk(server, "switched.example")
        server.hallmonitor("sources", "enable", "switched")
        assert is_sunk(server, "switched.example")
        assert server.hallmonitor("sources", "remove", "switched").out == "switched: removed\n"
        assert not is_sunk(server, "switched.example")
        server.hallmonitor("refresh", "switched", expect=1)

    def test_a_new_category_only_when_asked_for(self, server: HallMonitor, lists: Path) -> None:
        path = lists / "knitting.txt"
        path.write_text("wool.example\n")
        done = server.hallmonitor("sources", "add", "wool", str(path), "--category", "knitting", expect=1)
        assert "knitting" in done.err
        assert "--create-category" in done.err
        assert len(done.err.splitlines()) == 1
        arguments = ("--category", "knitting", "--create-category", "--format", "domains", "--json")
        made = server.hallmonitor("sources", "add", "wool", str(path), *arguments).object()
        assert (made["key"], made["location"], made["format"]) == ("wool", str(path), "domains")
        server.hallmonitor("refresh", "wool")
        assert not is_sunk(server, "wool.example"), "no group blocks it yet"
        server.hallmonitor("groups", "block", "students", "knitting")
        assert is_sunk(server, "wool.example")
        keys = {category["key"]: category for category in server.hallmonitor("categories", "list", "--json").objects()}
        assert keys["knitting"]["rules"] == 1


class TestForPeople:
    def test_a_look_at_a_list_names_what_is_often_asked_for(self, server: HallMonitor, lists: Path) -> None:
        path = lists / "often.txt"
        path.write_text("often.example\n")
        add(server, "often", path)
        for number in range(3):
            dig(server.dns, "asked.often.example", ("A", "AAAA", "TXT")[number])
        assert len(server.api("GET", "/lookups?name=asked.often.example").json()["items"]) == 3  # it is shipped
        compared = server.hallmonitor("sources", "inspect", str(path), "--json").object()["compared"]
        assert compared["top_lookups"] == [{"name": "asked.often.example", "lookups": 3, "rule": "||often.example^"}]
        event = server.api("GET", "/audit?action=log.search&limit=1").json()["items"][0]
        assert (event["actor"].partition(":")[0], event["after"]["source"]) == ("cli", "often")
        assert server.api("DELETE", "/sources/often").status == 200

    def test_a_bad_list_is_taken_back_over_http(self, server: HallMonitor, lists: Path) -> None:
        path = lists / "taken-back.txt"
        path.write_text("good.taken-back.example\n")
        add(server, "taken-back", path)
        server.hallmonitor("refresh", "taken-back")
        path.write_text("bad.taken-back.example\n")
        server.hallmonitor("refresh", "taken-back")
        assert is_sunk(server, "bad.taken-back.example")
        reply = server.api("POST", "/sources/taken-back/rollback", {})
        assert (reply.status, reply.json()["version"]) == (200, 3)
        assert [is_sunk(server, f"{name}.taken-back.example") for name in ("good", "bad")] == [True, False]
        (held,) = server.api("GET", "/sources/search?name=www.good.taken-back.example").json()["items"]
        assert (held["source"], held["version"]) == ("taken-back", 3)
        numbers = [version["number"] for version in server.api("GET", "/sources/taken-back/versions").json()["items"]]
        assert numbers == [3, 2, 1]

    def test_an_archive_feeds_many_categories(self, server: HallMonitor, lists: Path) -> None:
        with tarfile.open(lists / "many.tar.gz", "w:gz") as archive:
            for directory in ("adult", "games", "own-brew"):
                data = f"in-{directory}.example\n".encode()
                member = tarfile.TarInfo(f"blacklists/{directory}/domains")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        add(server, "many", lists / "many.tar.gz", format="ut1")
        said = server.hallmonitor("sources", "inspect", str(lists / "many.tar.gz")).out
        assert re.search(r"^adult +adult +1 ", said, re.MULTILINE)
        server.hallmonitor("refresh", "many")
        found = {
            name: server.hallmonitor("sources", "search", f"in-{name}.example", "--json").object()
            for name in ("adult", "games", "own-brew")
        }
        assert {name: (row["directory"], row["category"]) for name, row in found.items()} == {
            "adult": ("adult", "adult"),
            "games": ("games", "games"),
            "own-brew": ("own-brew", "gambling"),
        }
        listed = {
            category["key"]: category for category in server.hallmonitor("categories", "list", "--json").objects()
        }
        assert listed["games"]["sources"] == 2
        assert server.hallmonitor("sources", "remove", "many").out == "many: removed\n"
        assert server.hallmonitor("sources", "search", "in-adult.example", "--json").out == ""


class TestExplain:
    CONTRACT = ("name", "client", "group", "verdict", "category", "source", "rule", "clause", "exception_id")

    def test_lookup_has_the_contracts_keys(self, server: HallMonitor) -> None:
        found = server.hallmonitor(
            "lookup", "PokerStars.com.", "--client", "127.0.0.1", "--type", "A", "--json"
        ).object()
        assert set(found) == {*self.CONTRACT, "policy_version"}
        assert found["name"] == "pokerstars.com"
        assert (found["client"], found["group"], found["verdict"]) == ("127.0.0.1", "students", "blocked")
        assert (found["category"], found["source"]) == ("gambling", "starter-gambling")
        assert found["rule"] == "||pokerstars.com^"
        assert found["clause"].startswith("Gambling")
        assert found["exception_id"] is None
        over_http = server.api("GET", "/lookup?name=pokerstars.com&client=127.0.0.1&type=A").json()
        assert over_http | {"policy_version": 0} == found | {"policy_version": 0}  # a list may have come between

    @pytest.mark.parametrize("name", ["pokerstars.com", "www.pokerstars.com", "school.example"])
    @pytest.mark.parametrize("rdtype", ["A", "AAAA", "TXT"])
    def test_it_agrees_with_dig_and_with_the_log(self, server: HallMonitor, name: str, rdtype: str) -> None:
        same = ("verdict", "category", "source", "rule", "exception_id", "group")

        def under_one_policy() -> bool:
            told = server.api("GET", f"/lookup?name={name}&client=127.0.0.1&type={rdtype}").json()
            assert (told["verdict"] == "blocked") == is_sunk_or_empty(server, name, rdtype)
            (logged, *_) = server.api("GET", f"/lookups?name={name}&limit=1").json()["items"]
            assert {field: logged[field] for field in same} == {field: told[field] for field in same}
            return bool(logged["policy_version"] == told["policy_version"])

        eventually(under_one_policy)  # at once, unless a list came between

    def test_for_people(self, server: HallMonitor) -> None:
        said = server.hallmonitor("lookup", "pokerstars.com").out.splitlines()
        assert said[0] == "pokerstars.com for 127.0.0.1 (students): blocked"
        assert [line.split()[0] for line in said[1:]] == ["category:", "source:", "rule:", "clause:", "policy"]
        assert server.hallmonitor("lookup", "school.example").out.startswith(
            "school.example for 127.0.0.1 (students): allowed\n"
        )


def is_sunk_or_empty(server: HallMonitor, name: str, rdtype: str) -> bool:
    answer = dig(server.dns, name, rdtype)
    return answer.ede is not None and answer.ede[0] == 15


def test_progress_on_a_terminal_is_a_bar(server: HallMonitor) -> None:
    command = " ".join(map(str, (COMMAND, "--config", server.config, "refresh", "starter-games")))
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], capture_output=True, check=False, timeout=60, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0
    assert b"1/1" in done.stdout
    assert b"starter-games: fetching\r\n" not in done.stdout


def test_a_new_source_is_fetched_by_the_service_itself(server: HallMonitor, lists: Path) -> None:
    eventually(lambda: is_sunk(server, "scheduled.example"), 60, every=0.5)
    eventually(lambda: re.search(r"scheduled: 1 added, 0 removed", server.output()))
