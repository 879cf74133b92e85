"""Shipping and the log's size: a million lookups of a synthetic school, from journal to store, then searched.

    python -m tests.benchmarks.shipping [ROWS] [--workers N] [--live ROWS_A_ROUND] [--postgres]

5,000 clients ask for 30,000 names whose popularity follows Zipf, three types of each, four lookups of five answered
from the cache; batches hold 1 to 16 lookups. A backlog is shipped as fast as it goes; `--live` ships after so many
lookups instead, as a running service does. Each worker defines what it logs: with more of them there is more to file.
"""

import argparse
import contextlib
import gc
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

import psycopg

from querylog.records import Client, Decision
from querylog.search import LogQuery
from querylog.shipper import Shipper
from querylog.store import LogStore
from querylog.store_postgres import PostgresLogStore
from querylog.store_sqlite import SqliteLogStore
from tests.support.journals import SegmentFile
from tests.support.postgres import PostgresServer, fresh_database

CLIENTS = 5_000
NAMES = 30_000
BEGIN = 1_790_000_000_000_000 + 8 * 3_600_000_000
GAP_MICROSECONDS = 100  # 10,000 lookups a second


class School:
    """Writes the journals that a school would."""

    def __init__(self, journal: Path, workers: int) -> None:
        self._random = random.Random(1)
        self._time = BEGIN
        self._weights = list(accumulate(1 / (rank + 1) for rank in range(NAMES)))
        self._clients = [Client(f"10.{n >> 8 & 255}.{n & 255}.7", "students", "udp") for n in range(CLIENTS)]
        self._names = [f"{self._word()}.{self._word()}-{n}.example" for n in range(NAMES)]
        self._segments = [SegmentFile(journal, worker=worker) for worker in range(workers)]

    def write(self, rows: int) -> None:
        """Append so many lookups to the workers' segments in turn."""
        choose = self._random
        names = choose.choices(range(NAMES), cum_weights=self._weights, k=rows)
        while names:
            batch = []
            for _ in range(min(len(names), choose.randint(1, 16))):
                self._time += choose.randrange(2 * GAP_MICROSECONDS)
                batch.append((self._time, choose.choice(self._clients), *self._answer(names.pop())))
            choose.choice(self._segments).batch(batch)

    def end(self) -> None:
        """Let every worker die."""
        for segment in self._segments:
            segment.close()

    def _word(self) -> str:
        return "".join(self._random.choices("abcdefghijklmnopqrstuvwxyz", k=self._random.randint(3, 12)))

    def _answer(self, name: int) -> tuple[Decision, int]:
        qname, qtype = self._names[name], self._random.choices(("A", "AAAA", "HTTPS"), (60, 25, 15))[0]
        if name % 7 == 0:
            rule = f"||{qname}^"
            return Decision(
                qname, qtype, "blocked", "advertising", "example-list", rule, 0, 7, "NOERROR", "", False
            ), 30
        cached = self._random.random() < 0.8
        duration = 40 if cached else self._random.randrange(2_000, 60_000)
        return Decision(qname, qtype, "allowed", "", "", "", 0, 7, "NOERROR", "tls://192.0.2.53", cached), duration


def main() -> None:
    """Run it and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--live", type=int, default=0, metavar="ROWS")
    parser.add_argument("--postgres", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hallmonitor-shipping-") as directory:
        root = Path(directory)
        with _postgres() if options.postgres else _sqlite(root / "log") as (store, octets):
            _ship(School(root / "journal", options.workers), root / "journal", store, options.rows, options.live)
            print(f"size: {octets() / options.rows:.1f} bytes a lookup, indexes and dimensions included")
            _search(store)


def _ship(school: School, journal: Path, store: LogStore, rows: int, live: int) -> None:
    shipped = 0
    cpu = wall = 0.0
    with Shipper(journal, store, "node") as shipper:
        for written in range(0, rows, live or rows):
            school.write(min(live or rows, rows - written))
            if written + (live or rows) >= rows:
                school.end()
                print(f"journal: {sum(path.stat().st_size for path in journal.iterdir()) / rows:.1f} bytes a lookup")
            gc.freeze()  # what wrote the journals is no part of what is measured
            begun, begun_cpu = time.perf_counter(), time.process_time()
            while stored := shipper.ship_once().rows:
                shipped += stored
            wall, cpu = wall + time.perf_counter() - begun, cpu + time.process_time() - begun_cpu
    begun, begun_cpu = time.perf_counter(), time.process_time()
    store.close()
    wall, cpu = wall + time.perf_counter() - begun, cpu + time.process_time() - begun_cpu
    assert shipped == rows, f"{shipped} of {rows} arrived"
    print(f"shipping: {cpu / rows * 1e6:.2f} us CPU a lookup in this process, {rows / wall:,.0f} lookups/s")


def _search(store: LogStore) -> None:
    queries = {
        "newest": LogQuery.of(),
        "client": LogQuery.of(client="10.3.9.7"),
        "network": LogQuery.of(client="10.3.0.0/16"),
        "name": LogQuery.of(name=store.search(LogQuery.of(limit=1000)).records[-1].qname),
        "subtree": LogQuery.of(subtree="example"),
        "blocked": LogQuery.of(verdict="blocked"),
        "absent": LogQuery.of(verdict="failed"),
        "client, blocked": LogQuery.of(client="10.3.9.7", verdict="blocked"),
    }
    for title, query in queries.items():
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            found = len(store.search(query).records)
            times.append(time.perf_counter() - begun)
        print(f"search by {title}: {found} records in {min(times) * 1000:.1f} ms")


@contextlib.contextmanager
def _sqlite(directory: Path) -> Iterator[tuple[LogStore, Callable[[], int]]]:
    with SqliteLogStore(directory) as store:
        yield store, lambda: sum(path.stat().st_size for path in directory.glob("2*"))


@contextlib.contextmanager
def _postgres() -> Iterator[tuple[LogStore, Callable[[], int]]]:
    with PostgresServer() as server, fresh_database(server) as url, PostgresLogStore(url) as store:

        def octets() -> int:
            with psycopg.connect(url) as connection:
                found = connection.execute(
                    "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname LIKE 'log%' AND relkind = 'r'"
                ).fetchone()
            return int(found[0]) if found else 0

        yield store, octets


if __name__ == "__main__":
    main()
