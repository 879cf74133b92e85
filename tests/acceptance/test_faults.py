"""The whole product when a worker is stuck, when memory is short, and when it starts with nobody to ask."""

import re
import resource
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.rcode
import pytest

from tests.benchmarks.contestants import Upstream
from tests.benchmarks.load import Load
from tests.benchmarks.memory import private
from tests.benchmarks.programs import can_compile, compiled
from tests.benchmarks.queries import TYPES, Query, name_wire, wire, write
from tests.support import processes
from tests.support.behaviours import answering, big_text, computed_rdata
from tests.support.dns_client import TIMEOUT_SECONDS, dig, udp
from tests.support.fake_upstream import FakeUpstream
from tests.support.processes import eventually
from tests.support.server import HallMonitor

BLOCKED = "pokerstars.com"
STUCK_SECONDS = 30.0
BUSY_SECONDS = 2.0
ASKED = 40
MEGABYTE = 1 << 20
STALE = 3
"""RFC 8914 section 4.4."""


# A worker that says nothing.


def workers(server: HallMonitor) -> dict[int, int]:
    """Return the workers' processes by their numbers, of those that serve."""
    found = server.api("GET", "/stats")
    assert found.status == 200
    status = server.hallmonitor("status", "--json").object()
    return {worker["number"]: worker["pid"] for worker in status["workers"] if worker["state"] == "serving"}


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    processes.kill([pid], signal.SIGSTOP)
    try:
        yield
    finally:
        processes.kill([pid], signal.SIGCONT)


def answered(server: HallMonitor, timeout: float = TIMEOUT_SECONDS) -> int:
    """Ask from many ports, so that both workers are asked; return how many answers came."""
    count = 0
    for _ in range(ASKED):
        try:
            count += bool(udp(server.dns, BLOCKED, timeout=timeout).answer)
        except TimeoutError:  # it went to the worker that stands still
            continue
    return count


@pytest.fixture
def pair(upstream: FakeUpstream, tmp_path: Path) -> Iterator[HallMonitor]:
    """Give a server of two workers."""
    with HallMonitor(tmp_path / "server", upstreams=[upstream.url], workers=2) as running:
        yield running


def test_a_stuck_worker_is_replaced_while_the_other_serves(pair: HallMonitor) -> None:
    before = workers(pair)
    with stopped(before[0]):
        assert 0 < answered(pair, timeout=0.2) < ASKED, "one serves and the other doesn't, or this shows nothing"
        eventually(lambda: workers(pair).get(0, before[0]) != before[0], STUCK_SECONDS)
    assert workers(pair)[1] == before[1]
    assert not processes.is_alive(before[0])
    assert answered(pair) == ASKED
    assert f"worker 0 (pid {before[0]}) is stuck and will be replaced" in pair.output()
    assert "Traceback" not in pair.output()


def test_a_worker_that_is_busy_for_a_moment_is_left_alone(pair: HallMonitor) -> None:
    before = workers(pair)
    for pid in before.values():
        with stopped(pid):
            time.sleep(BUSY_SECONDS)
    assert answered(pair) == ASKED
    assert workers(pair) == before
    assert "stuck" not in pair.output()


# Memory.

SMALL = 1 * MEGABYTE
NAMES = 100_000
LOAD_SECONDS = 600.0  # on the slowest of machines: it ends once all are asked
GROWS_BY = 6 * MEGABYTE
"""From a tenth of the names on. Kept without a limit, the rest takes 20 MB."""


