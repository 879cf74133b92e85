"""One day of the log in one SQLite file: how rows are found.

Newest first, and little more is read than what is asked for: what is not indexed yet is scanned, then the runs of an
index are gone through from the latest back. They hardly overlap, so few are read for what is common.
"""

import contextlib
import json
import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from policy.names import name_of
from querylog.dimensions import Outcome, put_together, record_of
from querylog.portion import Gap
from querylog.records import Client, Record
from querylog.search import LogQuery
from querylog.sqlite_day import RANK_BITS, connect
from querylog.times import DAY

END = 1 << 62
"""Behind every id."""
FEW_CLIENTS = 64
"""So many clients' rows are gone through for those whose decision is wanted, rather than the other way round."""
MANY_DECISIONS = 2_000
"""With more of them wanted they are common: some of the newest rows will have one."""
SCANNED_ROWS = 50_000
FIRST_CHUNK = 32
CHUNK = 4_096

_CLIENTS = "SELECT id FROM clients WHERE address BETWEEN ? AND ?"
_OUTCOMES = "SELECT id FROM outcomes WHERE verdict = coalesce(?, verdict)"
# Ids come as a JSON array, since a statement takes no more than so many values.
_DECISIONS = """
SELECT id FROM by_key
    WHERE key >= :first AND key < :end AND outcome_id IN (SELECT value FROM json_each(:outcomes))
UNION ALL SELECT id FROM decisions
    WHERE id > (SELECT decisions_indexed FROM progress)
    AND key >= :first AND key < :end AND outcome_id IN (SELECT value FROM json_each(:outcomes))
LIMIT :limit
"""
# Clients and decisions by their ids, or decisions by what they are; NULL: any.
_FITS = """
(:clients IS NULL OR client_id IN (SELECT value FROM json_each(:clients)))
AND (:decisions IS NULL OR decision_id IN (SELECT value FROM json_each(:decisions)))
AND (:outcomes IS NULL OR EXISTS (
    SELECT 1 FROM decisions WHERE decisions.id = decision_id
    AND key >= :first AND key < :end AND outcome_id IN (SELECT value FROM json_each(:outcomes))
))
"""
_ROWS = "SELECT id, client_id, decision_id, duration_us FROM lookups"
_SCAN = f"{_ROWS} WHERE id >= :low AND id < :high AND {_FITS} ORDER BY id DESC LIMIT :limit"
_FETCH = f"{_ROWS} WHERE id IN (SELECT value FROM json_each(:ids)) AND {_FITS} ORDER BY id DESC"  # noqa: S608 - constants
_COUNT = f"SELECT count(*) FROM lookups WHERE id >= :low AND id < :high AND {_FITS}"  # noqa: S608 - constants
_FETCH_CLIENTS = """SELECT id, node, client, group_name, transport FROM clients
    WHERE id IN (SELECT value FROM json_each(?))"""
_FETCH_DECISIONS = """SELECT decisions.id, key, rule, outcomes.*
    FROM decisions JOIN outcomes ON outcomes.id = outcome_id
    WHERE decisions.id IN (SELECT value FROM json_each(?))"""


_RUNS = "SELECT run, last FROM runs WHERE first < ? AND last >= ? ORDER BY last DESC"
_BY_CLIENT = """SELECT ids FROM by_client
    WHERE run = ? AND client_id IN (SELECT value FROM json_each(?))"""
_BY_DECISION = """SELECT ids FROM by_decision
    WHERE run = ? AND decision_id IN (SELECT value FROM json_each(?))"""


# What a run has of a decision is eight octets a lookup, of which SQLite reads the length alone.
_MOST_ASKED = """
SELECT key, sum(number) AS number FROM (
    SELECT decision_id, sum(length(ids)) / 8 AS number FROM by_decision GROUP BY decision_id
    UNION ALL SELECT decision_id, count(*) FROM lookups
        WHERE id >= (SELECT indexed FROM progress) GROUP BY decision_id
    UNION ALL SELECT decision_id, count(*) FROM late CROSS JOIN lookups USING (id) GROUP BY decision_id
) JOIN decisions ON decisions.id = decision_id
GROUP BY key ORDER BY number DESC LIMIT ?
"""


class Row(NamedTuple):
    """A lookup as its table has it."""

    id: int
    client_id: int
    decision_id: int
    duration_us: int


