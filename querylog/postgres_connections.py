"""Connections to Postgres: taken and given back, made anew when they were lost."""

import contextlib
from collections.abc import Iterator

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from querylog.errors import StoreDownError

CONNECT_SECONDS = 5
BUSY_SECONDS = 10
# Compiling queries takes longer than they do, and each has an index that fits, whatever statistics a new day lacks.
_OPTIONS = f"-c lock_timeout={BUSY_SECONDS}s -c timezone=UTC -c synchronous_commit=on -c jit=off -c enable_seqscan=off"

# When the server, the network, the disk or an administrator is at fault. Everything else is a mistake of ours.
_DOWN = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    errors.InsufficientPrivilege,
    errors.UndefinedTable,  # retention on another node was quicker
)


class Connections:
    """Keeps connections that are idle. May be used from any thread."""

    def __init__(self, url: str) -> None:
        """Take a URL; nothing is connected yet."""
        given = conninfo_to_dict(url)
        options: dict[str, str | int] = {
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "hallmonitor log",
            "options": _OPTIONS,
        }
        # What the URL itself says goes first.
        self._conninfo = make_conninfo(url, **{name: value for name, value in options.items() if name not in given})
        self.name = f"{given.get('dbname', '')} on {given.get('host', 'this machine')}"
        """The database, for people; without user and password."""
        self._idle: list[psycopg.Connection] = []

    @contextlib.contextmanager
    def connection(self) -> Iterator[psycopg.Connection]:
        """Give a connection, every statement of which commits by itself. Raises `StoreDownError`."""
        try:
            connection = self._living() or psycopg.connect(self._conninfo, autocommit=True)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)
        except _DOWN as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise StoreDownError(f"the log database {self.name} can't be used: {reason}") from error

    def close(self) -> None:
        """Close those that are idle."""
        while self._idle:
            self._idle.pop().close()

    def _living(self) -> psycopg.Connection | None:
        """Return an idle connection that still answers; None when there is none."""
        while self._idle:
            connection = self._idle.pop()
            try:
                connection.execute("SELECT")
            except psycopg.Error:  # the server was restarted
                connection.close()
            else:
                return connection
        return None
