"""What a list costs a server: time until it blocks, memory, and what clients notice while the list changes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.benchmarks import memory
from tests.benchmarks.dataset import Dataset
from tests.benchmarks.filters import Filter
from tests.benchmarks.prober import Prober, Watch

NEW_NAMES = 1_000
"""Names that a change brings."""
SAMPLES = 10_000
"""Listed names that are asked for."""
POPULAR = [f"www.site{number:04d}.popular.example" for number in range(1_000)]
"""Names that no list has."""
QUIET_SECONDS = 5.0
SETTLE_SECONDS = 2.0
GIVE_UP_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Reload:
    """How a server took a change."""

    how: str
    watch: Watch
    peak: int
    """Octets of memory that its processes held together at most, a command that brings the change among them."""


@dataclass(slots=True)
class Examination:
    """What one server showed with one list."""

    name: str
    version: str
    names: int
    load_seconds: float
    memory: int
    """Octets that all its processes hold at rest, what they share counted once."""
    quiet: Watch
    """While nothing happens: what the machine itself makes late."""
    reloads: list[Reload] = field(default_factory=list)


def examine(server: Filter, dataset: Dataset) -> Examination:
    """Start a server, look at it at rest, and change its list under load in each of its ways."""
    listed = dataset.every(max(dataset.names // SAMPLES, 1))
    load_seconds = server.start_until_blocks(listed[len(listed) // 2])
    for name in POPULAR:
        assert not server.blocks(name), f"{server.name} blocks {name}"
    held = memory.proportional(server.pids())
    quiet = watch(server, listed, "never.new.example", lambda: time.sleep(QUIET_SECONDS), wait=False)
    found = Examination(server.name, server.version(), dataset.names, load_seconds, held, quiet)
    for number, change in enumerate(server.changes()):
        new = [f"change{number}.new{one}.example" for one in range(NEW_NAMES)]
        change.prepare(new)
        with memory.Peak(server.pids) as peak:
            seen = watch(server, listed, new[-1], change.apply)
        found.reloads.append(Reload(change.how, seen, peak.octets))
        assert server.blocks(listed[0]), f"{server.name} has forgotten its list"
    return found


def watch(server: Filter, listed: Sequence[str], new: str, change: Callable[[], None], *, wait: bool = True) -> Watch:
    """Load a server while its list changes, until the new name is blocked and things have settled."""
    prober = Prober(server.address, listed, POPULAR, new)
    prober.start()
    time.sleep(SETTLE_SECONDS / 2)
    prober.mark()
    try:
        change()
        if wait and not prober.is_new_blocked.wait(GIVE_UP_SECONDS):
            print(f"{server.name}: the new names are not in force after {GIVE_UP_SECONDS:.0f} s", flush=True)
        time.sleep(SETTLE_SECONDS)
    finally:
        seen = prober.finish()
    return seen
