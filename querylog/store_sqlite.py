"""The log in SQLite: a directory with one file for each UTC day. Retention deletes files; nothing is vacuumed.

Rows of one portion may belong to two days, and two files have no transaction together: each file keeps how far it has
come in each segment, so what one of them has already is left out when the portion is given again.
"""

import contextlib
import logging
import sqlite3
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import TypeVar

from querylog.errors import InvalidQueryError, StoreDownError
from querylog.portion import Gap, Portion
from querylog.records import Record
from querylog.search import Cursor, LogQuery
from querylog.sqlite_arrivals import Arrivals
from querylog.sqlite_day import DayFile
from querylog.sqlite_search import DayReader, reading
from querylog.store import PER_DAY, LogStore, News, Page, most_of
from querylog.times import DAY, calendar_day, day_of

log = logging.getLogger(__name__)

DAYS_OPEN = 2
SUFFIX = ".db"
DIRECTORY_MODE = 0o750
DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
PRIMARY_CODE = 0xFF  # the rest of a result code says more of it

T = TypeVar("T")


class SqliteLogStore(LogStore):
    """Keeps the log in a directory of its own, which is made when the first record is stored."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()  # one writes at a time; each reader has a connection of its own
        self._writers: dict[int, DayFile] = {}
        self._arrivals = Arrivals(directory / "arrivals.db")
        self._positions: dict[tuple[str, str], int] | None = None

    def __repr__(self) -> str:
        return f"<SqliteLogStore {self._directory}>"

    def append(self, portions: Sequence[Portion]) -> int:
        """See `LogStore`."""
        with self._lock, self._translated():
            try:
                return self._append(portions)
            except BaseException:
                for portion in portions:
                    portion.segment.forget_ids()
                raise

    def position(self, node: str, segment: str) -> int:
        """See `LogStore`."""
        with self._lock, self._translated():
            if self._positions is None:
                self._positions = self._read_positions()
            return self._positions.get((node, segment), 0)

    def search(self, query: LogQuery) -> Page:
        """See `LogStore`."""
        found: list[tuple[int, Record]] = []
        wanted = query.limit + 1  # one more tells whether there is another page
        with self._translated():
            for day in self._days_of(query):
                for records in self._from(day, partial(DayReader.search, query=query, limit=wanted - len(found))):
                    found += records
                if len(found) == wanted:
                    rank, last = found[-2]
                    return Page([record for _, record in found[:-1]], str(Cursor(last.time, rank)))
        return Page([record for _, record in found], None)

    def count(self, query: LogQuery) -> int:
        """See `LogStore`."""
        with self._translated():
            count = partial(DayReader.count, query=query)
            return sum(number for day in self._days_of(query) for number in self._from(day, count))

    def most_asked(self, since: int, limit: int) -> list[tuple[str, int]]:
        """See `LogStore`."""
        with self._translated():
            read = partial(DayReader.most_asked, limit=limit * PER_DAY)
            days = self._days_of(LogQuery(since=since))
            return most_of((names for day in days for names in self._from(day, read)), limit)

    def follow(self, query: LogQuery, position: str | None) -> News:
        """See `LogStore`."""
        with self._translated():
            if position is None:
                return News([], str(self._arrivals.last()), missed=False)
            if not (position.isascii() and position.isdecimal()):
                raise InvalidQueryError("position", "not a position that was given")
            arrivals, last, missed = self._arrivals.since(int(position))
            records: list[Record] = []
            for day, ids in arrivals:
                for those in self._from(day, partial(DayReader.those, ids=ids, query=query)):
                    records += those
            return News(records, str(last), missed)

    def gaps(self, since: int | None = None, until: int | None = None) -> list[Gap]:
        """See `LogStore`."""
        with self._translated():
            gaps = [gap for day in self._days() for found in self._from(day, DayReader.gaps) for gap in found]
        first = float("-inf") if since is None else since
        end = float("inf") if until is None else until
        return sorted((gap for gap in gaps if first <= gap.first < end), key=lambda gap: (gap.first, gap.last))

    def drop_before(self, day: date) -> list[date]:
        """See `LogStore`."""
        cut = day_of(day)
        with self._lock, self._translated():
            old = sorted(number for number in self._days() if number < cut)
            for number in old:
                if number in self._writers:
                    self._writers.pop(number).abandon()
                self._path(number).unlink(missing_ok=True)
            for stray in self._directory.glob("*.db-*"):  # left by a crash in here
                if (_day(stray) or cut) < cut:
                    stray.unlink(missing_ok=True)
            return [calendar_day(number) for number in old]

    def close(self) -> None:
        """See `LogStore`."""
        with self._lock, self._translated():
            self._arrivals.close()
            while self._writers:
                self._let_go(next(iter(self._writers)))

    def _append(self, portions: Sequence[Portion]) -> int:
        ends: dict[tuple[str, str], int] = {}
        last: dict[tuple[str, str], int] = {}
        for portion in portions:
            which = portion.segment.node, portion.segment.name
            ends[which] = portion.end
            last[which] = max({last.get(which, -1)} | portion.days)
        rows = 0
        for day in sorted({day for portion in portions for day in portion.days}):
            # A segment's last day is written last: then all of it is stored, and that day's file says so.
            complete = {which: end for which, end in ends.items() if last[which] == day}
            ids = self._append_to(day, [portion for portion in portions if day in portion.days], complete)
            self._arrivals.add(day, ids)
            rows += len(ids)
        if self._positions is not None:
            self._positions.update(ends)
        return rows

    def _append_to(
        self, day: int, portions: Sequence[Portion], complete: Mapping[tuple[str, str], int]
    ) -> "array[int]":
        try:
            return self._writer(day).append(portions, complete)
        except BaseException as error:
            if day in self._writers:
                self._writers.pop(day).abandon()
            if isinstance(error, sqlite3.DatabaseError):
                self._set_aside_if_damaged(day, error)
            raise

    def _read_positions(self) -> dict[tuple[str, str], int]:
        """Return up to where everything is stored of each segment, as far as any day knows."""
        found: dict[tuple[str, str], int] = {}
        for day in self._days():
            try:
                for positions in self._from(day, DayReader.positions):
                    found |= {which: max(offset, found.get(which, 0)) for which, offset in positions.items()}
            except sqlite3.DatabaseError as error:
                if not self._set_aside_if_damaged(day, error):
                    raise
        return found

    def _writer(self, day: int) -> DayFile:
        """Return a day's file to write, and close those that were not written for longest."""
        writer = self._writers.pop(day, None)
        if writer is None:
            self._directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            writer = DayFile(self._path(day), day)
        self._writers[day] = writer
        while len(self._writers) > DAYS_OPEN:
            self._let_go(next(iter(self._writers)))
        return writer

    def _let_go(self, day: int) -> None:
        """Close a day's file; where its indexes can't be completed, they are when it is opened again."""
        try:
            self._writers.pop(day).close()
        except sqlite3.Error as error:
            log.warning("the indexes of %s are not complete: %s", self._path(day), error)

    def _set_aside_if_damaged(self, day: int, error: sqlite3.DatabaseError) -> bool:
        """Make room for a new file where one is damaged, since what comes must be stored; tell whether it was."""
        if getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE not in DAMAGED:
            return False
        path = self._path(day)
        aside = path.with_name(f"{path.name}.damaged")
        log.error("%s is damaged (%s) and set aside as %s; the day begins anew", path, error, aside.name)
        for end in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
        return True

    def _path(self, day: int) -> Path:
        return self._directory / f"{calendar_day(day)}{SUFFIX}"

    def _days(self) -> list[int]:
        """Return the days that have a file, newest first."""
        return sorted(
            (day for path in self._directory.glob(f"*{SUFFIX}") if (day := _day(path)) is not None), reverse=True
        )

    def _days_of(self, query: LogQuery) -> Iterator[int]:
        """Yield the days that a query's times touch, newest first."""
        position = query.position
        for day in self._days():
            begin = day * DAY
            if query.since is not None and begin + DAY <= query.since:
                return
            if query.until is not None and begin >= query.until:
                continue
            if position is None or begin <= position.time:
                yield day

    def _from(self, day: int, read: Callable[[DayReader], T]) -> list[T]:
        """Return what is read in a day; nothing when it is gone."""
        path = self._path(day)
        try:
            with reading(path, day) as reader:
                return [read(reader)]
        except sqlite3.OperationalError:
            if path.exists():
                raise
            return []  # retention was quicker

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreDownError(f"the log in {self._directory} can't be used: {error.strerror or error}") from error
        except sqlite3.DatabaseError as error:
            # Its other subclasses are mistakes of ours.
            if type(error) is sqlite3.DatabaseError or isinstance(error, sqlite3.OperationalError):
                raise StoreDownError(f"the log in {self._directory} can't be used: {error}") from error
            raise


def _day(path: Path) -> int | None:
    """Return the day of a file of the log; None when it is another file."""
    try:
        return day_of(date.fromisoformat(path.name[:10])) if path.name[10:].startswith(SUFFIX) else None
    except ValueError:
        return None
