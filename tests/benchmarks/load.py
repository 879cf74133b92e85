"""One run of dnsperf against one server, and what it cost: dnsperf's own report and CPU time from /proc."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.contestants import CLIENT_CPU, Contestant, pinned
from tests.support import processes
from tests.support.dns_client import Address

CLIENTS = 20
OUTSTANDING = 100
SLACK_SECONDS = 30.0


class BadRunError(Exception):
    """The answers were not what the benchmark is about, so its numbers would say nothing."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run showed."""

    queries: int
    """Answered."""
    per_second: float
    cpu_us: float
    """CPU microseconds a query of the processes that answer."""
    all_cpu_us: float
    """The same of every process of the server, until nothing is left to do."""
    average_ms: float
    longest_ms: float


def measure(contestant: Contestant, queries: Path, *, seconds: float, once: bool) -> Measurement:
    """Load a server for so long, or until each query was asked once. Raises `BadRunError`."""
    answering, everyone = contestant.answering_pids(), contestant.all_pids()
    before, all_before = _cpu(answering), _cpu(everyone)
    report = ask(contestant.address, queries, seconds=seconds, once=once)
    after = _cpu(answering)
    contestant.settle()
    all_after = _cpu(everyone)
    completed = int(_number(report, r"Queries completed:\s+(\d+)"))
    _check(contestant, report, completed)
    return Measurement(
        queries=completed,
        per_second=_number(report, r"Queries per second:\s+([\d.]+)"),
        cpu_us=(after - before) / completed * 1e6,
        all_cpu_us=(all_after - all_before) / completed * 1e6,
        average_ms=_number(report, r"Average Latency \(s\):\s+([\d.]+)") * 1000,
        longest_ms=_number(report, r"Average Latency \(s\):.*max ([\d.]+)") * 1000,
    )


def warm(contestant: Contestant, queries: Path, seconds: float) -> None:
    """Ask each query once, so that what can be cached is."""
    ask(contestant.address, queries, seconds=seconds, once=True)
    contestant.settle()


def ask(server: Address, queries: Path, *, seconds: float, once: bool) -> str:
    """Ask a file's queries as fast as the server answers and return dnsperf's report. Raises `BadRunError`."""
    host, port = server
    command = [
        *(*pinned(CLIENT_CPU), "dnsperf", "-s", host, "-p", str(port), "-d", str(queries), "-l", f"{seconds:g}"),
        *("-c", str(CLIENTS), "-q", str(OUTSTANDING), "-T", "1", "-b", "4096", *(["-n", "1"] if once else [])),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds + SLACK_SECONDS)
    if done.returncode:
        raise BadRunError(f"dnsperf failed: {done.stderr or done.stdout}")
    return done.stdout


def _check(contestant: Contestant, report: str, completed: int) -> None:
    sent = int(_number(report, r"Queries sent:\s+(\d+)"))
    good = re.search(r"NOERROR (\d+)", report)
    if completed < 0.999 * sent or good is None or int(good[1]) < completed:
        raise BadRunError(f"{contestant.name} lost or failed queries:\n{report}")


def _cpu(pids: list[int]) -> float:
    return sum(map(processes.cpu_seconds, pids))


def _number(report: str, pattern: str) -> float:
    found = re.search(pattern, report)
    if found is None:
        raise BadRunError(f"dnsperf's report has no {pattern!r}:\n{report}")
    return float(found[1])
