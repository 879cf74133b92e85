"""What a list costs a server: time until it blocks, memory, and what clients notice while the list changes."""

import time
from dataclasses import dataclass, field

from tests.benchmarks import memory
from tests.benchmarks.dataset import Dataset
from tests.benchmarks.filters import Change, Filter
from tests.benchmarks.prober import Prober, Watch
from tests.support.dns_client import Address

NEW_NAMES = 1_000
"""Names that a change brings."""
SAMPLES = 10_000
"""Listed names that are asked for."""
POPULAR = [f"www.site{number:04d}.popular.example" for number in range(1_000)]
"""Names that no list has."""
SETTLE_SECONDS = 2.0
GIVE_UP_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Reload:
    """How a server took a change."""

    how: str
    watch: Watch
    floor_ms: float
    """The latest answer of the C echo meanwhile: what the machine itself made late."""
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
    reloads: list[Reload] = field(default_factory=list)


def examine(server: Filter, dataset: Dataset, floor: Address) -> Examination:
    """Start a server, look at it at rest, and change its list under load in each of its ways.

    The floor is a server that does nothing, which is asked at the same time.
    """
    listed = dataset.every(max(dataset.names // SAMPLES, 1))
    load_seconds = server.start_until_blocks(listed[len(listed) // 2])
    for name in POPULAR:
        assert not server.blocks(name), f"{server.name} blocks {name}"
    held = memory.proportional(server.pids())
    print(f"{server.name}: {held / dataset.names:,.0f} octets a name, started in {load_seconds:.1f} s", flush=True)
    found = Examination(server.name, server.version(), dataset.names, load_seconds, held)
    for number, change in enumerate(server.changes()):
        new = [f"change{number}.new{one}.example" for one in range(NEW_NAMES)]
        change.prepare(new)
        reload = _watch(server, change, Prober(server.address, listed, POPULAR, new[-1]), Prober.idle(floor, POPULAR))
        found.reloads.append(reload)
        _tell(server.name, reload)
        assert server.blocks(listed[0]), f"{server.name} has forgotten its list"
    return found


def _watch(server: Filter, change: Change, prober: Prober, floor: Prober) -> Reload:
    """Load a server while its list changes, until the new name is blocked and things have settled."""
    prober.start()
    floor.start()
    time.sleep(SETTLE_SECONDS)
    prober.mark()
    try:
        with memory.Peak(server.pids) as peak:
            change.apply()
            if not prober.is_new_blocked.wait(GIVE_UP_SECONDS):
                print(f"{server.name}: the new names are not in force after {GIVE_UP_SECONDS:.0f} s", flush=True)
            time.sleep(SETTLE_SECONDS)
    finally:
        floor_seen, seen = floor.finish(), prober.finish()
    return Reload(change.how, seen, floor_seen.latest_ms, peak.octets)


def _tell(name: str, reload: Reload) -> None:
    seen = reload.watch
    slowest = ", ".join(f"{latency:.0f} ms at {at:.1f} s" for latency, at in sorted(seen.answers)[:-4:-1])
    force = "never" if seen.in_force_seconds is None else f"{seen.in_force_seconds:.1f} s"
    print(f"{name}, {reload.how}: in force after {force}; {seen.lost:,} lost; slowest {slowest}", flush=True)
