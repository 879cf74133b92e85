"""Fixtures for tests of the installed command: one upstream and one server for each module, to keep them few."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_upstream import FakeUpstream
from tests.support.postgres import PostgresServer, fresh_database
from tests.support.server import HallMonitor

PATIENCE = {"upstream": {"try_timeout_ms": 3000, "failover_ms": 3000}}
"""So that a machine that stands still for a second has no query sent twice, which tests count."""

BOTH = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    """Give a name server that answers any name, until a test has it do otherwise."""
    with FakeUpstream() as server:
        yield server


@pytest.fixture(scope="module", params=BOTH)
def server_database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give what the configuration says for each kind of database: nothing for SQLite."""
    if request.param == "sqlite":
        yield ""
        return
    postgres: PostgresServer = request.getfixturevalue("postgres_server")
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture(scope="module")
def server(
    upstream: FakeUpstream, server_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HallMonitor]:
    """Give a running server on each kind of database; what a test changes, it changes back or leaves alone."""
    directory = tmp_path_factory.mktemp("server")
    with HallMonitor(
        directory, upstreams=[upstream.url], workers=2, database_url=server_database_url, settings=PATIENCE
    ) as running:
        yield running


@pytest.fixture(scope="module")
def sqlite_server(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HallMonitor]:
    """Give a running server on SQLite alone, for what has nothing to do with the database."""
    with HallMonitor(tmp_path_factory.mktemp("server"), upstreams=[upstream.url], settings=PATIENCE) as running:
        yield running


@pytest.fixture
def stopped_server(upstream: FakeUpstream, tmp_path: Path) -> Iterator[HallMonitor]:
    """Give a server that is configured and does not run, for what it does when it starts and ends."""
    server = HallMonitor(tmp_path / "server", upstreams=[upstream.url])
    yield server
    server.close()
