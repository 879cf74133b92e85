"""One day of the log in one SQLite file: how rows get in.

A lookup's id holds its time: microseconds since midnight, and a rank among those of the same microsecond. So the
table is in the order of time, and needs no index for it. Rows come in small portions all day long; to bring each to
its place in two indexes at once would cost ten times the rest (a page of each index rewritten for every row), so the
indexes take them later, many at a time and sorted. What is not indexed yet is the newest, and few enough to scan.
"""

import contextlib
import os
import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from querylog import sqlite_dimensions as dimensions
from querylog.portion import Lookups, Portion
from querylog.times import DAY

RANK_BITS = 10
"""Of more than 1,024 lookups in one microsecond the rest count as of the next. Six octets hold such an id, not more."""
INDEX_ROWS = 131_072
"""So many rows wait for the indexes at the most; a scan of them takes about 15 ms."""
BUSY_SECONDS = 10.0
CACHE_KIB = 32_768
FILE_MODE = 0o640  # the log is not for everyone; -wal and -shm get the mode of the file
CHECKPOINT_PAGES = 8_000
"""32 MiB of the write-ahead log, in which the same pages come again and again, are brought to the file at once."""
WAL_BYTES = 64 << 20

_SCHEMA = """
CREATE TABLE lookups (
    id INTEGER PRIMARY KEY,
    client_id INTEGER NOT NULL,
    decision_id INTEGER NOT NULL,
    duration_us INTEGER NOT NULL
);
CREATE TABLE by_client (client_id INTEGER, id INTEGER, PRIMARY KEY (client_id, id)) WITHOUT ROWID;
CREATE TABLE by_decision (decision_id INTEGER, id INTEGER, PRIMARY KEY (decision_id, id)) WITHOUT ROWID;
CREATE TABLE gaps (
    node TEXT NOT NULL,
    segment TEXT NOT NULL,
    lookups INTEGER NOT NULL,
    octets INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
);
-- Up to where this file has the segment's rows of its day; and up to where every file has those of its own.
CREATE TABLE positions (
    node TEXT,
    segment TEXT,
    stored INTEGER NOT NULL,
    stored_everywhere INTEGER NOT NULL,
    PRIMARY KEY (node, segment)
) WITHOUT ROWID;
-- One row: how many lookups, how many of them wait for the indexes, the id from which on all of those do, and the last
-- decision that is indexed.
CREATE TABLE progress (
    born BLOB NOT NULL,
    lookups INTEGER NOT NULL,
    waiting INTEGER NOT NULL,
    indexed INTEGER NOT NULL,
    decisions_indexed INTEGER NOT NULL
);
INSERT INTO progress VALUES (randomblob(8), 0, 0, 0, 0);
"""
_INDEX = (
    "INSERT INTO by_client SELECT client_id, id FROM lookups WHERE id >= ? ORDER BY client_id, id",
    "INSERT INTO by_decision SELECT decision_id, id FROM lookups WHERE id >= ? ORDER BY decision_id, id",
)