class Wanted(NamedTuple):
    """The clients and the decisions that a query wants, as the statements take them; None: any."""

    clients: str | None
    """JSON of ids; decisions and outcomes likewise."""
    decisions: str | None
    outcomes: str | None
    first: str
    """The first key of the names that are wanted."""
    end: str
    """A key behind them all."""
    few_clients: bool
    """Whether it is less work to go through the clients' rows than through the decisions'."""

    @property
    def is_everything(self) -> bool:
        """Tell whether none is left out."""
        return self.clients is None and self.outcomes is None

    @property
    def is_nothing(self) -> bool:
        """Tell whether no row can be wanted."""
        return "[]" in {self.clients, self.outcomes}


class DayReader:
    """Reads one day's file as it is at one moment."""

    def __init__(self, connection: sqlite3.Connection, day: int) -> None:
        self._run = connection.execute
        self._begin = day * DAY

    def search(self, query: LogQuery, limit: int) -> list[tuple[int, Record]]:
        """Return the newest records that a query wants and their ranks; the limit is not the query's."""
        low, high = self._range(query)
        position = query.position
        if position is not None:
            high = min(high, ((position.time - self._begin) << RANK_BITS) + position.rank)
        wanted = self._wanted(query)
        if low >= high or wanted.is_nothing:
            return []
        return self._records(self._newest(low, high, limit, wanted))

    def count(self, query: LogQuery) -> int:
        """Return how many records a query wants."""
        low, high = self._range(query)
        wanted = self._wanted(query)
        if low >= high or wanted.is_nothing:
            return 0
        if wanted.is_everything and (low, high) == (0, END):
            return self._number("SELECT lookups FROM progress")
        if wanted.is_everything:
            return self._number(_COUNT, {**wanted._asdict(), "low": low, "high": high})
        edge = min(max(low, self._indexed()), high)
        waiting = self._number(_COUNT, {**wanted._asdict(), "low": edge, "high": high})
        return waiting + self._count_indexed(wanted, low, edge)

    def most_asked(self, limit: int) -> list[tuple[str, int]]:
        """Return the names that were looked up most in the day, and how often."""
        return [(name_of(key), number) for key, number in self._run(_MOST_ASKED, (limit,))]

    def those(self, ids: Sequence[int], query: LogQuery) -> list[Record]:
        """Return those of some rows that a query wants, oldest first."""
        low, high = self._range(query)
        rows = [row for row in self._fetch(ids, self._wanted(query)) if low <= row.id < high]
        return [record for _, record in reversed(self._records(rows))]

    def gaps(self) -> list[Gap]:
        """Return the day's gaps."""
        return [Gap(*row) for row in self._run("SELECT node, segment, lookups, octets, first, last FROM gaps")]

    def positions(self) -> dict[tuple[str, str], int]:
        """Return up to where everything is stored of each segment, by node and name, as far as this day knows."""
        rows = self._run("SELECT node, segment, stored_everywhere FROM positions")
        return {(node, segment): offset for node, segment, offset in rows}

    def _number(self, statement: str, values: dict[str, object] | tuple[object, ...] = ()) -> int:
        return int(self._run(statement, values).fetchone()[0])

    def _indexed(self) -> int:
        return self._number("SELECT indexed FROM progress")

    def _range(self, query: LogQuery) -> tuple[int, int]:
        """Return the first id that a query's times allow, and the first after it that they don't."""
        low, high = 0, END
        if query.since is not None:
            low = max(0, query.since - self._begin) << RANK_BITS
        if query.until is not None and query.until < self._begin + DAY:
            high = max(0, query.until - self._begin) << RANK_BITS
        return low, high

    def _wanted(self, query: LogQuery) -> Wanted:
        clients = outcomes = None
        few_clients = False
        if query.addresses is not None:
            ids = [id_ for (id_,) in self._run(_CLIENTS, query.addresses)]
            clients, few_clients = json.dumps(ids), len(ids) <= FEW_CLIENTS
        if query.keys is not None or query.verdict is not None:
            outcomes = json.dumps([id_ for (id_,) in self._run(_OUTCOMES, (query.verdict,))])
        first, end = query.keys or ("", "\U0010ffff")
        return Wanted(clients, None, outcomes, first, end, few_clients or outcomes is None)

    def _decisions(self, wanted: Wanted, limit: int) -> list[int]:
        """Return the ids of decisions that are wanted; -1: without a limit."""
        return [id_ for (id_,) in self._run(_DECISIONS, {**wanted._asdict(), "limit": limit})]

    def _newest(self, low: int, high: int, limit: int, wanted: Wanted) -> list[Row]:
        """Return rows, the newest first: what is not indexed is scanned, then an index is followed."""
        if wanted.is_everything:
            return self._scan(low, high, limit, wanted)
        edge = self._indexed()
        if not wanted.few_clients:
            decisions = self._decisions(wanted, MANY_DECISIONS + 1)
            if len(decisions) > MANY_DECISIONS:
                edge = min(edge, self._far_below(high))
            else:
                wanted = wanted._replace(decisions=json.dumps(decisions), outcomes=None)
        edge = min(max(low, edge), high)
        rows = self._scan(edge, high, limit, wanted)
        if len(rows) == limit:
            return rows
        found = self._indexed_ids(wanted, low, edge)
        while len(rows) < limit and (chunk := list(islice(found, max(limit, FIRST_CHUNK)))):
            rows += self._fetch(chunk, wanted)
        return rows[:limit]

    def _scan(self, low: int, high: int, limit: int, wanted: Wanted) -> list[Row]:
        values = {**wanted._asdict(), "low": low, "high": high, "limit": limit}
        return list(map(Row._make, self._run(_SCAN, values)))

    def _fetch(self, ids: Sequence[int], wanted: Wanted) -> list[Row]:
        """Return those of some rows that are wanted, newest first."""
        values = {**wanted._asdict(), "ids": json.dumps(list(ids))}
        return list(map(Row._make, self._run(_FETCH, values)))

    def _far_below(self, high: int) -> int:
        """Return the id that so many rows are behind as may be scanned."""
        statement = "SELECT id FROM lookups WHERE id < ? ORDER BY id DESC LIMIT 1 OFFSET ?"
        found = self._run(statement, (high, SCANNED_ROWS)).fetchone()
        return int(found[0]) if found else 0

    def _indexed_ids(self, wanted: Wanted, low: int, high: int) -> Iterator[int]:
        """Yield the ids of indexed rows that may be wanted, newest first, and of such as should be by now."""
        found = self._late(low, high)
        for last, ids in self._runs(wanted, low, high):
            while found and found[-1] > last:
                yield found.pop()
            for some in ids:
                found += some[bisect_left(some, low) : bisect_left(some, high)]
            found.sort()
        yield from reversed(found)

    def _count_indexed(self, wanted: Wanted, low: int, high: int) -> int:
        if wanted.clients is not None and wanted.outcomes is not None:
            found = self._indexed_ids(wanted, low, high)
            return sum(len(self._fetch(chunk, wanted)) for chunk in iter(lambda: list(islice(found, CHUNK)), []))
        runs = self._runs(wanted, low, high)
        indexed = sum(bisect_left(some, high) - bisect_left(some, low) for _, ids in runs for some in ids)
        return indexed + len(self._fetch(self._late(low, high), wanted))

    def _late(self, low: int, high: int) -> list[int]:
        statement = "SELECT id FROM late WHERE id >= ? AND id < ? ORDER BY id"
        return [id_ for (id_,) in self._run(statement, (low, high))]

    def _runs(self, wanted: Wanted, low: int, high: int) -> Iterator[tuple[int, list["array[int]"]]]:
        """Yield what runs have of the clients, or else of the decisions: the run's last id, and the ids of each."""
        if wanted.few_clients:
            statement, of = _BY_CLIENT, wanted.clients
        else:
            statement, of = _BY_DECISION, wanted.decisions or json.dumps(self._decisions(wanted, -1))
        for run, last in self._run(_RUNS, (high, low)).fetchall():
            yield last, [array("q", blob) for (blob,) in self._run(statement, (run, of))]

    def _records(self, rows: Sequence[Row]) -> list[tuple[int, Record]]:
        """Return rows as records, with their ranks."""
        ids = json.dumps(list({row.client_id for row in rows}))
        clients = {id_: (node, Client(*client)) for id_, node, *client in self._run(_FETCH_CLIENTS, (ids,))}
        ids = json.dumps(list({row.decision_id for row in rows}))
        decisions = {
            id_: put_together(key, rule, Outcome(*outcome))
            for id_, key, rule, _, *outcome in self._run(_FETCH_DECISIONS, (ids,))
        }
        rank = (1 << RANK_BITS) - 1
        return [
            (id_ & rank, record_of(self._time(id_), *clients[client_id], decisions[decision_id], duration))
            for id_, client_id, decision_id, duration in rows
        ]

    def _time(self, id_: int) -> int:
        return self._begin + (id_ >> RANK_BITS)


@contextlib.contextmanager
def reading(path: Path, day: int) -> Iterator[DayReader]:
    """Open a day's file to read what it holds now. Raises `sqlite3.Error`."""
    with contextlib.closing(connect(path)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        yield DayReader(connection, day)
