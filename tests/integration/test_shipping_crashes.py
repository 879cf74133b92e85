"""Exactly once, whatever crashes when: the shipper dies at each step of its way, and everything at random moments."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from querylog import shipper as shippers
from querylog import sqlite_day
from querylog.search import LogQuery
from querylog.store import LogStore
from querylog.store_postgres import PostgresLogStore
from querylog.store_sqlite import SqliteLogStore
from tests.support.journals import SegmentFile
from tests.support.postgres import PostgresServer, fresh_database
from tests.support.shipped import MIDNIGHT, expected, lookups, ship, stored
from tests.support.shipping_load import open_store

ROOT = Path(__file__).parents[2]
CRASHED = 86
AROUND = lookups(12, begin=MIDNIGHT - 6, step=1)
LATE = lookups(6, begin=MIDNIGHT - 60, step=10)
STEPS = frozenset({"execute", "executemany", "executescript", "copy", "write", "rename", "unlink", "fsync", "open"})
"""Calls that change what a later process finds. A crash is tried before each, which is after the one before it."""

Open = Callable[[], LogStore]
Fresh = Callable[[], contextlib.AbstractContextManager[Open]]


@pytest.fixture
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many transactions and many turns for few lookups."""
    monkeypatch.setattr(shippers, "ROWS_AT_ONCE", 8)
    monkeypatch.setattr(shippers, "ROWS_IN_TURN", 4)
    monkeypatch.setattr(sqlite_day, "RUN_ROWS", 5)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """Give journals of two workers that are gone: batches of two days, a gap, a torn tail."""
    directory = tmp_path / "original"
    with SegmentFile(directory, worker=0) as one, SegmentFile(directory, worker=1) as other:
        one.batch(AROUND[:4])
        one.batch(AROUND[4:8], gap=(3, MIDNIGHT - 5, MIDNIGHT + 5))  # lookups of two days
        one.batch(AROUND[8:])
        for start in range(0, 6, 3):
            other.batch(LATE[start : start + 3])
        other.write(b"torn off")
    return directory


def in_a_child(work: Callable[[], object]) -> int:
    """Do something in a process of its own that ends without any cleaning up, and return how it ended."""
    with warnings.catch_warnings():
        # Later Pythons warn of forking beside threads. The child runs none of this process's.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def crashing(step: int, work: Callable[[], object]) -> Callable[[], None]:
    """Return work that dies before one of its `STEPS`."""
    left = step

    def count(frame: FrameType, event: str, called: Any) -> None:
        nonlocal left
        name = called.__name__ if event == "c_call" else frame.f_code.co_name if event == "call" else ""
        if name in STEPS:
            left -= 1
            if left < 0:
                os._exit(CRASHED)

    def run() -> None:
        sys.setprofile(count)
        work()

    return run


def crash_everywhere(original: Path, state: Path, fresh: Fresh, stride: int) -> int:
    """Ship with a crash at every so manieth step, another on the way back, then to the end; return how many crashed."""
    crashes = 0
    for step in count(0, stride):
        shutil.rmtree(state, ignore_errors=True)
        journal = state / "journal"
        shutil.copytree(original, journal)
        with fresh() as open_:

            def work(journal: Path = journal, open_: Open = open_) -> None:
                with open_() as store:
                    ship(journal, store)

            codes = [in_a_child(crashing(at, work)) for at in (step, step // 2)]
            assert set(codes) <= {0, CRASHED}
            with open_() as store:
                ship(journal, store)
                assert stored(store) == expected(AROUND, LATE), f"after a crash at step {step}"
                assert [(gap.lookups, gap.octets) for gap in store.gaps()] == [(0, 8), (3, 0)], f"at step {step}"
            assert list(journal.iterdir()) == []
        crashes += codes.count(CRASHED)
        if codes[0] == 0:
            return crashes
    raise AssertionError  # a count has no end


@pytest.mark.usefixtures("_small_steps")
def test_sqlite_after_a_crash_at_any_step(original: Path, tmp_path: Path) -> None:
    @contextlib.contextmanager
    def fresh() -> Iterator[Open]:
        yield lambda: SqliteLogStore(tmp_path / "state" / "log")

    assert crash_everywhere(original, tmp_path / "state", fresh, stride=5) > 40


@pytest.mark.postgres
@pytest.mark.usefixtures("_small_steps")
def test_postgres_after_a_crash_at_any_step(original: Path, tmp_path: Path, postgres_server: PostgresServer) -> None:
    @contextlib.contextmanager
    def fresh() -> Iterator[Open]:
        with fresh_database(postgres_server) as url:
            yield lambda: PostgresLogStore(url)

    assert crash_everywhere(original, tmp_path / "state", fresh, stride=67) > 10


# SIGKILL at random.

KILLING_SECONDS = 2.5


class Victim:
    """A process of `tests.support.shipping_load`."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "tests.support.shipping_load", *map(str, arguments)]
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `kill`
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=self._output)

    def kill(self) -> list[bytes]:
        """Kill it and return the lines that it printed whole."""
        self._process.kill()
        assert self._process.wait() == -signal.SIGKILL  # it has not ended by itself
        self._output.seek(0)
        with self._output as output:
            return output.read().split(b"\n")[:-1]


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_every_lookup_that_was_committed_arrives_once(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    """Writers and the shipper are killed over and over; the seed is on record."""
    seed = random.randrange(1 << 32)
    record_property("seed", seed)
    chance = random.Random(seed)
    where = str(request.getfixturevalue("postgres_url")) if kind == "postgres" else str(tmp_path / "log")
    journal = tmp_path / "journal"
    journal.mkdir()
    numbers = count()
    committed: set[str] = set()

    def start_writer() -> tuple[int, Victim]:
        number = next(numbers)
        return number, Victim("write", journal, number)

    def kill_writer(number: int, victim: Victim) -> None:
        committed.update(f"lookup-{int(line)}.writer-{number}.example" for line in victim.kill())

    writers = [start_writer() for _ in range(2)]
    shipper = Victim("ship", journal, where)
    until = time.monotonic() + KILLING_SECONDS
    while time.monotonic() < until or (len(committed) <= 100 and time.monotonic() < until + 60):
        time.sleep(chance.uniform(0.1, 0.6))
        if chance.random() < 0.5:
            shipper.kill()
            shipper = Victim("ship", journal, where)
        else:
            kill_writer(*writers.pop(0))
            writers.append(start_writer())
    for writer in writers:
        kill_writer(*writer)
    shipper.kill()
    with open_store(where) as store:
        ship(journal, store)
        # A writer that died before it named its segment leaves it unborn, without a lookup: cleared later, by its age.
        assert [path for path in journal.iterdir() if not path.name.startswith(".")] == []
        arrived = Counter(record.qname for record in stored(store).elements())
        total = store.count(LogQuery.of())
    assert len(committed) > 100
    assert committed - arrived.keys() == set(), f"seed {seed}"
    assert {qname for qname, times in arrived.items() if times > 1} == set(), f"seed {seed}"
    assert total == len(arrived)
