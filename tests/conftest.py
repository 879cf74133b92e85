"""The databases: what runs on one runs on both, a fresh SQLite file and a database on a real Postgres.

And what all tests by Hypothesis have in common: no example may be too slow, on a machine that does other things too.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from control import first_start
from storage.database import Database
from storage.schema import metadata
from tests.support.postgres import NoPostgresError, PostgresServer, fresh_database

BOTH = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the whole session, started when the first test asks for it."""
    try:
        server = PostgresServer()
    except NoPostgresError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Give a fresh, empty database on Postgres."""
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture(params=BOTH)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give a database of each kind that holds nothing, not even a schema."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'hallmonitor.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def _migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "hallmonitor.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def _begun_file(tmp_path_factory: pytest.TempPathFactory, _migrated_file: Path) -> Path:
    path = Path(shutil.copyfile(_migrated_file, tmp_path_factory.mktemp("begun") / "hallmonitor.db"))
    database = Database(f"sqlite:///{path}")
    first_start.prepare(database)
    database.close()
    return path


@pytest.fixture
def begun(tmp_path: Path, _begun_file: Path) -> Path:
    """Give a directory whose state, in `var`, is what a first start leaves before it publishes."""
    (tmp_path / "var").mkdir()
    shutil.copyfile(_begun_file, tmp_path / "var" / "hallmonitor.db")
    return tmp_path


@pytest.fixture(scope="session")
def _migrated_url(postgres_server: PostgresServer) -> str:
    url = postgres_server.create_database()
    _migrate(url)
    return url


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give a database of each kind with the schema and nothing in it."""
    if request.param == "sqlite":
        path = tmp_path / "hallmonitor.db"
        shutil.copyfile(request.getfixturevalue("_migrated_file"), path)
        return f"sqlite:///{path}"
    url = str(request.getfixturevalue("_migrated_url"))
    _empty(url)
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Give a database of each kind, open."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(tmp_path: Path, _migrated_file: Path) -> Iterator[Database]:
    """Give a database on SQLite alone, for what doesn't depend on the kind."""
    path = tmp_path / "hallmonitor.db"
    shutil.copyfile(_migrated_file, path)
    opened = Database(f"sqlite:///{path}")
    yield opened
    opened.close()


def _migrate(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.close()


def _empty(url: str) -> None:
    """Bring the session's database back to what the migrations left: a tenth of the time that a new one takes."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        present = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        ours = [table.name for table in reversed(metadata.sorted_tables) if table.name != "state"]
        foreign = {name for (name,) in present} - {*ours, "state", "alembic_version"}
        statements = [f'DROP TABLE IF EXISTS "{name}" CASCADE' for name in foreign]
        statements += [f'DELETE FROM "{name}"' for name in ours]
        statements += ["UPDATE state SET policy_version = 1, entries_version = 1"]
        connection.execute(";".join(statements).encode())


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name octets by their parameter: what is packed differs from second to second, and all processes must agree."""
    return argname if isinstance(val, bytes) else None
