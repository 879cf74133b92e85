"""Hall Monitor with the lists: through its commands alone, as an administrator would."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psycopg

from tests.benchmarks import memory
from tests.benchmarks.dataset import Dataset
from tests.benchmarks.filters import Change, Filter
from tests.benchmarks.index import Built, compile_apart
from tests.benchmarks.load import ask
from tests.benchmarks.programs import compiled
from tests.benchmarks.queries import TYPES, Query, name_wire, wire, write
from tests.support import processes
from tests.support.dns_client import Address
from tests.support.server import HallMonitor

CACHED_ANSWERS = 100_000
COMMAND_SECONDS = 900.0
FILL_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Refreshes:
    """What bringing the lists in took on one database."""

    database: str
    cold: memory.Cost
    unchanged: memory.Cost
    stored: int
    """Octets of the database, after both."""


class HallMonitorFilter(Filter):
    """The service with one worker, and the command `hallmonitor refresh`."""

    name = "Hall Monitor"

    def __init__(self, directory: Path, upstream: Address, dataset: Dataset, database_url: str = "") -> None:
        self._dataset = dataset
        self._database_url = database_url
        self._server = HallMonitor(
            directory,
            upstreams=[f"udp://{upstream[0]}:{upstream[1]}"],
            settings={"cache": {"entries": CACHED_ANSWERS}},
            database_url=database_url,
        )
        self.address = self._server.dns

    def version(self) -> str:
        """Return ``0.1.0``, say."""
        return version("dns-hallmonitor")

    def add_sources(self) -> None:
        """Add each list as a source of a category of its own, and block them all."""
        run = self._server.hallmonitor
        for key, path in self._dataset.lists.items():
            category = f"bench-{key}"
            options = ("--category", category, "--create-category", "--format", "domains")
            run("sources", "add", f"bench-{key}", str(path), *options, seconds=COMMAND_SECONDS)
        categories = [f"bench-{key}" for key in self._dataset.lists]
        run("groups", "block", "students", *categories, seconds=COMMAND_SECONDS)
        run("groups", "set", "students", "--mode", "nxdomain", seconds=COMMAND_SECONDS)

    def refreshes(self) -> Refreshes:
        """Refresh all sources twice: for the first time, and when nothing has changed."""
        return Refreshes("Postgres" if self._database_url else "SQLite", self.refresh(), self.refresh(), self._stored())

    def refresh(self) -> memory.Cost:
        """Run `hallmonitor refresh` for the lists of the benchmark and return what it took."""
        began = time.monotonic()
        with self._server.running("refresh", *self._keys, "--json") as process:
            cost = memory.cost_of(process, began)
        print(f"{self.name}: refreshed in {cost.seconds:.1f} s, {cost.cpu_seconds:.1f} s of CPU", flush=True)
        return cost

    def start(self) -> None:
        """Serve what the refresh has left on disk."""
        self._server.start(wait=False)

    def pids(self) -> list[int]:
        """Return the supervisor, the worker, and a command that runs meanwhile with all that it starts."""
        return self._server.pids()

    def output(self) -> str:
        """Return what `serve` has printed."""
        return self._server.output()

    def changes(self) -> list[Change]:
        """Refresh after the longest list has grown."""
        return [Change("hallmonitor refresh", self._write, self._apply)]

    def compile(self, path: Path) -> Built:
        """Compile the index once more, by the job that the service runs, and return what it took."""
        return compile_apart(self._database_url or f"sqlite:///{self._server.state}/hallmonitor.db", path)

    def worker_memory(self, directory: Path) -> int:
        """Return the private octets of the worker once it has cached `CACHED_ANSWERS` answers."""
        names = (f"host{number}.cached.example" for number in range(CACHED_ANSWERS))
        queries = write(directory / "to-cache", (Query(1, wire(name_wire(name), TYPES["A"])) for name in names))
        ask(compiled(directory, "load"), self.address, queries, seconds=FILL_SECONDS, once=True)
        cached = processes.eventually(lambda: int(self._server.api("GET", "/stats").json()["cached_answers"]))
        assert cached > 0.99 * CACHED_ANSWERS, f"{cached} answers are cached"
        (worker,) = self._server.worker_pids()
        return memory.private(worker)

    def close(self) -> None:
        """End every process of it."""
        self._server.close()

    @property
    def _keys(self) -> list[str]:
        return [f"bench-{key}" for key in self._dataset.lists]

    def _write(self, new: Sequence[str]) -> None:
        longest = max(self._dataset.lists.values(), key=lambda path: path.stat().st_size)
        with longest.open("a") as file:
            file.writelines(f"{name}\n" for name in new)

    def _apply(self) -> None:
        self.refresh()

    def _stored(self) -> int:
        if not self._database_url:
            return sum(path.stat().st_size for path in self._server.state.glob("hallmonitor.db*"))
        with psycopg.connect(self._database_url) as connection:
            found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return int(found[0]) if found else 0
