"""Clients and decisions of one day in SQLite: how they are filed.

Decisions come to their index later, many at a time, as lookups do and for the same reason. Until then they are known
here, so whoever opens the file brings all of them there first.
"""

import sqlite3
from collections.abc import Sequence

from querylog.dimensions import decoded, taken_apart
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
    rule TEXT NOT NULL
);
CREATE TABLE by_key (
    key TEXT,
    outcome_id INTEGER,
    rule TEXT,
    id INTEGER NOT NULL,
    PRIMARY KEY (key, outcome_id, rule)
) WITHOUT ROWID;
"""
INDEX = """INSERT INTO by_key SELECT key, outcome_id, rule, id FROM decisions WHERE id > ?
    ORDER BY key, outcome_id, rule"""
"""Brings the decisions behind an id to their index."""
_FIND_CLIENT = "SELECT id FROM clients WHERE client = ? AND group_name = ? AND transport = ? AND node = ?"
_ADD_CLIENT = "INSERT INTO clients VALUES (NULL, ?, ?, ?, ?, ?)"
_ADD_OUTCOME = "INSERT INTO outcomes VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FIND_DECISION = "SELECT id FROM by_key WHERE key = ? AND outcome_id = ? AND rule = ?"
_ADD_DECISION = "INSERT INTO decisions VALUES (NULL, ?, ?, ?)"


class Dimensions:
    """Files clients and decisions in the transactions of whoever has the connection.

    Of no more use when one is undone.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute
        self._outcomes: dict[tuple[object, ...], int] = {}
        self._waiting: dict[tuple[str, int, str], int] = {}  # decisions that are not indexed
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

    def indexed(self) -> None:
        """Forget what is found in the index by now."""
        self._waiting.clear()

    def _client(self, client: Client, node: str) -> int:
        filed = (*client, node)
        return self._found(_FIND_CLIENT, filed) or self._add(_ADD_CLIENT, (*filed, address_key(client.client)))

    def _decision(self, decision: Decision) -> int:
        key, rule, outcome = taken_apart(decision)
        filed = key, self._outcome(outcome), rule
        id_ = self._waiting.get(filed) or self._found(_FIND_DECISION, filed)
        if not id_:
            id_ = self._waiting[filed] = self._add(_ADD_DECISION, filed)
        return id_

    def _outcome(self, outcome: tuple[object, ...]) -> int:
        if not self._outcomes:
            self._outcomes = {tuple(columns): id_ for id_, *columns in self._run("SELECT * FROM outcomes")}
        id_ = self._outcomes.get(outcome)
        if id_ is None:
            id_ = self._outcomes[outcome] = self._add(_ADD_OUTCOME, outcome)
        return id_

    def _found(self, statement: str, values: Sequence[object]) -> int:
        """Return the id of a row that is there; 0 when it isn't."""
        found = self._run(statement, values).fetchone()
        return found[0] if found else 0

    def _add(self, statement: str, values: Sequence[object]) -> int:
        return self._run(statement, values).lastrowid or 0
