"""Which rows of the log in SQLite came last, for those who follow it: ids tell when a lookup was, not when it came.

A convenience beside the log: what is lost of it in a crash is lost to followers, and stands in the log all the same.
"""

import contextlib
import logging
import sqlite3
import time
from array import array
from pathlib import Path
from typing import NamedTuple

from querylog.sqlite_day import FILE_MODE, connect

log = logging.getLogger(__name__)

KEPT = 256  # appends; a minute's worth where shipping never rests
KEPT_ROWS = 1_000_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS arrivals (
    number INTEGER PRIMARY KEY,
    day INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    ids BLOB NOT NULL
)
"""


class Arrival(NamedTuple):
    """Rows of one day that came together."""

    day: int
    ids: "array[int]"


class Arrivals:
    """Keeps the last of them in a file; one thread adds."""

    def __init__(self, path: Path) -> None:
        """Take the path; nothing is opened yet."""
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def add(self, day: int, ids: "array[int]") -> None:
        """Note rows that have been stored. Never fails: followers will miss them where it can't."""
        if not ids:
            return
        try:
            self._connection = self._connection or _open(self._path)
            self._add(self._connection, day, ids)
        except (sqlite3.Error, OSError) as error:
            log.warning("who follows the log misses %d records: %s can't be written: %s", len(ids), self._path, error)
            self.close()
            if type(error) is sqlite3.DatabaseError:  # damaged; nothing in it is worth keeping
                self._path.unlink(missing_ok=True)

    def since(self, number: int) -> tuple[list[Arrival], int, bool]:
        """Return what has come after a number, the last number, and whether there was more than is kept.

        Raises `sqlite3.Error`.
        """
        if not self._path.exists():
            return [], number, False
        with contextlib.closing(connect(self._path)) as connection:
            connection.execute("BEGIN")
            (oldest,) = connection.execute("SELECT coalesce(min(number), 0) FROM arrivals").fetchone()
            statement = "SELECT number, day, ids FROM arrivals WHERE number > ? ORDER BY number"
            rows = connection.execute(statement, (number,)).fetchall()
        last = rows[-1][0] if rows else number
        return [Arrival(day, array("q", ids)) for _, day, ids in rows], last, number < oldest - 1

    def last(self) -> int:
        """Return the last number; 0: nothing has come yet. Raises `sqlite3.Error`."""
        if not self._path.exists():
            return 0
        with contextlib.closing(connect(self._path)) as connection:
            return int(connection.execute("SELECT coalesce(max(number), 0) FROM arrivals").fetchone()[0])

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @staticmethod
    def _add(connection: sqlite3.Connection, day: int, ids: "array[int]") -> None:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            kept = connection.execute("SELECT number, rows FROM arrivals ORDER BY number DESC").fetchall()
            # A file that is begun anew goes on behind all numbers that the one before may have given.
            number = kept[0][0] + 1 if kept else time.time_ns() // 1000
            values = (number, day, len(ids), ids.tobytes())
            connection.execute("INSERT INTO arrivals (number, day, rows, ids) VALUES (?, ?, ?, ?)", values)
            total = len(ids)
            for place, (old, rows) in enumerate(kept, start=1):
                total += rows
                if place >= KEPT or total > KEPT_ROWS:
                    connection.execute("DELETE FROM arrivals WHERE number <= ?", (old,))
                    return


def _open(path: Path) -> sqlite3.Connection:
    path.touch(FILE_MODE)
    connection = connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")  # nothing here must outlive a power cut
    connection.execute(_SCHEMA)
    return connection
