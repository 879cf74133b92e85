"""What a load costs a server, and how late its answers are."""

from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.contestants import Contestant
from tests.benchmarks.load import Answers, BadRunError, ask
from tests.support import processes

LOSABLE = 0.001
"""Of a closed load's queries: more, and what was measured is something else."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a closed load cost."""

    per_second: float
    cpu_us: float
    """CPU microseconds a query of the processes that answer."""
    all_cpu_us: float
    """The same of every process of the server, until nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How late answers were at a fixed rate."""

    share: float
    """Of the server's own throughput."""
    rate: float
    answers: Answers


class Client:
    """Loads one server after the other with a file of queries."""

    def __init__(self, program: Path, queries: Path, *, seconds: float, once: bool) -> None:
        """Take load.c's program and where the queries are. With `once` a load ends with the file, if not earlier."""
        self._program = program
        self._queries = queries
        self._seconds = seconds
        self._once = once

    def warm(self, contestant: Contestant, seconds: float) -> None:
        """Ask each query once, so that what can be cached is."""
        _check(contestant, ask(self._program, contestant.address, self._queries, seconds=seconds, once=True))
        contestant.settle()

    def cost(self, contestant: Contestant) -> Cost:
        """Ask as fast as answers come. Raises `BadRunError`."""
        answering, everyone = contestant.answering_pids(), contestant.all_pids()
        before, all_before = _cpu(answering), _cpu(everyone)
        answers = self._ask(contestant, 0.0)
        after = _cpu(answering)
        contestant.settle()
        all_after = _cpu(everyone)
        _check(contestant, answers)
        return Cost(
            answers.per_second,
            (after - before) / answers.answered * 1e6,
            (all_after - all_before) / answers.answered * 1e6,
        )

    def latency(self, contestant: Contestant, share: float, throughput: float) -> Latency:
        """Ask at a share of a throughput. Raises `BadRunError` when nothing is answered."""
        answers = self._ask(contestant, share * throughput)
        contestant.settle()
        return Latency(share, share * throughput, answers)

    def _ask(self, contestant: Contestant, rate: float) -> Answers:
        return ask(self._program, contestant.address, self._queries, seconds=self._seconds, once=self._once, rate=rate)


def _check(contestant: Contestant, answers: Answers) -> None:
    if answers.lost > LOSABLE * answers.sent or answers.failed:
        raise BadRunError(f"{contestant.name} lost or failed queries: {answers}")


def _cpu(pids: list[int]) -> float:
    return sum(map(processes.cpu_seconds, pids))
