"""How portions get into Postgres: one transaction stores them, whatever days they touch, and their positions."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from struct import Struct
from typing import NamedTuple

from psycopg import Connection, errors

from querylog import postgres_schema as schema
from querylog.portion import Gap, Lookups, Portion
from querylog.postgres_dimensions import Dimensions
from querylog.postgres_schema import Tables
from querylog.times import calendar_day

DAYS_REMEMBERED = 2
ARRIVALS_KEPT = 256  # of each node; a minute's worth where shipping never rests
SUMMARY_LOOKUPS = 65_536
"""After so many the index of time is brought up to date; what it doesn't know is read with every slice of time."""

# A row in COPY's binary format: four fields, each behind its length.
_ROW = Struct(">hiqiqiiii")
_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"

_POSITIONS = "SELECT node, segment, stored FROM log_positions WHERE segment = ANY(%s)"
# Moves a position only from where it was seen, and waits for whoever moves it just now: that may be a transaction of
# our own which went on when its connection was lost.
_MOVE = """
INSERT INTO log_positions AS known (node, segment, stored) VALUES (%s, %s, %s)
ON CONFLICT (node, segment) DO UPDATE SET stored = EXCLUDED.stored, written = now() WHERE known.stored = %s
RETURNING stored
"""
_LOCK = "LOCK TABLE {lookups}, {clients}, {decisions} IN ROW EXCLUSIVE MODE"
_COPY = "COPY {lookups} (time, duration_us, client_id, decision_id) FROM STDIN (FORMAT binary)"
_COUNT = """
INSERT INTO log_days AS known (day, node, lookups, first, last) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (day, node) DO UPDATE SET
    lookups = known.lookups + EXCLUDED.lookups,
    first = least(known.first, EXCLUDED.first),
    last = greatest(known.last, EXCLUDED.last)
"""
_ARRIVE = """
INSERT INTO log_arrivals (node, day, writer, first, last) VALUES (%s, %s, pg_current_xact_id()::xid, %s, %s)
"""
_FORGET_ARRIVALS = """
DELETE FROM log_arrivals WHERE node = %s AND number <= (
    SELECT number FROM log_arrivals WHERE node = %s ORDER BY number DESC OFFSET %s LIMIT 1
)
"""
_ADD_GAP = "INSERT INTO log_gaps (node, segment, lookups, octets, first, last) VALUES (%s, %s, %s, %s, %s, %s)"

Which = tuple[str, str]
"""A segment: its node and its name."""


class ChangedMeanwhileError(Exception):
    """What the portions were prepared for is no longer so: prepare them again."""


class _Day(NamedTuple):
    """A day that is being written."""

    tables: Tables
    oid: int
    """What tells its tables from others of their names."""
    dimensions: Dimensions


class Appender:
    """Stores portions, one call at a time."""

    def __init__(self) -> None:
        self._days: dict[int, _Day] = {}
        self._unsummarised: dict[int, int] = {}

    def append(self, connection: Connection, portions: Sequence[Portion]) -> int:
        """Store what is new and return how many lookups that were.

        Raises `ChangedMeanwhileError`, `DamagedSegmentError`, `psycopg.Error`; then nothing is stored.
        """
        try:
            return self._append(connection, portions)
        except errors.UndefinedTable as error:  # retention has taken a day
            raise ChangedMeanwhileError from error

    def forget(self) -> None:
        """Take nothing for granted any more."""
        self._days.clear()

    def _append(self, connection: Connection, portions: Sequence[Portion]) -> int:
        seen = _positions(connection, portions)
        lookups: dict[int, list[Lookups]] = {}
        gaps: list[Gap] = []
        for portion in portions:
            beyond = seen.get(_which(portion), 0)
            for day in sorted(portion.days):
                gaps += portion.gaps_of(day, beyond)
                lookups.setdefault(day, []).append(self._filed(connection, portion, day, beyond))
        with connection.transaction():
            self._move(connection, portions, seen)
            for day, some in sorted(lookups.items()):
                self._insert(connection, day, portions[0].segment.node, some)
            for gap in gaps:
                connection.execute(_ADD_GAP, gap)
        for day, some in lookups.items():
            self._summarise(connection, day, sum(len(each.times) for each in some))
        return sum(len(each.times) for some in lookups.values() for each in some)

    def _day(self, connection: Connection, day: int) -> _Day:
        """Return a day to write to, whose tables are there."""
        if day not in self._days:
            while len(self._days) >= DAYS_REMEMBERED:
                del self._days[next(iter(self._days))]
            tables = Tables.of(calendar_day(day))
            schema.make_day(connection, tables)
            oid = schema.oid_of(connection, tables)
            if oid is None:
                raise ChangedMeanwhileError
            self._days[day] = _Day(tables, oid, Dimensions(tables))
        return self._days[day]

    def _filed(self, connection: Connection, portion: Portion, number: int, beyond: int) -> Lookups:
        """Return a portion's lookups on a day with the ids of clients and decisions."""
        day, segment = self._day(connection, number), portion.segment
        lookups = portion.lookups_of(number, beyond)
        return segment.file(lookups, (number, day.oid), partial(day.dimensions.file, connection, segment))

    def _move(self, connection: Connection, portions: Sequence[Portion], seen: Mapping[Which, int]) -> None:
        """Note how far this brings each segment."""
        for which, end in sorted({_which(portion): portion.end for portion in portions}.items()):
            stored = seen.get(which, 0)
            if end > stored and connection.execute(_MOVE, (*which, end, stored)).fetchone() is None:
                raise ChangedMeanwhileError

    def _insert(self, connection: Connection, number: int, node: str, lookups: Sequence[Lookups]) -> None:
        day = self._day(connection, number)
        connection.execute(day.tables.into(_LOCK))
        if schema.oid_of(connection, day.tables) != day.oid:
            raise ChangedMeanwhileError
        times = [time for some in lookups for time in some.times]
        if not times:
            return
        with connection.cursor().copy(day.tables.into(_COPY)) as copy:
            copy.write(_HEAD)
            for some in lookups:
                copy.write(b"".join(_rows(some)))
            copy.write(_END)
        first, last = min(times), max(times)
        connection.execute(_COUNT, (day.tables.day, node, len(times), first, last))
        connection.execute(_ARRIVE, (node, day.tables.day, first, last))
        connection.execute(_FORGET_ARRIVALS, (node, node, ARRIVALS_KEPT))

    def _summarise(self, connection: Connection, day: int, lookups: int) -> None:
        waiting = self._unsummarised.get(day, 0) + lookups
        if waiting >= SUMMARY_LOOKUPS:
            index = self._days[day].tables.by_time.as_string()
            connection.execute("SELECT brin_summarize_new_values(%s::regclass)", (index,))
            waiting = 0
        self._unsummarised = {day: waiting}


def _which(portion: Portion) -> Which:
    return portion.segment.node, portion.segment.name


def _positions(connection: Connection, portions: Sequence[Portion]) -> dict[Which, int]:
    """Return up to where each segment is stored."""
    names = list({portion.segment.name for portion in portions})
    return {(node, name): stored for node, name, stored in connection.execute(_POSITIONS, (names,))}


def _rows(lookups: Lookups) -> Iterator[bytes]:
    pack = _ROW.pack
    for time, client, decision, duration in zip(*lookups, strict=True):
        yield pack(4, 8, time, 8, duration, 4, client, 4, decision)
