"""What several of these tests stand on: a node, listeners, a published policy, a journal and its store."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.publisher import Publisher
from querylog.shipper import Shipper
from querylog.store import LogStore
from querylog.store_postgres import PostgresLogStore
from querylog.store_sqlite import SqliteLogStore
from storage.database import Database
from tests.conftest import BOTH
from tests.integration.node import Node
from tests.support.certificates import Authority, Identity
from tests.support.fake_upstream import FakeUpstream
from tests.support.policies import set_up
from tests.support.publishing import make
from tests.unit.policy.build import Listed, block
from tests.unit.resolver.bench import ONE_UPSTREAM, Bench, make_bench, network_at

PATIENT = {"upstream": ONE_UPSTREAM | {"failover_ms": 10_000, "try_timeout_ms": 10_000, "deadline_ms": 30_000}}
"""The upstream's answer is the test's to give, and however long that takes it is asked once."""


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def node(tmp_path: Path, upstream: FakeUpstream) -> Iterator[Node]:
    """Give a node whose workers are started by the test."""
    node = Node(tmp_path / "node", upstream)
    yield node
    for worker in node.workers:
        worker.close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Give an engine that blocks one name."""
    lists = [Listed("list", "adult", [block("bad.example")])]
    made = make_bench(tmp_path, network_at(monkeypatch), document=PATIENT, lists=lists)
    yield made
    made.journal.close()


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """Give the certificate of our own listeners."""
    return Authority(tmp_path_factory.mktemp("authority")).issue("dns.example", "127.0.0.1")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Give the directory that a policy is published to."""
    made = tmp_path / "policy"
    made.mkdir()
    return made


@pytest.fixture
def publisher(sqlite_database: Database, directory: Path) -> Publisher:
    """Give a publisher of a database that lists one name."""
    set_up(sqlite_database, "bad.example")
    return make(sqlite_database, directory)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Give where a journal's segments are to be."""
    return tmp_path / "journal"


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    """Give a store of each kind, empty."""
    if request.param == "sqlite":
        opened: LogStore = SqliteLogStore(tmp_path / "log")
    else:
        opened = PostgresLogStore(request.getfixturevalue("postgres_url"))
    with opened:
        yield opened


@pytest.fixture
def shipper(journal: Path, store: LogStore) -> Iterator[Shipper]:
    with contextlib.closing(Shipper(journal, store, "node")) as opened:
        yield opened
