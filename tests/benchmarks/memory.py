"""What processes hold in memory, and the most that they ever held, as Linux counts it. Octets throughout."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.background import Background

_PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS = 0.1


def proportional(pids: Iterable[int]) -> int:
    """Return what processes hold together: what several share counts once (PSS, proc_pid_smaps(5))."""
    return sum(_rollup(pid, "Pss") for pid in pids)


def private(pid: int) -> int:
    """Return what a process holds that no other does."""
    return _rollup(pid, "Private_Clean") + _rollup(pid, "Private_Dirty")


def resident(pids: Iterable[int]) -> int:
    """Return what processes have in memory, each for itself: what they share counts several times. Quick."""
    return sum(map(_resident, pids))


def available() -> int:
    """Return how much this machine could still give."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


class Peak(Background):
    """Looks ten times a second how much processes hold together, while it is entered as a context."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self.octets = 0
        """The most that was resident at once, or in the largest process at any time."""
        self._pids = pids
        super().__init__(daemon=True)

    def run(self) -> None:
        """Take samples. Not to be called: entering does."""
        while True:
            pids = list(self._pids())
            # The kernel knows each one's highest mark, which no sample misses, but not the marks of one moment.
            self.octets = max(self.octets, resident(pids), *map(_highest, pids))
            if self.told_to_end.wait(SAMPLE_SECONDS):
                return


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took."""

    seconds: float
    cpu_seconds: float
    """User and system, of the command and all that it started and waited for."""
    peak: int
    """The most that it and its children held together."""


def cost_of(process: subprocess.Popen[str], began: float) -> Cost:
    """Wait for a command that began at this `time.monotonic`, and return what it took; one that fails is an error."""
    with Peak(lambda: _family(process.pid)) as peak:
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    if code:
        raise RuntimeError(f"{process.args!r}: exit code {code}\n{process.communicate()[1]}")
    # Not `ru_maxrss`: it begins with what this process held when it forked.
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak.octets)


def _family(pid: int) -> list[int]:
    """Return a process and all below it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone meanwhile
            # proc_pid_stat(5): the parent is the second field behind the name, which may hold anything.
            parents.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found = [pid]
    for one in found:  # grows while it is read
        found += parents.get(one, [])
    return found


def _rollup(pid: int, field: str) -> int:
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), field)


def _highest(pid: int) -> int:
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM")


def _kilobytes(path: Path, field: str) -> int:
    try:
        text = path.read_text()
    except OSError:  # it is gone
        return 0
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
