"""The bench, made anew for each test."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.resolver.bench import Bench, Clock, Make, make_bench, network_at


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Make]:
    """Give what makes benches; their time stands still unless the test moves it, however long the machine does."""
    network = network_at(monkeypatch)
    # What reached the kernel is what is tested here; bringing it to the disk would take most of the time.
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)
    made: list[Bench] = []

    def one(**parts: Any) -> Bench:
        made.append(make_bench(tmp_path / str(len(made)), network, **parts))
        return made[-1]

    yield one
    for bench in made:
        bench.journal.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)
