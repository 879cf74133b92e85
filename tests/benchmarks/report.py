"""Tables of the benchmarks, for a terminal and for their page."""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

OURS = "Hall Monitor"
RESOLVER, LISTS = "resolver", "lists"
"""The sections of the page that are written by a program, as its marks name them."""


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
