"""Log, then answer: the record is in the journal's file when the reply leaves, whatever happens in between."""

import errno
import os
import random
import struct
import time
from typing import Any

import dns.message
import dns.rcode
import pytest

from querylog.journal import segments
from resolver.transports import TCP, UDP
from tests.unit.policy.build import Listed, block, exception, group
from tests.unit.resolver.bench import NOW, Bench, Make, gaps, turn
from tests.unit.resolver.messages import octets

BLOCKED = [Listed("ut1-adult", "adult", [block("bad.example")])]
A = "a.example. 300 A 192.0.2.7"


class FullDisk:
    """Every write fails while it is full."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.full = False
        real = os.write

        def write(fd: int, data: bytes) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, data)

        patch.setattr("querylog.journal.os.write", write)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    return FullDisk(monkeypatch)


# Order, and one record for each.


async def test_each_path_writes_its_record_before_its_reply_leaves(make: Make) -> None:
    """Blocked, remembered, refused, a stranger, malformed, not implemented, forwarded, cached, failed."""
    bench = make(lists=BLOCKED)
    paths: list[tuple[bytes, str, str]] = [
        (octets(b"bad", b"example"), "10.0.0.1", "blocked"),
        (octets(b"bad", b"example"), "10.0.0.1", "blocked"),
        (octets(b"a", qclass=3), "10.0.0.1", "refused"),
        (octets(b"a"), "192.0.2.1", "refused"),
        (octets(b"a")[:-1], "10.0.0.1", "malformed"),
        (octets(b"a", flags=0x2800, qtype=6), "10.0.0.1", "refused"),
    ]
    for number, (data, client, verdict) in enumerate(paths, 1):
        assert bench.ask_octets(data, client=client) is not None
        assert bench.sent[-1].records == len(bench.records) == number
        assert bench.decision.verdict == verdict
    await bench.resolved(A)
    assert bench.sent[-1].records == len(bench.records) == 7
    bench.reply_to("A.example")
    assert (bench.sent[-1].records, bench.decision.cached) == (8, True)
    bench.ask("lost.example")
    bench.network.last.lose()
    bench.network.last.lose()
    await turn()
    assert (bench.sent[-1].records, bench.decision.verdict) == (9, "failed")
    assert len(bench.sent) == len(bench.records) == 9
    assert bench.engine.lookups == 9


def test_a_batch_is_written_once_and_then_its_replies_leave_in_order(make: Make) -> None:
    bench = make(lists=BLOCKED)
    for number in range(64):
        bench.feed(struct.pack(">H", number) + octets(b"bad", b"example")[2:], client=f"10.0.0.{number % 5}")
    assert not bench.sent
    assert not bench.records
    bench.engine.flush()
    assert [struct.unpack(">H", sent.reply[:2])[0] for sent in bench.sent] == list(range(64))
    assert {sent.records for sent in bench.sent} == {64}
    assert [record.client.client for record in bench.records] == [f"10.0.0.{number % 5}" for number in range(64)]


def test_a_record_has_the_time_of_arrival_and_how_long_it_took(make: Make) -> None:
    bench = make(lists=BLOCKED)
    before = time.time_ns() // 1000
    bench.ask_octets(octets(b"bad", b"example"), received=before - 5000)
    (record,) = bench.records
    assert record.time == before - 5000
    assert 5000 <= record.duration <= 5000 + time.time_ns() // 1000 - before


@pytest.mark.parametrize(
    "ahead",
    [pytest.param(-3600, id="set back by an hour"), pytest.param(7200, id="set forward by two hours")],
)
def test_a_clock_that_is_set_while_a_lookup_waits_costs_nothing(make: Make, ahead: int) -> None:
    """As at the first NTP contact of a machine without a clock of its own, with lookups in flight."""
    bench = make(lists=BLOCKED)
    for received in (NOW - ahead * 1_000_000, time.time_ns() // 1000):
        bench.ask_octets(octets(b"bad", b"example"), received=received)
    assert len(bench.sent) == len(bench.records) == 2


# A journal that can't be written.


def test_on_full_serve_answers_and_counts(make: Make, disk: FullDisk) -> None:
    bench = make(lists=BLOCKED)
    bench.reply_to("bad.example")
    disk.full = True
    for name in ("bad.example", "x.bad.example", "bad.example"):
        assert bench.reply_to(name).rcode() == dns.rcode.NOERROR
    assert bench.journal.lost == 3
    assert len(bench.records) == 1


@pytest.mark.parametrize("edns", [True, False])
def test_on_full_refuse_fails_every_lookup(make: Make, disk: FullDisk, edns: bool) -> None:
    bench = make(lists=BLOCKED, document={"querylog": {"on_full": "refuse"}})
    bench.reply_to("bad.example")
    disk.full = True
    for _ in range(3):
        reply = bench.reply_to("bad.example", use_edns=0 if edns else False)
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert not reply.answer
        assert (reply.edns == 0) == edns
    malformed = dns.message.from_wire(bench.ask_octets(octets(b"a")[:-1]) or b"")
    assert malformed.rcode() == dns.rcode.SERVFAIL
    assert bench.journal.lost == 4


@pytest.mark.parametrize("on_full", ["serve", "refuse"])
def test_when_there_is_room_again_all_is_as_before(
    make: Make, disk: FullDisk, monkeypatch: pytest.MonkeyPatch, on_full: str
) -> None:
    """The lookups that went unlogged stand as a gap, and no number of the lost segment is named again."""
    monkeypatch.setattr("querylog.journal.RETRY_SECONDS", 0.0)
    bench = make(lists=BLOCKED, document={"querylog": {"on_full": on_full}})
    bench.reply_to("bad.example")
    disk.full = True
    for _ in range(3):
        bench.reply_to("bad.example")
    disk.full = False
    bench.reply_to("bad.example")  # still unlogged: it finds the way out
    for name in ("bad.example", "x.bad.example", "bad.example"):
        assert bench.reply_to(name).answer
    assert [record.decision.qname for record in bench.records] == [
        "bad.example",
        "bad.example",
        "x.bad.example",
        "bad.example",
    ]
    assert bench.journal.lost == 4
    assert gaps(bench.directory / "journal") == [b"4"]


async def test_a_lookup_in_flight_over_a_failed_write_is_logged_after_it(
    make: Make, disk: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("querylog.journal.RETRY_SECONDS", 0.0)
    bench = make(lists=BLOCKED)
    assert bench.ask() is None
    disk.full = True
    bench.reply_to("bad.example")
    disk.full = False
    bench.reply_to("bad.example")
    bench.network.last.answer(A)
    await turn()
    assert [record.decision.qname for record in bench.records] == ["a.example"]


# Rotation.


def traffic(bench: Bench, count: int, seed: int) -> list[tuple[str, str, str]]:
    """Ask blocked names at random from several clients; return client, transport and qname of each."""
    bench.counts = False
    chosen = random.Random(seed)
    asked = []
    for _ in range(count):
        client, transport = f"10.0.0.{chosen.randrange(6)}", chosen.choice([UDP, TCP])
        name = f"n{chosen.randrange(8)}.bad.example"
        bench.feed(octets(*name.encode().split(b".")), client=client, transport=transport)
        asked.append((client, transport, name))
        if chosen.random() < 0.3:
            bench.engine.flush()
    bench.engine.flush()
    return asked


def test_a_new_segment_voids_every_number(make: Make) -> None:
    """Segments of a few batches, in the middle of remembered replies: each record resolves within its own."""
    bench = make(lists=BLOCKED, segment_bytes=600)
    asked = traffic(bench, 600, seed=1)
    assert len(segments(bench.directory / "journal")) > 20
    found = [(r.client.client, r.client.transport, r.decision.qname) for r in bench.records]
    assert found == asked
    assert len(bench.sent) == 600
    assert {record.decision.rule for record in bench.records} == {"||bad.example^"}


async def test_a_lookup_in_flight_over_a_rotation_is_logged_in_the_new_segment(make: Make) -> None:
    bench = make(lists=BLOCKED, segment_bytes=600)
    for number in range(20):
        assert bench.ask(f"n{number}.example", client=f"10.0.1.{number}") is None
    before = len(segments(bench.directory / "journal"))
    traffic(bench, 100, seed=2)
    assert len(segments(bench.directory / "journal")) > before
    tries = list(bench.network.tries)
    for number, attempt in enumerate(tries):
        attempt.answer(f"n{number}.example. 60 A 192.0.2.7")
        await turn()
        if number % 3 == 0:
            traffic(bench, 10, seed=number)
    found = [(r.client.client, r.decision.qname) for r in bench.records if r.decision.upstream]
    assert found == [(f"10.0.1.{number}", f"n{number}.example") for number in range(20)]
    assert len(bench.records) == len(bench.sent)


async def test_waiters_of_one_exchange_resolve_over_a_rotation(make: Make) -> None:
    bench = make(lists=BLOCKED, segment_bytes=300)
    clients = [f"10.0.1.{number}" for number in range(30)]
    for client in clients:
        assert bench.ask(client=client) is None
        traffic(bench, 5, seed=7)
    bench.network.last.answer(A)
    await turn()
    assert [record.client.client for record in bench.records if record.decision.upstream] == clients


# A new policy in the middle.


async def test_a_lookup_in_flight_over_a_new_policy_is_logged_as_it_was_decided(make: Make) -> None:
    bench = make(exceptions=[exception(4, "a.example")])
    other = make(
        lists=[Listed("s", "adult", [block("a.example")])], groups=[group("students", mode="nxdomain")], version=2
    )
    assert bench.ask() is None
    bench.engine.adopt(other.engine.snapshot)
    assert bench.reply_to().rcode() == dns.rcode.NXDOMAIN
    bench.network.last.answer(A)
    await turn()
    assert bench.sent[-1].message.answer
    decided = [(r.decision.verdict, r.decision.exception_id, r.decision.policy_version) for r in bench.records]
    assert decided == [("blocked", 0, 2), ("exception", 4, 1)]
    # ... and what it brought opens nothing.
    assert bench.reply_to().rcode() == dns.rcode.NXDOMAIN


async def test_policies_and_segments_change_under_random_traffic(make: Make) -> None:
    """Whatever is remembered, each record tells the policy that was in force and resolves."""
    modes = ["null", "nxdomain", "refused"]
    bench = make(lists=BLOCKED, segment_bytes=900, groups=[group("students", mode=modes[0])])
    snapshots = [bench.engine.snapshot] + [
        make(lists=BLOCKED, version=number, groups=[group("students", mode=modes[number - 1])]).engine.snapshot
        for number in (2, 3)
    ]
    bench.counts = False
    chosen = random.Random(5)
    expected: list[tuple[int, str]] = []
    rcodes = {1: "NOERROR", 2: "NXDOMAIN", 3: "REFUSED"}
    for _ in range(300):
        if chosen.random() < 0.1:
            bench.engine.flush()
            bench.engine.adopt(chosen.choice(snapshots))
        name = f"n{chosen.randrange(4)}.bad.example"
        bench.feed(octets(*name.encode().split(b".")), client=f"10.0.0.{chosen.randrange(4)}")
        expected.append((bench.engine.snapshot.version, name))
    bench.engine.flush()
    assert [(r.decision.policy_version, r.decision.qname) for r in bench.records] == expected
    for sent, (version, _) in zip(bench.sent, expected, strict=True):
        assert dns.rcode.to_text(sent.message.rcode()) == rcodes[version]


def test_options_of_the_bench_reach_the_engine(make: Make) -> None:
    """A journal as small as it was asked for: otherwise the tests above would rotate nothing."""
    options: dict[str, Any] = {"lists": BLOCKED, "segment_bytes": 1}
    bench = make(**options)
    traffic(bench, 3, seed=1)
    assert len(segments(bench.directory / "journal")) >= 2
