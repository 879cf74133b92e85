"""The compiled index: what building it from the database takes, how large it is, and what looking a name up costs.

    python -m tests.benchmarks.index [--names N] [--expressions N] [--postgres]

The names are those of `tests.benchmarks.dataset`, stored as the sources that they come from; the build is the job that
the service starts, `python -m blocklists.compiling`. Lookups are timed in this process, the best of several passes over
names that are drawn anew, so that neither the processor's caches nor a busy machine decide.
"""

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blocklists.overlaps import counts
from policy.index import Index
from policy.rules import Rule, Scope, Traits
from storage import categories, sources
from storage.database import Database
from tests.benchmarks import memory
from tests.benchmarks.dataset import Dataset, build
from tests.benchmarks.swapping import expressions
from tests.support.configuration import list_rules
from tests.support.postgres import PostgresServer, fresh_database

SAMPLE = 100_000
PASSES = 5


@dataclass(frozen=True, slots=True)
class Built:
    """An index and what it took to build."""

    index: Index
    octets: int
    open_seconds: float
    cost: memory.Cost


def store(database: Database, dataset: Dataset, patterns: Sequence[str]) -> dict[int, str]:
    """Store each list as a source; return which number stands for which."""
    traits = Traits(Scope.SUBTREE)
    with database.change("benchmark") as change:
        categories.ensure(change, "bench")
        numbers = {key: sources.add(change, key, f"/{key}", category="bench").id for key in dataset.lists}
        extra = sources.add(change, "expressions", "/expressions", category="bench").id
    for key, path in dataset.lists.items():
        with path.open() as file:
            list_rules(database, numbers[key], (Rule(line.rstrip("\n"), traits) for line in file))
    list_rules(database, extra, [Rule(pattern, traits, pattern=True) for pattern in patterns])
    return {number: key for key, number in numbers.items()}


def compile_apart(database_url: str, path: Path) -> Built:
    """Run the service's own job and open what it wrote."""
    job = json.dumps({"database": database_url, "path": str(path)})
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "blocklists.compiling"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(job + "\n")
        process.stdin.flush()  # and stays open: its end would tell the job that nobody waits any more
        cost = memory.cost_of(process, began)
    begun = time.perf_counter()
    index = Index.open(path)
    return Built(index, path.stat().st_size, time.perf_counter() - begun, cost)


def lookup_us(index: Index, names: Sequence[str]) -> float:
    """Return what a lookup costs, in microseconds: the best of several passes over each thousand."""
    best = 0.0
    for begin in range(0, len(names), 1000):
        some = names[begin : begin + 1000]
        best += min(_seconds(index, some) for _ in range(PASSES))
    return best / len(names) * 1e6


def _seconds(index: Index, names: Sequence[str]) -> float:
    match = index.match
    began = time.perf_counter()
    for name in names:
        match(name)
    return time.perf_counter() - began


def asked(dataset: Dataset) -> dict[str, list[str]]:
    """Return what is looked up: listed names, names below them, names that are nearly listed, and others."""
    chance = random.Random(6)
    listed = chance.sample(dataset.every(max(1, dataset.names // (3 * SAMPLE))), min(SAMPLE, dataset.names // 3))
    return {
        "listed": listed,
        "below a listed one": [f"cdn.{name}" for name in listed if len(name) < 249],
        "nearly listed": [f"q{name}" for name in listed if len(name) < 253],
        "unlike any": [f"host{number}.school{number % 97}.example" for number in range(len(listed))],
    }


def report(built: Built, dataset: Dataset, category_of: dict[int, str], patterns: int) -> None:
    """Print what was measured."""
    index, cost = built.index, built.cost
    print(f"{dataset}; {patterns:,} expressions")
    print(f"built in {cost.seconds:.1f} s ({cost.cpu_seconds:.1f} s CPU), at most {cost.peak >> 20} MB in memory")
    print(f"size: {built.octets / index.names:.2f} octets a name ({built.octets / 1e6:.1f} MB)")
    print(f"opened and verified in {built.open_seconds * 1000:.0f} ms")
    for what, names in asked(dataset).items():
        matches = sum(len(index.match(name)) for name in names) / len(names)
        print(f"lookup of a name {what}: {lookup_us(index, names):.2f} us, {matches:.2f} rules match")
    begun = time.perf_counter()
    total = counts(index, category_of).total
    print(f"counted {total:,} names by source in {time.perf_counter() - begun:.2f} s")


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.index",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--names", type=int, default=5_000_000)
    parser.add_argument("--expressions", type=int, default=0, help="a lookup tries every one of them")
    parser.add_argument("--postgres", action="store_true", help="from Postgres instead of SQLite")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="hallmonitor-index-") as name:
        directory = Path(name)
        dataset = build(directory / "lists", options.names)
        patterns = expressions(options.expressions)
        with _postgres() if options.postgres else contextlib.nullcontext(f"sqlite:///{directory}/bench.db") as url:
            database = Database(url)
            database.migrate()
            category_of = store(database, dataset, patterns)
            database.close()
            report(compile_apart(url, directory / "index"), dataset, category_of, len(patterns))
    return 0


@contextlib.contextmanager
def _postgres() -> Iterator[str]:
    with PostgresServer() as server, fresh_database(server) as url:
        yield url


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
