"""A database that is away: at the start, later, and back again. Answers, filtering and the journal go on."""

from collections.abc import Iterator

import pytest

from tests.support.behaviours import computed_rdata
from tests.support.dns_client import dig, udp
from tests.support.fake_upstream import FakeUpstream
from tests.support.postgres import NoPostgresError, PostgresServer
from tests.support.processes import eventually
from tests.support.server import HallMonitor

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """Give a server of our own, which we may stop."""
    request.getfixturevalue("postgres_server")  # skips where there is none, and fails in CI
    try:
        server = PostgresServer()
    except NoPostgresError as error:
        pytest.fail(str(error))
    with server:
        yield server


@pytest.fixture(scope="module")
def hall(
    postgres: PostgresServer, upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HallMonitor]:
    """Give a service on that Postgres. The tests here are one story, in their order."""
    server = HallMonitor(
        tmp_path_factory.mktemp("server"), upstreams=[upstream.url], database_url=postgres.create_database()
    )
    yield server
    server.close()


@pytest.fixture
def down(postgres: PostgresServer) -> Iterator[None]:
    """Stop the database meanwhile."""
    postgres.stop()
    yield
    postgres.start()


def said(server: HallMonitor, text: str) -> int:
    return sum(text in line for line in server.output().splitlines())


def names(server: HallMonitor, subtree: str) -> list[str]:
    """Return the names that the log has; none while it is away still."""
    reply = server.api("GET", f"/lookups?subtree={subtree}")
    assert reply.status in {200, 503}, reply.body
    return sorted(record["qname"] for record in reply.json()["items"]) if reply.status == 200 else []


def test_a_first_start_waits_and_says_so_once(hall: HallMonitor, postgres: PostgresServer) -> None:
    postgres.stop()
    try:
        hall.start(wait=False)
        eventually(lambda: said(hall, "waiting for the database"))
        assert not hall.answers(), "there is no policy yet that it could answer by"
        assert hall.process is not None
        assert hall.process.poll() is None
    finally:
        postgres.start()
    hall.wait_until_ready()
    assert said(hall, "waiting for the database") == 1
    assert said(hall, "the database answers") == 1
    assert "not-checked" not in hall.output(), "no password is shown"
    assert "Traceback" not in hall.output()
    assert dig(hall.dns, "pokerstars.com").rdata == ["0.0.0.0"]


def test_one_that_waits_can_be_stopped(hall: HallMonitor, upstream: FakeUpstream, down: None) -> None:
    nowhere = hall.directory / "waiting"
    other = HallMonitor(nowhere, upstreams=[upstream.url], database_url="postgresql://nobody:x@127.0.0.1:9/none")
    try:
        other.start(wait=False)
        eventually(lambda: said(other, "waiting for the database"))
        assert other.terminate() == 0
    finally:
        other.close()


def test_when_it_goes_down_later_all_goes_on_but_changes(hall: HallMonitor, down: None) -> None:
    assert hall.token
    for number in range(10):
        assert udp(hall.dns, f"n{number}.away.example").answer[0][0].to_text() == computed_rdata(
            f"n{number}.away.example", "A"
        )
    assert dig(hall.dns, "www.pokerstars.com").rdata == ["0.0.0.0"]

    body = {"domain": "away.example", "action": "block", "reason": "not now"}
    for method, path, sent in (("POST", "/exceptions", body), ("GET", "/exceptions", None), ("GET", "/lookups", None)):
        reply = hall.api(method, path, sent)
        assert (reply.status, reply.content_type) == (503, "application/problem+json")
        assert "not-checked" not in reply.body.decode()
    eventually(lambda: said(hall, "the log can't be stored"))


def test_commands_say_that_it_is_down_in_one_line(hall: HallMonitor, down: None) -> None:
    for arguments in (("groups", "list"), ("networks", "add", "10.9.0.0/16", "--group", "staff")):
        done = hall.hallmonitor(*arguments, expect=1)
        assert len(done.err.splitlines()) == 1
        assert done.err.startswith("hallmonitor: ")
        assert "database" in done.err
        assert "not-checked" not in done.err


def test_the_running_service_can_still_be_asked(hall: HallMonitor, down: None) -> None:
    """What the service or its disk can tell needs no database: status above all, which says that it is down."""
    eventually(lambda: "can't be used" in hall.hallmonitor("status", "--json").object()["journal"]["store"])
    status = hall.hallmonitor("status", "--json").object()
    assert status["serving"] is True
    assert "can't be used" in status["lists"]["database"]
    assert [worker["state"] for worker in status["workers"]] == ["serving"]
    assert "can't be used" in hall.hallmonitor("status").out
    told = hall.hallmonitor("lookup", "pokerstars.com", "--json")
    assert told.object()["verdict"] == "blocked"
    assert "by the last policy" in told.err
    assert "not-checked" not in told.err


def test_back_again_everything_is_shipped_once(hall: HallMonitor) -> None:
    eventually(lambda: hall.api("GET", "/exceptions").status == 200)
    assert eventually(lambda: names(hall, "away.example")) == sorted(f"n{n}.away.example" for n in range(10))
    reply = hall.api("POST", "/exceptions", {"domain": "back.example", "action": "block", "reason": "again"})
    assert reply.status == 201
    assert dig(hall.dns, "back.example").rdata == ["0.0.0.0"]
    assert hall.process is not None
    assert hall.process.poll() is None
    assert "Traceback" not in hall.output()


def test_down_at_a_later_start_it_answers_by_the_last_policy(hall: HallMonitor, postgres: PostgresServer) -> None:
    assert hall.terminate() == 0
    postgres.stop()
    try:
        hall.start(wait=False)
        eventually(hall.answers)
        assert dig(hall.dns, "back.example").rdata == ["0.0.0.0"], "the last exception holds"
        assert dig(hall.dns, "bet365.com").rdata == ["0.0.0.0"]
        assert dig(hall.dns, "n1.early.example").rdata == [computed_rdata("n1.early.example", "A")]
    finally:
        postgres.start()
    hall.wait_until_ready()
    assert eventually(lambda: names(hall, "early.example")) == ["n1.early.example"]
    assert hall.terminate() == 0
    assert hall.pids() == []