class DayFile:
    """Writes one day's file; one thread at a time. Raises `sqlite3.Error` and `OSError`.

    After any error it must be abandoned and opened again.
    """

    def __init__(self, path: Path, day: int) -> None:
        """Open the file, which is created whole or not at all."""
        self.path = path
        self.day = day
        if not path.exists():
            _create(path)
        self._connection = connect(path)
        try:
            self._connection.execute("PRAGMA synchronous = FULL")  # a segment may go as soon as its rows are committed
            self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            self._connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
            (born,) = self._connection.execute("SELECT born FROM progress").fetchone()
            self._home = (day, born)
            self._dimensions = dimensions.Dimensions(self._connection)
            self.index()
        except BaseException:
            self._connection.close()
            raise

    def append(self, portions: Sequence[Portion], complete: Mapping[tuple[str, str], int]) -> "array[int]":
        """Store this day's rows and gaps, those that aren't stored yet; return the ids of the rows.

        `complete` says, by node and name, of which segments this brings everything up to which offset to the disk.
        """
        with self._transaction():
            lookups = [self._take(portion, complete) for portion in portions]
            ids = self._insert(in_order(lookups))
        if self._waiting() >= INDEX_ROWS:
            self.index()
        return ids

    def index(self) -> None:
        """Bring every lookup and every decision that waits to the indexes."""
        run = self._connection.execute
        (indexed, decisions_indexed) = run("SELECT indexed, decisions_indexed FROM progress").fetchone()
        (newest,) = run("SELECT coalesce(max(id) + 1, 0) FROM lookups").fetchone()
        (last_decision,) = run("SELECT coalesce(max(id), 0) FROM decisions").fetchone()
        if newest <= indexed and last_decision == decisions_indexed:
            return
        with self._transaction():
            for statement in _INDEX:
                run(statement, (indexed,))
            run(dimensions.INDEX, (decisions_indexed,))
            progress = "UPDATE progress SET waiting = 0, indexed = max(indexed, ?), decisions_indexed = ?"
            run(progress, (newest, last_decision))
        self._dimensions.indexed()

    def close(self) -> None:
        """Complete the indexes and let go of the file."""
        with contextlib.closing(self._connection):
            self.index()

    def abandon(self) -> None:
        """Let go of the file as it is."""
        self._connection.close()

    def _take(self, portion: Portion, complete: Mapping[tuple[str, str], int]) -> Lookups:
        """Return a portion's lookups with the ids of clients and decisions; note how far this brings its segment."""
        run, segment = self._connection.execute, portion.segment
        which = (segment.node, segment.name)
        query = "SELECT stored, stored_everywhere FROM positions WHERE node = ? AND segment = ?"
        stored, everywhere = run(query, which).fetchone() or (0, 0)
        self._connection.executemany("INSERT INTO gaps VALUES (?, ?, ?, ?, ?, ?)", portion.gaps_of(self.day, stored))
        lookups = portion.lookups_of(self.day, stored)
        position = (*which, max(stored, portion.end), max(everywhere, complete.get(which, 0)))
        run("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", position)
        return segment.file(lookups, self._home, lambda new: self._dimensions.file(segment, new))

    def _insert(self, lookups: Lookups) -> "array[int]":
        ids = self._ids(lookups.times)
        if not ids:
            return ids
        many = self._connection.executemany
        _, clients, decisions, durations = lookups
        many("INSERT INTO lookups VALUES (?, ?, ?, ?)", zip(ids, clients, decisions, durations, strict=True))
        (indexed,) = self._connection.execute("SELECT indexed FROM progress").fetchone()
        late = bisect_left(ids, indexed)
        many("INSERT INTO by_client VALUES (?, ?)", sorted(zip(clients[:late], ids[:late], strict=True)))
        many("INSERT INTO by_decision VALUES (?, ?)", sorted(zip(decisions[:late], ids[:late], strict=True)))
        progress = "UPDATE progress SET lookups = lookups + ?, waiting = waiting + ?"
        self._connection.execute(progress, (len(ids), len(ids) - late))
        return ids

    def _ids(self, times: Sequence[int]) -> "array[int]":
        """Return an id for each time, of which none is before the one ahead of it."""
        (newest,) = self._connection.execute("SELECT coalesce(max(id), -1) FROM lookups").fetchone()
        begin = self.day * DAY
        last = -1
        ids = []
        for time in times:
            id_ = (time - begin) << RANK_BITS
            if id_ <= last:
                id_ = last + 1
            if id_ <= newest:  # another worker's lookups, or one that comes late
                id_ = self._free(id_)
            last = id_
            ids.append(id_)
        return array("q", ids)

    def _free(self, id_: int) -> int:
        """Return the first id that no row has, from one on."""
        while self._connection.execute("SELECT 1 FROM lookups WHERE id = ?", (id_,)).fetchone():
            id_ += 1
        return id_

    def _waiting(self) -> int:
        return int(self._connection.execute("SELECT waiting FROM progress").fetchone()[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back already where the disk is full
                self._connection.execute("ROLLBACK")
            raise


def in_order(lookups: Sequence[Lookups]) -> Lookups:
    """Return lookups of several portions together, in the order of time."""
    together = Lookups(*(list(chain.from_iterable(columns)) for columns in zip(*lookups, strict=True)))
    if together.times == sorted(together.times):
        return together
    # Columns are gathered by place: a tuple for each lookup would cost the garbage collector a microsecond.
    places = sorted(range(len(together.times)), key=together.times.__getitem__)
    return Lookups(*([column[place] for place in places] for column in together))


def connect(path: Path) -> sqlite3.Connection:
    """Open a file that is there; transactions are begun by hand. May be used from any thread, one at a time."""
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def sync_directory(directory: Path) -> None:
    """Bring the names of files to the disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _create(path: Path) -> None:
    """Make an empty day under a name that nobody reads, then give it its own."""
    born = path.with_name(f".{path.name}.new")
    born.unlink(missing_ok=True)  # of a process that was killed here
    os.close(os.open(born, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE))
    with contextlib.closing(connect(born)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"BEGIN; {dimensions.SCHEMA} {_SCHEMA} COMMIT;")
        connection.execute("PRAGMA journal_mode = WAL")  # the file remembers; readers and the writer don't wait
    born.rename(path)
    sync_directory(path.parent)
