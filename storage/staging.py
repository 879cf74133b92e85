"""Rows by the million: into temporary tables, from there into the entries, and out again as a stream.

The one place that talks to the drivers themselves: a list goes in by SQLite's `executemany` or Postgres's COPY, both
several times faster than a statement built for each batch. Temporary tables are the connection's own: filling them
keeps nobody else waiting.
"""

import contextlib
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any

from sqlalchemy import Connection, text

BATCH = 10_000

Row = tuple[int, str, int]
"""Part, key, traits."""

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})  # COPY's text format


def create(connection: Connection) -> None:
    """Make the temporary tables: `staged` takes a list, `fresh` and `gone` what it changes, numbered from 1."""
    postgres = connection.dialect.name == "postgresql"
    key, number = ('text COLLATE "C"', "bigserial") if postgres else ("text", "integer")
    drop(connection)
    row = f"part bigint NOT NULL, key {key} NOT NULL, traits bigint NOT NULL"
    connection.execute(text(f"CREATE TEMPORARY TABLE staged ({row})"))
    connection.execute(text(f"CREATE TEMPORARY TABLE fresh (n {number} PRIMARY KEY, {row})"))
    connection.execute(text(f"CREATE TEMPORARY TABLE gone (n {number} PRIMARY KEY, {row}, since integer NOT NULL)"))


def drop(connection: Connection) -> None:
    """Drop the temporary tables."""
    for table in ("staged", "fresh", "gone"):
        connection.execute(text(f"DROP TABLE IF EXISTS {table}"))


def load(connection: Connection, rows: Iterator[Row]) -> None:
    """Add rows to `staged`."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "postgresql":
        driver.executemany("INSERT INTO staged VALUES (?, ?, ?)", rows)
        return
    with driver.cursor() as cursor, cursor.copy("COPY staged (part, key, traits) FROM STDIN") as copy:
        while batch := list(islice(rows, BATCH)):
            copy.write("".join([f"{part}\t{key.translate(_ESCAPES)}\t{traits}\n" for part, key, traits in batch]))


def compare_staged(connection: Connection, parts: Collection[int]) -> None:
    """Fill `fresh` and `gone` with what is staged and not listed, and what is listed in the parts and not staged."""
    if parts:  # else there is nothing to look for in what is staged
        connection.execute(text("CREATE INDEX staged_rows ON staged (part, key, traits)"))
    _prepare(connection, "staged")
    connection.execute(_FRESH_OF_STAGED)
    for part in parts:
        connection.execute(_GONE_FROM_STAGED, {"part": part})


def compare_version(connection: Connection, parts: Iterable[int], version: int) -> None:
    """Fill `fresh` and `gone` with what was listed in a version and isn't now, and the other way round."""
    _prepare(connection, "entries")
    for part in parts:
        connection.execute(_FRESH_OF_VERSION, {"part": part, "version": version})
        connection.execute(_GONE_SINCE_VERSION, {"part": part, "version": version})


def are_of_version(connection: Connection, version: int) -> bool:
    """Tell whether all that is staged was listed in a version."""
    return connection.execute(_NOT_OF_VERSION, {"version": version}).first() is None


def counts(connection: Connection, table: str) -> dict[int, int]:
    """Return how many rows a temporary table has of each part."""
    rows = connection.execute(text(f"SELECT part, count(*) FROM {table} GROUP BY part"))  # noqa: S608 - a table of ours
    return {part: int(number) for part, number in rows}


def stream(connection: Connection, part: int, version: int) -> Iterator[tuple[str, int, int]]:
    """Yield the rows (key, part, traits) that a part has in a version, as the driver hands them out."""
    in_force = f"since <= {version:d} AND (until IS NULL OR until > {version:d})"
    query = f"SELECT key, part_id, traits_id FROM entries WHERE part_id = {part:d} AND {in_force}"  # noqa: S608 - numbers
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "postgresql":
        with driver.cursor(name="entries") as cursor:
            cursor.itersize = BATCH
            yield from cursor.execute(query)
    else:
        with contextlib.closing(driver.execute(query)) as cursor:
            yield from cursor


def _prepare(connection: Connection, table: str) -> None:
    """Let Postgres plan with what the table holds now."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"ANALYZE {table}"))
        connection.execute(text("SET LOCAL work_mem = '64MB'"))
        # Statistics may be older than the rows, and a nested loop over two such tables would never end.
        connection.execute(text("SET LOCAL enable_nestloop = off"))


# Rows come in the order of the entries' primary key, so that each page is filled once. What is live has no `until`.
_FRESH_OF_STAGED = text("""
    INSERT INTO fresh (part, key, traits)
    SELECT part, key, traits FROM staged
    WHERE NOT EXISTS (
        SELECT 1 FROM entries
        WHERE part_id = staged.part AND key = staged.key AND traits_id = staged.traits AND until IS NULL
    )
    GROUP BY part, key, traits
    ORDER BY part, key, traits
""")
_GONE_FROM_STAGED = text("""
    INSERT INTO gone (part, key, traits, since)
    SELECT part_id, key, traits_id, since FROM entries
    WHERE part_id = :part AND until IS NULL AND NOT EXISTS (
        SELECT 1 FROM staged WHERE part = entries.part_id AND key = entries.key AND traits = entries.traits_id
    )
    ORDER BY key, traits_id
""")
_NOT_OF_VERSION = text("""
    SELECT 1 FROM staged
    WHERE NOT EXISTS (
        SELECT 1 FROM entries
        WHERE part_id = staged.part AND key = staged.key AND traits_id = staged.traits
        AND since <= :version AND (until IS NULL OR until > :version)
    )
    LIMIT 1
""")
_FRESH_OF_VERSION = text("""
    INSERT INTO fresh (part, key, traits)
    SELECT part_id, key, traits_id FROM entries
    WHERE part_id = :part AND since <= :version AND until > :version AND NOT EXISTS (
        SELECT 1 FROM entries AS live
        WHERE live.part_id = entries.part_id AND live.key = entries.key AND live.traits_id = entries.traits_id
        AND live.until IS NULL
    )
    ORDER BY key, traits_id
""")
_GONE_SINCE_VERSION = text("""
    INSERT INTO gone (part, key, traits, since)
    SELECT part_id, key, traits_id, since FROM entries
    WHERE part_id = :part AND since > :version AND until IS NULL AND NOT EXISTS (
        SELECT 1 FROM entries AS earlier
        WHERE earlier.part_id = entries.part_id AND earlier.key = entries.key
        AND earlier.traits_id = entries.traits_id
        AND earlier.since <= :version AND earlier.until > :version
    )
    ORDER BY key, traits_id
""")
