"""Processes as /proc shows them: who belongs to a test, whether they live, what CPU they have used. Linux alone."""

import os
import resource
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep  # the machine's own, where a test moves its clock
from typing import TypeVar

MARK = "TEST_PROCESS_MARK"
"""Environment variable that children inherit, so that all that a test started is found, whoever its parent is now."""

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

T = TypeVar("T")


def marked(mark: str) -> list[int]:
    """Return the living processes that carry a mark, oldest first."""
    wanted = f"{MARK}={mark}".encode()
    return sorted(pid for pid in _all() if wanted in _read(pid, "environ").split(b"\0") and is_alive(pid))


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and is not yet collected doesn't."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in {"Z", "X"}


def arguments(pid: int) -> list[str]:
    """Return a process's command line; empty when it is gone."""
    return _read(pid, "cmdline").decode(errors="replace").split("\0")[:-1]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, user and system, all threads; 0 when it is gone."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND if fields else 0.0


def kill(pids: Iterable[int], number: signal.Signals = signal.SIGKILL) -> None:
    """Signal processes; those that are gone are left out."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def eventually(check: Callable[[], T], seconds: float = 30.0, *, every: float = 0.05) -> T:
    """Call until the result is true and return it; after that long, fail with the last result."""
    until = monotonic() + seconds
    while not (result := check()):
        assert monotonic() < until, f"not within {seconds} s; the last result was {result!r}"
        sleep(every)
    return result


def descriptors(pid: int) -> set[int]:
    """Return the numbers of a process's open descriptors."""
    return {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def leave_room_for(count: int, pid: int) -> tuple[int, int]:
    """Let a process have so many descriptors more than it has; return its limits before (getrlimit(2))."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = descriptors(pid)
    free = [number for number in range(before[0]) if number not in used]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[count], before[1]))  # the lowest number that can't be had
    return before


def rests(pid: int) -> bool:
    """Tell whether a process sleeps each time that one looks: one that turns in circles never does for long."""
    return all(_stat(pid)[0] == "S" for _ in range(200))


def _all() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name (proc(5)): state first, utime and stime at 11 and 12."""
    return _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()


def _read(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:  # it is gone, or another user's
        return b""
