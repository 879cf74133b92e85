"""Refreshes that are killed at any moment, or find no room: what is stored and what is in force is one list, whole.

A list alternates between two contents that share most names; whatever is found must be the one or the other.
"""

import os
import random
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from control.publisher import Publisher
from policy import snapshot as snapshots
from policy.names import name_of
from storage import entries, parts, sources
from storage.database import Database
from tests.support.dns_client import udp
from tests.support.fake_upstream import FakeUpstream
from tests.support.postgres import PostgresServer, fresh_database
from tests.support.processes import eventually
from tests.support.server import HallMonitor

SEED = 20261124
LONGEST_SECONDS, AFTER_SECONDS = 3.0, 0.8
"""For how long a refresh goes on, and how much of that after it has stored; on a busy machine longer."""
COMMON = [f"both-{number}.example" for number in range(22_000)]  # more than are compiled in the command's own process
CONTENTS = {which: {*COMMON, *(f"{which}-{number}.example" for number in range(3_000))} for which in ("a", "b")}
OWN, SOME = CONTENTS["a"] ^ CONTENTS["b"], set(COMMON[::20])


class Lists:
    """A list, the commands that refresh it, and what has become of it."""

    def __init__(self, server: HallMonitor, database_url: str = "") -> None:
        self.server = server
        self.which = "b"
        """What the list holds now."""
        self._url = database_url or f"sqlite:///{server.state / 'hallmonitor.db'}"
        self._database = Database(self._url)
        self._path = server.directory / "list.txt"
        self._moments = random.Random(SEED)

    def add(self) -> None:
        """Add it, and load its first content."""
        self.change()
        self.server.hallmonitor(
            "sources", "add", "mixed", str(self._path), "--category", "adult", "--format", "domains"
        )
        self.server.hallmonitor("refresh", "mixed")

    def change(self) -> None:
        """Let the list hold the other content."""
        self.which = "b" if self.which == "a" else "a"
        self._path.write_text("\n".join(sorted(CONTENTS[self.which])) + "\n")

    def write(self, names: Sequence[str]) -> None:
        self._path.write_text("\n".join(names) + "\n")

    def moment(self, refreshing: "subprocess.Popen[str]", before: int) -> None:
        """Wait until some moment of a refresh: any at all, or one after it has stored what it found."""
        if self._moments.random() < 0.5:
            self._database.close()
            time.sleep(self._moments.uniform(0.1, LONGEST_SECONDS))
            return
        eventually(lambda: self.version() > before or refreshing.poll() is not None, 60)
        self._database.close()  # whoever opens it after the kill must mend it alone
        time.sleep(self._moments.uniform(0, AFTER_SECONDS))

    def refresh_killed(self) -> None:
        """Begin to refresh, and kill that at some moment."""
        before = self.version()
        with self.server.running("refresh", "mixed") as refreshing:
            self.moment(refreshing, before)

    def version(self) -> int:
        """Return which version of the list is stored."""
        with self._database.reading() as connection:
            return sources.get(connection, "mixed").version

    def close(self) -> None:
        self.server.close()
        self._database.close()

    def stored(self) -> str:
        """Return which content the database holds."""
        with self._database.reading() as connection:
            source = sources.get(connection, "mixed")
            own = {part.id for part in parts.of_source(connection, source.id)}
            found = {name_of(key) for key, part, _ in entries.iterate(connection) if part in own}
            assert source.rules == len(found)
        return which(found)

    def in_force(self) -> str:
        """Return which content workers go by, from whole files."""
        last = Publisher(self._database, self._url, self.server.state / "policy", "students").last()
        assert last is not None
        snapshot = snapshots.read(last.path)
        own = {number for number, source in snapshot.sources.items() if source.key == "mixed"}
        found = {name for name in OWN | SOME if any(match.source in own for match in snapshot.index.match(name))}
        listed = sum(names for listing, names in snapshot.index.listings() if own & {source for source, _ in listing})
        is_whole = found >= SOME and listed == len(found - SOME) + len(COMMON)
        return which(found | set(COMMON)) if is_whole else f"{listed} names"

    def answered(self) -> str:
        """Return which content clients are answered by. Every query must be answered.

        Where another comes into force between two of them, all are asked again.
        """
        [found] = eventually(self._sunk_one)
        return found[0]

    def _sunk_one(self) -> set[str]:
        """Return which name of one content alone is sunk; nothing while that is both or neither."""
        sunk = {name for name in ("both-7.example", "a-7.example", "b-7.example") if self._is_sunk(name)}
        assert "both-7.example" in sunk
        found = sunk - {"both-7.example"}
        return found if len(found) == 1 else set()

    def _is_sunk(self, name: str) -> bool:
        reply = udp(self.server.dns, name)
        assert reply.rcode() == 0
        return str(reply.answer[0][0]) == "0.0.0.0"


def which(found: set[str]) -> str:
    return next((which for which, names in CONTENTS.items() if names == found), f"a mix of {len(found)} names")


@contextmanager
def asking(lists: Lists) -> Iterator[None]:
    """Ask meanwhile, some hundred times a second: always a name that is listed whatever happens."""
    ended = threading.Event()
    wrong: list[BaseException | str] = []

    def ask() -> None:
        try:
            while not ended.is_set():
                if not lists._is_sunk("both-7.example"):
                    wrong.append("it was let through")
                time.sleep(0.005)
        except BaseException as error:  # noqa: BLE001 - the test's to tell
            wrong.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert wrong == []


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def lists(request: pytest.FixtureRequest, tmp_path: Path, upstream: FakeUpstream) -> Iterator[Lists]:
    """Give a list on each kind of database; nothing serves yet."""
    with as_configured(request) as url:
        # A session of its own is a process group of its own, to be killed whole.
        server = HallMonitor(tmp_path / "server", upstreams=[upstream.url], database_url=url, prefix=["setsid"])
        found = Lists(server, url)
        found.add()
        yield found
        found.close()


