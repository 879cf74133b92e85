"""The process that compiles a large index: how it is told, and what becomes of it when anything fails."""

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from control import compiling
from control.errors import PublishError
from control.publisher import WORKPLACE, Publisher
from policy.index import Index
from storage.database import Database
from tests.support.policies import fill, set_up, verdict
from tests.support.processes import arguments, eventually, is_alive, kill

ROOT = Path(__file__).parents[2]
NAMES = [f"n{number}.example" for number in range(50_000)]


@pytest.fixture(autouse=True)
def _always_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "SMALL", -1)
    monkeypatch.setattr(compiling, "compile_from", None)  # it would fail here


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url)
    database.migrate()
    yield database
    database.close()


def jobs_of(parent: int) -> list[int]:
    """Return the processes that compile for another."""
    children = " ".join(path.read_text() for path in Path(f"/proc/{parent}/task").glob("*/children"))
    return [pid for pid in map(int, children.split()) if "blocklists.compiling" in arguments(pid)]


@contextmanager
def held_up(url: str) -> Iterator[None]:
    """Keep everyone from reading entries: whoever compiles waits, up to the lock's limit of 10 s."""
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE entries IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


def failure(publisher: Publisher, meanwhile: Callable[[int], None]) -> str:
    """Return why compiling fails, when that is done to its process."""
    found: list[str] = []

    def compile_it() -> None:
        try:
            publisher.compile()
        except PublishError as error:
            found.append(str(error))

    thread = threading.Thread(target=compile_it)
    thread.start()
    try:
        [job] = eventually(lambda: jobs_of(os.getpid()))
        meanwhile(job)
    finally:
        thread.join(30)
    assert not thread.is_alive()
    assert not is_alive(job)
    [error] = found
    return error


def test_compiles_what_the_database_holds(database: Database, database_url: str, directory: Path) -> None:
    set_up(database, "bad.example", "worse.example")
    publisher = Publisher(database, database_url, directory, "students")
    publisher.compile()
    published = publisher.publish()
    assert published.entries_version == database.state().entries_version
    assert Index.open(published.index).names == 2
    assert verdict(publisher.snapshot(), "bad.example") == "blocked"


def test_database_that_cannot_be_read_is_told_in_one_sentence(
    sqlite_database: Database, directory: Path, tmp_path: Path
) -> None:
    set_up(sqlite_database, "bad.example")
    astray = Publisher(sqlite_database, f"sqlite:///{tmp_path}/no/such.db", directory, "students")
    with pytest.raises(PublishError) as caught:
        astray.compile()
    expected = f"the index could not be compiled: the database sqlite:///{tmp_path}/no/such.db can't be used: "
    assert str(caught.value) == expected + "unable to open database file"


def test_full_disk_is_told_and_leaves_the_last_policy(
    sqlite_database: Database, directory: Path, tmp_path: Path
) -> None:
    """A limit of the size of files stands for it: it fails at the same call."""
    source = set_up(sqlite_database, "bad.example")
    publisher = Publisher(sqlite_database, sqlite_database.name, directory, "students")
    publisher.compile()
    before = publisher.publish(), sqlite_database.state().policy_version
    fill(sqlite_database, source, NAMES)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(PublishError, match=r"^the index could not be compiled: File too large$"):
            publisher.compile()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (publisher.publish(), sqlite_database.state().policy_version) == before
    assert not (directory / WORKPLACE).exists()
    publisher.compile()
    assert verdict(publisher.snapshot(), NAMES[0]) == "blocked"


@pytest.mark.postgres
def test_killed_process_is_told(postgres: Database, postgres_url: str, directory: Path) -> None:
    set_up(postgres, "bad.example")
    publisher = Publisher(postgres, postgres_url, directory, "students")
    with held_up(postgres_url):
        error = failure(publisher, lambda job: kill([job]))
    assert error == "the index could not be compiled: its process was ended by signal 9"
    publisher.compile()
    assert verdict(publisher.snapshot(), "bad.example") == "blocked"


@pytest.mark.postgres
def test_process_that_hangs_is_ended(
    postgres: Database, postgres_url: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(postgres, "bad.example")
    monkeypatch.setattr(compiling, "COMPILE_SECONDS", 3.0)  # time enough to find it
    publisher = Publisher(postgres, postgres_url, directory, "students")
    with held_up(postgres_url):
        error = failure(publisher, lambda job: kill([job], signal.SIGSTOP))
    assert error == "the index could not be compiled: it took longer than 3 s"


@pytest.mark.postgres
def test_process_ends_when_it_is_told_to_stop_and_none_begins_after(
    postgres: Database, postgres_url: str, directory: Path
) -> None:
    set_up(postgres, "bad.example")
    publisher = Publisher(postgres, postgres_url, directory, "students")
    with held_up(postgres_url):
        failure(publisher, lambda _: publisher.stop())
        with pytest.raises(PublishError):
            publisher.compile()


@pytest.mark.postgres
def test_database_that_goes_meanwhile_is_told(postgres: Database, postgres_url: str, directory: Path) -> None:
    set_up(postgres, "bad.example")
    publisher = Publisher(postgres, postgres_url, directory, "students")

    def go(_: int) -> None:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            eventually(lambda: connection.execute(query).fetchall())

    with held_up(postgres_url):
        error = failure(publisher, go)
    assert error.startswith("the index could not be compiled: the database postgresql://")
    assert "can't be used: " in error
    assert "\n" not in error


COMPILES = """
import sys
from pathlib import Path
from control import compiling
from control.publisher import Publisher
from storage.database import Database
compiling.SMALL = -1
Publisher(Database(sys.argv[1]), sys.argv[1], Path(sys.argv[2]), "students").compile()
"""


@pytest.mark.postgres
def test_process_does_not_outlive_a_parent_that_is_killed(
    postgres: Database, postgres_url: str, directory: Path
) -> None:
    set_up(postgres, "bad.example")
    with (
        held_up(postgres_url),
        subprocess.Popen([sys.executable, "-c", COMPILES, postgres_url, str(directory)], cwd=ROOT) as parent,
    ):
        [job] = eventually(lambda: jobs_of(parent.pid))
        parent.kill()
        eventually(lambda: not is_alive(job), 9)  # left to itself it would wait for the lock, 10 s
    publisher = Publisher(postgres, postgres_url, directory, "students")
    publisher.compile()
    assert not (directory / WORKPLACE).exists()
    assert verdict(publisher.snapshot(), "bad.example") == "blocked"
