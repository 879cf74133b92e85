"""Compiling the index: in this process where that is quick, otherwise in one of its own, which is watched.

Owns that process from its start to its end, whichever comes first: its own, `stop`, or the time limit. It notices by
itself when this process is gone.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blocklists.compiling import compile_from
from control.errors import PublishError
from storage import sources
from storage.database import Database, read_state

SMALL = 20_000
"""Rules up to which it takes less than the start of a process, 0.1 s, a third of which holds the interpreter."""
COMPILE_SECONDS = 900.0
"""Ten lists of five million names take a quarter of it."""


class Compiler:
    """Compiles what a database holds."""

    def __init__(self, database: Database, database_url: str) -> None:
        self._database = database
        self._database_url = database_url
        self._process: subprocess.Popen[str] | None = None
        self._guard = threading.Lock()
        self.stopped = threading.Event()
        """Set once nothing is to be compiled any more."""

    def compile(self, path: Path) -> int:
        """Write the index of what is stored to the path; return which entries version that was.

        Raises `PublishError` with the reason, `storage.errors.DatabaseDownError`.
        """
        try:
            with self._database.reading() as connection:
                if sum(source.rules for source in sources.list_all(connection)) <= SMALL:
                    compile_from(connection, path)
                    return read_state(connection).entries_version
            return self._compile_apart(path)
        except OSError as error:
            raise _failure(error.strerror or str(error)) from error

    def stop(self) -> None:
        """End what is being compiled, and begin nothing any more."""
        with self._guard:
            self.stopped.set()
            if self._process is not None:
                self._process.kill()

    def _compile_apart(self, path: Path) -> int:
        """Compile in a process of low priority, so that nothing here waits for the interpreter."""
        job = json.dumps({"database": self._database_url, "path": str(path)})
        process = subprocess.Popen(
            [sys.executable, "-m", "blocklists.compiling"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        with process, self._watched(process) as late:
            assert process.stdin is not None
            assert process.stdout is not None
            # Standard input stays open: its end is how the job learns that nobody waits any more.
            process.stdin.write(job + "\n")
            process.stdin.flush()
            said = process.stdout.read().strip().splitlines()
            process.wait()
        if process.returncode == 0:
            return int(said[-1])
        if late.is_set():
            raise _failure(f"it took longer than {COMPILE_SECONDS:g} s")
        if process.returncode < 0:
            raise _failure(f"its process was ended by signal {-process.returncode}")
        raise _failure(said[-1] if said else "it gave no reason")

    @contextmanager
    def _watched(self, process: "subprocess.Popen[str]") -> Iterator[threading.Event]:
        """End a process that takes too long, or when we are told to stop; give what is set in the former case."""
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(COMPILE_SECONDS, end)
        timer.daemon = True
        timer.start()
        with self._guard:
            self._process = process
            if self.stopped.is_set():
                process.kill()
        try:
            yield late
        finally:
            with self._guard:
                self._process = None
            timer.cancel()
            process.kill()  # nothing, where it has ended by itself


def _failure(reason: str) -> PublishError:
    return PublishError(f"the index could not be compiled: {reason}")
