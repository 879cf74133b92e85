"""Shipping when something is in the way: a store that is down, files that are no use, another shipper."""

import contextlib
import errno
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from querylog import segment as segments
from querylog import shipper as shippers
from querylog import sqlite_day
from querylog.errors import ShipperBusyError, StoreDownError
from querylog.journal import Batch, SegmentReader
from querylog.portion import Gap, Portion
from querylog.search import LogQuery
from querylog.shipper import Shipper
from querylog.store import LogStore
from querylog.store_postgres import PostgresLogStore
from querylog.store_sqlite import SqliteLogStore
from tests.support.journals import SegmentFile, batch, definition, record_of
from tests.support.postgres import PostgresServer
from tests.support.shipped import MIDNIGHT, expected, lookups, ship, ship_all, stored, write

# A store that is down.


def failing(store: LogStore, monkeypatch: pytest.MonkeyPatch, *when: str) -> None:
    """Let calls of `append` fail, each before or after it has stored."""
    failures = list(when)
    append = store.append

    def fail(portions: Sequence[Portion]) -> int:
        failure = failures.pop(0) if failures else ""
        if failure == "before":
            raise StoreDownError("the store is down")
        rows = append(portions)
        if failure == "after":
            raise StoreDownError("the connection was lost, and who knows what became of the transaction")
        return rows

    monkeypatch.setattr(store, "append", fail)


