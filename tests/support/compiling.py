"""Compiling that takes as long as a test wants, or for ever."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from blocklists.compiling import compile_from
from control import compiling


def never_ends(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Have everything compiled in a process of its own, which sleeps from its first moment on."""
    monkeypatch.setattr(compiling, "SMALL", -1)
    (directory / "sitecustomize.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(directory))


class HeldUp:
    """Compiling that begins, and goes on each time that it is let; or fails."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.begins = 0
        self.error: Exception | None = None

    @classmethod
    @contextmanager
    def compiling(cls, monkeypatch: pytest.MonkeyPatch) -> Iterator[Self]:
        """Hold up whatever is compiled in this process; let it all go in the end."""
        held = cls()
        monkeypatch.setattr(compiling, "compile_from", held.compile_from)
        try:
            yield held
        finally:
            held.go_on.release(100)

    def compile_from(self, *arguments: object) -> object:
        """Take the place of the function."""
        self.begins += 1
        self.begun.release()
        assert self.go_on.acquire(timeout=20)
        if self.error is not None:
            raise self.error
        return compile_from(*arguments)  # type: ignore[arg-type] # passed on

    async def until_begun(self) -> None:
        """Wait until something is compiled that wasn't at the last call."""
        assert await asyncio.to_thread(self.begun.acquire, timeout=20)
