"""The whole product under a school's load for long, while all sorts of things happen to it.

    python -m tests.benchmarks.soak [--queries N] [--seconds N] [--rate N]

Two workers, journal and log on SQLite, two upstreams; thousands of clients at a rate that leaves room. Meanwhile
exceptions are added and revoked, one worker is killed now and then, upstreams stall, go away and come back. In the end
every answer must have been right and have exactly one record, nothing may have been lost from the log, no process that
lived through it may have grown, and the service log may hold no traceback. Exits 1, with a line for each that fails.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.accounts import Logged, Received, disagreements
from tests.benchmarks.contestants import Upstream
from tests.benchmarks.footprint import Footprint
from tests.benchmarks.load import Load
from tests.benchmarks.programs import compiled
from tests.benchmarks.queries import Query, name_wire, write
from tests.benchmarks.scenarios import blocked_names, every_type, generated_names, school
from tests.benchmarks.troubles import HELD, KILL, Troubles, endless, workers
from tests.support.server import HallMonitor

QUERIES = 10_000_000
PER_SECOND = 10_000.0
ROUND = 250_000
"""Queries of one run of the load generator, which holds them in memory."""
PAUSE_SECONDS = 2.0
UNANSWERED = 0.02
"""Of all queries: with more, too little was asked of the product for the rest to say anything."""
NEVER_SECONDS = 1e9
MOST_CACHED = 100_000
EXPECTED_ERROR = re.compile(r"worker \d+ \(pid \d+\) ended with status -9$")


@dataclass
class Plan:
    """How much, how fast, and what happens meanwhile."""

    queries: int = QUERIES
    per_second: float = PER_SECOND
    seconds: float = NEVER_SECONDS
    """After these no further round begins."""
    round: int = ROUND
    troubles: Iterable[str] = field(default_factory=endless)
    pause: float = PAUSE_SECONDS
    """Seconds between two troubles."""
    warms: bool = True
    """Whether everything popular is asked for once before."""


@dataclass
class Result:
    """What came of it."""

    failures: list[str]
    """What doesn't hold; empty: all is well."""
    told: list[str]
    """What there was, for the reader."""
    received: Received
    logged: Logged
    troubles: Troubles


