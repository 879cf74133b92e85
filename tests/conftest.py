"""The databases: what runs on one runs on both, a fresh SQLite file and a database on a real Postgres."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import Database
from tests.support.postgres import NoPostgresError, PostgresServer, fresh_database

BOTH = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


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
def _migrated_template(postgres_server: PostgresServer) -> str:
    url = postgres_server.create_database()
    _migrate(url)
    return url.rpartition("/")[2]


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give a database of each kind with the schema and nothing in it."""
    if request.param == "sqlite":
        path = tmp_path / "hallmonitor.db"
        shutil.copyfile(request.getfixturevalue("_migrated_file"), path)
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgres_server")
    with fresh_database(server, request.getfixturevalue("_migrated_template")) as url:
        yield url


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
