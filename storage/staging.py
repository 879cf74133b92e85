"""Rows by the million: into a temporary table, from there into the entries, and out again as a stream.

The one place that talks to the drivers themselves: a list goes in by SQLite's `executemany` or Postgres's COPY, both
several times faster than a statement built for each batch.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, text

from policy.names import key_of
from policy.rules import Rule, Traits
from storage.database import Change
from storage.errors import InvalidError

BATCH = 10_000
MAX_KEY = 2600
"""Octets: a row of a Postgres index holds no more than 2,704 (a third of a page)."""

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})  # COPY's text format


@contextlib.contextmanager
def staged(change: Change, rules: Iterable[Rule]) -> Iterator["Staged"]:
    """Take rules into temporary tables, before the change's lock where it isn't held yet."""
    connection = change.unlocked or change.connection
    traits: dict[Traits, int] = {}
    rows = _rows(rules, traits)
    if connection.dialect.name == "postgresql":
        _load_postgres(connection, rows)
        yield Staged(change, traits)
        connection.execute(text("DROP TABLE staged, staged_traits"))  # a rollback drops them by itself
        return
    try:
        _load_sqlite(connection, rows, alone=change.unlocked is not None)
        yield Staged(change, traits)
        _drop_sqlite(connection)
    except BaseException:
        connection.invalidate()  # the tables go with it, and nobody goes on with half a change
        raise


class Staged:
    """A list in the temporary tables `staged` (key, number) and `staged_traits` (number, id)."""

    def __init__(self, change: Change, traits: dict[Traits, int]) -> None:
        self.traits = traits
        """All traits that occur, each with its number here: 0, 1, 2 in their order."""
        self._change = change

    def number(self, ids: Sequence[int]) -> None:
        """Say which id each of the traits has in the database."""
        if ids:
            rows = [{"number": number, "id": found} for number, found in enumerate(ids)]
            self._change.connection.execute(text("INSERT INTO staged_traits VALUES (:number, :id)"), rows)

    def count(self) -> int:
        """Return how many different rows there are."""
        query = "SELECT count(*) FROM (SELECT DISTINCT key, number FROM staged) AS different"
        return int(self._change.connection.exec_driver_sql(query).scalar_one())

    def insert_new(self, source_id: int) -> int:
        """Insert what the source hasn't got; return how many rows that were."""
        connection = self._change.connection
        statement = _INSERT_NEW_POSTGRES if connection.dialect.name == "postgresql" else _INSERT_NEW_SQLITE
        return connection.execute(statement, {"source": source_id}).rowcount

    def delete_gone(self, source_id: int) -> None:
        """Delete what the list holds no more."""
        self._change.connection.execute(_DELETE_GONE, {"source": source_id})


# Both insert in the order of the primary key, so that each page is filled once; each way was measured to be the
# faster one on its database, by half. WHERE true keeps SQLite from reading ON as a join's.
_INSERT_NEW_SQLITE = text("""
    INSERT INTO entries (source_id, key, traits_id)
    SELECT :source, staged.key, staged_traits.id
    FROM staged JOIN staged_traits ON staged_traits.number = staged.number
    WHERE true
    ORDER BY staged.key, staged.number
    ON CONFLICT DO NOTHING
""")
_INSERT_NEW_POSTGRES = text("""
    INSERT INTO entries (source_id, key, traits_id)
    SELECT DISTINCT CAST(:source AS bigint), staged.key, staged_traits.id
    FROM staged JOIN staged_traits ON staged_traits.number = staged.number
    WHERE NOT EXISTS (
        SELECT 1 FROM entries
        WHERE entries.source_id = :source AND entries.key = staged.key AND entries.traits_id = staged_traits.id
    )
    ORDER BY staged.key, staged_traits.id
""")
_DELETE_GONE = text("""
    DELETE FROM entries
    WHERE source_id = :source AND NOT EXISTS (
        SELECT 1 FROM staged JOIN staged_traits ON staged_traits.number = staged.number
        WHERE staged.key = entries.key AND staged_traits.id = entries.traits_id
    )
""")


def stream(connection: Connection, source_id: int) -> Iterator[tuple[str, int, int]]:
    """Yield a source's rows (key, source_id, traits_id) as the driver hands them out."""
    query = "SELECT key, source_id, traits_id FROM entries WHERE source_id = "
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "postgresql":
        with driver.cursor(name="entries") as cursor:
            cursor.itersize = BATCH
            yield from cursor.execute(query + "%s", (source_id,))
    else:
        with contextlib.closing(driver.execute(query + "?", (source_id,))) as cursor:
            yield from cursor


def _rows(rules: Iterable[Rule], numbers: dict[Traits, int]) -> Iterator[tuple[str, int]]:
    last: Traits | None = None
    number = 0
    for name, traits, pattern in rules:
        if traits is not last:  # most follow one with the very same object, and hashing one costs more than the rest
            last = traits
            number = numbers.setdefault(traits, len(numbers))
        yield _pattern_key(name) if pattern else key_of(name), number


def _pattern_key(expression: str) -> str:
    key = f"/{expression}/"
    if "\0" in key or len(key.encode()) > MAX_KEY:
        raise InvalidError("rules", f"an expression that can't be stored: {expression[:80]!r}")
    return key


def _load_sqlite(connection: Connection, rows: Iterator[tuple[str, int]], *, alone: bool) -> None:
    """Write to the temporary database only: another writer of the real one neither waits nor is waited for."""
    driver: Any = connection.connection.driver_connection
    if alone:
        driver.execute("BEGIN")
    _drop_sqlite(connection)  # a rollback brings back what was dropped since
    driver.execute("CREATE TEMP TABLE staged (key TEXT NOT NULL, number INTEGER NOT NULL)")
    driver.execute("CREATE TEMP TABLE staged_traits (number INTEGER PRIMARY KEY, id INTEGER NOT NULL)")
    driver.executemany("INSERT INTO staged VALUES (?, ?)", rows)
    driver.execute("CREATE INDEX temp.staged_rows ON staged (key, number)")
    if alone:
        driver.execute("COMMIT")


def _drop_sqlite(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    driver.execute("DROP TABLE IF EXISTS temp.staged")
    driver.execute("DROP TABLE IF EXISTS temp.staged_traits")


def _load_postgres(connection: Connection, rows: Iterator[tuple[str, int]]) -> None:
    connection.execute(text('CREATE TEMP TABLE staged (key text COLLATE "C" NOT NULL, number bigint NOT NULL)'))
    connection.execute(text("CREATE TEMP TABLE staged_traits (number bigint PRIMARY KEY, id bigint NOT NULL)"))
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy("COPY staged (key, number) FROM STDIN") as copy:
        while batch := list(islice(rows, BATCH)):
            copy.write("".join([f"{key.translate(_ESCAPES)}\t{number}\n" for key, number in batch]))
    connection.execute(text("ANALYZE staged, staged_traits"))
    connection.execute(text("SET LOCAL work_mem = '64MB'"))
    # Statistics may not know the source's rows yet, and a nested loop over two such tables would never end.
    connection.execute(text("SET LOCAL enable_nestloop = off"))
