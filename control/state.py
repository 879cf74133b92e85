"""The state directory: where everything is, and who may use it."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from control.errors import AlreadyServingError, StateError

DIRECTORY_MODE = 0o750
FILE_MODE = 0o640
TRIES = 50
RETRY_SECONDS = 0.01
"""How often the supervisor's lock is tried: whoever asks whether one runs holds it for a moment.

Tries are counted, not the time that they take: a machine that stands still between two of them makes neither better.
"""


class StateDirectory:
    """The layout under `state.directory`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal = root / "journal"
        self.policy = root / "policy"
        self.run = root / "run"
        self.control_socket = self.run / "control.sock"

    def create(self) -> None:
        """Make the directories that are missing. Raises `StateError` when they can't be written."""
        try:
            for directory in (self.root, self.journal, self.policy, self.run):
                directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            probe = self.run / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StateError(f"state.directory: {self.root} can't be written: {error.strerror or error}") from error

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Hold the directory as its one supervisor. Raises `AlreadyServingError`."""
        with _opened(self.run / "supervisor.lock") as fd:
            for _ in range(TRIES):
                if _taken(fd):
                    break
                time.sleep(RETRY_SECONDS)
            else:
                raise AlreadyServingError(f"another hallmonitor serves from {self.root} already")
            yield

    def is_served(self) -> bool:
        """Tell whether a supervisor holds the directory."""
        try:
            with _opened(self.run / "supervisor.lock") as fd:
                return not _taken(fd)
        except OSError:
            return False

    @contextmanager
    def locked(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Hold a lock of that name. Raises `BlockingIOError` when somebody has it and it isn't to wait."""
        with locked(self.run / f"{name}.lock", wait=wait):
            yield


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock that is this file. Raises `BlockingIOError` when somebody has it and it isn't to wait."""
    with _opened(path) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def _taken(fd: int) -> bool:
    """Take a lock if nobody has it; tell whether that was so."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        yield fd
    finally:
        os.close(fd)
