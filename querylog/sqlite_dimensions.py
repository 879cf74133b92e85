"""Clients and decisions of one day in SQLite: how they are filed."""

import sqlite3
from collections.abc import Sequence

from querylog.dimensions import FiledDecision, Outcome, decoded
from querylog.journal import Definition
from querylog.records import Client, Decision
from querylog.search import address_key
from querylog.segment import Segment

REMEMBERED = 65_536

SCHEMA = """
CREATE TABLE clients (
    id INTEGER PRIMARY KEY,
    client TEXT NOT NULL,
    group_name TEXT NOT NULL,
    transport TEXT NOT NULL,
    node TEXT NOT NULL,
    -- The address as octets that sort by family and value.
    address BLOB NOT NULL,
    UNIQUE (client, group_name, transport, node)
);
CREATE INDEX clients_by_address ON clients (address);
CREATE TABLE outcomes (
    id INTEGER PRIMARY KEY,
    qtype TEXT NOT NULL,
    verdict TEXT NOT NULL,
    category TEXT NOT NULL,
    source TEXT NOT NULL,
    exception_id INTEGER NOT NULL,
    policy_version INTEGER NOT NULL,
    rcode TEXT NOT NULL,
    upstream TEXT NOT NULL,
    cached INTEGER NOT NULL
);
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY,
    -- The qname read from the root, so that a subtree is a range: com.example.www.
    key TEXT NOT NULL,
    outcome_id INTEGER NOT NULL,
    rule TEXT NOT NULL,
    UNIQUE (key, outcome_id, rule)
);
"""
_FIND_CLIENT = "SELECT id FROM clients WHERE client = ? AND group_name = ? AND transport = ? AND node = ?"
_ADD_CLIENT = "INSERT INTO clients VALUES (NULL, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_ADD_OUTCOME = "INSERT INTO outcomes VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FIND_DECISION = "SELECT id FROM decisions WHERE key = ? AND outcome_id = ? AND rule = ?"
_ADD_DECISION = "INSERT INTO decisions VALUES (NULL, ?, ?, ?) ON CONFLICT DO NOTHING"


class Dimensions:
    """Files clients and decisions, inside the transactions of whoever has the connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute
        self._outcomes: dict[Outcome, int] = {}
        self._recent: dict[bytes, int] = {}  # decisions as they were defined: workers tend to define the same ones

    def file(self, segment: Segment, definitions: Sequence[Definition]) -> list[int]:
        """Return the ids of clients and decisions; those that are new get one. Raises `DamagedSegmentError`."""
        ids = []
        recent = self._recent
        for definition in definitions:
            id_ = recent.get(definition.data)
            if id_ is None:
                filed = decoded(segment.name, definition)
                if isinstance(filed, Client):
                    id_ = self._client(filed, segment.node)
                else:
                    id_ = recent[definition.data] = self._decision(filed)
            ids.append(id_)
        if len(recent) > REMEMBERED:
            recent.clear()
        return ids

    def forget(self) -> None:
        """Forget what is remembered: the transaction was undone."""
        self._outcomes.clear()
        self._recent.clear()

    def _client(self, client: Client, node: str) -> int:
        filed = (*client, node)
        return self._added(_ADD_CLIENT, (*filed, address_key(client.client))) or self._found(_FIND_CLIENT, filed)

    def _decision(self, decision: Decision) -> int:
        key, rule, outcome = FiledDecision.of(decision)
        filed = key, self._outcome(outcome), rule
        # What is not remembered is new most of the time.
        return self._added(_ADD_DECISION, filed) or self._found(_FIND_DECISION, filed)

    def _outcome(self, outcome: Outcome) -> int:
        if not self._outcomes:
            self._outcomes = {Outcome(*columns): id_ for id_, *columns in self._run("SELECT * FROM outcomes")}
        id_ = self._outcomes.get(outcome)
        if id_ is None:
            id_ = self._outcomes[outcome] = self._added(_ADD_OUTCOME, outcome)
        return id_

    def _added(self, statement: str, values: Sequence[object]) -> int:
        """Add a row and return its id; 0 when it is there already."""
        cursor = self._run(statement, values)
        return cursor.lastrowid or 0 if cursor.rowcount else 0

    def _found(self, statement: str, values: Sequence[object]) -> int:
        return int(self._run(statement, values).fetchone()[0])
