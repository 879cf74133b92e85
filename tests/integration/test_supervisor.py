"""The supervisor's life in this process, over real workers: starts that fail, what it watches, what SIGHUP does."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from control import watch
from control.channel import ask
from control.errors import AlreadyServingError, ControlError, ListenError
from control.session import Session
from control.supervisor import Supervisor
from policy.index import CorruptIndexError, Index
from settings import Settings, SettingsError, from_document
from storage import exceptions, networks, sources, tokens
from storage.database import Database, PolicyState
from storage.errors import DatabaseDownError
from tests.support import dns_client
from tests.support.compiling import HeldUp, never_ends
from tests.support.policies import fill
from tests.support.processes import is_alive
from tests.support.server import free_port

ROOT = Path(__file__).parents[2]
BLOCKED = "pokerstars.com"  # the starter lists' own example
T = TypeVar("T")


class Node:
    """One node's configuration, as its file says and as it may be read again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.document: dict[str, dict[str, Any]] = {
            "server": {"listen": [f"127.0.0.1:{self.port}"], "workers": 1, "node": "test-node"},
            "state": {"directory": "var"},
            "upstream": {"servers": ["udp://127.0.0.1:9"]},
            "admin": {"listen": f"127.0.0.1:{free_port()}"},
        }
        self.secrets: list[str] = []
        """What each start announced."""

    def settings(self) -> Settings:
        return from_document(self.document, self.directory)

    @property
    def database(self) -> Path:
        return self.directory / "var" / "hallmonitor.db"

    def announce(self, _: Settings, secret: str) -> None:
        self.secrets.append(secret)

    def status(self) -> dict[str, Any]:
        return ask(self.directory / "var" / "run" / "control.sock", "status") or {}

    def state(self) -> PolicyState:
        database = Database(f"sqlite:///{self.database}")
        try:
            return database.state()
        finally:
            database.close()

    def policy(self) -> dict[str, Any]:
        """Return the document in force; empty while there is none."""
        try:
            found: dict[str, Any] = json.loads((self.directory / "var" / "policy" / "current").read_text())
        except (OSError, ValueError):
            return {}
        return found

    def is_whole(self) -> bool:
        """Tell whether what is in force can be read."""
        try:
            Index.open(self.directory / "var" / "policy" / self.policy()["index"])
        except (OSError, KeyError, CorruptIndexError):
            return False
        return True

    async def verdict(self, name: str = BLOCKED) -> str:
        """Return ``sunk`` or the rcode of what a client gets; nothing is forwarded to anybody."""

        def once() -> str:
            reply = dns_client.udp(("127.0.0.1", self.port), name)
            return "sunk" if reply.answer and str(reply.answer[0][0]) == "0.0.0.0" else reply.rcode().name

        return await asyncio.to_thread(once)


@pytest.fixture
def new_node(tmp_path: Path) -> Node:
    """Give a node that was never started."""
    return Node(tmp_path)


@pytest.fixture
def node(begun: Path) -> Node:
    """Give a node that has had its first start."""
    return Node(begun)


@asynccontextmanager
async def serving(node: Node, reload: Callable[[], Settings] | None = None) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(node.settings(), reload or node.settings)
    async with running(supervisor, node):
        yield supervisor


@asynccontextmanager
async def running(supervisor: Supervisor, node: Node) -> AsyncIterator[asyncio.Task[None]]:
    """Run a supervisor until it has announced itself or failed, and end it as SIGTERM would."""
    starts = len(node.secrets)
    task = asyncio.create_task(supervisor.run(node.announce))
    try:
        await eventually(lambda: len(node.secrets) > starts or task.done(), 120)
        if task.done():
            await task
        yield task
    finally:
        supervisor._stopping.set()
        await asyncio.wait([task])


async def eventually(check: Callable[[], T], seconds: float = 30.0) -> T:
    until = time.monotonic() + seconds
    while not (result := check()):
        assert time.monotonic() < until, f"not within {seconds} s; the last result was {result!r}"
        await asyncio.sleep(0.05)
    return result


def change(node: Node) -> int:
    """Change the policy as another process would, and tell nobody; return its version then."""
    database = Database(f"sqlite:///{node.database}")
    with database.change("elsewhere") as made:
        exceptions.add(made, domain=BLOCKED, action="allow", reason="a lesson")
        version = made.policy_version
    database.close()
    return version


def relist(node: Node, *names: str) -> None:
    """Store a source that lists names as another process would, and tell nobody."""
    database = Database(f"sqlite:///{node.database}")
    with database.change("elsewhere") as made:
        found = sources.add(made, "new", "/lists/new.txt", category="adult")
    fill(database, found, names)
    database.close()


