"""A private Postgres for a test session: in a temporary directory, on loopback, gone afterwards."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import psycopg

from tests.support.server import free_port

START_SECONDS = 60
USER = "hallmonitor"

# Durability is what these servers don't need.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "warning",
}


class NoPostgresError(Exception):
    """There is no Postgres on this machine to start."""


class PostgresServer:
    """One server with as many databases as are asked for. Each instance is a process of its own."""

    def __init__(self) -> None:
        """Start it. Raises `NoPostgresError` when none is installed, `RuntimeError` when it doesn't come up."""
        self._programs = _programs()
        self._as = _unprivileged()
        self.directory = Path(tempfile.mkdtemp(prefix="hallmonitor-postgres-"))
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if self._as is not None:
                os.chown(self.directory, *self._as)
            self._initialise()
            self.port = free_port()
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def url(self, database: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://{USER}:not-checked@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """Create a fresh database and return its URL."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database, whoever is connected to it still."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run a statement outside of any transaction."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def start(self) -> None:
        """Start the server, the first time or after `stop`; returns once it answers."""
        command: list[str | Path] = [self._programs / "postgres"]
        command += ["-D", self._data, "-p", str(self.port), "-k", self.directory]
        for name, value in _SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            self._process = self._spawn(command, log)
        give_up_at = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"Postgres did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server at once (an immediate shutdown), as a failing machine would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def close(self) -> None:
        """Stop the server and remove all that it left."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"

    def _initialise(self) -> None:
        command: list[str | Path] = [self._programs / "initdb", "-D", self._data, "-U", USER, "-A", "trust"]
        with self._log.open("ab") as log:
            code = self._spawn([*command, "-E", "UTF8", "--locale=C", "--no-sync"], log).wait()
        if code:
            raise RuntimeError(f"initdb failed:\n{self._log.read_text()[-2000:]}")

    def _spawn(self, command: list[str | Path], log: BinaryIO) -> subprocess.Popen[bytes]:
        user, group = self._as or (None, None)
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
        )

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            self.execute("SELECT 1")
            return True
        return False


@contextlib.contextmanager
def fresh_database(server: PostgresServer) -> Iterator[str]:
    """Give the URL of a database that is dropped afterwards."""
    url = server.create_database()
    try:
        yield url
    finally:
        server.drop_database(url)


def _programs() -> Path:
    """Return the directory of the newest Postgres installed, whose programs are often not on the path."""
    installed = {
        int(found[1]): directory
        for directory in Path("/usr/lib/postgresql").glob("*/bin")
        if (found := re.fullmatch(r"(\d+)", directory.parent.name)) and (directory / "initdb").exists()
    }
    if installed:
        return installed[max(installed)]
    on_path = shutil.which("initdb")
    if on_path is None:
        raise NoPostgresError("no Postgres is installed (neither in /usr/lib/postgresql nor on the path)")
    return Path(on_path).resolve().parent


def _unprivileged() -> tuple[int, int] | None:
    """Return the user and group to run as, where we are root: Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise NoPostgresError("running as root, and there is no user 'postgres' or 'nobody' to run Postgres as")
