"""The database itself: connections, transactions, and the two versions that tell what changed.

Every change runs alone: SQLite has one writer anyway, and on Postgres a change holds the row of the versions. So
versions rise in the order in which changes become visible, on every node, and a repository may read, check and
write without a race. Readers see one moment and never wait.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import DatabaseError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from storage import schema
from storage.engine import BEGIN, WAIT, create, set_durable, steps_alone
from storage.errors import DatabaseDownError


class PolicyState(NamedTuple):
    """What is stored now, as two numbers that only rise."""

    policy_version: int
    """Rises with every change that a decision could depend on."""
    entries_version: int
    """Rises with every change that the index must be compiled anew for: of a list's rules."""


class Change:
    """One transaction and who makes it. The lock is taken when `connection` is first asked for.

    Until then others may change the database too, so that what takes long (parsing and staging a list) goes first.
    """

    def __init__(self, connection: Connection, actor: str, now: int) -> None:
        self.actor = actor
        self.now = now
        self._connection = connection
        self._state: PolicyState | None = None
        self._policy_changed = False
        self._entries_changed = False

    @property
    def connection(self) -> Connection:
        """The connection, inside the transaction and with the lock held."""
        self._locked()
        return self._connection

    @property
    def unlocked(self) -> Connection | None:
        """The connection while nothing of the database has been read or written; None once the lock is held."""
        return self._connection if self._state is None else None

    @property
    def policy_version(self) -> int:
        """The policy version in which this change will be visible."""
        return self._locked().policy_version + self._policy_changed

    def policy_changed(self) -> None:
        """Say that a decision may come out differently from now on."""
        self._write_state(policy=True, entries=self._entries_changed)

    def entries_changed(self) -> None:
        """Say that the index must be compiled anew; each node raises the policy version once it goes by its own."""
        self._write_state(policy=self._policy_changed, entries=True)

    def _locked(self) -> PolicyState:
        """Take the lock if it isn't held yet; return the versions before this change."""
        if self._state is None:
            query = select(schema.state.c.policy_version, schema.state.c.entries_version).with_for_update()
            self._state = PolicyState(*self._connection.execute(query).one())
        return self._state

    def _write_state(self, *, policy: bool, entries: bool) -> None:
        before = self._locked()
        if (policy, entries) == (self._policy_changed, self._entries_changed):
            return
        self._policy_changed, self._entries_changed = policy, entries
        self._connection.execute(
            update(schema.state).values(
                policy_version=before.policy_version + policy,
                entries_version=before.entries_version + entries,
            )
        )


class Steps:
    """One connection and its transactions, one after the other."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_sqlite = connection.dialect.name == "sqlite"

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Run a transaction that writes to temporary tables alone, and so keeps nobody waiting."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Run a short transaction that need not outlive a power cut before a later `change` does."""
        with self._transaction("BEGIN IMMEDIATE", durable=False) as connection:
            yield connection

    @contextlib.contextmanager
    def change(self, actor: str) -> Iterator[Change]:
        """Run one change, as `Database.change` does; all that was written before is as durable as it is."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield Change(connection, actor, now())

    def rest(self, seconds: float) -> None:
        """Let other writers of SQLite have their turn; Postgres's need none."""
        if self._is_sqlite:
            time.sleep(seconds)

    @contextlib.contextmanager
    def _transaction(self, begin: str, *, durable: bool = True) -> Iterator[Connection]:
        set_durable(self._connection, durable=durable)
        self._connection.execution_options(**{BEGIN: begin})
        with self._connection.begin():
            yield self._connection


class Database:
    """A configuration database, by its URL; may be used from any thread.

    `sqlite:///absolute/path` or `postgresql://user:secret@host/db`. Nothing is opened before it is needed. Raises
    `ValueError` when the URL is of another kind.
    """

    def __init__(self, url: str) -> None:
        self._engine = create(url)
        # What is raised when the database is at fault, or out of reach; the driver's own come from `entries`.
        driver = self._engine.dialect.loaded_dbapi
        ours = (OperationalError, InterfaceError, InternalError)
        self._out_of_order = (*ours, driver.OperationalError, driver.InterfaceError)
        plain = self._engine.url.set(drivername=self._engine.dialect.name)
        self.name = plain.render_as_string(hide_password=True)
        """The URL without its password, for people."""

    def __repr__(self) -> str:
        return f"<Database {self.name}>"

    @property
    def is_sqlite(self) -> bool:
        """Tell which of the two it is."""
        return self._engine.dialect.name == "sqlite"

    def migrate(self) -> None:
        """Bring the schema to this version's. Safe when several processes or nodes do so at once."""
        with self._translated(), self._writing() as connection:
            if not is_current(connection):
                from storage.migrations import upgrade  # noqa: PLC0415 - loading Alembic takes longer than most commands

                upgrade(connection)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one moment. Raises `DatabaseDownError` as everything here does."""
        with self._translated(), self._engine.connect() as connection:
            yield self._snapshot(connection)

    @contextlib.contextmanager
    def change(self, actor: str) -> Iterator[Change]:
        """Run one change: stored whole when the block ends, not at all when it raises."""
        with self._translated(), self._writing() as connection:
            yield Change(connection, actor, now())

    @contextlib.contextmanager
    def note(self, *, wait: bool = True) -> Iterator[Connection]:
        """Write bookkeeping that is no change of configuration: no lock on Postgres, no version, no audit.

        Without `wait` it raises `DatabaseDownError` at once when SQLite's one writer is somebody else.
        """
        with self._translated(), self._writing(wait=wait) as connection:
            yield connection

    @contextlib.contextmanager
    def steps(self) -> Iterator["Steps"]:
        """Give one connection for several transactions in a row, with temporary tables; one at a time has them.

        Others wait for their turn, on every node, for as long as it takes. What it writes is no change but where it
        says so.
        """
        with self._translated(), self._engine.connect() as connection, steps_alone(connection):
            try:
                yield Steps(connection)
            except BaseException:
                connection.invalidate()  # whatever it was in the midst of ends with it, temporary tables too
                raise

    def state(self) -> PolicyState:
        """Return the versions."""
        with self.reading() as connection:
            return read_state(connection)

    def ping(self) -> None:
        """Raise `DatabaseDownError` unless the database answers."""
        with self.reading() as connection:
            connection.exec_driver_sql("SELECT 1")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _writing(self, *, wait: bool = True) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            yield connection.execution_options(**{BEGIN: "BEGIN IMMEDIATE", WAIT: wait})
            connection.commit()

    def _snapshot(self, connection: Connection) -> Connection:
        if self.is_sqlite:
            return connection
        return connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeoutError as error:
            raise DatabaseDownError(f"the database {self.name} has no connection to spare") from error
        except self._out_of_order as error:
            raise self._down(error) from error
        except DatabaseError as error:
            if type(error) is DatabaseError:  # a damaged file; its subclasses are mistakes of ours
                raise self._down(error) from error
            raise

    def _down(self, error: Exception) -> DatabaseDownError:
        cause = getattr(error, "orig", None) or error
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        return DatabaseDownError(f"the database {self.name} can't be used: {lines[0].strip()}")


def is_current(connection: Connection) -> bool:
    """Tell whether the schema is this version's, by the table in which Alembic keeps its revision."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return False
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == schema.REVISION


def read_state(connection: Connection) -> PolicyState:
    """Return the versions as this connection sees them."""
    query = select(schema.state.c.policy_version, schema.state.c.entries_version)
    return PolicyState(*connection.execute(query).one())


def now() -> int:
    """Return the time: microseconds since the epoch, UTC."""
    return time.time_ns() // 1000
