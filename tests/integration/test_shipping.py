"""Shipping, from the journals to either store: every lookup once, with its day, its time and all of its fields."""

import time
from collections import Counter
from pathlib import Path

import pytest

from querylog import shipper as shippers
from querylog.journal import JournalWriter
from querylog.search import LogQuery
from querylog.shipper import Shipper
from querylog.store import LogStore, open_store
from querylog.store_postgres import PostgresLogStore
from querylog.store_sqlite import SqliteLogStore
from querylog.times import DAY
from settings import Database, Settings, State
from tests.support.journals import SegmentFile, a_client, a_decision, record_of
from tests.support.shipped import MIDNIGHT, another, expected, lookups, ship, ship_all, stored, write

# The ordinary way.


def test_nothing_to_ship_is_no_work(shipper: Shipper, store: LogStore) -> None:
    assert shipper.ship_once() == (0, 0, 0, 0, 0, 0, True)
    assert stored(store) == Counter()


def test_what_workers_write_is_found(journal: Path, shipper: Shipper, store: LogStore) -> None:
    first, second = lookups(20), lookups(30, begin=MIDNIGHT - DAY // 3)
    with SegmentFile(journal, worker=0) as one, SegmentFile(journal, worker=1) as other:
        one.batch(first[:5])
        other.batch(second)
        report = shipper.ship_once()
        assert (report.rows, report.backlog_bytes, report.segments, report.removed) == (35, 0, 2, 0)
        one.batch(first[5:])
        assert shipper.ship_once().rows == 15
        assert shipper.ship_once().rows == 0
        assert stored(store) == expected(first, second)
    assert shipper.ship_once().removed == 2
    assert list(journal.iterdir()) == []
    assert stored(store) == expected(first, second)


def test_what_the_real_writer_writes_is_found(journal: Path, shipper: Shipper, store: LogStore) -> None:
    writer = JournalWriter(journal, node="here", worker=0, segment_bytes=4_000)
    begin = time.time_ns() // 1000
    written = [(begin + n, a_client(f"192.0.2.{n % 5}"), a_decision(f"n{n}.example")) for n in range(300)]
    for at, client, decision in written:
        writer.pending.append((at, writer.client(client), writer.decision(decision)))
        assert writer.commit()
    writer.close()
    assert ship_all(shipper) == 300
    found = stored(store)
    assert {record._replace(duration_us=0) for record in found} == {
        record_of((at, client, decision, 0), "here") for at, client, decision in written
    }
    assert found.total() == 300
    assert all(record.duration_us < 60_000_000 for record in found)
    assert list(journal.iterdir()) == []


def test_a_batch_may_belong_to_two_days(journal: Path, shipper: Shipper, store: LogStore) -> None:
    around = lookups(40, begin=MIDNIGHT - 20, step=1)
    with SegmentFile(journal) as segment:
        segment.batch(around)
        assert shipper.ship_once().rows == 40
        segment.batch(around)  # the very same once more are others
        assert shipper.ship_once().rows == 40
    assert stored(store) == expected(around, around)


def test_the_clock_may_be_set_anywhere(journal: Path, shipper: Shipper, store: LogStore) -> None:
    times = [MIDNIGHT + 5, 0, MIDNIGHT + 4, 3, MIDNIGHT - DAY, MIDNIGHT + 400 * DAY, MIDNIGHT + 6, 7]
    odd = [(at, a_client(), a_decision(), n) for n, at in enumerate(times)]
    with SegmentFile(journal) as segment:
        for lookup in odd:
            segment.batch([lookup])
        assert ship_all(shipper) == len(odd)
    assert stored(store) == expected(odd)
    newest_first = [record.time for record in store.search(LogQuery.of()).records]
    assert newest_first == sorted(times, reverse=True)


def test_many_lookups_may_share_a_microsecond(journal: Path, shipper: Shipper, store: LogStore) -> None:
    """All that one turn of the loop receives has one time, and several workers may have the same."""
    same = lookups(600, step=0)
    with SegmentFile(journal, worker=0) as one, SegmentFile(journal, worker=1) as other:
        one.batch(same[:200])
        other.batch(same[200:400])
        assert ship_all(shipper) == 400
        one.batch(same[400:])
        assert ship_all(shipper) == 200
    assert stored(store) == expected(same)


def test_late_lookups_find_their_place(journal: Path, shipper: Shipper, store: LogStore) -> None:
    early, late = lookups(200, begin=MIDNIGHT - 10_000, step=10), lookups(200, begin=MIDNIGHT - 10_005, step=10)
    with SegmentFile(journal, worker=0) as one:
        one.batch(early)
        ship_all(shipper)
        with SegmentFile(journal, worker=1) as other:
            other.batch(late)
            ship_all(shipper)
    records = store.search(LogQuery.of(limit=1_000)).records
    assert [record.time for record in records] == sorted((at for at, *_ in early + late), reverse=True)
    assert Counter(records) == expected(early, late)


def test_a_lookup_of_the_longest_duration_is_stored_as_it_is(journal: Path, shipper: Shipper, store: LogStore) -> None:
    longest = [(MIDNIGHT, a_client(), a_decision(), 0xFFFFFFFF)]
    with SegmentFile(journal) as segment:
        segment.batch(longest)
    ship_all(shipper)
    assert stored(store) == expected(longest)


def test_every_field_comes_out_as_it_went_in(journal: Path, shipper: Shipper, store: LogStore) -> None:
    odd = [
        (MIDNIGHT, a_client("2001:db8::7", "staff", "https"), a_decision("."), 1),
        (MIDNIGHT + 1, a_client("fe80::1", "'; DROP TABLE lookups; --", "tcp"), a_decision(""), 2),
        (MIDNIGHT + 2, a_client("not an address"), a_decision(r"a\000b\255.%_'\"", "TYPE65280", "malformed"), 3),
        (
            MIDNIGHT + 3,
            a_client(),
            a_decision(
                "x." * 120 + "example",
                verdict="blocked",
                category="games",
                source="kids",
                rule="/" + "ü(a|b)*" * 500 + "/",
                exception_id=2**40,
                policy_version=2**50,
                rcode="BADVERS",
                upstream="",
                cached=True,
            ),
            4,
        ),
    ]
    with SegmentFile(journal, node="Süd-1") as segment:
        segment.batch(odd)
    ship_all(shipper)
    assert stored(store) == expected(odd, node="Süd-1")


def test_the_same_decision_is_one_whichever_worker_made_it(journal: Path, shipper: Shipper, store: LogStore) -> None:
    same = lookups(50)
    for worker in range(3):
        with SegmentFile(journal, worker=worker) as segment:
            segment.batch(same)
    assert ship_all(shipper) == 150
    assert stored(store) == expected(same, same, same)
    assert store.count(LogQuery.of(name="n3.example")) == 3 * sum(n % 11 == 3 for n in range(50))


# What one round does.


def test_a_round_is_bounded(journal: Path, shipper: Shipper, store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shippers, "ROWS_AT_ONCE", 30)
    monkeypatch.setattr(shippers, "ROWS_IN_TURN", 10)
    backlog = lookups(100)
    with SegmentFile(journal) as segment:
        for start in range(0, 100, 5):
            segment.batch(backlog[start : start + 5])
        report = shipper.ship_once()
        assert (report.rows, report.is_complete) == (30, False)
        assert report.backlog_bytes > 0
        assert [shipper.ship_once()[::6] for _ in range(4)] == [(30, False), (30, False), (10, True), (0, True)]
    assert stored(store) == expected(backlog)


def test_segments_are_read_side_by_side_in_the_order_of_time(
    journal: Path, shipper: Shipper, store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that rows come to the store nearly in order; it takes those best."""
    monkeypatch.setattr(shippers, "ROWS_AT_ONCE", 40)
    monkeypatch.setattr(shippers, "ROWS_IN_TURN", 10)
    for worker in range(3):
        write(journal, lookups(100, suffix=f"worker-{worker}.example"), worker=worker)
    rounds = 0
    while shipper.ship_once().rows:
        rounds += 1
        counts = [store.count(LogQuery.of(subtree=f"worker-{worker}.example")) for worker in range(3)]
        assert max(counts) - min(counts) <= 10
    assert rounds == 8


def test_more_segments_than_may_be_open_are_shipped_in_turn(
    journal: Path, shipper: Shipper, store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shippers, "OPEN_SEGMENTS", 3)
    backlog = lookups(100)
    for n in range(10):
        with SegmentFile(journal, started=MIDNIGHT - DAY + n) as segment:
            segment.batch(backlog[n * 10 : n * 10 + 10])
    report = shipper.ship_once()
    assert (report.rows, report.removed, report.segments, report.is_complete) == (30, 3, 7, False)
    assert report.backlog_bytes > 0
    assert ship_all(shipper) == 70
    assert stored(store) == expected(backlog)


# Restarts.


def test_a_restart_goes_on_where_it_was(journal: Path, store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shippers, "ROWS_AT_ONCE", 20)
    backlog = lookups(100)
    monkeypatch.setattr(shippers, "ROWS_IN_TURN", 20)
    write(journal, backlog)
    for _ in range(5):
        with another(store) as opened, Shipper(journal, opened, "node") as shipper:
            assert shipper.ship_once().rows == 20
    assert ship(journal, store) == 0
    assert stored(store) == expected(backlog)
    assert list(journal.iterdir()) == []


def test_a_restart_reads_nothing_twice(journal: Path, store: LogStore) -> None:
    """Here around midnight, which is two files in SQLite."""
    around = lookups(40, begin=MIDNIGHT - 20, step=1)
    with SegmentFile(journal) as segment:
        segment.batch(around)
        assert ship(journal, store) == 40
        with another(store) as opened, Shipper(journal, opened, "node") as shipper:
            assert opened.position("node", segment.path.name) == segment.path.stat().st_size
            assert shipper.ship_once() == (0, 0, 1, 0, 0, 0, True)
    assert stored(store) == expected(around)


def test_a_store_that_knows_no_position_takes_what_it_has_not(
    journal: Path, store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A position is a help; what keeps each lookup single stands beside the rows."""
    around = lookups(60, begin=MIDNIGHT - 30, step=1)
    monkeypatch.setattr(shippers, "ROWS_AT_ONCE", 20)
    monkeypatch.setattr(shippers, "ROWS_IN_TURN", 7)
    write(journal, around, size=3)
    for _ in range(2):
        with another(store) as opened, Shipper(journal, opened, "node") as shipper:
            monkeypatch.setattr(type(opened), "position", lambda *_: 0)
            shipper.ship_once()
    ship(journal, store)
    assert stored(store) == expected(around)


# Which store.


@pytest.mark.parametrize(
    ("url", "kind"), [("", SqliteLogStore), ("postgresql://user:secret@db.test/log", PostgresLogStore)]
)
def test_the_configuration_says_which_store(tmp_path: Path, url: str, kind: type) -> None:
    with open_store(Settings(state=State(tmp_path), database=Database(url))) as store:
        assert isinstance(store, kind)
        assert "secret" not in repr(store)
    assert list(tmp_path.iterdir()) == []
