"""Measurements as a table: medians of the repeats, and ours against theirs."""

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from statistics import median

from tests.benchmarks.load import Measurement

HEADINGS = (
    "scenario",
    "server",
    "queries/s",
    "CPU us/query",
    "spread",
    "all CPU us/query",
    "avg ms",
    "max ms",
    "ours/theirs, queries/s",
    "ours/theirs, CPU",
)
OURS = "Hall Monitor"
RESOLVER, LISTS = "resolver", "lists"
"""The sections of the page that are written by a program, as its marks name them."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a server reached in a scenario."""

    scenario: str
    server: str
    runs: Sequence[Measurement]

    def median(self, field: str) -> float:
        """Return the median of one of `Measurement`'s fields."""
        return float(median(map(attrgetter(field), self.runs)))

    @property
    def spread(self) -> float:
        """Return how far the CPU cost of the repeats lay apart, as a part of its median."""
        costs = [run.cpu_us for run in self.runs]
        return (max(costs) - min(costs)) / median(costs)


def table(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    """Return the cells, headings first; ratios where our own run of the scenario is there."""
    rows = list(rows)
    ours = {row.scenario: row for row in rows if row.server == OURS}
    return [HEADINGS, *(_cells(row, ours.get(row.scenario)) for row in rows)]


def _cells(row: Row, ours: Row | None) -> tuple[str, ...]:
    ratios = ("", "")
    if ours is not None and ours is not row:
        ratios = (
            f"{ours.median('per_second') / row.median('per_second'):.2f}",
            f"{ours.median('cpu_us') / row.median('cpu_us'):.2f}",
        )
    return (
        row.scenario,
        row.server,
        f"{row.median('per_second'):,.0f}",
        f"{row.median('cpu_us'):.1f}",
        f"{row.spread:.0%}",
        f"{row.median('all_cpu_us'):.1f}",
        f"{row.median('average_ms'):.2f}",
        f"{row.median('longest_ms'):.1f}",
        *ratios,
    )


def plain(cells: Sequence[Sequence[str]]) -> str:
    """Return the table for a terminal: two columns of words, then numbers."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        words = [
            word.ljust(width) if number < 2 else word.rjust(width)
            for number, (word, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(words).rstrip())
    return "\n".join(lines)


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """Return the table as Markdown."""
    head, *body = cells
    alignment = ["---"] * 2 + ["---:"] * (len(head) - 2)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, alignment, *body))


def conditions(versions: Mapping[str, str], what: str, load: float) -> str:
    """Return one line on what was measured where, and how busy the machine was before: CPU costs rise with it."""
    model = re.search(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))
    servers = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python "
        f"{platform.python_version()}; {servers}; {what}; load average before: {load:.1f}."
    )


def check(page: Path, section: str) -> None:
    """Raise `ValueError` when the page has no marks to write between, `OSError` when it can't be read."""
    _split(page, section)


def write(page: Path, section: str, text: str) -> None:
    """Put the text between the section's marks; raises as `check` does."""
    before, after = _split(page, section)
    begin, end = _marks(section)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def _split(page: Path, section: str) -> tuple[str, str]:
    begin, end = _marks(section)
    before, begun, rest = page.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not begun or not ended:
        raise ValueError(f"{page} has no {begin} ... {end}")
    return before, after


def _marks(section: str) -> tuple[str, str]:
    return f"<!-- begin: {section} -->", f"<!-- end: {section} -->"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
