"""Processes for tests to kill: one writes journals as a worker does, one ships them.

    python -m tests.support.shipping_load write JOURNALS NUMBER
    python -m tests.support.shipping_load ship JOURNALS DIRECTORY_OR_URL

The writer prints the number of each lookup once it is committed, as the worker answers then.
"""

import os
import random
import sys
import time
from pathlib import Path

from querylog import shipper as shippers
from querylog import sqlite_day
from querylog.journal import JournalWriter
from querylog.records import Client, Decision
from querylog.shipper import Shipper
from querylog.store import LogStore
from querylog.store_postgres import PostgresLogStore
from querylog.store_sqlite import SqliteLogStore


def write(journals: Path, number: int) -> None:
    """Write lookups that are all different, a few at a time, until killed."""
    chance = random.Random(number)
    writer = JournalWriter(journals, node="node", worker=number % 2, segment_bytes=20_000)
    lookup = 0
    while True:
        client = writer.client(Client(f"192.0.2.{chance.randrange(5)}", "students", "udp"))
        first = lookup
        for _ in range(chance.randint(1, 20)):
            qname = f"lookup-{lookup}.writer-{number}.example"
            decision = Decision(qname, "A", "allowed", "", "", "", 0, 1, "NOERROR", "", cached=False)
            writer.pending.append((time.time_ns() // 1000, client, writer.decision(decision)))
            lookup += 1
        assert writer.commit()
        os.write(1, b"".join(b"%d\n" % each for each in range(first, lookup)))
        time.sleep(0.001)


def ship(journals: Path, store: LogStore) -> None:
    """Ship until killed, in small steps."""
    shippers.ROWS_AT_ONCE, shippers.ROWS_IN_TURN, sqlite_day.RUN_ROWS = 500, 50, 1_000
    with store, Shipper(journals, store, "node") as shipper:
        while True:
            shipper.ship_once()
            time.sleep(0.001)


def open_store(where: str) -> LogStore:
    """Return the store at a URL or in a directory."""
    return PostgresLogStore(where) if "://" in where else SqliteLogStore(Path(where))


def main(what: str, journals: str, where: str) -> None:
    """Do one of the two."""
    if what == "write":
        write(Path(journals), int(where))
    else:
        ship(Path(journals), open_store(where))


if __name__ == "__main__":
    main(*sys.argv[1:])
