"""The shipper: brings what workers have written to their journals to the store, and clears away what is stored.

Each lookup arrives exactly once, whatever crashes when: the store keeps how far it has come together with the rows,
and a segment goes only when its writer is gone and all of it is stored. Plain synchronous code, for one thread.
"""

import contextlib
import fcntl
import logging
import os
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from querylog.errors import DamagedSegmentError, ShipperBusyError, StoreDownError
from querylog.journal import SUFFIX, NotAJournalError, segments
from querylog.portion import Portion
from querylog.segment import Segment
from querylog.store import LogStore

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 50_000
"""So many rows go into one transaction, about 200 ms of work."""
ROWS_IN_TURN = 8_192
"""So many are read of one segment before the next one's turn, so that rows reach the store nearly in order."""
OPEN_SEGMENTS = 128
LOCK = "shipper.lock"
LOCK_SECONDS = 10.0
UNBORN_SECONDS = 60.0


class ShipReport(NamedTuple):
    """What one round has done, and what is left."""

    rows: int
    """Lookups stored."""
    backlog_bytes: int
    """Octets of journal that are not stored yet."""
    segments: int
    """Segments that are still there."""
    removed: int
    """Segments that were wholly stored and removed."""
    torn_bytes: int
    """Octets cut from the ends of segments that a power cut tore."""
    damaged: int
    """Files set aside because they can't be read."""
    is_complete: bool
    """Whether all is stored that had been written when the round began."""


class Shipper:
    """Ships one node's journals. Holds a lock from its first work until `close`: one at a time for each directory."""

    def __init__(self, journal_directory: Path, store: LogStore, node: str) -> None:
        """Take where the journals are; opens nothing yet. The lock lies in `run` beside the journals' directory."""
        self.node = node
        self._directory = journal_directory
        self._run = journal_directory.parent / "run"
        self._store = store
        self._lock = -1
        self._segments: dict[str, Segment] = {}
        self._unreadable: set[str] = set()

    def __repr__(self) -> str:
        return f"<Shipper of {self.node}: {len(self._segments)} segments>"

    def __enter__(self) -> Self:
        self.lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def lock(self, seconds: float = LOCK_SECONDS) -> None:
        """Become the directory's one shipper, now or within so many seconds. Raises `ShipperBusyError`, `OSError`."""
        if self._lock >= 0:
            return
        self._run.mkdir(mode=0o750, parents=True, exist_ok=True)
        fd = os.open(self._run / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        give_up_at = time.monotonic() + seconds
        while not _try_to_lock(fd):
            if time.monotonic() >= give_up_at:
                os.close(fd)
                raise ShipperBusyError(f"another process ships the journals in {self._directory}")
            time.sleep(0.02)
        self._lock = fd
        self._clear_unborn()

    def ship_once(self) -> ShipReport:
        """Store what is new, as much as one transaction takes, and remove what is done with.

        Raises `StoreDownError`; journals wait and a later call goes on.
        """
        self.lock()
        rows = removed = torn = 0
        damaged = self._open()
        while True:
            portions: list[Portion] = []
            try:
                is_complete = self._read(portions)
                rows = self._store.append(portions) if portions else 0
            except DamagedSegmentError as error:
                self._rewind(portions)
                segment = self._segments.pop(error.segment)
                segment.close()
                self._set_aside(segment.path, str(error))
                damaged += 1
                continue
            except BaseException:
                self._rewind(portions)
                raise
            torn += self._stored(portions)
            done = [self._finish(segment) for segment in list(self._segments.values()) if segment.is_done]
            removed += done.count(True)
            damaged += done.count(False)
            if rows or not portions:  # otherwise all of it was there before, and there may be more
                left = segments(self._directory)
                return ShipReport(rows, self._backlog(left), len(left), removed, torn, damaged, is_complete)

    def close(self) -> None:
        """Let go of the segments and of the lock; a later call takes them up again."""
        while self._segments:
            self._segments.popitem()[1].close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _open(self) -> int:
        """Open segments that are new, the oldest first; return how many files had to be set aside."""
        damaged = 0
        for path in segments(self._directory):
            if path.name in self._segments:
                continue
            if len(self._segments) >= OPEN_SEGMENTS:
                break
            try:
                segment = self._segments[path.name] = Segment(path)
                segment.skip_to(self._store.position(segment.node, segment.name))
            except NotAJournalError as error:
                self._set_aside(path, str(error))
                damaged += 1
            except OSError as error:
                self._complain(path, error)
            except StoreDownError:
                self._segments.pop(path.name).close()
                raise
        return damaged

    def _read(self, portions: list[Portion]) -> bool:
        """Read what one transaction takes, always from the segment that is furthest behind in time.

        Return whether that is all there is.
        """
        rows = 0
        is_complete = len(self._segments) < OPEN_SEGMENTS  # or there may be more of them
        waiting = list(self._segments.values())
        while waiting and rows < ROWS_AT_ONCE:
            segment = min(waiting, key=lambda segment: (segment.last_time, segment.name))
            start = segment.offset
            try:
                portion = segment.read(ROWS_IN_TURN)
            except OSError as error:
                self._complain(segment.path, error)
                segment.skip_to(start)
                waiting.remove(segment)
                is_complete = False
                continue
            if portion is not None:
                portions.append(portion)
                rows += len(portion.lookups.times)
            if segment.is_exhausted:
                waiting.remove(segment)
        return is_complete and not waiting

    def _stored(self, portions: list[Portion]) -> int:
        """Let go of what is stored; return how many octets of it were torn tails."""
        torn = 0
        for portion in portions:
            portion.segment.stored()
            if portion.torn_octets:
                log.warning("%s was torn: %d octets at its end are lost", portion.segment.name, portion.torn_octets)
                torn += portion.torn_octets
        return torn

    @staticmethod
    def _rewind(portions: list[Portion]) -> None:
        for portion in reversed(portions):
            portion.segment.rewind(portion)

    def _finish(self, segment: Segment) -> bool:
        """Remove a segment of which all is stored that can be read; tell whether that was all there is."""
        unread = segment.unread()
        self._segments.pop(segment.name).close()
        if unread:
            self._set_aside(segment.path, f"{unread} octets behind the last whole batch")
            return False
        segment.path.unlink(missing_ok=True)
        return True

    def _backlog(self, paths: list[Path]) -> int:
        """Return how many octets of segments are not stored yet."""
        octets = sum(segment.unread() for segment in self._segments.values())
        for path in paths:
            if path.name not in self._segments:
                with contextlib.suppress(FileNotFoundError):
                    octets += path.stat().st_size
        return octets

    def _set_aside(self, path: Path, reason: str) -> None:
        """Rename a file that can't be read, for a person to look at; it must not hold up the others."""
        aside = path.with_name(f"{path.name}.damaged")
        log.error("%s is set aside as %s: %s", path, aside.name, reason)
        path.rename(aside)

    def _complain(self, path: Path, error: OSError) -> None:
        """Log once that a segment can't be read for now."""
        if path.name not in self._unreadable and not isinstance(error, FileNotFoundError):
            self._unreadable.add(path.name)
            log.error("%s can't be read (%s); it waits", path, error.strerror or error)

    def _clear_unborn(self) -> None:
        """Remove segments whose writer was killed before it gave them their names: there is no lookup in them."""
        for path in self._directory.glob(f".[0-9]*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - UNBORN_SECONDS:
                    path.unlink()


def _try_to_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
