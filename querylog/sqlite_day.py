"""One day of the log in one SQLite file: how lookups get in.

A lookup's id holds its time: microseconds since midnight, and a rank among those of the same microsecond. So the
table is in the order of time, and needs no index for it. Lookups come in small portions all day long. To bring each to
its place in two indexes at once would rewrite a page of both for nearly every one, so the indexes take them later, a
*run* of many at once: for each client and each decision the ids of its lookups in the run, as one blob. What waits for
that is the newest, and few enough to scan.
"""

import contextlib
import os
import sqlite3
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from querylog import sqlite_dimensions as dimensions
from querylog.portion import Lookups, Portion
from querylog.times import DAY

RANK_BITS = 10
"""Of more than 1,024 lookups in one microsecond the rest count as of the next. Six octets hold such an id, not more."""
RUN_ROWS = 131_072
"""So many lookups wait for the indexes, then they make a run; a scan of them takes about 15 ms."""
SHORT_RUN_ROWS = 4_096
"""So many make a run when the file is closed; fewer go on waiting."""
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
-- Lookups that were indexed together, their lowest id and their highest. Runs may overlap.
CREATE TABLE runs (
    run INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
);
-- Ids are 64-bit integers of this machine's byte order, in ascending order.
CREATE TABLE by_client (
    run INTEGER,
    client_id INTEGER,
    ids BLOB NOT NULL,
    PRIMARY KEY (run, client_id)
) WITHOUT ROWID;
CREATE TABLE by_decision (
    run INTEGER,
    decision_id INTEGER,
    ids BLOB NOT NULL,
    PRIMARY KEY (run, decision_id)
) WITHOUT ROWID;
-- Lookups that wait for the indexes though their ids are below `indexed`: they came late.
CREATE TABLE late (id INTEGER PRIMARY KEY);
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
-- One row: how many lookups, how many of them wait for the indexes, the id from which on all of them do, and the last
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
_WAITING = """
SELECT * FROM (SELECT id, client_id, decision_id FROM late CROSS JOIN lookups USING (id) ORDER BY id)
UNION ALL SELECT * FROM (SELECT id, client_id, decision_id FROM lookups WHERE id >= ? ORDER BY id)
"""


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
            self._index_decisions()
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
        self.index(RUN_ROWS)
        return ids

    def index(self, rows: int) -> None:
        """Bring what waits to the indexes when it is so many lookups."""
        if self._connection.execute("SELECT waiting FROM progress").fetchone()[0] >= rows:
            self._index_lookups()
            self._index_decisions()

    def _index_lookups(self) -> None:
        """Make a run of all lookups that wait."""
        run, many = self._connection.execute, self._connection.executemany
        by_client: defaultdict[int, list[int]] = defaultdict(list)
        by_decision: defaultdict[int, list[int]] = defaultdict(list)
        with self._transaction():
            (indexed,) = run("SELECT indexed FROM progress").fetchone()
            first = last = -1
            for last, client, decision in run(_WAITING, (indexed,)):
                if first < 0:
                    first = last
                by_client[client].append(last)
                by_decision[decision].append(last)
            number = run("INSERT INTO runs VALUES (NULL, ?, ?)", (first, last)).lastrowid
            many("INSERT INTO by_client VALUES (?, ?, ?)", _postings(number, by_client))
            many("INSERT INTO by_decision VALUES (?, ?, ?)", _postings(number, by_decision))
            run("DELETE FROM late")
            run("UPDATE progress SET waiting = 0, indexed = max(indexed, ?)", (last + 1,))

    def _index_decisions(self) -> None:
        """Bring every decision to its index."""
        run = self._connection.execute
        (indexed,) = run("SELECT decisions_indexed FROM progress").fetchone()
        (last,) = run("SELECT coalesce(max(id), 0) FROM decisions").fetchone()
        if last > indexed:
            with self._transaction():
                run(dimensions.INDEX, (indexed,))
                run("UPDATE progress SET decisions_indexed = ?", (last,))
            self._dimensions.indexed()

    def close(self) -> None:
        """Complete the indexes, all but, and let go of the file."""
        with contextlib.closing(self._connection):
            self.index(SHORT_RUN_ROWS)
            self._index_decisions()

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
        many("INSERT INTO late VALUES (?)", zip(ids[:late], strict=True))
        self._connection.execute("UPDATE progress SET lookups = lookups + ?1, waiting = waiting + ?1", (len(ids),))
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


def _postings(run: int | None, ids: Mapping[int, Sequence[int]]) -> Iterator[tuple[int | None, int, "array[int]"]]:
    """Yield an index's rows of a run in their order, in which they only ever go to its end."""
    return ((run, of, array("q", ids[of])) for of in sorted(ids))


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
