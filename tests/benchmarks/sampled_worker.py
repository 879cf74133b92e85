"""A worker that notes where it is, each time that it has used a bit more of the CPU.

    python -m tests.benchmarks.sampled_worker OUTPUT NUMBER DESCRIPTOR

SIGUSR1 begins, SIGUSR2 ends and writes OUTPUT: JSON, a list of ``[file, line, function, samples]``. A sample taken
while C code runs, a system call for instance, counts for the line that called it. The kernel's tick says how often one
comes, mostly 250 times a second of CPU, so that the worker is hardly slower for it.
"""

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from resolver.worker import main

INTERVAL_SECONDS = 0.001
"""Asked for; the kernel gives what its tick allows."""

Place = tuple[str, int, str]


class Sampler:
    """Counts places in the code."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._places: Counter[Place] = Counter()

    def install(self) -> None:
        """Take the signals."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR1, self._begin)
        signal.signal(signal.SIGUSR2, self._end)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        if frame is not None:
            code = frame.f_code
            # Some of a function's instructions stand for no line, whatever its type says.
            line: int | None = frame.f_lineno
            self._places[code.co_filename, line or code.co_firstlineno, code.co_qualname] += 1

    def _begin(self, _number: int, _frame: FrameType | None) -> None:
        self._places.clear()
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        unfinished = self._output.with_suffix(".new")
        unfinished.write_text(json.dumps([[*place, count] for place, count in self._places.items()]))
        unfinished.rename(self._output)


if __name__ == "__main__":
    Sampler(Path(sys.argv[1])).install()
    main(sys.argv[2:])
