"""One day of the log in one SQLite file: how rows are found.

Newest first, and little more is read than what is asked for: the rows of each client and of each decision stand in
the order of time in an index, so those of several are merged from their ends. What is not indexed yet is scanned.
"""

import contextlib
import heapq
import json
import sqlite3
from collections.abc import Container, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

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
"""With so many wanted they are common: some of the newest rows will have one."""
SCANNED_ROWS = 50_000
FIRST_CHUNK = 32
LAST_CHUNK = 4_096

_CLIENTS = "SELECT id FROM clients WHERE address BETWEEN ? AND ?"
_OUTCOMES = "SELECT id FROM outcomes WHERE verdict = coalesce(?, verdict)"
_DECISIONS = "SELECT id FROM decisions WHERE outcome_id IN (SELECT value FROM json_each(?))"
_DECISIONS_BY_KEY = """
SELECT id FROM by_key
    WHERE key >= :first AND key < :end AND outcome_id IN (SELECT value FROM json_each(:outcomes))
UNION ALL SELECT id FROM decisions
    WHERE id > (SELECT decisions_indexed FROM progress)
    AND key >= :first AND key < :end AND outcome_id IN (SELECT value FROM json_each(:outcomes))
"""
# Ids come as a JSON array, since a statement takes no more than so many values; NULL: any.
_WANTED = """id >= :low AND id < :high
    AND (:clients IS NULL OR client_id IN (SELECT value FROM json_each(:clients)))
    AND (:decisions IS NULL OR decision_id IN (SELECT value FROM json_each(:decisions)))"""
_SCAN = f"SELECT id, client_id, decision_id, duration_us FROM lookups WHERE {_WANTED} ORDER BY id DESC LIMIT :limit"  # noqa: S608 - a constant
_COUNT = f"SELECT count(*) FROM lookups WHERE {_WANTED}"  # noqa: S608 - a constant
_COUNT_INDEXED = f"""SELECT count(*) FROM lookups WHERE id IN (
    SELECT id FROM by_client WHERE client_id IN (SELECT value FROM json_each(:clients)) AND id >= :low AND id < :high
) AND {_WANTED}"""  # noqa: S608 - a constant
_FETCH = """SELECT id, client_id, decision_id, duration_us FROM lookups
    WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id DESC"""
_FETCH_CLIENTS = """SELECT id, node, client, group_name, transport FROM clients
    WHERE id IN (SELECT value FROM json_each(?))"""
_FETCH_DECISIONS = """SELECT decisions.id, key, rule, outcomes.*
    FROM decisions JOIN outcomes ON outcomes.id = outcome_id
    WHERE decisions.id IN (SELECT value FROM json_each(?))"""


class _Index(NamedTuple):
    newest: str
    """The newest row of each of many, below an id."""
    before: str
    """The rows of one from an id up to another, newest first."""
    number: str
    """How many rows many have, from an id up to another."""


_BY_CLIENT = _Index(
    """SELECT (SELECT id FROM by_client WHERE client_id = value AND id < ? ORDER BY id DESC LIMIT 1), value
        FROM json_each(?)""",
    "SELECT id FROM by_client WHERE client_id = ? AND id >= ? AND id < ? ORDER BY id DESC LIMIT ?",
    "SELECT count(*) FROM by_client WHERE client_id IN (SELECT value FROM json_each(?)) AND id >= ? AND id < ?",
)
_BY_DECISION = _Index(
    """SELECT (SELECT id FROM by_decision WHERE decision_id = value AND id < ? ORDER BY id DESC LIMIT 1), value
        FROM json_each(?)""",
    "SELECT id FROM by_decision WHERE decision_id = ? AND id >= ? AND id < ? ORDER BY id DESC LIMIT ?",
    "SELECT count(*) FROM by_decision WHERE decision_id IN (SELECT value FROM json_each(?)) AND id >= ? AND id < ?",
)


class Row(NamedTuple):
    """A lookup as its table has it."""

    id: int
    client_id: int
    decision_id: int
    duration_us: int


