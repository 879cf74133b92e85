"""What tests of the log share: lookups that differ, shipping to the end, and everything that a store has."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from querylog.records import Record
from querylog.search import LogQuery
from querylog.shipper import Shipper
from querylog.store import LogStore
from querylog.store_postgres import PostgresLogStore
from querylog.store_sqlite import SqliteLogStore
from querylog.times import DAY
from tests.support.journals import Lookup, SegmentFile, a_client, a_decision, record_of

MIDNIGHT = 20_000 * DAY
"""2024-10-04T00:00:00Z."""


def lookups(count: int, begin: int = MIDNIGHT - DAY // 2, step: int = 1_000, suffix: str = "example") -> list[Lookup]:
    """Return lookups that differ, of a few clients and names."""
    return [
        (begin + n * step, a_client(f"192.0.2.{n % 7}"), a_decision(f"n{n % 11}.{suffix}", cached=n % 2 > 0), n)
        for n in range(count)
    ]


def write(directory: Path, some: Sequence[Lookup], *, worker: int = 0, node: str = "node", size: int = 5) -> Path:
    """Write a segment of a worker that is gone, with so many lookups in a batch; return its path."""
    with SegmentFile(directory, worker=worker, node=node) as segment:
        for start in range(0, len(some), size):
            segment.batch(some[start : start + size])
    return segment.path


def ship(directory: Path, store: LogStore) -> int:
    """Ship all there is, as a process that starts for it; return how many lookups that were."""
    with Shipper(directory, store, "node") as shipper:
        return ship_all(shipper)


def ship_all(shipper: Shipper) -> int:
    """Ship until nothing is left; return how many lookups that were."""
    rows = 0
    while shipped := shipper.ship_once().rows:
        rows += shipped
    return rows


def stored(store: LogStore) -> Counter[Record]:
    """Return everything that a store has, page by page."""
    found: Counter[Record] = Counter()
    cursor = None
    while True:
        page = store.search(LogQuery.of(limit=1_000, cursor=cursor))
        found.update(page.records)
        cursor = page.cursor
        if cursor is None:
            return found


def expected(*some: Sequence[Lookup], node: str = "node") -> Counter[Record]:
    """Return what a store should have of lookups."""
    return Counter(record_of(lookup, node) for each in some for lookup in each)


@contextmanager
def another(store: LogStore) -> Iterator[LogStore]:
    """Give the same store as another process would open it."""
    if isinstance(store, SqliteLogStore):
        opened: LogStore = SqliteLogStore(store._directory)
    else:
        assert isinstance(store, PostgresLogStore)
        opened = PostgresLogStore(store._connections._conninfo)
    with opened:
        yield opened