@contextmanager
def as_configured(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    postgres: PostgresServer = request.getfixturevalue("postgres_server")
    with fresh_database(postgres) as url:
        yield url


def loops(lists: Lists, sqlite: int, postgres: int) -> int:
    return postgres if "postgresql" in lists.server.config.read_text() else sqlite


def test_killed_refreshes_leave_one_list_or_the_other(lists: Lists) -> None:
    stored = []
    for _ in range(loops(lists, 12, 4)):
        lists.change()
        lists.refresh_killed()
        stored.append(lists.stored() == lists.which)
        assert lists.stored() in CONTENTS
        assert lists.in_force() in CONTENTS
    lists.change()
    lists.server.hallmonitor("refresh", "mixed")
    assert lists.stored() == lists.in_force() == lists.which
    assert any(stored), "each was killed before it had stored anything"


def test_killed_refreshes_cost_a_running_service_nothing(lists: Lists) -> None:
    lists.server.start()
    with asking(lists):
        for _ in range(loops(lists, 6, 2)):
            lists.change()
            lists.refresh_killed()
            assert lists.stored() in CONTENTS
            assert lists.in_force() in CONTENTS
    # What a killed refresh has stored is in force without anybody's asking.
    eventually(lambda: lists.answered() == lists.in_force() == lists.stored(), 30, every=0.2)
    lists.change()
    lists.server.hallmonitor("refresh", "mixed")
    assert lists.answered() == lists.stored() == lists.in_force() == lists.which


def test_service_that_is_killed_with_all_its_processes_starts_by_one_list_or_the_other(lists: Lists) -> None:
    lists.server.start()
    for _ in range(loops(lists, 3, 1)):
        lists.change()
        before = lists.version()
        with lists.server.running("refresh", "mixed") as refreshing:
            lists.moment(refreshing, before)
            os.killpg(lists.server.supervisor_pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                refreshing.wait(lists._moments.uniform(0, 2))
        assert lists.stored() in CONTENTS
        assert lists.in_force() in CONTENTS
        eventually(lambda: not lists.server.pids())
        lists.server.start()
        assert lists.answered() in CONTENTS
        eventually(lambda: lists.answered() == lists.in_force() == lists.stored(), 30, every=0.2)
    lists.change()
    lists.server.hallmonitor("refresh", "mixed")
    assert lists.answered() == lists.stored() == lists.in_force() == lists.which


# No room.

UNPUBLISHED = "what was stored is not in force yet"
LONG = [f"more-{number}.example" for number in range(60_000)]


def fails(lists: Lists) -> str:
    """Refresh, which must fail, and return the one line that says why."""
    done = lists.server.hallmonitor("refresh", "mixed", "--force", expect=1)
    [said] = [line for line in done.err.splitlines() if line.startswith("hallmonitor: ")]
    assert "Traceback" not in done.err
    return said


@pytest.fixture
def sqlite_lists(tmp_path: Path) -> Iterator[Lists]:
    found = Lists(HallMonitor(tmp_path / "server"))
    yield found
    found.close()


def test_database_that_cannot_grow_keeps_the_last_list(sqlite_lists: Lists) -> None:
    """A limit of the size of files stands for a full disk."""
    lists = sqlite_lists
    lists.add()
    lists.write(LONG)
    largest = max(path.stat().st_size for path in lists.server.state.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 200_000, hard))
    try:
        said = fails(lists)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "can't be used: disk I/O error" in said
    assert lists.stored() == lists.in_force() == "a"
    lists.change()
    lists.server.hallmonitor("refresh", "mixed")
    assert lists.stored() == lists.in_force() == "b"


@contextmanager
def disk_of(lists: Lists) -> Iterator[None]:
    """Mount a disk of the server's own, where we may; in the end nobody has a file open there."""
    place = lists.server.state
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        try:
            lists.close()
        finally:
            subprocess.run(["umount", str(place)], check=True)


@contextmanager
def filled(place: Path, *, but: int) -> Iterator[None]:
    """Fill the disk but for some octets."""
    room = os.statvfs(place)
    ballast = place / "ballast"
    ballast.write_bytes(bytes(room.f_bavail * room.f_frsize - but))
    try:
        yield
    finally:
        ballast.unlink()


def test_full_disk_keeps_the_last_list(sqlite_lists: Lists) -> None:
    lists = sqlite_lists
    with disk_of(lists):
        lists.add()
        lists.write(LONG)
        with filled(lists.server.state, but=400_000):
            assert "can't be used: database or disk is full" in fails(lists)
            assert lists.stored() == lists.in_force() == "a"
        lists.change()
        lists.server.hallmonitor("refresh", "mixed")
        assert lists.stored() == lists.in_force() == "b"


@pytest.mark.postgres
def test_full_disk_while_it_compiles_keeps_the_last_list(tmp_path: Path, postgres_url: str) -> None:
    """The database has room of its own."""
    server = HallMonitor(tmp_path / "server", database_url=postgres_url)
    lists = Lists(server, postgres_url)
    with disk_of(lists):
        lists.add()
        lists.write(LONG)
        with filled(server.state, but=200_000):
            assert (
                fails(lists) == f"hallmonitor: {UNPUBLISHED}: the index could not be compiled: No space left on device"
            )
            assert lists.in_force() == "a"
        lists.change()
        server.hallmonitor("refresh", "mixed", "--force")  # it shrinks
        assert lists.stored() == lists.in_force() == "b"
