"""A worker's change of policy under load: what clients notice while it takes another index of five million names.

    python -m tests.benchmarks.swapping [--names N] [--expressions N] [--swaps N] [--rate N] [--cached N]

One worker as the supervisor runs it, pinned to the first CPU; clients and the upstream on the last. Before each swap
the worker has answered, and remembers, a hundred thousand questions; clients then ask at a steady rate, nine of ten
times what was asked before and one of ten times something new. The swap comes in the middle. Runs without one come
first: what is late in them is the machine's doing.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from blocklists.compiler import Entry, compile_index
from policy.names import key_of
from policy.rules import Traits
from tests.benchmarks import memory
from tests.benchmarks.contestants import Upstream
from tests.benchmarks.cpus import SERVER_CPU
from tests.benchmarks.dataset import Dataset, build
from tests.benchmarks.generated import names as generated_names
from tests.benchmarks.load import Answers, Load, ask
from tests.benchmarks.programs import compiled
from tests.benchmarks.queries import TYPES, Query, name_wire, wire, write
from tests.integration.node import WorkerProcess
from tests.support.dns_client import Address
from tests.support.server import free_port
from tests.unit.policy.build import Listed, document

RUN_SECONDS = 4.0
FILL_SECONDS = 60.0
CLIENTS = 20
NEW_EVERY = 10
LONGEST_NAME = 250  # octets as text
QUIET_RUNS = 2


class Questions:
    """What is asked: listed names and others, half and half."""

    def __init__(self, dataset: Dataset, cached: int) -> None:
        chance = self._chance = random.Random(4)
        listed = dataset.every(max(1, dataset.names // cached))
        self._known = chance.sample(listed, cached // 2)
        self._known += [f"host{number}.popular.example" for number in range(cached - len(self._known))]
        chance.shuffle(self._known)
        self._listed = listed
        self._fresh = 0

    def fill(self, path: Path) -> Path:
        """Write each question that is remembered, once."""
        return _write(path, self._known)

    def steady(self, path: Path, count: int) -> Path:
        """Write so many for a run: none of the new ones was in an earlier run."""
        return _write(path, [self._one(number) for number in range(count)])

    def _one(self, number: int) -> str:
        if number % NEW_EVERY:
            return self._chance.choice(self._known)
        self._fresh += 1
        below = self._chance.choice(self._listed) if number // NEW_EVERY % 2 else "fresh.example"
        return f"n{self._fresh}.{below}"


def _write(path: Path, names: Sequence[str]) -> Path:
    asked = (name for name in names if len(name) <= LONGEST_NAME)
    return write(
        path,
        (Query(1 + number % CLIENTS, wire(name_wire(name), TYPES["A"])) for number, name in enumerate(asked)),
    )


def expressions(count: int) -> list[str]:
    """Return regular expressions like those of real lists, which match next to nothing."""
    chance = random.Random(5)
    word = [name.partition(".")[0] for name, _ in zip(generated_names(5), range(20_000), strict=False)]
    shapes = (
        r"^{0}[0-9]+\.",
        r"(^|\.){0}-?{1}\.",
        r"{0}[a-z]*\.{1}$",
        r"^ad[sx]?[0-9]*\.{0}",
        r"(.+\.)?{0}\.(com|{1})$",
    )
    return [shapes[number % len(shapes)].format(chance.choice(word), chance.choice(word)) for number in range(count)]


def publish(directory: Path, dataset: Dataset, patterns: Sequence[str]) -> list[Path]:
    """Compile the names twice over, as two versions, and return their documents."""
    directory.mkdir(parents=True)
    lists = [Listed(key, "adult", []) for key in (*dataset.lists, "expressions")]
    compiled = directory / "index-1"
    compile_index(compiled, _entries(dataset, patterns), {1: Traits()})
    (directory / "index-2").write_bytes(compiled.read_bytes())
    found = []
    for version in (1, 2):
        path = directory / f"policy-{version}.json"
        path.write_text(json.dumps(document(version=version, lists=lists) | {"index": f"index-{version}"}))
        found.append(path)
    return found


def _entries(dataset: Dataset, patterns: Sequence[str]) -> Iterator[Entry]:
    number = 0
    for number, path in enumerate(dataset.lists.values(), 1):
        with path.open() as file:
            for line in file:
                yield key_of(line.rstrip("\n")), number, 1
    for pattern in patterns:
        yield f"/{pattern}/", number + 1, 1


class Swapping:
    """A worker between two policies."""

    def __init__(self, directory: Path, policies: Sequence[Path], upstream: Address, cached: int) -> None:
        self._policies = policies
        self._swaps = 0
        self.address: Address = ("127.0.0.1", free_port())
        (directory / "var/run").mkdir(parents=True)
        self.worker = WorkerProcess(0, directory, directory / "errors")
        os.sched_setaffinity(self.worker.process.pid, {SERVER_CPU})
        settings = {
            "server": {"listen": [f"127.0.0.1:{self.address[1]}"], "node": "bench"},
            "upstream": {"servers": [f"udp://{upstream[0]}:{upstream[1]}"]},
            "cache": {"entries": cached},
        }
        self.worker.say(settings=settings, base=str(directory), policy=str(policies[0]))
        self.worker.hear("serving")

    def swap(self) -> float:
        """Bring the worker the other policy; return how many milliseconds it took to say that it is in force."""
        self._swaps += 1
        began = time.perf_counter()
        path = self._policies[self._swaps % len(self._policies)]
        adopted = self.worker.adopt(path)
        assert f"policy-{adopted}.json" == path.name
        return (time.perf_counter() - began) * 1000

    @property
    def private(self) -> int:
        """Octets of the worker's own memory."""
        return memory.private(self.worker.process.pid)


