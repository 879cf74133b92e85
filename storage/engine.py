"""How the two databases are opened, and what each needs so that they behave alike."""

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError

BUSY_SECONDS = 10
_LOOK_SECONDS = 0.002
_STEPS_LOCK = 0x484D_0002
CONNECT_SECONDS = 5
BEGIN = "hallmonitor_begin"
"""The execution option that says how SQLite is to begin; without it a transaction reads."""
WAIT = "hallmonitor_wait"
"""The execution option that says whether SQLite's one writer is waited for; without it it is."""


def create(url: str) -> Engine:
    """Return the engine for a URL. Raises `ValueError` when it is for neither SQLite nor Postgres."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError("not a database URL: write sqlite:///path or postgresql://user:secret@host/db") from error
    backend = parsed.drivername.partition("+")[0]
    if backend == "sqlite":
        return _sqlite(parsed)
    if backend in {"postgresql", "postgres"}:
        return _postgres(parsed)
    raise ValueError(
        f"unknown kind of database {backend[:80]!r}: write sqlite:///path or postgresql://user:secret@host/db"
    )


def _postgres(url: URL) -> Engine:
    options = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "hallmonitor",
        "options": f"-c lock_timeout={BUSY_SECONDS}s -c timezone=UTC",
    }
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        # What the URL itself says goes first.
        connect_args={name: value for name, value in options.items() if name not in url.query},
        pool_pre_ping=True,  # a server that was restarted costs no failed request
        pool_timeout=BUSY_SECONDS,
        hide_parameters=True,  # values have no place in a traceback
    )


def _sqlite(url: URL) -> Engine:
    if not url.database or not Path(url.database).is_absolute():
        raise ValueError("the path of an SQLite database must be absolute: sqlite:////var/lib/hallmonitor.db")
    path = Path(url.database)
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite"),
        # We say BEGIN ourselves: left to itself the driver begins before some statements and not before others.
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None},
        pool_timeout=BUSY_SECONDS,
        hide_parameters=True,
    )

    @event.listens_for(engine, "do_connect")
    def _create(*_: Any) -> None:  # noqa: ANN401 - the event's own arguments, none of them used
        with contextlib.suppress(OSError):  # SQLite says better than we could what is wrong with a path
            # Born unreadable for others; SQLite gives its -wal and -shm the mode of the file. One that is there is
            # never opened: closing any descriptor of a file drops this process's locks on it, SQLite's own among them.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o640))

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: object) -> None:
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")  # an administrator's change outlives a power cut
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_size_limit = 67108864")  # a large refresh doesn't leave a large file

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        begin = options.get(BEGIN, "BEGIN")
        if begin == "BEGIN":
            connection.exec_driver_sql(begin)
        else:
            _begin_writing(connection, begin, BUSY_SECONDS if options.get(WAIT, True) else 0)

    return engine


def _begin_writing(connection: Connection, begin: str, patience: float) -> None:
    """Become SQLite's one writer. It is waited for here, since SQLite itself looks but ten times a second.

    A list that is loaded leaves the writer's place free for moments only.
    """
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA busy_timeout = 0")
    give_up_at = time.monotonic() + patience
    try:
        while True:
            try:
                connection.exec_driver_sql(begin)
            except OperationalError as error:
                if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() >= give_up_at:
                    raise
                time.sleep(_LOOK_SECONDS)
            else:
                return
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")


@contextlib.contextmanager
def steps_alone(connection: Connection) -> Iterator[None]:
    """Hold what one connection of all has at a time: an advisory lock of Postgres, a file beside SQLite's."""
    if connection.dialect.name == "postgresql":
        driver: Any = connection.connection.driver_connection
        try:
            driver.execute("SET lock_timeout = 0")
            driver.execute("SELECT pg_advisory_lock(%s)", (_STEPS_LOCK,))
            driver.execute(f"SET lock_timeout = '{BUSY_SECONDS}s'")
            driver.commit()
        except BaseException:
            connection.invalidate()  # what broke off may have been granted; and the pool has nothing to tidy then
            raise
        try:
            yield
        finally:
            if not connection.invalidated:  # else it is closed, and its locks are gone
                driver.execute("SELECT pg_advisory_unlock(%s)", (_STEPS_LOCK,))
                driver.commit()
        return
    with Path(f"{connection.engine.url.database}-loading").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def set_durable(connection: Connection, *, durable: bool) -> None:
    """Say whether what is committed from now on must outlive a power cut at once, or once something later does."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "postgresql":
        driver.execute(f"SET synchronous_commit = {'on' if durable else 'off'}")
        driver.commit()
    else:
        driver.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn on the write-ahead log, in which readers and the writer don't wait for each other.

    The file remembers it, so it is turned on once. SQLite's own waiting doesn't cover that: two processes that
    open a new file together would fail one of them.
    """
    if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        return
    give_up_at = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.02)
        else:
            return
