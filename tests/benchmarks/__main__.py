"""The resolver's benchmark: ours beside Unbound and dnsmasq, with and without their logs, over loopback, in one run.

Each server is pinned to the first CPU, clients and the upstream to the last. The servers take turns, so that what else
the machine does meets them alike. The benchmark of long lists is `tests.benchmarks.lists`.
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.contestants import Contestant, Dnsmasq, Floor, Ours, Unbound, Upstream
from tests.benchmarks.measuring import Client, Cost, Latency
from tests.benchmarks.programs import can_compile, compiled
from tests.benchmarks.queries import write
from tests.benchmarks.resolver_report import Row, Rows
from tests.benchmarks.scenarios import SCENARIOS, Scenario, blocked_names, scenarios
from tests.support.dns_client import Address


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    seconds: float
    """Of each run."""
    repeats: int
    shares: tuple[float, ...] = (0.5, 0.9)
    """Of a server's throughput: the loads at which latency is measured."""


FULL = Effort(seconds=2.5, repeats=3)
QUICK = Effort(seconds=0.6, repeats=1)
WARMING_SECONDS = 30.0


def main(arguments: Sequence[str]) -> int:
    """Measure, print tables, and write them down where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, once each: the ratios, roughly")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between the marks of this page")
    parser.add_argument("--scenario", choices=[s.name for s in SCENARIOS], action="append", help="only this one")
    options = parser.parse_args(arguments)
    if not can_compile() or shutil.which("taskset") is None:
        print("a C compiler and taskset are needed", file=sys.stderr)
        return 1
    if options.write:
        report.check(options.write, report.RESOLVER)
    effort = QUICK if options.quick else FULL
    chosen = [scenario for scenario in scenarios() if scenario.name in (options.scenario or {scenario.name})]
    begun, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="hallmonitor-bench-") as name:
        rows = list(_measure(Path(name), chosen, effort))
    tables = Rows(rows, {scenario.name: scenario.against for scenario in chosen if scenario.against}).tables()
    how_much = f"medians of {effort.repeats} runs of {effort.seconds:g} s"
    where = report.conditions({kind.kind: kind.version() for kind in (Ours, *_peers())}, how_much, load)
    print("\n" + "\n\n".join(f"{title}\n{report.plain(cells)}" for title, cells in tables.items()))
    print(f"\n{where}\n{time.monotonic() - begun:.0f} s in all")
    if options.write:
        text = "\n\n".join(f"**{title}**\n\n{report.markdown(cells)}" for title, cells in tables.items())
        report.write(options.write, report.RESOLVER, f"{text}\n\n{where}")
    return 0


def _peers() -> list[type[Unbound] | type[Dnsmasq]]:
    return [kind for kind in (Unbound, Dnsmasq) if shutil.which(kind.program) is not None]


def _measure(directory: Path, chosen: Sequence[Scenario], effort: Effort) -> Iterator[Row]:
    """Play one scenario after the other, each with servers that have just started."""
    for kind in (Unbound, Dnsmasq):
        if kind not in _peers():
            print(f"{kind.program} is not installed: left out")
    with contextlib.ExitStack() as stack:
        upstream = Upstream(directory)
        stack.callback(upstream.close)
        program = compiled(directory, "load")
        for scenario in chosen:
            with tempfile.TemporaryDirectory(dir=directory) as name, contextlib.ExitStack() as servers:
                contestants = list(_contestants(servers, Path(name), upstream.address, scenario))
                yield from Play(scenario, effort, program, Path(name) / "queries").rows(contestants)


def _contestants(
    stack: contextlib.ExitStack, directory: Path, upstream: Address, scenario: Scenario
) -> Iterator[Contestant]:
    """Start every server that has a part in a scenario."""
    blocked = blocked_names()
    found: list[Contestant] = []
    if not scenario.forwards and not scenario.against:
        found.append(Floor(directory, upstream, blocked))
    found.append(Ours(directory, upstream, blocked))
    for kind in _peers():
        found.append(kind(directory, upstream, blocked))
        if not scenario.against:
            found.append(kind(directory, upstream, blocked, logs=False))
    for contestant in found:
        stack.callback(contestant.close)
        contestant.start()
        yield contestant


class Play:
    """One scenario: every server warmed up, then measured in turn."""

    def __init__(self, scenario: Scenario, effort: Effort, program: Path, queries: Path) -> None:
        self._scenario = scenario
        self._effort = effort
        self._queries = queries
        self._once = bool(scenario.per_second)
        self._client = Client(program, queries, seconds=effort.seconds, once=self._once)
        self._runs = 0

    def rows(self, contestants: Sequence[Contestant]) -> list[Row]:
        """Measure, and return what each server reached."""
        write(self._queries, self._scenario.warming())
        for contestant in contestants:
            self._client.warm(contestant, WARMING_SECONDS)
        costs: dict[str, list[Cost]] = {contestant.name: [] for contestant in contestants}
        for _ in range(self._effort.repeats):
            self._write(self._scenario.per_second)
            for contestant in contestants:
                costs[contestant.name].append(self._cost(contestant))
        rows = {name: Row(self._scenario.name, name, measured) for name, measured in costs.items()}
        if self._scenario.against:
            return list(rows.values())
        return [
            replace(rows[contestant.name], latencies=self._latencies(contestant, rows[contestant.name]))
            for contestant in contestants
        ]

    def _cost(self, contestant: Contestant) -> Cost:
        cost = self._client.cost(contestant)
        print(f"{self._scenario.name}, {contestant.name}: {cost.per_second:,.0f}/s, {cost.cpu_us:.2f} us", flush=True)
        return cost

    def _latencies(self, contestant: Contestant, row: Row) -> list[Latency]:
        throughput = row.median("per_second")
        found = []
        for share in self._effort.shares:
            self._write(share * throughput)
            latency = self._client.latency(contestant, share, throughput)
            print(
                f"{row.scenario}, {row.server} at {latency.rate:,.0f}/s: p50 {latency.answers.p50_us:,.0f} us, "
                f"p99 {latency.answers.p99_us:,.0f} us",
                flush=True,
            )
            found.append(latency)
        return found

    def _write(self, per_second: float) -> None:
        """Write what another run asks: enough for its time, where each query is asked once."""
        write(self._queries, self._scenario.queries(self._runs, int(per_second * self._effort.seconds) + 1))
        self._runs += 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
