"""The resolver's benchmark: ours beside Unbound and dnsmasq, with logs on, over loopback, in one run.

Each server is pinned to the first CPU, dnsperf and the upstream to the last. The servers take turns, so that what else
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
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.contestants import Contestant, Dnsmasq, Floor, Ours, Unbound, Upstream, compile_echo
from tests.benchmarks.load import Measurement, measure, warm
from tests.benchmarks.scenarios import SCENARIOS, Scenario, blocked_names, write


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    seconds: float
    """Of a run that asks popular names over and over."""
    unique: int
    """Queries of a run that asks each name once."""
    repeats: int = 3


FULL = Effort(seconds=8.0, unique=25_000)
QUICK = Effort(seconds=1.2, unique=12_000)
LONGEST_RUN_SECONDS = 30.0


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, and write it down where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs: the ratios, roughly")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table between the marks of this page")
    parser.add_argument("--scenario", choices=[s.name for s in SCENARIOS], action="append", help="only this one")
    options = parser.parse_args(arguments)
    if shutil.which("dnsperf") is None or shutil.which("taskset") is None:
        print("dnsperf and taskset are needed", file=sys.stderr)
        return 1
    if options.write:
        report.check(options.write, report.RESOLVER)
    effort = QUICK if options.quick else FULL
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in (options.scenario or {scenario.name})]
    begun, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="hallmonitor-bench-") as name:
        rows, versions = _measure(Path(name), scenarios, effort)
    cells = report.table(rows)
    how_much = f"medians of {effort.repeats} runs of {effort.seconds:g} s"
    where = report.conditions(versions, how_much, load)
    print(f"\n{report.plain(cells)}\n\n{where}\n{time.monotonic() - begun:.0f} s in all")
    if options.write:
        report.write(options.write, report.RESOLVER, f"{report.markdown(cells)}\n\n{where}")
    return 0


def _measure(directory: Path, scenarios: Sequence[Scenario], effort: Effort) -> tuple[list[report.Row], dict[str, str]]:
    with contextlib.ExitStack() as stack:
        contestants = list(_contestants(stack, directory))
        rows = [row for scenario in scenarios for row in _play(scenario, contestants, directory, effort)]
        return rows, {contestant.name: contestant.version() for contestant in contestants}


def _contestants(stack: contextlib.ExitStack, directory: Path) -> Iterator[Contestant]:
    """Start every server that is there; say which is not."""
    program = compile_echo(directory)
    upstream = Upstream(directory, program)
    stack.callback(upstream.close)
    blocked = blocked_names()
    found: list[Contestant] = []
    if program is None:
        print("no C compiler: no floor")
    else:
        found.append(Floor(directory, upstream.address, blocked, program))
    found.append(Ours(directory, upstream.address, blocked))
    for kind, command in ((Unbound, "unbound"), (Dnsmasq, "dnsmasq")):
        if shutil.which(command) is None:
            print(f"{command} is not installed: left out")
        else:
            found.append(kind(directory, upstream.address, blocked))
    for contestant in found:
        stack.callback(contestant.close)
        contestant.start()
        yield contestant


def _play(
    scenario: Scenario, contestants: Sequence[Contestant], directory: Path, effort: Effort
) -> Iterator[report.Row]:
    """Warm every server up, then let them take turns."""
    taking_part = [contestant for contestant in contestants if contestant.forwards or not scenario.once]
    file = directory / "queries"
    write(file, scenario.warming())
    for contestant in taking_part:
        warm(contestant, file, LONGEST_RUN_SECONDS)
    runs: dict[str, list[Measurement]] = {contestant.name: [] for contestant in taking_part}
    for repeat in range(effort.repeats):
        write(file, scenario.queries(f"run{repeat}", effort.unique))
        seconds = LONGEST_RUN_SECONDS if scenario.once else effort.seconds
        for contestant in taking_part:
            run = measure(contestant, file, seconds=seconds, once=scenario.once)
            runs[contestant.name].append(run)
            print(f"{scenario.name}, {contestant.name}: {run.per_second:,.0f}/s, {run.cpu_us:.1f} us", flush=True)
    return (report.Row(scenario.name, name, measured) for name, measured in runs.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
