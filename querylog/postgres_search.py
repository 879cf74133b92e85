"""One day of the log in Postgres: how rows are found.

Newest first: a slice of time that is likely to hold enough, then ones that are wider. Within a slice Postgres goes by
the index of clients, of decisions or of time, whichever leaves least to read.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from psycopg import Connection
from psycopg.sql import SQL, Composed

from policy.names import name_of
from querylog.dimensions import Outcome, put_together, record_of
from querylog.postgres_schema import Tables
from querylog.records import Client, Record
from querylog.search import Cursor, LogQuery

SLICES = (20_000, 100_000)
"""How many lookups the first slices hold, about; the last is the rest of the day."""
MANY_DECISIONS = 2_000
"""With more of them wanted they are common: some of the newest rows will have one."""
OFFSET_BITS = 16

_CLIENTS = "SELECT id FROM {clients} WHERE address BETWEEN %s AND %s"
_OUTCOMES = "SELECT id FROM {outcomes} WHERE verdict = coalesce(%s, verdict)"
_DECISIONS = "SELECT id FROM {decisions} WHERE outcome_id = ANY(%s) AND key >= %s AND key < %s"
# OFFSET keeps the planner from gathering all the decisions first; few rows are looked at before there are enough.
_DECISION_FITS = """ AND EXISTS (
    SELECT FROM {decisions} filed
    WHERE filed.id = decision_id AND outcome_id = ANY(%s) AND key >= %s AND key < %s OFFSET 0
)"""
_COUNT = "SELECT count(*) FROM {lookups} WHERE time >= %s AND time < %s"
_MOST_ASKED = """
SELECT key, sum(number) FROM (SELECT decision_id, count(*) AS number FROM {lookups} GROUP BY decision_id) counted
JOIN {decisions} decisions ON decisions.id = decision_id
GROUP BY key ORDER BY 2 DESC LIMIT %s
"""
_ROWS = "SELECT time, duration_us, client_id, decision_id, ctid FROM {lookups} WHERE time >= %s AND time < %s"
_FETCH_CLIENTS = "SELECT id, node, client, group_name, transport FROM {clients} WHERE id = ANY(%s)"
_FETCH_DECISIONS = """
SELECT decisions.id, key, rule, outcomes.*
FROM {decisions} decisions JOIN {outcomes} outcomes ON outcomes.id = outcome_id WHERE decisions.id = ANY(%s)
"""


class Extent(NamedTuple):
    """What there is of a day."""

    tables: Tables
    lookups: int
    first: int
    """The time of its first lookup."""
    last: int


class Row(NamedTuple):
    """A lookup as its table has it."""

    time: int
    duration_us: int
    client_id: int
    decision_id: int
    ctid: str
    """Where it lies in its table, which it never leaves."""


class Wanted(NamedTuple):
    """The clients and the decisions that a query wants; None: any."""

    clients: list[int] | None
    decisions: list[int] | None
    """Their ids, where they are not too many."""
    decision: tuple[object, ...] | None
    """What a decision must be: the values of `_DECISIONS`."""

    @property
    def is_everything(self) -> bool:
        """Tell whether none is left out."""
        return self.clients is None and self.decision is None

    @property
    def is_nothing(self) -> bool:
        """Tell whether no row can be wanted."""
        return self.clients == [] or self.decisions == []


class DayReader:
    """Reads one day."""

    def __init__(self, connection: Connection, extent: Extent) -> None:
        self._run = connection.execute
        self._extent = extent
        self._into = extent.tables.into

    def search(self, query: LogQuery, limit: int) -> list[tuple[int, Record]]:
        """Return the newest records that a query wants and their ranks; the limit is not the query's."""
        wanted = self._wanted(query)
        if wanted.is_nothing:
            return []
        rows: list[Row] = []
        for low, high, is_last in self._slices(query, limit):
            if is_last and wanted.decision is not None and wanted.clients is None:
                # The newest had none: they are rare, however many there are, and their index leads to them.
                wanted = wanted._replace(decisions=self._ids(_DECISIONS, *wanted.decision))
            conditions, values = self._conditions(wanted, query.position)
            statement = self._into(_ROWS) + conditions + SQL(" ORDER BY time DESC, ctid DESC LIMIT %s")
            rows += map(Row._make, self._run(statement, (low, high, *values, limit - len(rows))))
            if len(rows) == limit:
                break
        return [(_rank(row), record) for row, record in zip(rows, self._records(rows), strict=True)]

    def count(self, query: LogQuery) -> int:
        """Return how many records a query wants."""
        low, high = self._bounds(query)
        wanted = self._wanted(query)
        if wanted.is_nothing:
            return 0
        if wanted.is_everything and (low, high) == self._bounds(LogQuery()):
            return self._extent.lookups
        if wanted.decision is not None:
            wanted = wanted._replace(decisions=self._ids(_DECISIONS, *wanted.decision))
        conditions, values = self._conditions(wanted, None)
        found = self._run(self._into(_COUNT) + conditions, (low, high, *values)).fetchone()
        return int(found[0]) if found else 0

    def most_asked(self, limit: int) -> list[tuple[str, int]]:
        """Return the names that were looked up most in the day, and how often."""
        rows = self._run(self._into(_MOST_ASKED), (limit,))
        return [(name_of(key), int(number)) for key, number in rows]

    def those(self, writer: str, first: int, last: int, query: LogQuery) -> list[Record]:
        """Return the records that a transaction has written between two times and a query wants, oldest first."""
        wanted = self._wanted(query)
        if wanted.is_nothing:
            return []
        low = first if query.since is None else max(first, query.since)
        high = last + 1 if query.until is None else min(last + 1, query.until)
        conditions, values = self._conditions(wanted, None)
        statement = self._into(_ROWS) + SQL(" AND xmin = %s::xid") + conditions + SQL(" ORDER BY time, ctid")
        return self._records([Row(*row) for row in self._run(statement, (low, high, writer, *values))])

    def _wanted(self, query: LogQuery) -> Wanted:
        clients = decisions = decision = None
        if query.addresses is not None:
            clients = self._ids(_CLIENTS, *query.addresses)
        if query.keys is not None or query.verdict is not None:
            decision = (self._ids(_OUTCOMES, query.verdict), *(query.keys or ("", "\U0010ffff")))
            some = self._ids(f"{_DECISIONS} LIMIT %s", *decision, MANY_DECISIONS + 1)
            decisions = some if len(some) <= MANY_DECISIONS else None
        return Wanted(clients, decisions, decision)

    def _conditions(self, wanted: Wanted, position: Cursor | None) -> tuple[Composed, list[object]]:
        """Return what rows must meet beside their time, as SQL and its values."""
        parts: list[Composed] = []
        values: list[object] = []
        if wanted.clients is not None:
            parts.append(self._into(" AND client_id = ANY(%s)"))
            values.append(wanted.clients)
        if wanted.decisions is not None:
            parts.append(self._into(" AND decision_id = ANY(%s)"))
            values.append(wanted.decisions)
        elif wanted.decision is not None:
            parts.append(self._into(_DECISION_FITS))
            values += wanted.decision
        if position is not None:
            parts.append(self._into(" AND (time, ctid) < (%s, %s::tid)"))
            block, offset = divmod(position.rank, 1 << OFFSET_BITS)
            values += [position.time, f"({block},{offset})"]
        return Composed(parts), values

    def _ids(self, statement: str, *values: object) -> list[int]:
        return [id_ for (id_,) in self._run(self._into(statement), values)]

    def _bounds(self, query: LogQuery) -> tuple[int, int]:
        """Return the first time that may be wanted, and the first after it that may not."""
        low, high = self._extent.first, self._extent.last + 1
        if query.since is not None:
            low = max(low, query.since)
        if query.until is not None:
            high = min(high, query.until)
        return low, high

    def _slices(self, query: LogQuery, limit: int) -> Iterator[tuple[int, int, bool]]:
        """Yield slices of time, newest first, and whether each is the last."""
        low, high = self._bounds(query)
        if query.position is not None:
            high = min(high, query.position.time + 1)
        _, lookups, first, last = self._extent
        for size in (4 * limit, *SLICES):
            width = size * (last - first + 1) // max(1, lookups) + 1
            if high - low > width:
                yield high - width, high, False
                high -= width
        if low < high:
            yield low, high, True

    def _records(self, rows: Sequence[Row]) -> list[Record]:
        ids = list({row.client_id for row in rows})
        clients = {id_: (node, Client(*client)) for id_, node, *client in self._run(self._into(_FETCH_CLIENTS), (ids,))}
        ids = list({row.decision_id for row in rows})
        decisions = {
            id_: put_together(key, rule, Outcome(*outcome))
            for id_, key, rule, _, *outcome in self._run(self._into(_FETCH_DECISIONS), (ids,))
        }
        return [
            record_of(row.time, *clients[row.client_id], decisions[row.decision_id], row.duration_us) for row in rows
        ]


def _rank(row: Row) -> int:
    block, offset = row.ctid.strip("()").split(",")
    return int(block) << OFFSET_BITS | int(offset)