class Soak:
    """One soak in a directory of its own."""

    def __init__(self, directory: Path, plan: Plan, stack: ExitStack) -> None:
        """Start the product and its upstreams, which end with the stack."""
        self._directory = directory
        self._plan = plan
        self._program = compiled(directory, "load")
        self._sunk = frozenset(map(name_wire, blocked_names()))
        self.received = Received()
        self.complaints: list[str] = []
        """Answers that were wrong, as load.c prints them."""
        self.upstreams = Upstream(directory), Upstream(directory)
        for upstream in self.upstreams:
            stack.callback(upstream.close)
        self.server = HallMonitor(
            directory / "hall-monitor",
            upstreams=[f"udp://{host}:{port}" for host, port in (upstream.address for upstream in self.upstreams)],
            workers=2,
            # So few that the cache is full before the second quarter: from then on nothing has a reason to grow.
            settings={"cache": {"entries": max(1_000, min(MOST_CACHED, plan.queries // 50))}},
        )
        stack.callback(self.server.close)
        self.server.start()
        self._block()

    def _block(self) -> None:
        names = self._directory / "blocked.txt"
        names.write_text("\n".join([*blocked_names(), HELD]) + "\n")
        run = self.server.hallmonitor
        run("sources", "add", "soak", str(names), "--category", "soak", "--create-category", "--format", "domains")
        run("groups", "block", "students", "soak")
        run("refresh", "soak")

    def run(self) -> Result:
        """Ask everything, and check what came of it."""
        plan = self._plan
        until = time.monotonic() + plan.seconds
        if plan.warms:
            self._ask(0, list(every_type([*generated_names(), *blocked_names()])))
        asked, run = 0, 0
        with (
            Footprint(self._watched) as footprint,
            Troubles(self.server, self.upstreams, plan.troubles, plan.pause) as troubles,
        ):
            while asked < plan.queries and time.monotonic() < until:
                run += 1
                queries = list(school(run, min(plan.round, plan.queries - asked), generated_names()))
                self._ask(run, queries)
                asked += len(queries)
                _say(f"{asked:,} queries, {self._unanswered():,} unanswered, {dict(troubles.done)}")
        return self._result(footprint, troubles)

    def _ask(self, run: int, queries: list[Query]) -> None:
        file, outcomes = self._directory / "queries", self._directory / "outcomes"
        write(file, queries, self._sunk)
        seconds = 10 + 1.5 * len(queries) / self._plan.per_second
        rate = self._plan.per_second
        load = Load(self._program, self.server.dns, file, seconds=seconds, once=True, rate=rate, outcomes=outcomes)
        answers = load.result()
        self.complaints += load.complaints.splitlines()
        self.received.add(run, queries, outcomes.read_bytes(), answers)

    def _unanswered(self) -> int:
        return self.received.sent.total() - self.received.answered.total()

    def _watched(self) -> dict[str, int]:
        found = {f"worker {number}": pid for number, pid in workers(self.server).items()}
        return found | {"supervisor": self.server.supervisor_pid}

    def _result(self, footprint: Footprint, troubles: Troubles) -> Result:
        unlogged = self.server.api("GET", "/stats").json()["unlogged"]
        failures = [*troubles.failures, *self.complaints]
        code = self.server.terminate()
        if code:
            failures.append(f"the service ended with code {code}")
        logged = Logged.of(sorted((self.server.state / "log").glob("[0-9]*.db")), self.received)
        failures += disagreements(self.received, logged)
        if unlogged:
            failures.append(f"{unlogged:,} lookups went unlogged")
        unshipped = list((self.server.state / "journal").glob("*.journal"))
        if unshipped:
            failures.append(f"{len(unshipped)} segments of the journal were not shipped")
        if self._unanswered() > UNANSWERED * self.received.sent.total():
            failures.append(f"{self._unanswered():,} queries were not answered: the load is too high for this machine")
        failures += [f"{name}: {growth}" for name, samples in footprint.judged().items() for growth in samples.growth()]
        failures += self._errors(troubles.done[KILL])
        told = [*self._told(logged), *(f"{name}: {samples}" for name, samples in footprint.judged().items())]
        return Result(failures, told, self.received, logged, troubles)

    def _told(self, logged: Logged) -> Iterator[str]:
        received = self.received
        records = logged.records.total()
        yield (
            f"{received.sent.total():,} queries, {received.answered.total():,} answers,"
            f" {self._unanswered():,} without one ({received.late:,} of these came late), {received.wrong:,} wrong"
        )
        failed = sum(count for (_, rcode), count in received.answered.items() if rcode == "SERVFAIL")
        yield f"{failed:,} answers were SERVFAIL"
        yield f"{records:,} records, {records - received.answered.total():,} of them of queries without an answer"

    def _errors(self, kills: int) -> Iterator[str]:
        """Yield what the service log has that must not be there."""
        output = self.server.output()
        if "Traceback" in output:
            yield f"the service log has tracebacks: {output[output.index('Traceback') :][:2000]}"
        errors = [line for line in output.splitlines() if " ERROR " in line]
        ended = sum(EXPECTED_ERROR.search(line) is not None for line in errors)
        if ended != kills:
            yield f"{kills} workers were killed, and {ended} ended so"
        yield from (f"the service log: {line}" for line in errors if not EXPECTED_ERROR.search(line))


def soak(directory: Path, plan: Plan) -> Result:
    """Run a soak in a directory."""
    with ExitStack() as stack:
        return Soak(directory, plan, stack).run()


def _say(line: str) -> None:
    print(line, flush=True)


def main(arguments: Iterable[str]) -> int:
    """Soak, and print what came of it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--seconds", type=float, default=NEVER_SECONDS, help="after these no further round begins")
    parser.add_argument("--rate", type=float, default=PER_SECOND, help="queries a second")
    options = parser.parse_args(list(arguments))
    plan = Plan(queries=options.queries, per_second=options.rate, seconds=options.seconds)
    with tempfile.TemporaryDirectory(prefix="hallmonitor-soak-") as name:
        result = soak(Path(name), plan)
    for line in result.told:
        _say(line)
    for failure in result.failures:
        _say(f"FAILED: {failure}")
    _say("not everything holds" if result.failures else "everything holds")
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