@pytest.mark.skipif(not can_compile(), reason="there is no C compiler for the load's client and upstream")
def test_a_small_cache_stays_small_whatever_is_asked(tmp_path: Path) -> None:
    upstream = Upstream(tmp_path)
    host, port = upstream.address
    limits = {"cache": {"bytes": SMALL}}
    try:
        with HallMonitor(tmp_path / "server", upstreams=[f"udp://{host}:{port}"], settings=limits) as server:
            (pid,) = server.worker_pids()
            held = []
            for first, last in ((0, NAMES // 10), (NAMES // 10, NAMES)):
                queries = write(tmp_path / "queries", map(name_query, range(first, last)))
                load = Load(
                    compiled(tmp_path, "load"),
                    server.dns,
                    queries,
                    seconds=LOAD_SECONDS,
                    once=True,
                    rate=0.0,
                    outcomes=tmp_path / "outcomes",
                )
                answers = load.result()
                assert answers.wrong == 0, load.complaints
                assert answers.rcodes[0] >= 0.98 * (last - first)
                held.append(private(pid))
            assert held[1] - held[0] < GROWS_BY
            cached = server.api("GET", "/stats").json()["cached_answers"]
            assert 0 < cached < NAMES // 10
    finally:
        upstream.close()


def name_query(number: int) -> Query:
    """Return one client's query for a name that nobody else asks for, and never again."""
    return Query(1 + number % 1_000, wire(name_wire(f"n{number}.memory.example"), TYPES["A"]))


SHORT_OF_MEMORY = 200


def limit_memory(pid: int) -> None:
    """Let a process have no more address space than it has."""
    (size,) = re.findall(r"VmSize:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (int(size) << 10, hard))


def test_a_worker_without_memory_answers_or_is_replaced(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Answers of 30 kB, each to be kept: a query is answered, with its record, or was asked of a worker that died."""
    upstream.behave("*.large.example", big_text(30_000))
    with HallMonitor(tmp_path / "server", upstreams=[upstream.url]) as server:
        (pid,) = server.worker_pids()
        limit_memory(pid)
        told: Counter[tuple[str, str]] = Counter()
        for number in range(SHORT_OF_MEMORY):
            name = f"n{number}.large.example"
            try:
                told[name, dns.rcode.to_text(udp(server.dns, name, "TXT", timeout=2.0).rcode())] = 1
            except OSError:  # whoever had it is gone
                time.sleep(0.1)
        assert {said for _, said in told} <= {"NOERROR", "SERVFAIL"}
        assert "MemoryError" in server.output() or not processes.is_alive(pid), "or this shows nothing"
        if processes.is_alive(pid):
            resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        server.wait_until_ready()  # another may be on its way
        for number in range(20):
            assert dig(server.dns, f"n{number}.after.example").status == "NOERROR"
        records = server.hallmonitor(
            "logs", "search", "--subtree", "large.example", "--limit", "1000", "--json"
        ).objects()
        logged = Counter((record["qname"], record["rcode"]) for record in records)
    assert told - logged == Counter()
    assert set(logged.values()) == {1}


# A start with every upstream dead.


def test_a_cold_start_without_upstreams_answers_what_was_known(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Blocked names, records of our own, and names that were asked for before, whose answers have expired."""
    upstream.behave("known.example", answering("@ 1 A 192.0.2.80"))
    upstream.behave("alias.example", answering("@ 1 CNAME known.example.", "known.example. 1 A 192.0.2.80"))
    local = {"local": {"records": ["printer.district.example 300 A 10.1.2.3"]}}
    server = HallMonitor(tmp_path / "server", upstreams=[upstream.url], workers=2, settings=local)
    try:
        server.start()
        for _ in range(ASKED):  # from as many ports, so that both workers know them
            for name in ("known.example", "alias.example"):
                assert dns.rcode.to_text(udp(server.dns, name).rcode()) == "NOERROR"
        assert server.terminate() == 0
        assert len(list((server.state / "cache").glob("*.answers"))) == 2
        upstream.stop()
        server.start()
        eventually(lambda: dig(server.dns, "known.example").ede)  # its second is over
        for _ in range(ASKED // 4):
            assert dig(server.dns, BLOCKED).rdata == ["0.0.0.0"]
            assert dig(server.dns, "printer.district.example").rdata == ["10.1.2.3"]
            stale = dig(server.dns, "known.example")
            assert (stale.status, stale.rdata) == ("NOERROR", ["192.0.2.80"])
            assert stale.ede is not None
            assert stale.ede[0] == STALE
            assert dig(server.dns, "alias.example").rdata == ["192.0.2.80", "known.example."]
        assert dig(server.dns, "never-asked.example").status == "SERVFAIL"
        upstream.start()
        eventually(lambda: dig(server.dns, "asked-now.example").rdata == [computed_rdata("asked-now.example", "A")])
        assert "Traceback" not in server.output()
    finally:
        server.close()
        upstream.stop()
        upstream.start()


def test_a_damaged_file_of_answers_costs_no_start(upstream: FakeUpstream, tmp_path: Path) -> None:
    server = HallMonitor(tmp_path / "server", upstreams=[upstream.url])
    try:
        server.start()
        assert dig(server.dns, "kept.example").status == "NOERROR"
        assert server.terminate() == 0
        (file,) = (server.state / "cache").glob("*.answers")
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        server.start()
        assert dig(server.dns, "kept.example").status == "NOERROR"
        assert server.output().count(f"the answers cached in {file} can't be used") == 1
    finally:
        server.close()
