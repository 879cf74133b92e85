"""What processes hold while they work: private memory and descriptors, once a second, and whether that grows."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from tests.benchmarks.background import Background
from tests.benchmarks.memory import private

EVERY_SECONDS = 1.0
ENOUGH = 240
"""Samples from which on a trend tells something: four minutes. Tables of the journal and of its shipping fill up for
minutes and are emptied then; ports to upstreams are kept for 15 s."""
PARTS = 24
"""Of the time, whose means are shown where something grows."""
GROWTH = 1.05
SPARE_OCTETS = 8 << 20
SPARE_DESCRIPTORS = 50
"""What the last quarter may have more than the second: what a process holds goes up and down."""


@dataclass
class Samples:
    """One process, looked at again and again."""

    memory: list[int] = field(default_factory=list)
    """Octets that no other process shares."""
    descriptors: list[int] = field(default_factory=list)

    def quarters(self, values: Sequence[int]) -> tuple[float, float]:
        """Return the means of the second and of the last quarter: the first is warm-up."""
        quarter = len(values) // 4
        return mean(values[quarter : 2 * quarter]), mean(values[-quarter:])

    def growth(self) -> Iterator[str]:
        """Yield a line for what grows."""
        before, after = self.quarters(self.memory)
        if after > GROWTH * before + SPARE_OCTETS:
            curve = ", ".join(f"{value / 1e6:.0f}" for value in _curve(self.memory))
            yield f"its memory grew from {before / 1e6:.1f} MB to {after / 1e6:.1f} MB: {curve}"
        before, after = self.quarters(self.descriptors)
        if after > GROWTH * before + SPARE_DESCRIPTORS:
            yield f"its descriptors grew from {before:.0f} to {after:.0f}"

    def __str__(self) -> str:
        before, after = self.quarters(self.memory)
        descriptors = self.quarters(self.descriptors)
        return (
            f"memory {before / 1e6:.1f} MB, then {after / 1e6:.1f} MB;"
            f" descriptors {descriptors[0]:.0f}, then {descriptors[1]:.0f}"
        )


def _curve(values: Sequence[int]) -> list[float]:
    """Return the means of so many parts of the time, one after the other."""
    return [mean(values[part * len(values) // PARTS : (part + 1) * len(values) // PARTS]) for part in range(PARTS)]


class Footprint(Background):
    """Looks at processes while it is entered as a context."""

    def __init__(self, watched: Callable[[], dict[str, int]]) -> None:
        """Take who is looked at: process ids by what they are called. A name's samples start anew with its process."""
        self.samples: dict[tuple[str, int], Samples] = {}
        self._watched = watched
        super().__init__(daemon=True)

    def run(self) -> None:
        """Take samples. Not to be called: entering does."""
        while not self.told_to_end.wait(EVERY_SECONDS - time.monotonic() % EVERY_SECONDS):
            for name, pid in self._watched().items():
                memory, descriptors = private(pid), _descriptors(pid)
                if memory and descriptors:  # else it is gone
                    samples = self.samples.setdefault((name, pid), Samples())
                    samples.memory.append(memory)
                    samples.descriptors.append(descriptors)

    def judged(self) -> dict[str, Samples]:
        """Return the processes that were seen for long enough."""
        return {name: samples for (name, _), samples in self.samples.items() if len(samples.memory) >= ENOUGH}


def _descriptors(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it is gone
        return 0