class Wanted(NamedTuple):
    """The clients and decisions that a query wants, by id; None: any."""

    clients: list[int] | None
    decisions: list[int] | None

    @property
    def is_everything(self) -> bool:
        """Tell whether none is left out."""
        return self.clients is None and self.decisions is None

    @property
    def is_nothing(self) -> bool:
        """Tell whether no row can be wanted."""
        return self.clients == [] or self.decisions == []

    def json(self) -> dict[str, str | None]:
        """Return them as the statements take them."""
        return {name: None if ids is None else json.dumps(ids) for name, ids in self._asdict().items()}


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
            high = min(high, (position.time - self._begin << RANK_BITS) + position.rank)
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
        if wanted.is_everything:
            if (low, high) == (0, END):
                return self._number("SELECT lookups FROM progress")
            return self._number(_COUNT, {"low": low, "high": high, **wanted.json()})
        edge = min(max(low, self._indexed()), high)
        waiting = self._number(_COUNT, {"low": edge, "high": high, **wanted.json()})
        return waiting + self._count_indexed(low, edge, wanted)

    def those(self, ids: Sequence[int], query: LogQuery) -> list[Record]:
        """Return those of some rows that a query wants, oldest first."""
        low, high = self._range(query)
        clients, decisions = (None if ids is None else set(ids) for ids in self._wanted(query))
        rows = [row for row in self._fetch(ids) if low <= row.id < high and _fits(row, clients, decisions)]
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
        clients = decisions = None
        if query.addresses is not None:
            clients = [id_ for (id_,) in self._run(_CLIENTS, query.addresses)]
        if query.keys is not None:
            first, end = query.keys
            values = {"first": first, "end": end, "outcomes": self._outcomes(query)}
            decisions = [id_ for (id_,) in self._run(_DECISIONS_BY_KEY, values)]
        elif query.verdict is not None:
            decisions = [id_ for (id_,) in self._run(_DECISIONS, (self._outcomes(query),))]
        return Wanted(clients, decisions)

    def _outcomes(self, query: LogQuery) -> str:
        return json.dumps([id_ for (id_,) in self._run(_OUTCOMES, (query.verdict,))])

    def _newest(self, low: int, high: int, limit: int, wanted: Wanted) -> list[Row]:
        if wanted.is_everything:
            return self._scan(low, high, limit, wanted)
        clients, decisions = wanted
        by_client = clients is not None and (decisions is None or len(clients) <= FEW_CLIENTS)
        edge = self._indexed()
        if not by_client and decisions is not None and len(decisions) >= MANY_DECISIONS:
            edge = min(edge, self._far_below(high))
        edge = min(max(low, edge), high)
        rows = self._scan(edge, high, limit, wanted)
        if len(rows) < limit:
            rows += self._by_index(low, edge, limit - len(rows), wanted, by_client=by_client)
        return rows

    def _scan(self, low: int, high: int, limit: int, wanted: Wanted) -> list[Row]:
        values = {"low": low, "high": high, "limit": limit, **wanted.json()}
        return list(map(Row._make, self._run(_SCAN, values)))

    def _far_below(self, high: int) -> int:
        """Return the id that so many rows are behind as may be scanned."""
        statement = "SELECT id FROM lookups WHERE id < ? ORDER BY id DESC LIMIT 1 OFFSET ?"
        found = self._run(statement, (high, SCANNED_ROWS)).fetchone()
        return int(found[0]) if found else 0

    def _by_index(self, low: int, high: int, limit: int, wanted: Wanted, *, by_client: bool) -> list[Row]:
        """Return rows from the index of clients or of decisions; the other of the two is looked at in each row."""
        index = _BY_CLIENT if by_client else _BY_DECISION
        ids = wanted.clients if by_client else wanted.decisions
        others = wanted.decisions if by_client else wanted.clients
        newest = [
            (id_, of) for id_, of in self._run(index.newest, (high, json.dumps(ids))) if id_ is not None and id_ >= low
        ]
        if others is None:
            newest = heapq.nlargest(limit, newest)  # the others' newest are behind the newest of these already
        merged = heapq.merge(*(self._descending(index, of, low, id_) for id_, of in newest), reverse=True)
        clients = None if by_client or others is None else set(others)
        decisions = set(others) if by_client and others is not None else None
        rows: list[Row] = []
        while len(rows) < limit and (chunk := list(islice(merged, max(limit, FIRST_CHUNK)))):
            rows += [row for row in self._fetch(chunk) if _fits(row, clients, decisions)]
        return rows[:limit]

    def _descending(self, index: _Index, of: int, low: int, newest: int) -> Iterator[int]:
        """Yield the ids of one client's or decision's rows from its newest on."""
        yield newest
        size = FIRST_CHUNK
        high = newest
        while True:
            chunk = [id_ for (id_,) in self._run(index.before, (of, low, high, size)).fetchall()]
            yield from chunk
            if len(chunk) < size:
                return
            high, size = chunk[-1], min(size * 4, LAST_CHUNK)

    def _count_indexed(self, low: int, high: int, wanted: Wanted) -> int:
        ids = wanted.json()
        if wanted.decisions is None:
            return self._number(_BY_CLIENT.number, (ids["clients"], low, high))
        if wanted.clients is None:
            return self._number(_BY_DECISION.number, (ids["decisions"], low, high))
        return self._number(_COUNT_INDEXED, {"low": low, "high": high, **ids})

    def _fetch(self, ids: Sequence[int]) -> list[Row]:
        """Return rows by their ids, newest first."""
        return list(map(Row._make, self._run(_FETCH, (json.dumps(list(ids)),))))

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


def _fits(row: Row, clients: Container[int] | None, decisions: Container[int] | None) -> bool:
    return (clients is None or row.client_id in clients) and (decisions is None or row.decision_id in decisions)