def test_while_the_store_is_down_journals_wait(
    journal: Path, shipper: Shipper, store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = lookups(20), lookups(20, begin=MIDNIGHT - 1000)
    path = write(journal, first)
    octets = path.read_bytes()
    failing(store, monkeypatch, "before", "before")
    for _ in range(2):
        with pytest.raises(StoreDownError):
            shipper.ship_once()
    write(journal, second, worker=1)
    assert path.read_bytes() == octets
    assert ship_all(shipper) == 40
    assert stored(store) == expected(first, second)


def test_whether_or_not_it_was_stored_it_is_stored_once(
    journal: Path, shipper: Shipper, store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shippers, "ROWS_AT_ONCE", 10)
    around = lookups(60, begin=MIDNIGHT - 30, step=1)
    write(journal, around)
    failing(store, monkeypatch, *["after", "before", "after", "", "after", "after", "before"])
    for _ in range(20):
        with contextlib.suppress(StoreDownError):
            shipper.ship_once()
    assert stored(store) == expected(around)
    assert list(journal.iterdir()) == []


def test_sqlite_waits_for_its_directory(journal: Path, tmp_path: Path) -> None:
    """Nobody may write there, which for root takes a file in its place."""
    some = lookups(20)
    write(journal, some)
    (tmp_path / "log").write_text("in the way")
    with SqliteLogStore(tmp_path / "log") as store, Shipper(journal, store, "node") as shipper:
        with pytest.raises(StoreDownError, match="can't be used"):
            shipper.ship_once()
        (tmp_path / "log").unlink()
        assert ship_all(shipper) == 20
        assert stored(store) == expected(some)


def test_sqlite_waits_for_whoever_holds_it(journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup, or an administrator with a shell of SQLite's."""
    monkeypatch.setattr(sqlite_day, "BUSY_SECONDS", 0.0)
    early, late = lookups(20), lookups(20, begin=MIDNIGHT - 1000)
    with SqliteLogStore(tmp_path / "log") as store, Shipper(journal, store, "node") as shipper:
        write(journal, early)
        ship_all(shipper)
        (day,) = (tmp_path / "log").glob("2*.db")
        write(journal, late)
        with contextlib.closing(sqlite3.connect(day, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(2):
                with pytest.raises(StoreDownError, match="locked"):
                    shipper.ship_once()
            assert stored(store) == expected(early)
            other.execute("ROLLBACK")
        assert ship_all(shipper) == 20
        assert stored(store) == expected(early, late)


def test_sqlite_completes_indexes_another_time_where_it_can_not(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_day, "BUSY_SECONDS", 0.0)
    some = lookups(20)
    with SqliteLogStore(tmp_path / "log") as store:
        write(journal, some)
        ship(journal, store)
        (day,) = (tmp_path / "log").glob("2*.db")
        with contextlib.closing(sqlite3.connect(day, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            store.close()
            other.execute("ROLLBACK")
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        write(journal, some)
        ship(journal, store)
        assert stored(store) == expected(some, some)
        assert store.count(LogQuery.of(name="n3.example")) == 2 * sum(n % 11 == 3 for n in range(20))


def test_sqlite_sets_a_damaged_day_aside_and_goes_on(journal: Path, tmp_path: Path) -> None:
    early, late = lookups(20), lookups(20, begin=MIDNIGHT - 1000)
    with SqliteLogStore(tmp_path / "log") as store:
        write(journal, early)
        ship(journal, store)
    (day,) = (tmp_path / "log").glob("2*.db")
    day.write_bytes(b"no database at all" * 500)
    write(journal, late)
    with SqliteLogStore(tmp_path / "log") as store, Shipper(journal, store, "node") as shipper:
        with pytest.raises(StoreDownError):
            store.search(LogQuery.of())
        assert ship_all(shipper) == 20
        assert stored(store) == expected(late)
    assert day.with_name(f"{day.name}.damaged").exists()


def test_sqlite_sets_a_day_aside_that_is_damaged_while_it_is_written(journal: Path, tmp_path: Path) -> None:
    early, late = lookups(20), lookups(20, begin=MIDNIGHT - 1000)
    with SqliteLogStore(tmp_path / "log") as store, Shipper(journal, store, "node") as shipper:
        with SegmentFile(journal) as segment:
            segment.batch(early)
            ship_all(shipper)
            (day,) = (tmp_path / "log").glob("2*.db")
            with sqlite3.connect(day) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            other.close()
            size = day.stat().st_size
            with day.open("r+b") as file:
                file.seek(4096)
                file.write(b"\xff" * (size - 4096))
            store._writers.popitem()[1].abandon()
            segment.batch(late)
            with pytest.raises(StoreDownError):
                shipper.ship_once()
            assert ship_all(shipper) == 20
        assert stored(store) == expected(late)
    assert day.with_name(f"{day.name}.damaged").exists()


@pytest.mark.postgres
def test_postgres_may_go_and_come_back(journal: Path) -> None:
    with PostgresServer() as server, PostgresLogStore(server.create_database()) as store:
        first, second, third = (lookups(20, begin=MIDNIGHT - n * 100_000) for n in (3, 2, 1))
        with Shipper(journal, store, "node") as shipper, SegmentFile(journal) as segment:
            segment.batch(first)
            assert ship_all(shipper) == 20
            server.stop()
            segment.batch(second)
            for _ in range(2):
                with pytest.raises(StoreDownError, match="can't be used"):
                    shipper.ship_once()
            with pytest.raises(StoreDownError):
                store.search(LogQuery.of())
            server.start()
            assert ship_all(shipper) == 20
            server.stop()
            server.start()
            segment.batch(third)
            assert ship_all(shipper) == 20  # a connection that died while nobody looked is no failure
            assert stored(store) == expected(first, second, third)


@pytest.mark.postgres
def test_postgres_down_from_the_start_is_waited_for(journal: Path, tmp_path: Path) -> None:
    with PostgresServer() as server:
        url = server.create_database()
        server.stop()
        with PostgresLogStore(url) as store, Shipper(journal, store, "node") as shipper:
            some = lookups(20)
            write(journal, some)
            with pytest.raises(StoreDownError) as caught:
                shipper.ship_once()
            assert "not-checked" not in str(caught.value)  # the password
            server.start()
            assert ship_all(shipper) == 20
            assert stored(store) == expected(some)


@pytest.mark.postgres
def test_a_transaction_that_was_thought_lost_is_waited_for(journal: Path, postgres_url: str) -> None:
    """Its connection went while the server was committing: the next one must see what became of it."""
    some = lookups(20)
    shipped: list[int] = []
    with (
        PostgresLogStore(postgres_url) as store,
        psycopg.connect(postgres_url) as ghost,
        psycopg.connect(postgres_url, autocommit=True) as watcher,
        SegmentFile(journal) as segment,
    ):
        store.search(LogQuery.of())  # makes the tables
        segment.batch(some)
        position = segment.path.stat().st_size
        ghost.execute("INSERT INTO log_positions VALUES ('node', %s, %s)", (segment.path.name, position))
        thread = threading.Thread(target=lambda: shipped.append(ship(journal, store)))
        thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while watcher.execute(waiting).fetchone() != (1,):
            assert thread.is_alive()
        ghost.commit()
        thread.join()
    assert shipped == [0]


@pytest.mark.postgres
def test_several_nodes_ship_at_once(tmp_path: Path, postgres_url: str) -> None:
    """To the same new days, with the same decisions."""
    around = lookups(600, begin=MIDNIGHT - 300, step=1)
    nodes = [f"node-{n}" for n in range(4)]
    failures: list[BaseException] = []

    def run(node: str) -> None:
        write(tmp_path / node / "journal", around, node=node)
        try:
            with PostgresLogStore(postgres_url) as store, Shipper(tmp_path / node / "journal", store, node) as shipper:
                ship_all(shipper)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=run, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with PostgresLogStore(postgres_url) as store:
        assert stored(store) == Counter(record_of(lookup, node) for node in nodes for lookup in around)
        assert store.count(LogQuery.of()) == 2400
    with psycopg.connect(postgres_url) as connection:
        twice = "SELECT key FROM log_decisions_20241003 GROUP BY key, outcome_id, rule HAVING count(*) > 1"
        assert connection.execute(twice).fetchall() == []


# Files that are no use.


def test_a_torn_tail_is_cut_counted_and_told_once(
    journal: Path, shipper: Shipper, store: LogStore, caplog: pytest.LogCaptureFixture
) -> None:
    some = lookups(20)
    with SegmentFile(journal) as segment:
        segment.batch(some)
        segment.write(b"torn off by a power cut")
        assert shipper.ship_once().torn_bytes == 0
        assert store.gaps() == []
    report = shipper.ship_once()
    assert (report.torn_bytes, report.removed, report.segments) == (23, 1, 0)
    (gap,) = store.gaps()
    assert gap[:5] == ("node", segment.path.name, 0, 23, some[-1][0])
    assert [record.getMessage() for record in caplog.records] == [
        f"{segment.path.name} was torn: 23 octets at its end are lost"
    ]
    assert stored(store) == expected(some)


def test_gaps_are_stored_once_with_their_days(journal: Path, shipper: Shipper, store: LogStore) -> None:
    with SegmentFile(journal) as segment:
        segment.batch([], gap=(12, MIDNIGHT - 5, MIDNIGHT + 5))
        segment.batch(lookups(3), gap=(1, MIDNIGHT + 9, MIDNIGHT + 9))
        name = segment.path.name
        assert shipper.ship_once().rows == 3
        assert shipper.ship_once().rows == 0
    early = Gap("node", name, 12, 0, MIDNIGHT - 5, MIDNIGHT + 5)
    late = Gap("node", name, 1, 0, MIDNIGHT + 9, MIDNIGHT + 9)
    assert store.gaps() == [early, late]
    assert store.gaps(since=MIDNIGHT) == [late]
    assert store.gaps(until=MIDNIGHT + 9) == [early]
    assert store.gaps(since=MIDNIGHT - 5, until=MIDNIGHT - 5) == []
    assert store.count(LogQuery.of()) == 3


def test_a_file_that_is_no_segment_is_set_aside_and_holds_up_nobody(
    journal: Path, shipper: Shipper, store: LogStore, caplog: pytest.LogCaptureFixture
) -> None:
    some = lookups(20)
    write(journal, some)
    strange = journal / "0000000000000001-0-1.journal"
    strange.write_bytes(b"PK\3\4 and so on")
    report = shipper.ship_once()
    assert (report.rows, report.damaged, report.segments) == (20, 1, 0)
    assert stored(store) == expected(some)
    assert strange.with_name(f"{strange.name}.damaged").read_bytes() == b"PK\3\4 and so on"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert shipper.ship_once().damaged == 0


@pytest.mark.parametrize(
    "damage",
    [
        batch(b"\0" * 16 + b"\1\0\0\0", []),  # numbers that are not defined
        batch(b"\xff" * 8 + b"\0" * 12, []),  # a time after all calendars
        batch(b"\0" * 16 + b"\1\0\0\0", [definition(1, 0, b"no client"), definition(2, 1, b"no decision")]),
        batch(b"", [definition(1, 0xFFFFFFFF, b"a\0b\0c")]),
        batch(b"", [definition(3, 0, b"no gap")]),
    ],
)
def test_batches_that_do_not_fit_together_hold_up_nobody(
    journal: Path, shipper: Shipper, store: LogStore, damage: bytes
) -> None:
    some = lookups(20)
    write(journal, some, worker=0)
    write(journal, some, worker=2)
    with SegmentFile(journal, worker=1) as segment:
        segment.write(damage)
    report = shipper.ship_once()
    assert (report.rows, report.damaged, report.segments) == (40, 1, 0)
    assert stored(store) == expected(some, some)
    assert segment.path.with_name(f"{segment.path.name}.damaged").exists()


def test_damage_with_more_behind_it_than_a_power_cut_tears_is_kept(
    journal: Path, shipper: Shipper, store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "TORN_OCTETS", 100)
    some = lookups(20)
    with SegmentFile(journal) as segment:
        segment.batch(some)
        segment.write(bytes([1]) * 101)
    report = shipper.ship_once()
    assert (report.rows, report.damaged, report.torn_bytes) == (20, 1, 0)
    assert stored(store) == expected(some)
    assert segment.path.with_name(f"{segment.path.name}.damaged").stat().st_size > 101


def test_a_segment_that_can_not_be_read_just_now_waits(
    journal: Path, shipper: Shipper, store: LogStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    some = lookups(20)
    bad = write(journal, some, worker=0)
    write(journal, some, worker=1)
    real = Path.open

    def failing_open(self: Path, *args: Any) -> object:
        if self == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", failing_open)
        assert [shipper.ship_once().rows for _ in range(2)] == [20, 0]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert ship_all(shipper) == 20
    assert stored(store) == expected(some, some)


def test_a_disk_that_fails_half_way_through_a_segment_loses_nothing(
    journal: Path, shipper: Shipper, store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = lookups(20)
    write(journal, some)
    read = SegmentReader.batches

    def failing_batches(self: SegmentReader) -> Iterator[Batch]:
        for n, one in enumerate(read(self)):
            if n == 2:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            yield one

    with monkeypatch.context() as patch:
        patch.setattr(SegmentReader, "batches", failing_batches)
        assert shipper.ship_once()[::6] == (0, False)
    assert shipper.ship_once()[::6] == (20, True)
    assert stored(store) == expected(some)


def test_segments_that_never_got_their_names_are_cleared_away(journal: Path, store: LogStore) -> None:
    journal.mkdir()
    old, young = journal / ".0000000000000001-0-1.journal", journal / ".0000000000000002-0-1.journal"
    old.write_bytes(b"HMJ1")
    young.write_bytes(b"HMJ1")
    os.utime(old, (time.time() - 100, time.time() - 100))
    ship(journal, store)
    assert list(journal.iterdir()) == [young]


# One at a time.


def test_one_ships_at_a_time(journal: Path, store: LogStore) -> None:
    with Shipper(journal, store, "node") as first:
        second = Shipper(journal, store, "node")
        with pytest.raises(ShipperBusyError, match="another process ships"):
            second.lock(seconds=0)
        assert isinstance(ShipperBusyError("x"), StoreDownError)  # whoever waits for a store waits for this too
        first.close()
        second.lock(seconds=0)
        second.close()


def test_who_waits_gets_its_turn(journal: Path, store: LogStore) -> None:
    first = Shipper(journal, store, "node")
    first.lock()
    timer = threading.Timer(0.1, first.close)
    timer.start()
    with Shipper(journal, store, "node") as second:
        assert second.ship_once().rows == 0
    timer.join()


def test_the_lock_goes_with_a_process_that_is_killed(journal: Path, store: LogStore) -> None:
    code = (
        "import sys, time; from pathlib import Path; from querylog.shipper import Shipper;"
        "from querylog.store_sqlite import SqliteLogStore;"
        "directory = Path(sys.argv[1]); Shipper(directory, SqliteLogStore(directory), 'node').lock();"
        "print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, journal], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ShipperBusyError):
            Shipper(journal, store, "node").lock(seconds=0)
        process.kill()
    with Shipper(journal, store, "node") as shipper:
        assert shipper.ship_once().rows == 0


def test_a_closed_shipper_may_be_used_again(journal: Path, shipper: Shipper, store: LogStore) -> None:
    with SegmentFile(journal) as segment:
        segment.batch(lookups(5))
        assert shipper.ship_once().rows == 5
        shipper.close()
        segment.batch(lookups(6))
        assert shipper.ship_once().rows == 6
    assert repr(shipper) == "<Shipper of node: 1 segments>"
