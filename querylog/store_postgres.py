"""The log in Postgres, which several nodes share. Each day has tables of its own, and retention drops them."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from typing import TypeVar

from psycopg import Connection, errors

from querylog import postgres_schema as schema
from querylog.errors import InvalidQueryError, StoreDownError
from querylog.portion import Gap, Portion
from querylog.postgres_append import Appender, ChangedMeanwhileError
from querylog.postgres_connections import Connections
from querylog.postgres_schema import Tables
from querylog.postgres_search import DayReader, Extent
from querylog.records import Record
from querylog.search import Cursor, LogQuery
from querylog.store import PER_DAY, LogStore, News, Page, most_of
from querylog.times import DAY, day_of

ATTEMPTS = 3

_POSITION = "SELECT stored FROM log_positions WHERE node = %s AND segment = %s"
_EXTENTS = "SELECT day, sum(lookups)::bigint, min(first), max(last) FROM log_days GROUP BY day ORDER BY day DESC"
_GAPS = """
SELECT node, segment, lookups, octets, first, last FROM log_gaps
WHERE first >= coalesce(%s, first) AND first < coalesce(%s, first + 1) ORDER BY first, last
"""
_LAST_ARRIVALS = "SELECT node, max(number) FROM log_arrivals GROUP BY node"
_ARRIVALS = "SELECT node, number, day, writer::text, first, last FROM log_arrivals ORDER BY number"

T = TypeVar("T")


class PostgresLogStore(LogStore):
    """Keeps the log in the database that a URL names."""

    def __init__(self, url: str) -> None:
        """Take the URL; nothing is connected yet. Raises `psycopg.ProgrammingError` when it is none."""
        self._connections = Connections(url)
        self._lock = threading.Lock()  # one ships at a time
        self._appender = Appender()
        self._is_prepared = False

    def __repr__(self) -> str:
        return f"<PostgresLogStore {self._connections.name}>"

    def append(self, portions: Sequence[Portion]) -> int:
        """See `LogStore`."""
        with self._lock:
            for _ in range(ATTEMPTS):
                try:
                    with self._connection() as connection:
                        return self._appender.append(connection, portions)
                except BaseException as error:
                    self._appender.forget()
                    for portion in portions:
                        portion.segment.forget_ids()
                    if not isinstance(error, ChangedMeanwhileError):
                        raise
        raise StoreDownError(f"the log database {self._connections.name} changes while it is written")

    def position(self, node: str, segment: str) -> int:
        """See `LogStore`."""
        with self._connection() as connection:
            found = connection.execute(_POSITION, (node, segment)).fetchone()
        return int(found[0]) if found else 0

    def search(self, query: LogQuery) -> Page:
        """See `LogStore`."""
        found: list[tuple[int, Record]] = []
        wanted = query.limit + 1  # one more tells whether there is another page
        with self._connection() as connection:
            for extent in _extents(connection, query):
                found += _read(
                    connection, extent, partial(DayReader.search, query=query, limit=wanted - len(found)), []
                )
                if len(found) == wanted:
                    rank, last = found[-2]
                    return Page([record for _, record in found[:-1]], str(Cursor(last.time, rank)))
        return Page([record for _, record in found], None)

    def count(self, query: LogQuery) -> int:
        """See `LogStore`."""
        count = partial(DayReader.count, query=query)
        with self._connection() as connection:
            return sum(_read(connection, extent, count, 0) for extent in _extents(connection, query))

    def most_asked(self, since: int, limit: int) -> list[tuple[str, int]]:
        """See `LogStore`."""
        most = partial(DayReader.most_asked, limit=limit * PER_DAY)
        with self._connection() as connection:
            extents = _extents(connection, LogQuery(since=since))
            return most_of((_read(connection, extent, most, []) for extent in extents), limit)

    def follow(self, query: LogQuery, position: str | None) -> News:
        """See `LogStore`."""
        seen = _parsed("{}" if position is None else position)
        with self._connection() as connection:
            if position is None:
                return News([], json.dumps(dict(connection.execute(_LAST_ARRIVALS).fetchall())), missed=False)
            arrivals = connection.execute(_ARRIVALS).fetchall()
            # What was seen last of a node is kept unless a great deal has come since.
            missed = bool(seen.items() - {(node, number) for node, number, *_ in arrivals})
            records: list[Record] = []
            last = dict(seen)
            for node, number, day, writer, first, end in arrivals:
                if number > seen.get(node, 0):
                    last[node] = number
                    those = partial(DayReader.those, writer=writer, first=first, last=end, query=query)
                    records += _read(connection, Extent(Tables.of(day), 0, first, end), those, [])
        return News(records, json.dumps(last), missed)

    def gaps(self, since: int | None = None, until: int | None = None) -> list[Gap]:
        """See `LogStore`."""
        with self._connection() as connection:
            return [Gap(*row) for row in connection.execute(_GAPS, (since, until))]

    def drop_before(self, day: date) -> list[date]:
        """See `LogStore`."""
        with self._connection() as connection:
            old = sorted(each for each in schema.days(connection) if each < day)
            for each in old:
                schema.drop_day(connection, Tables.of(each))
            connection.execute("DELETE FROM log_gaps WHERE first < %s", (day_of(day) * DAY,))
            connection.execute("DELETE FROM log_positions WHERE written < %s", (day,))
        return old

    def close(self) -> None:
        """See `LogStore`."""
        self._connections.close()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            with self._connections.connection() as connection:
                if not self._is_prepared:
                    schema.prepare(connection)
                    self._is_prepared = True
                yield connection
        except StoreDownError:
            self._is_prepared = False  # it may be another database that comes back
            raise


def _extents(connection: Connection, query: LogQuery) -> list[Extent]:
    """Return the days that a query's times touch, newest first."""
    until = query.until
    if query.position is not None:
        until = min(query.position.time + 1, query.position.time + 1 if until is None else until)
    return [
        Extent(Tables.of(day), lookups, first, last)
        for day, lookups, first, last in connection.execute(_EXTENTS)
        if (query.since is None or last >= query.since) and (until is None or first < until)
    ]


def _read(connection: Connection, extent: Extent, read: Callable[[DayReader], T], nothing: T) -> T:
    """Return what is read in a day, or nothing when it is gone."""
    try:
        return read(DayReader(connection, extent))
    except errors.UndefinedTable:  # retention was quicker
        return nothing


def _parsed(position: str) -> dict[str, int]:
    try:
        seen = json.loads(position)
        return {str(node): int(number) for node, number in seen.items()}
    except (ValueError, TypeError, AttributeError) as problem:
        raise InvalidQueryError("position", "not a position that was given") from problem
