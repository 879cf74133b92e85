"""Clients and decisions of one day in Postgres: how they are filed.

Several nodes file at once. What is filed is committed at once and never changes, so an id that was given stays good
whatever becomes of the rows that it was wanted for.
"""

from collections.abc import Sequence

from psycopg import Connection

from querylog.dimensions import decoded, taken_apart
from querylog.journal import Definition
from querylog.postgres_schema import Tables
from querylog.records import Client, Decision
from querylog.search import address_key
from querylog.segment import Segment

# In one order everywhere, so that two nodes which file the same don't wait for each other crosswise.
_ADD_CLIENTS = """
INSERT INTO {clients} (client, group_name, transport, node, address)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::bytea[]) ORDER BY 1, 2, 3, 4
ON CONFLICT DO NOTHING
"""
_FIND_CLIENTS = """
SELECT place, id
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
    WITH ORDINALITY AS wanted (client, group_name, transport, node, place)
JOIN {clients} USING (client, group_name, transport, node)
"""
_ADD_DECISIONS = """
INSERT INTO {decisions} (key, outcome_id, rule)
SELECT * FROM unnest(%s::text[], %s::integer[], %s::text[]) ORDER BY 1, 2, 3
ON CONFLICT DO NOTHING
"""
_FIND_DECISIONS = """
SELECT place, filed.id
FROM unnest(%s::text[], %s::integer[], %s::text[]) WITH ORDINALITY AS wanted (key, outcome_id, rule, place)
JOIN {decisions} filed
    ON filed.key = wanted.key AND filed.outcome_id = wanted.outcome_id
    AND hashtextextended(filed.rule, 0) = hashtextextended(wanted.rule, 0)
"""
_ADD_OUTCOME = "INSERT INTO {outcomes} VALUES (DEFAULT, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id"
_OUTCOMES = "SELECT * FROM {outcomes}"


class Dimensions:
    """Files one day's clients and decisions."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._outcomes: dict[tuple[object, ...], int] = {}

    def file(self, connection: Connection, segment: Segment, definitions: Sequence[Definition]) -> list[int]:
        """Return the ids of clients and decisions; those that are new get one. Raises `DamagedSegmentError`."""
        filed = [decoded(segment.name, definition) for definition in definitions]
        clients = [(*each, segment.node) for each in filed if isinstance(each, Client)]
        decisions = [self._row(connection, each) for each in filed if isinstance(each, Decision)]
        addresses = [address_key(client) for client, *_ in clients]
        client_ids = iter(self._ids(connection, clients, _FIND_CLIENTS, _ADD_CLIENTS, addresses))
        decision_ids = iter(self._ids(connection, decisions, _FIND_DECISIONS, _ADD_DECISIONS))
        return [next(client_ids if isinstance(each, Client) else decision_ids) for each in filed]

    def _ids(
        self,
        connection: Connection,
        rows: Sequence[tuple[object, ...]],
        find: str,
        add: str,
        *columns: list[bytes],
    ) -> list[int]:
        """Return the ids of rows, of which those that are not there are added, with columns that nobody looks for."""
        if not rows:
            return []
        wanted = [list(column) for column in zip(*rows, strict=True)]
        found: dict[int, int] = dict(connection.execute(self._tables.into(find), wanted).fetchall())
        if len(found) < len(rows):
            connection.execute(self._tables.into(add), [*wanted, *columns])
            found = dict(connection.execute(self._tables.into(find), wanted).fetchall())
        return [found[place] for place in range(1, len(rows) + 1)]

    def _row(self, connection: Connection, decision: Decision) -> tuple[str, int, str]:
        key, rule, outcome = taken_apart(decision)
        if outcome not in self._outcomes:
            rows = connection.execute(self._tables.into(_OUTCOMES)).fetchall()
            self._outcomes = {tuple(columns): id_ for id_, *columns in rows}
        if outcome not in self._outcomes:
            # Another node may do the same: then there are two of it, which does no harm.
            added = connection.execute(self._tables.into(_ADD_OUTCOME), outcome).fetchone()
            assert added is not None
            self._outcomes[outcome] = added[0]
        return key, self._outcomes[outcome], rule
