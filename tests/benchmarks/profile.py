"""Where a worker's time goes in a scenario: by Python function, by line, by system call, by native function.

    python -m tests.benchmarks.profile SCENARIO [--seconds N] [--rows N]

One worker as the supervisor runs it, with its journal on, pinned to the first CPU; client and upstream on the last. A
first run counts CPU time alone, a second takes samples (`tests.benchmarks.sampled_worker`), two more run under `perf`,
where that is installed: system calls are counted, and what runs in C and in the kernel is sampled.
Microseconds a query are those of the first run, shared out by samples.
"""

import argparse
import json
import linecache
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from policy.rules import Action, Rule, Scope, Traits
from tests.benchmarks.contestants import CACHED_ANSWERS, Upstream
from tests.benchmarks.cpus import CLIENT_CPU, SERVER_CPU, pinned
from tests.benchmarks.load import ask
from tests.benchmarks.programs import compiled
from tests.benchmarks.queries import Query, write
from tests.benchmarks.scenarios import SCENARIOS, Scenario, blocked_names, scenarios
from tests.support import processes
from tests.support.dns_client import Address
from tests.support.server import free_port
from tests.unit.policy.build import Listed, publish

ROOT = Path(__file__).parents[2]
LONGEST_RUN_SECONDS = 30.0
PERF_HERTZ = 2_000
PERF_STARTS_SECONDS = 0.5
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Worker:
    """One worker that samples itself, and the supervisor's end of its channel."""

    def __init__(self, directory: Path, upstream: Address) -> None:
        (directory / "var/run").mkdir(parents=True)
        self.address: Address = ("127.0.0.1", free_port())
        self._samples = directory / "samples.json"
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(*pinned(SERVER_CPU), sys.executable, "-m", "tests.benchmarks.sampled_worker"),
                    *(str(self._samples), "0", str(theirs.fileno())),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
            )
        settings = {
            "server": {"listen": [f"127.0.0.1:{self.address[1]}"], "node": "bench"},
            "upstream": {"servers": [f"udp://{upstream[0]}:{upstream[1]}"]},
            "cache": {"entries": CACHED_ANSWERS},
        }
        rules = [Rule(name, Traits(Scope.SUBTREE, Action.BLOCK)) for name in blocked_names()]
        policy = publish(directory / "policy", version=1, lists=[Listed("bench", "adult", rules)])
        start = {"do": "start", "settings": settings, "base": str(directory), "policy": str(policy)}
        self._channel.sendall(json.dumps(start).encode() + b"\n")
        self._channel.settimeout(LONGEST_RUN_SECONDS)
        assert b"serving" in self._channel.recv(65536), "the worker does not serve"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def cpu(self) -> tuple[float, float]:
        """Return the seconds of CPU that it has used: its own, and the kernel's for it (proc(5))."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) / TICKS_A_SECOND, int(fields[12]) / TICKS_A_SECOND

    def sample(self) -> None:
        """Begin to take samples."""
        self._process.send_signal(signal.SIGUSR1)

    def samples(self) -> list[tuple[str, int, str, int]]:
        """End that, and return file, line, function and how often it was met."""
        self._process.send_signal(signal.SIGUSR2)
        processes.eventually(self._samples.exists)
        found: list[tuple[str, int, str, int]] = json.loads(self._samples.read_text())
        return found

    def close(self) -> None:
        """End it."""
        self._channel.close()
        self._process.kill()
        self._process.wait()


class Profile:
    """A worker under the load of one scenario."""

    def __init__(self, worker: Worker, scenario: Scenario, directory: Path, seconds: float) -> None:
        self._worker = worker
        self._scenario = scenario
        self._file = directory / "queries"
        self._directory = directory
        self._seconds = seconds
        self._program = compiled(directory, "load")
        self._runs = 0
        self._ask(scenario.warming(), LONGEST_RUN_SECONDS, once=True)

    def load(self) -> int:
        """Ask for a while and return how many queries were answered."""
        scenario = self._scenario
        queries = scenario.queries(self._runs, int(self._seconds * scenario.per_second))
        self._runs += 1
        return self._ask(queries, self._seconds, once=bool(scenario.per_second))

    def _ask(self, queries: Iterable[Query], seconds: float, *, once: bool) -> int:
        write(self._file, queries)
        return ask(self._program, self._worker.address, self._file, seconds=seconds, once=once).answered

    def plain(self) -> float:
        """Run without looking; print and return CPU microseconds a query."""
        before = self._worker.cpu()
        queries = self.load()
        user, system = ((end - begin) * 1e6 / queries for begin, end in zip(before, self._worker.cpu(), strict=True))
        print(
            f"{self._scenario.name}: {user + system:.2f} us CPU a query: {user:.2f} its own, {system:.2f} the kernel's"
        )
        return user + system

    def python(self, cost: float, rows: int) -> None:
        """Run with samples and print the functions and lines that they met most."""
        self._worker.sample()
        self.load()
        functions: Counter[str] = Counter()
        lines: Counter[str] = Counter()
        for file, line, function, count in self._worker.samples():
            where = _shortened(file)
            functions[f"{where}: {function}"] += count
            lines[f"{where}:{line}  {linecache.getline(file, line).strip()[:80]}"] += count
        _table(f"function, without what it calls in Python ({functions.total():,} samples)", functions, cost, rows)
        _table("line, with the C code and the system calls that it calls", lines, cost, rows)

    def native(self, cost: float, rows: int) -> None:
        """Run under perf, once for the system calls and once for what runs in C and in the kernel."""
        if shutil.which("perf") is None:
            print("\nperf is not installed: no system calls, no native functions")
            return
        calls, queries = self._calls()
        print(f"\nsystem calls a query ({queries:,} queries, slower under perf: then more come at once)")
        for name, count in calls.most_common(rows):
            print(f"  {count / queries:8.3f}  {name}")
        _table("native function; the kernel's in brackets", self._symbols(), cost, rows)

    def _calls(self) -> tuple[Counter[str], int]:
        output = self._directory / "calls"
        command = ["perf", "trace", "--summary", "--pid", str(self._worker.pid), "--output", str(output)]
        queries = self._under(command)
        found = re.findall(r"^ +(\w+) +(\d+) +\d+ +[\d.]+", output.read_text(), re.MULTILINE)
        calls: Counter[str] = Counter()
        for name, count in found:
            calls[name] += int(count)
        return calls, queries

    def _symbols(self) -> Counter[str]:
        data = str(self._directory / "perf.data")
        rate = ["--event", "cpu-clock", "--freq", str(PERF_HERTZ)]
        self._under(["perf", "record", "--quiet", *rate, "--pid", str(self._worker.pid), "--output", data])
        report = ["perf", "report", "--stdio", "--input", data, "--sort", "symbol", "--show-nr-samples"]
        done = subprocess.run(report, check=True, capture_output=True, text=True, timeout=LONGEST_RUN_SECONDS)
        found = re.findall(r"^ +[\d.]+% +(\d+) +\[(.)\] (\S+)", done.stdout, re.MULTILINE)
        return Counter({f"[{name}]" if level == "k" else name: int(count) for count, level, name in found})

    def _under(self, command: Sequence[str]) -> int:
        with subprocess.Popen([*pinned(CLIENT_CPU), *command], stderr=subprocess.DEVNULL) as perf:
            time.sleep(PERF_STARTS_SECONDS)
            try:
                return self.load()
            finally:
                perf.send_signal(signal.SIGINT)


def _shortened(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else f"{path.parent.name}/{path.name}"


def _table(title: str, found: Counter[str], cost: float, rows: int) -> None:
    total = found.total() or 1
    print(f"\n us/query  share  {title}")
    for what, count in found.most_common(rows):
        print(f"  {cost * count / total:7.2f}  {count / total:5.1%}  {what}")


def main(arguments: Iterable[str]) -> int:
    """Profile and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.profile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", choices=[scenario.name for scenario in SCENARIOS])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--rows", type=int, default=25, help="of each table")
    options = parser.parse_args(list(arguments))
    (scenario,) = (scenario for scenario in scenarios() if scenario.name == options.scenario)
    with tempfile.TemporaryDirectory(prefix="hallmonitor-profile-") as name, ExitStack() as stack:
        directory = Path(name)
        upstream = Upstream(directory)
        stack.callback(upstream.close)
        worker = Worker(directory / "worker", upstream.address)
        stack.callback(worker.close)
        profile = Profile(worker, scenario, directory, options.seconds)
        cost = profile.plain()
        profile.python(cost, options.rows)
        profile.native(cost, options.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
