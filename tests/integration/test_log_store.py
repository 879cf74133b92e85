"""Either store beside searching: following, retention, several who use it at once."""

import threading
from collections import Counter
from datetime import date
from pathlib import Path

import psycopg
import pytest

from querylog import postgres_append, sqlite_arrivals, sqlite_day
from querylog.errors import InvalidQueryError
from querylog.portion import Gap
from querylog.search import LogQuery
from querylog.shipper import Shipper
from querylog.store import LogStore
from querylog.store_postgres import PostgresLogStore
from querylog.store_sqlite import SqliteLogStore
from querylog.times import DAY
from tests.support.journals import SegmentFile, record_of
from tests.support.shipped import MIDNIGHT, another, expected, lookups, ship, ship_all, stored, write

EVERYTHING = LogQuery.of()


def test_an_empty_store_has_nothing(store: LogStore) -> None:
    assert store.search(EVERYTHING) == ([], None)
    assert store.count(LogQuery.of(client="192.0.2.1")) == 0
    assert store.gaps() == []
    assert store.position("node", "1-0-1.journal") == 0
    position = store.follow(EVERYTHING, None).position
    assert store.follow(EVERYTHING, position) == ([], position, False)
    assert store.drop_older_than(1) == []


def test_records_that_come_meanwhile_do_not_disturb_pages(journal: Path, store: LogStore) -> None:
    old = lookups(60)
    write(journal, old)
    ship(journal, store)
    first = store.search(LogQuery.of(limit=25))
    write(journal, lookups(60, begin=old[-1][0] + 1))
    ship(journal, store)
    second = store.search(LogQuery.of(limit=1_000, cursor=first.cursor))
    assert Counter(first.records + second.records) == expected(old)


def test_one_may_search_while_another_ships(journal: Path, store: LogStore) -> None:
    all_of_them = lookups(3_000, begin=MIDNIGHT - 1_500_000)
    write(journal, all_of_them, size=10)
    shipping = threading.Thread(target=ship_in_small_steps, args=(journal, store))
    shipping.start()
    seen = [0]
    with another(store) as opened:
        while seen[-1] < 3_000:
            assert shipping.is_alive() or opened.count(EVERYTHING) == 3_000
            seen.append(opened.count(EVERYTHING))
            records = opened.search(LogQuery.of(limit=50)).records
            assert [record.time for record in records] == sorted((record.time for record in records), reverse=True)
    shipping.join()
    assert seen == sorted(seen)
    assert stored(store) == expected(all_of_them)


def ship_in_small_steps(journal: Path, store: LogStore) -> None:
    with pytest.MonkeyPatch.context() as patch, Shipper(journal, store, "node") as shipper:
        patch.setattr("querylog.shipper.ROWS_AT_ONCE", 100)
        patch.setattr("querylog.sqlite_day.RUN_ROWS", 300)
        ship_all(shipper)


# Following.


def test_who_follows_sees_what_comes_and_nothing_twice(journal: Path, store: LogStore) -> None:
    old = lookups(10)
    with SegmentFile(journal) as segment, Shipper(journal, store, "node") as shipper, another(store) as opened:
        segment.batch(old)
        shipper.ship_once()
        position = opened.follow(EVERYTHING, None).position
        for some in (lookups(5), lookups(40, begin=MIDNIGHT - 20, step=1), lookups(7, begin=0), lookups(3)):
            assert opened.follow(EVERYTHING, position) == ([], position, False)
            segment.batch(some)
            shipper.ship_once()
            news = opened.follow(EVERYTHING, position)
            assert Counter(news.records) == expected(some)
            assert not news.missed
            position = news.position


