"""What is asked: three kinds of load, as dnsperf's query files. The same seed gives the same files."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

POPULAR = 3_000
BLOCKED = 2_000
DRAWN = 100_000

# What stub resolvers ask for: browsers send HTTPS beside A and AAAA.
TYPES = {"A": 50, "AAAA": 30, "HTTPS": 20}


def popular_names() -> list[str]:
    """Return the names that everybody asks for."""
    return [f"www.site{number:04d}.popular.example" for number in range(POPULAR)]


def blocked_names() -> list[str]:
    """Return the names of the block list."""
    return [f"ads{number:04d}.tracker{number % 97}.example" for number in range(BLOCKED)]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load."""

    name: str
    once: bool
    """Whether each query is asked once: then a file is good for one run of one server."""
    warming: Callable[[], Iterable[str]]
    """The queries of the warm-up."""
    queries: Callable[[str, int], Iterable[str]]
    """The queries of a run: from a label that no other run of this server has, and how many at least."""


def write(path: Path, lines: Iterable[str]) -> Path:
    """Write a query file and return where it is."""
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def _every_type(names: Iterable[str]) -> list[str]:
    return [f"{name} {rdtype}" for name in names for rdtype in TYPES]


def _by_popularity(_label: str, _count: int) -> list[str]:
    """Return draws in which the nth name is asked for 1/n as often as the first (Zipf's law)."""
    chance = random.Random(1)
    weights = [1 / rank for rank in range(1, POPULAR + 1)]
    return _typed(chance, chance.choices(popular_names(), weights, k=DRAWN))


def _evenly(_label: str, _count: int) -> list[str]:
    chance = random.Random(2)
    return _typed(chance, chance.choices(blocked_names(), k=DRAWN))


def _typed(chance: random.Random, names: list[str]) -> list[str]:
    types = chance.choices(list(TYPES), list(TYPES.values()), k=len(names))
    return [f"{name} {rdtype}" for name, rdtype in zip(names, types, strict=True)]


def _unique(label: str, count: int) -> list[str]:
    return [f"host{number}.{label}.rare.example A" for number in range(count)]


SCENARIOS = (
    Scenario(
        "cached",
        once=False,
        warming=lambda: _every_type(popular_names()),
        queries=_by_popularity,
    ),
    Scenario(
        "blocked",
        once=False,
        warming=lambda: _every_type(blocked_names()),
        queries=_evenly,
    ),
    Scenario(
        "forwarded",
        once=True,
        warming=lambda: _unique("warm", 5_000),
        queries=_unique,
    ),
)
