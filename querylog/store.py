"""Where the log is kept: what every store does, and which one a configuration means.

A store takes portions of journal segments and keeps how far it has come in each segment in the same transaction as
the rows, so that each lookup is stored exactly once, whatever crashes when: what is given again is left out.
"""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from types import TracebackType
from typing import NamedTuple, Self

from querylog.portion import Gap, Portion
from querylog.records import Record
from querylog.search import LogQuery
from querylog.times import DAY, calendar_day
from settings import Settings


class Page(NamedTuple):
    """Some of the records that a query wants, newest first."""

    records: list[Record]
    cursor: str | None
    """What to ask for to go on; None at the end."""


class News(NamedTuple):
    """What has been stored since one last asked."""

    records: list[Record]
    """In the order in which they were stored."""
    position: str
    """What to ask for next time."""
    missed: bool
    """Whether so much was stored meanwhile that some of it is not among them; a search finds it."""


PER_DAY = 20
"""So many times more names than are wanted are taken of each day: one may be asked for a little every day."""


def most_of(days: Iterable[Iterable[tuple[str, int]]], limit: int) -> list[tuple[str, int]]:
    """Return the names with the highest counts of all days together."""
    total: Counter[str] = Counter()
    for day in days:
        for name, count in day:
            total[name] += count
    return total.most_common(limit)


class LogStore(ABC):
    """Keeps the log of lookups. May be used from any thread; one process at a time ships into it from one node.

    Every method raises `StoreDownError` when the store can't be reached or used just now.
    """

    @abstractmethod
    def append(self, portions: Sequence[Portion]) -> int:
        """Store what is new in the portions and return how many lookups that were.

        When it returns they outlive a power cut. A segment's portions come in their order; what was stored before
        may be among them. Raises `DamagedSegmentError`; then or when the store is down, the call may be repeated.
        """

    @abstractmethod
    def position(self, node: str, segment: str) -> int:
        """Return an offset in a segment up to which everything is stored; 0: nothing may be."""

    @abstractmethod
    def search(self, query: LogQuery) -> Page:
        """Return the records that a query wants, a page at a time. No record is lost between pages, none doubled."""

    @abstractmethod
    def count(self, query: LogQuery) -> int:
        """Return how many records a query wants, regardless of its limit and its cursor."""

    @abstractmethod
    def most_asked(self, since: int, limit: int) -> list[tuple[str, int]]:
        """Return the names that were looked up most, and how often, from the day on in which a time lies.

        The most frequent first. The root and what is no host name are among them.
        """

    @abstractmethod
    def follow(self, query: LogQuery, position: str | None) -> News:
        """Return what has been stored since a position and a query wants; for None nothing, but the position now.

        The query's limit and cursor have no say. Raises `InvalidQueryError` for what is no position.
        """

    @abstractmethod
    def gaps(self, since: int | None = None, until: int | None = None) -> list[Gap]:
        """Return where records are missing, oldest first: gaps that began at `since` or later and before `until`."""

    @abstractmethod
    def drop_before(self, day: date) -> list[date]:
        """Delete every day before this one, whole. Return the days that are gone."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; a later call opens it again."""

    def drop_older_than(self, days: int, now: int | None = None) -> list[date]:
        """Delete what is older than so many whole days before today. Return the days that are gone."""
        today = (time.time_ns() // 1000 if now is None else now) // DAY
        return self.drop_before(calendar_day(max(0, today - days)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(settings: Settings) -> LogStore:
    """Return the store that a configuration means. Opens nothing yet."""
    # Each store's library is loaded only where that store is used.
    if settings.database.url:
        from querylog.store_postgres import PostgresLogStore  # noqa: PLC0415

        return PostgresLogStore(settings.database.url)
    from querylog.store_sqlite import SqliteLogStore  # noqa: PLC0415

    return SqliteLogStore(settings.state.directory / "log")