def test_those_of_one_round_come_in_the_order_of_time(journal: Path, store: LogStore) -> None:
    write(journal, lookups(20, step=10), worker=0)
    write(journal, lookups(20, begin=MIDNIGHT - DAY // 2 + 5, step=10), worker=1)
    position = store.follow(EVERYTHING, None).position
    ship(journal, store)
    times = [record.time for record in store.follow(EVERYTHING, position).records]
    assert times == sorted(times)
    assert len(times) == 40


def test_who_follows_sees_what_is_asked_for(journal: Path, store: LogStore) -> None:
    some = lookups(60, begin=MIDNIGHT - 30, step=1)
    position = store.follow(EVERYTHING, None).position
    write(journal, some)
    ship(journal, store)
    for query in (
        LogQuery.of(client="192.0.2.3"),
        LogQuery.of(name="n4.example"),
        LogQuery.of(subtree="n5.example", since=MIDNIGHT),
        LogQuery.of(until=MIDNIGHT - 10),
        LogQuery.of(verdict="blocked"),
        LogQuery.of(name="absent.example"),
        LogQuery.of(client="192.0.2.3", limit=1),  # no page: all of it
    ):
        news = store.follow(query, position)
        assert len(news.records) == store.count(query)
        assert Counter(news.records) <= expected(some)


def test_who_looks_away_for_too_long_is_told(journal: Path, store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_arrivals, "KEPT", 3)
    monkeypatch.setattr(postgres_append, "ARRIVALS_KEPT", 3)
    with SegmentFile(journal) as segment, Shipper(journal, store, "node") as shipper:
        segment.batch(lookups(2))
        shipper.ship_once()
        position = store.follow(EVERYTHING, None).position
        for rounds, missed in ((2, False), (8, True)):
            for _ in range(rounds):
                segment.batch(lookups(2))
                shipper.ship_once()
            news = store.follow(EVERYTHING, position)
            assert news.missed == missed
            assert 0 < len(news.records) <= 2 * rounds
            position = news.position
        assert store.follow(EVERYTHING, position) == ([], position, False)
    assert store.count(EVERYTHING) == 22


@pytest.mark.parametrize("position", ["", "x", "-1", "[]", '{"node": "x"}', "null", "1.5", "٣"])
def test_what_is_no_position_is_refused(store: LogStore, position: str) -> None:
    with pytest.raises(InvalidQueryError) as caught:
        store.follow(EVERYTHING, position)
    assert caught.value.field == "position"


def test_sqlite_keeps_the_log_where_following_is_broken(journal: Path, tmp_path: Path) -> None:
    """It is a convenience; a damaged file of it must not keep lookups out of the log."""
    with SqliteLogStore(tmp_path / "log") as store:
        write(journal, lookups(5))
        ship(journal, store)
        position = store.follow(EVERYTHING, None).position
    (tmp_path / "log" / "arrivals.db").write_bytes(b"no database at all" * 500)
    with SqliteLogStore(tmp_path / "log") as store:
        for _ in range(2):
            write(journal, lookups(5))
            assert ship(journal, store) == 5
        news = store.follow(EVERYTHING, position)
        assert (len(news.records), news.missed) == (5, True)  # five were lost to followers
        assert store.count(EVERYTHING) == 15


# Retention.


def test_old_days_go_whole(journal: Path, store: LogStore) -> None:
    everything = [lookups(20, begin=MIDNIGHT + day * DAY, step=1_000_000_000) for day in range(-3, 1)]
    with SegmentFile(journal) as segment:
        for some in everything:
            segment.batch(some)
        segment.batch([], gap=(1, MIDNIGHT - 3 * DAY, MIDNIGHT))
        segment.batch([], gap=(2, MIDNIGHT, MIDNIGHT))
    ship(journal, store)
    assert stored(store) == expected(*everything)
    assert store.drop_before(date(2024, 10, 3)) == [date(2024, 10, 1), date(2024, 10, 2)]
    assert stored(store) == expected(*everything[2:])
    assert [gap.lookups for gap in store.gaps()] == [2]
    assert store.drop_before(date(2024, 10, 3)) == []
    assert store.search(LogQuery.of(until=MIDNIGHT - DAY)).records == []
    with another(store) as opened:
        assert stored(opened) == expected(*everything[2:])


@pytest.mark.parametrize(("days", "left"), [(0, 1), (1, 2), (2, 3), (3, 4), (36_500, 4), (10_000_000, 4)])
def test_so_many_days_before_today_are_kept(journal: Path, store: LogStore, days: int, left: int) -> None:
    for day in range(-3, 1):
        write(journal, lookups(1, begin=MIDNIGHT + day * DAY + 5))
        ship(journal, store)
    gone = store.drop_older_than(days, now=MIDNIGHT + DAY // 2)
    assert len(gone) == 4 - left
    assert store.count(EVERYTHING) == left


def test_a_day_that_went_may_come_again(journal: Path, store: LogStore) -> None:
    """By lookups that come late, of a worker whose numbers were filed in the day that is gone."""
    with SegmentFile(journal) as segment, Shipper(journal, store, "node") as shipper:
        segment.batch(lookups(30))
        shipper.ship_once()
        segment.batch(lookups(3, suffix="other.example"))
        shipper.ship_once()
        store.drop_before(date(2024, 10, 4))
        assert store.count(EVERYTHING) == 0
        late = lookups(3, suffix="other.example")
        segment.batch(late)
        assert shipper.ship_once().rows == 3
        assert stored(store) == expected(late)
        news = lookups(30)
        segment.batch(news)
        shipper.ship_once()
        assert stored(store) == expected(late, news)


def test_sqlite_leaves_no_file_of_an_old_day(journal: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with SqliteLogStore(log) as store:
        for day in (-1, 0):
            write(journal, lookups(5, begin=MIDNIGHT + day * DAY))
            ship(journal, store)
        (log / "2024-09-30.db-wal").touch()  # left by a crash in the middle of this
        (log / "notes.txt").touch()
        store.drop_before(date(2024, 10, 4))
        assert {path.name for path in log.glob("2*")} == {"2024-10-04.db", "2024-10-04.db-wal", "2024-10-04.db-shm"}
        assert (log / "notes.txt").exists()


def test_sqlite_keeps_the_log_from_other_eyes(journal: Path, tmp_path: Path) -> None:
    with SqliteLogStore(tmp_path / "log") as store:
        write(journal, lookups(5))
        ship(journal, store)
        assert (tmp_path / "log").stat().st_mode & 0o007 == 0
        assert [path.name for path in (tmp_path / "log").iterdir() if path.stat().st_mode & 0o007] == []


def test_sqlite_does_not_stumble_over_a_file_that_retention_takes(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SqliteLogStore(tmp_path / "log") as store:
        write(journal, lookups(5))
        ship(journal, store)
        days = store._days()
        monkeypatch.setattr(store, "_days", lambda: [*days, 5])
        assert store.count(EVERYTHING) == 5
        assert len(store.search(EVERYTHING).records) == 5


def test_sqlite_brings_old_days_to_their_indexes(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the next days begin, and when it is closed: searches of old days find little to scan."""
    monkeypatch.setattr(sqlite_day, "SHORT_RUN_ROWS", 5)
    with SqliteLogStore(tmp_path / "log") as store, SegmentFile(journal) as segment:
        for day in range(4):
            segment.batch(lookups(5, begin=MIDNIGHT + day * DAY))
            ship(journal, store)
        assert {path.name: waiting(store, path) for path in (tmp_path / "log").glob("2*.db")} == {
            "2024-10-04.db": 0,
            "2024-10-05.db": 0,
            "2024-10-06.db": 5,
            "2024-10-07.db": 5,
        }
    assert {waiting(store, path) for path in (tmp_path / "log").glob("2*.db")} == {0}
    assert store.count(LogQuery.of(client="192.0.2.1")) == 4


def waiting(store: SqliteLogStore, path: Path) -> int:
    """Return how many lookups of a day are not indexed."""
    day = date.fromisoformat(path.stem).toordinal() - date(1970, 1, 1).toordinal()
    ((number,),) = store._from(day, lambda reader: reader._run("SELECT waiting FROM progress").fetchone())
    return int(number)


@pytest.mark.postgres
def test_postgres_lets_positions_go_that_nobody_needs(journal: Path, postgres_url: str) -> None:
    with PostgresLogStore(postgres_url) as store, psycopg.connect(postgres_url, autocommit=True) as other:
        old, young = write(journal, lookups(5), worker=0), write(journal, lookups(5), worker=1)
        ship(journal, store)
        other.execute("UPDATE log_positions SET written = '2024-10-01' WHERE segment = %s", (old.name,))
        store.drop_before(date(2024, 10, 2))
        assert other.execute("SELECT segment FROM log_positions").fetchall() == [(young.name,)]


@pytest.mark.postgres
def test_postgres_tables_may_go_while_one_searches(journal: Path, postgres_url: str) -> None:
    with PostgresLogStore(postgres_url) as store, psycopg.connect(postgres_url, autocommit=True) as other:
        write(journal, lookups(40, begin=MIDNIGHT - 20, step=1))
        ship(journal, store)
        for table in ("lookups", "clients", "outcomes", "decisions"):
            other.execute(f"DROP TABLE log_{table}_20241003")
        assert len(store.search(EVERYTHING).records) == 20
        assert store.count(LogQuery.of(verdict="allowed")) == 20


def test_gaps_say_what_they_are() -> None:
    gap = Gap("node", "segment", 3, 0, 1, 2)
    assert (gap.lookups, gap.octets) == (3, 0)
    assert record_of(lookups(1)[0]).node == "node"
