"""One load on one server (load.c), and what it cost: the load's own report, and CPU time from /proc."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.cpus import CLIENT_CPU, pinned
from tests.support.dns_client import Address

OUTSTANDING = 100
SLACK_SECONDS = 30.0


class BadRunError(Exception):
    """The answers were not what the benchmark is about, so its numbers would say nothing."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back."""

    sent: int
    answered: int
    lost: int
    """Without an answer for two seconds."""
    unexpected: int
    """Datagrams that answer nothing."""
    seconds: float
    """From the first query until the last answer."""
    rcodes: dict[int, int]
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    wrong: int = 0
    """Answers to another question, or other than the name must get; counted where outcomes are wanted."""

    @property
    def per_second(self) -> float:
        """Return the throughput."""
        return self.answered / self.seconds

    @property
    def failed(self) -> int:
        """Return how many answers told of an error."""
        return self.answered - self.rcodes.get(0, 0)


def parse(report: str) -> Answers:
    """Read what load.c printed. Raises `BadRunError`."""
    try:
        fields = json.loads(report)
        rcodes = {int(rcode): count for rcode, count in fields.pop("rcodes").items()}
        return Answers(rcodes=rcodes, **fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRunError(f"no report of a load: {report!r}") from error


class Load:
    """A load that runs: begun when it is made."""

    def __init__(
        self,
        program: Path,
        server: Address,
        queries: Path,
        *,
        seconds: float,
        once: bool,
        rate: float,
        outcomes: Path | None = None,
    ) -> None:
        """Ask a file's queries for so long, at a fixed rate (queries a second) or, with 0, as fast as answers come.

        With `outcomes` answers are read, and a file tells what came to each query (load.c); that needs `once`.
        """
        command = [
            *(*pinned(CLIENT_CPU), str(program), "-p", str(server[1]), "-d", str(queries), "-l", f"{seconds:g}"),
            *(("-Q", f"{rate:.1f}") if rate else ("-q", str(OUTSTANDING))),
            *(("-1",) if once else ()),
            *(("-c", str(outcomes)) if outcomes else ()),
        ]
        self.complaints = ""
        """The first answers that were wrong."""
        self._seconds = seconds
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def result(self) -> Answers:
        """Wait for its end and return what was measured. Raises `BadRunError`."""
        try:
            out, err = self._process.communicate(timeout=self._seconds + SLACK_SECONDS)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        if self._process.returncode or not out:
            raise BadRunError(f"the load failed: {err or out}")
        self.complaints = err
        answers = parse(out)
        if not answers.answered:
            raise BadRunError("not one answer came")
        return answers


def ask(
    program: Path, server: Address, queries: Path, *, seconds: float, once: bool = False, rate: float = 0.0
) -> Answers:
    """Run a load until it ends; as `Load`."""
    return Load(program, server, queries, seconds=seconds, once=once, rate=rate).result()
