"""The log's tables in Postgres: made by whoever needs them first, those of a day when its first record comes.

A day has tables of its own, also for clients, outcomes and decisions, so that retention drops it whole. Its lookups
are a partition of `log_lookups`, which is there for people: rows go to the partition and come from it by its name. A
row takes 52 octets, and 16 for its indexes: Postgres keeps equal keys once, so a time behind each would double that.
"""

from datetime import date
from typing import NamedTuple, Self

from psycopg import Connection
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from querylog.times import DAY, day_of

LOCK = 0x484D_4C4F_47
"""Held while tables are made or dropped, so that nodes take turns: ``HMLOG``."""

_TABLES = """
CREATE TABLE IF NOT EXISTS log_lookups (
    time bigint NOT NULL,
    duration_us bigint NOT NULL,
    client_id integer NOT NULL,
    decision_id integer NOT NULL
) PARTITION BY RANGE (time);
-- What each node has stored of a day: how many lookups, and the times of its first and last.
CREATE TABLE IF NOT EXISTS log_days (
    day date,
    node text,
    lookups bigint NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    PRIMARY KEY (day, node)
);
CREATE TABLE IF NOT EXISTS log_gaps (
    node text NOT NULL,
    segment text NOT NULL,
    lookups bigint NOT NULL,
    octets bigint NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS log_positions (
    node text,
    segment text,
    stored bigint NOT NULL,
    written timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (node, segment)
);
-- The last transactions of each node, for those who follow the log: their rows carry the writer in xmin.
CREATE TABLE IF NOT EXISTS log_arrivals (
    node text,
    number bigint GENERATED ALWAYS AS IDENTITY,
    day date NOT NULL,
    writer xid NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    PRIMARY KEY (node, number)
);
"""
_DAY = """
CREATE TABLE {lookups} (LIKE log_lookups) WITH (fillfactor = 100);
CREATE INDEX ON {lookups} (client_id);
CREATE INDEX ON {lookups} (decision_id);
CREATE INDEX {by_time} ON {lookups} USING brin (time) WITH (pages_per_range = 32);
CREATE TABLE {clients} (
    id serial PRIMARY KEY,
    client text NOT NULL,
    group_name text NOT NULL,
    transport text NOT NULL,
    node text NOT NULL,
    address bytea NOT NULL,
    UNIQUE (client, group_name, transport, node)
);
CREATE INDEX ON {clients} (address);
CREATE TABLE {outcomes} (
    id serial PRIMARY KEY,
    qtype text NOT NULL,
    verdict text NOT NULL,
    category text NOT NULL,
    source text NOT NULL,
    exception_id bigint NOT NULL,
    policy_version bigint NOT NULL,
    rcode text NOT NULL,
    upstream text NOT NULL,
    cached boolean NOT NULL
);
CREATE TABLE {decisions} (
    id serial PRIMARY KEY,
    key text COLLATE "C" NOT NULL,
    outcome_id integer NOT NULL,
    rule text NOT NULL
);
-- A rule may be longer than an index takes.
CREATE UNIQUE INDEX ON {decisions} (key, outcome_id, hashtextextended(rule, 0));
ALTER TABLE log_lookups ATTACH PARTITION {lookups} FOR VALUES FROM ({begin}) TO ({end});
"""


class Tables(NamedTuple):
    """The tables of one day."""

    day: date
    lookups: Identifier
    clients: Identifier
    outcomes: Identifier
    decisions: Identifier
    by_time: Identifier
    """The index of lookups that is brought up to date by hand."""

    @classmethod
    def of(cls, day: date) -> Self:
        """Return the names of a day's tables, whether they are there or not."""
        names = ("lookups", "clients", "outcomes", "decisions", "lookups_by_time")
        return cls(day, *(Identifier(f"log_{name}_{day:%Y%m%d}") for name in names))

    def into(self, statement: str, **values: Composable) -> Composed:
        """Return a statement with the names of the tables, and other values, in their places."""
        return SQL(statement).format(**self._asdict() | values)


def prepare(connection: Connection) -> None:
    """Make the tables that no day owns, where they are missing."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute(_TABLES)


def make_day(connection: Connection, tables: Tables) -> None:
    """Make a day's tables, where they are missing."""
    begin = day_of(tables.day) * DAY
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        if oid_of(connection, tables) is None:
            connection.execute(tables.into(_DAY, begin=Literal(begin), end=Literal(begin + DAY)))


def drop_day(connection: Connection, tables: Tables) -> None:
    """Drop a day's tables, where they are there, and what other tables know of the day."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute(tables.into("DROP TABLE IF EXISTS {lookups}, {clients}, {outcomes}, {decisions}"))
        connection.execute("DELETE FROM log_days WHERE day = %s", (tables.day,))
        connection.execute("DELETE FROM log_arrivals WHERE day = %s", (tables.day,))


def oid_of(connection: Connection, tables: Tables) -> int | None:
    """Return what tells a day's tables from others that had their names before; None: there are none."""
    found = connection.execute("SELECT to_regclass(%s)::oid", (tables.lookups.as_string(),)).fetchone()
    return found[0] if found else None


def days(connection: Connection) -> list[date]:
    """Return the days that have tables, newest first."""
    rows = connection.execute(
        "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = to_regclass('log_lookups')"
    )
    return sorted((date.fromisoformat(name[-8:]) for (name,) in rows), reverse=True)