async def until_sunk(node: Node, name: str, *, sunk: bool = True) -> None:
    """Wait until a name is answered so; that nobody answers is not for the caller to see."""
    until = time.monotonic() + 30
    while True:
        with suppress(OSError):
            if (await node.verdict(name) == "sunk") == sunk:
                return
        assert time.monotonic() < until, f"{name} was not {'sunk' if sunk else 'let through'} in time"
        await asyncio.sleep(0.05)


# Starting.


async def test_first_start_serves_and_tells_the_token_which_no_later_start_does(new_node: Node) -> None:
    async with serving(new_node):
        assert await new_node.verdict() == "sunk"
        [secret] = new_node.secrets
        database = Database(f"sqlite:///{new_node.database}")
        with database.reading() as connection:
            assert tokens.authenticate(connection, secret) is not None
        database.close()
    async with serving(new_node):
        assert new_node.secrets == [secret, ""]


async def test_start_that_fails_does_not_take_the_first_token_with_it(new_node: Node) -> None:
    host, port = new_node.settings().admin.listen
    with socket.create_server((host, port)):
        with pytest.raises(ListenError, match=rf"admin\.listen: {host}:{port} can't be used: Address already in use"):
            async with serving(new_node):
                pass
        assert new_node.secrets == []
    async with serving(new_node):
        assert new_node.secrets[0].startswith("hm_")


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["udp", "tcp"])
async def test_port_that_is_taken_is_told_by_the_settings_name(new_node: Node, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", new_node.port))
        if kind is socket.SOCK_STREAM:
            sock.listen()
        with pytest.raises(ListenError, match=rf"server\.listen: 127\.0\.0\.1:{new_node.port} can't be used"):
            async with serving(new_node):
                pass
    assert not new_node.database.exists()  # found before anything else


async def test_second_supervisor_is_refused_and_harms_nothing(node: Node) -> None:
    async with serving(node):
        other = Node(node.directory)
        with pytest.raises(AlreadyServingError):
            async with serving(other):
                pass
        assert await node.verdict() == "sunk"
        assert (await asyncio.to_thread(node.status))["serving"] is True


async def test_sigterm_ends_it_all(node: Node) -> None:
    supervisor = Supervisor(node.settings(), node.settings)
    async with running(supervisor, node) as task:
        [worker] = (await asyncio.to_thread(node.status))["workers"]
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    assert not is_alive(worker["pid"])
    assert not (node.directory / "var" / "run" / "control.sock").exists()


async def test_it_waits_for_a_database_and_minds_signals_meanwhile(
    new_node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SIGHUP would end a process that isn't ready for it; here it is ours."""
    migrate, up = Database.migrate, asyncio.Event()
    reloads: list[bool] = []

    def down(database: Database) -> None:
        if not up.is_set():
            raise DatabaseDownError("the database can't be used: down for the test")
        migrate(database)

    def reload() -> Settings:
        reloads.append(up.is_set())
        return new_node.settings()

    monkeypatch.setattr(Database, "migrate", down)
    monkeypatch.setattr("control.supervisor.DATABASE_RETRY_SECONDS", 0.05)
    supervisor = Supervisor(new_node.settings(), reload)
    task = asyncio.create_task(supervisor.run(new_node.announce))
    await eventually(lambda: "waiting for the database" in caplog.text)
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.sleep(0.1)
    assert not task.done()
    up.set()
    await eventually(lambda: reloads == [True])  # what SIGHUP asked for is done once it serves
    assert "the database answers" in caplog.text
    assert caplog.text.count("waiting for the database") == 1
    os.kill(os.getpid(), signal.SIGTERM)
    await task


async def test_workers_start_by_the_last_policy_while_the_database_is_down_and_a_new_one_replaces_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database that comes up is another, empty one: nothing of the old policy may pass for its own."""
    async with serving(node):
        published = f"policy-{change(node)}.json"
        await eventually(lambda: (node.directory / "var" / "policy" / "current").readlink().name == published)
        await until_sunk(node, BLOCKED, sunk=False)  # workers take it a moment later
    for file in node.database.parent.glob("hallmonitor.db*"):
        file.unlink()
    monkeypatch.setattr(Supervisor, "_database_answers", lambda _: False)
    async with serving(node) as supervisor:
        assert await node.verdict() == "sunk"  # the new database has no exception
        assert supervisor._service.published is not None
        status = await asyncio.to_thread(node.status)
        assert {worker["policy_version"] for worker in status["workers"]} == {supervisor._service.published.version}


# The watch.


async def test_change_of_another_process_takes_effect_untold(node: Node) -> None:
    async with serving(node) as supervisor:
        assert await node.verdict() == "sunk"
        version = change(node)
        fleet = supervisor._service.fleet
        assert fleet is not None
        await eventually(lambda: [worker["policy_version"] for worker in fleet.status()] == [version])
        assert await node.verdict() != "sunk"


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), DatabaseDownError("down")], ids=["bug", "down"])
async def test_watch_outlives_whatever_goes_wrong_once(
    node: Node, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async with serving(node) as supervisor:
        real = supervisor._database.state
        failures = [error]

        def state() -> PolicyState:
            if failures:
                raise failures.pop()
            return real()

        monkeypatch.setattr(supervisor._database, "state", state)
        await eventually(lambda: not failures)
        change(node)
        service = supervisor._service
        await eventually(lambda: service.published is not None and service.published.version == real().policy_version)


async def test_change_is_in_force_while_an_index_is_compiled(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(node) as supervisor:
        with HeldUp.compiling(monkeypatch) as held:
            relist(node, "new.example")
            await held.until_begun()
            assert (await asyncio.to_thread(node.status))["index"]["compiling"] is True
            version = change(node)
            assert await supervisor._service.publish() == version
            assert await node.verdict() != "sunk"
            assert await node.verdict("new.example") != "sunk"
            held.go_on.release()
            await eventually(lambda: node.policy()["version"] > version)
            await until_sunk(node, "new.example")
        index = (await asyncio.to_thread(node.status))["index"]
        assert index["entries_version"] == node.state().entries_version
        assert (index["compiling"], index["error"]) == (False, None)
        assert index["names"] > 0
        assert index["octets"] > 0


async def test_service_whose_control_socket_is_gone_takes_changes_and_is_not_told_dead(node: Node) -> None:
    async with serving(node):
        (node.directory / "var" / "run" / "control.sock").unlink()
        told: list[str] = []

        def command() -> dict[str, Any]:
            with closing(Session(node.settings(), told.append)) as session:
                with session.change() as made:
                    exceptions.add(made, domain=BLOCKED, action="allow", reason="a lesson")
                return session.status()

        assert (await asyncio.to_thread(command))["serving"] is True
        (said,) = told
        assert "the service can't be asked: nobody listens at " in said
        await until_sunk(node, BLOCKED, sunk=False)


async def test_command_that_asks_for_entries_is_answered_once_they_are_in_force(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(node):
        with HeldUp.compiling(monkeypatch) as held:
            relist(node, "new.example")
            socket_ = node.directory / "var" / "run" / "control.sock"
            asking = asyncio.create_task(asyncio.to_thread(ask, socket_, "publish_entries", 60))
            await held.until_begun()
            assert not asking.done()
            held.go_on.release()
            answer = await asking
        assert answer == {"policy_version": node.state().policy_version}
        assert await node.verdict("new.example") == "sunk"


async def test_index_that_cannot_be_compiled_is_told_and_the_last_serves_on(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(node):
        with HeldUp.compiling(monkeypatch) as held:
            held.error = OSError(28, "No space left on device")
            held.go_on.release(100)
            relist(node, "new.example")
            socket_ = node.directory / "var" / "run" / "control.sock"
            said = "the index could not be compiled: No space left on device"
            with pytest.raises(ControlError, match=said):
                await asyncio.to_thread(ask, socket_, "publish_entries", 60)
            assert (await asyncio.to_thread(node.status))["index"]["error"] == said
            assert await node.verdict() == "sunk"
            tries = held.begins
            await asyncio.sleep(4 * watch.WATCH_SECONDS)
            assert held.begins <= tries + 1  # by the watch, before the command came
            change(node)
            await until_sunk(node, BLOCKED, sunk=False)
            held.error = None
            await asyncio.to_thread(ask, socket_, "publish_entries", 60)
        assert (await asyncio.to_thread(node.status))["index"]["error"] is None
        assert await node.verdict("new.example") == "sunk"


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"nonsense")


@pytest.mark.parametrize("damage", [truncate, remove, replace])
@pytest.mark.parametrize("what", ["index", "document", "current"])
async def test_damage_while_it_serves_is_mended(node: Node, what: str, damage: Callable[[Path], None]) -> None:
    """Truncating what a worker has mapped kills it at the next lookup (SIGBUS): another takes its place."""
    async with serving(node):
        directory = node.directory / "var" / "policy"
        document = (directory / "current").resolve()
        before = node.policy()["version"]
        damage(
            {"index": directory / node.policy()["index"], "document": document, "current": directory / "current"}[what]
        )
        await eventually(lambda: node.policy().get("version", 0) > before)
        await eventually(node.is_whole)
        await until_sunk(node, BLOCKED)
        change(node)
        await until_sunk(node, BLOCKED, sunk=False)


async def test_start_that_is_told_to_stop_while_it_compiles_ends_at_once(
    node: Node, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_ends(monkeypatch, tmp_path_factory.mktemp("sleeping"))
    supervisor = Supervisor(node.settings(), node.settings)
    task = asyncio.create_task(supervisor.run(node.announce))
    await eventually(lambda: supervisor._indexing.status()["compiling"])
    os.kill(os.getpid(), signal.SIGTERM)
    await task
    assert node.secrets == []


# SIGHUP.


async def test_sighup_takes_what_the_file_says_now(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving(node):
        before = (await asyncio.to_thread(node.status))["workers"]
        node.document["server"]["workers"] = 2
        node.document["filter"] = {"default_group": "guests"}
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: "the configuration was read again" in caplog.text)
        after = (await asyncio.to_thread(node.status))["workers"]
        assert len(after) == 2
        assert before[0]["pid"] not in [worker["pid"] for worker in after]
        current = node.directory / "var" / "policy" / "current"
        assert json.loads(await asyncio.to_thread(current.read_text))["default_group"] == "guests"


async def test_configuration_that_is_wrong_changes_nothing(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    problems = ["server.workers: must be a whole number", "a: unknown section"]

    def reload() -> Settings:
        raise SettingsError(problems)

    async with serving(node, reload):
        before = (await asyncio.to_thread(node.status))["workers"]
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: caplog.text.count("the configuration was not taken") == 2)
        assert all(problem in caplog.text for problem in problems)
        after = (await asyncio.to_thread(node.status))["workers"]
        assert [worker["pid"] for worker in after] == [worker["pid"] for worker in before]


@pytest.mark.parametrize(
    ("section", "key", "value", "reason"),
    [
        ("filter", "default_group", "pupils", "there is no group 'pupils'"),
        ("server", "listen", ["192.0.2.1:5353"], "server.listen: 192.0.2.1:5353 can't be used"),
    ],
)
async def test_settings_that_cannot_work_here_change_nothing_either(
    node: Node, caplog: pytest.LogCaptureFixture, section: str, key: str, value: object, reason: str
) -> None:
    """And what is changed afterwards is published as before."""
    async with serving(node) as supervisor:
        before = (await asyncio.to_thread(node.status))["workers"]
        node.document.setdefault(section, {})[key] = value
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(
            lambda: f"the configuration was not taken: {reason}" in caplog.text.replace("filter.default_group: ", "")
        )
        after = (await asyncio.to_thread(node.status))["workers"]
        assert [worker["pid"] for worker in after] == [worker["pid"] for worker in before]
        version = change(node)
        assert await supervisor._service.publish() == version
        assert await node.verdict() != "sunk"


async def test_lookups_know_the_new_default_group_too(node: Node) -> None:
    """It is published under the same policy version: nothing in the database changed."""
    async with serving(node) as supervisor:
        service = supervisor._service
        assert (await service.lookup(BLOCKED, "127.0.0.1", "A"))["group"] == "students"
        node.document["filter"] = {"default_group": "guests"}
        await supervisor._reload_settings()
        assert (await service.lookup(BLOCKED, "127.0.0.1", "A"))["group"] == "guests"


# SQLite among several processes.

CHANGES = """
import sys
from storage import exceptions
from storage.database import Database
database = Database(sys.argv[1])
with database.change("elsewhere") as change:
    exceptions.add(change, domain="a.example", action="allow", reason="a lesson")
database.close()
"""


def test_service_sees_what_a_command_changed_however_many_connections_it_has(sqlite_database: Database) -> None:
    """A process that opens and closes a database's file beside SQLite loses SQLite's locks on it (fcntl(2)).

    A command that ends would take itself for the last one, and remove the write-ahead log that others still use.
    """
    with sqlite_database.reading() as first, sqlite_database.reading() as second:  # two connections in the pool
        networks.list_all(first)
        networks.list_all(second)
    before = sqlite_database.state()
    for _ in range(2):
        subprocess.run([sys.executable, "-c", CHANGES, sqlite_database.name], check=True, cwd=ROOT)
    log = Path(sqlite_database.name.removeprefix("sqlite:///") + "-wal")
    assert log.exists()
    assert sqlite_database.state().policy_version == before.policy_version + 2