def fill(program: Path, swapping: Swapping, queries: Path) -> None:
    """Ask every question once, as fast as it goes."""
    ask(program, swapping.address, queries, seconds=FILL_SECONDS, once=True)


def measure(
    program: Path, swapping: Swapping, questions: Questions, directory: Path, *, rate: int, swap: bool
) -> Answers:
    """Fill the worker's memory, then load it steadily, with a swap in the middle or without."""
    fill(program, swapping, questions.fill(directory / "fill"))
    time.sleep(1.0)
    steady = questions.steady(directory / "steady", int(rate * RUN_SECONDS))
    load = Load(program, swapping.address, steady, seconds=RUN_SECONDS, once=True, rate=rate)
    time.sleep(RUN_SECONDS / 2)
    took = swapping.swap() if swap else 0.0
    found = load.result()
    print(f"{f'swap, in force after {took:.0f} ms' if swap else 'no swap'}: {_described(found)}", flush=True)
    return found


def _described(answers: Answers) -> str:
    return (
        f"{answers.answered:,} answers, {answers.lost} lost; median {answers.p50_us / 1000:.2f} ms, "
        f"99% {answers.p99_us / 1000:.2f} ms, longest {answers.max_us / 1000:.1f} ms"
    )


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.swapping",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--names", type=int, default=5_000_000)
    parser.add_argument("--expressions", type=int, default=2_000)
    parser.add_argument("--swaps", type=int, default=5)
    parser.add_argument("--rate", type=int, default=3_000, help="queries a second")
    parser.add_argument("--cached", type=int, default=100_000, help="answers that are remembered")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="hallmonitor-swapping-") as name, ExitStack() as stack:
        directory = Path(name)
        dataset = build(directory / "lists", options.names)
        policies = publish(directory / "policy", dataset, expressions(options.expressions))
        print(f"{dataset}; {options.expressions:,} expressions")
        upstream = Upstream(directory)
        program = compiled(directory, "load")
        stack.callback(upstream.close)
        swapping = Swapping(directory, policies, upstream.address, options.cached)
        stack.callback(swapping.worker.close)
        questions = Questions(dataset, options.cached)
        for _ in range(QUIET_RUNS):
            measure(program, swapping, questions, directory, rate=options.rate, swap=False)
        runs = [
            measure(program, swapping, questions, directory, rate=options.rate, swap=True) for _ in range(options.swaps)
        ]
        longest = [run.max_us / 1000 for run in runs]
        print(f"longest in {len(runs)} swaps: {max(longest):.1f} ms, in half of them at most {median(longest):.1f} ms")
        print(f"the worker's own memory: {swapping.private >> 20} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
