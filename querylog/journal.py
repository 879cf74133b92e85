"""The journal: append-only segments that hold every lookup until it is shipped.

A worker appends each batch of lookups with one write(2) before it sends their answers: a record that reached the
kernel outlives the process. Knows no database and no network.

A segment is one file, written by one process, which holds an exclusive flock on it as long as it lives::

    segment  = magic "HMJ1", u32 length, JSON {"node", "worker", "pid", "started"}, batch...
    batch    = u32 body length, u32 lookups, u32 CRC-32 (seeded with length ^ lookups), body
    body     = lookups x 20 octets (`LOOKUP`), definition...
    definition = u8 kind, u32 number, u16 length, octets

Numbers are given per segment, so a segment can be read without any other. A definition stands in the same batch
as the first lookup that names it, or in an earlier one.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from struct import Struct, error
from typing import NamedTuple
from zlib import crc32

from querylog.records import LOOKUP, Client, Decision, encode_client, encode_decision

log = logging.getLogger(__name__)

MAGIC = b"HMJ1"
SUFFIX = ".journal"
SEGMENT_BYTES = 64 << 20
RETRY_SECONDS = 1.0
LONGEST = 0xFFFFFFFF  # microseconds: what a lookup has room for
MAX_BODY = 64 << 20  # no batch comes near: a longer one is a torn or foreign file

_LENGTH = Struct("<I")
_BATCH = Struct("<III")
_DEFINITION = Struct("<BIH")


class Kind(IntEnum):
    """What a definition defines."""

    CLIENT = 1
    DECISION = 2
    GAP = 3  # lookups that could not be written: decimal count, first and last time, NUL-joined


CLIENT, DECISION = (
    int(Kind.CLIENT),
    int(Kind.DECISION),
)  # an enumeration's member is looked up each time, for as long as all the rest takes


class JournalWriter:
    """Appends lookups; one process, one open segment.

    Numbers from `client` and `decision` hold until `on_new_segment` is called: then all of them are void, and so
    is everything a caller has cached under them.
    """

    def __init__(
        self,
        directory: Path,
        *,
        node: str,
        worker: int,
        on_new_segment: Callable[[], None] = lambda: None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.pending: list[tuple[int, int, int]] = []
        """Lookups of the batch so far: time, client, decision. The hot way appends here itself."""
        self.lost = 0
        """Lookups that could not be written since the start."""
        self.failure: OSError | None = None
        """Why the last batch was not written; None while all is well."""
        self._directory = directory
        self._about = {"node": node, "worker": worker, "pid": os.getpid()}
        self.on_new_segment = on_new_segment
        """Called when every number given so far is void."""
        self._segment_bytes = segment_bytes
        self._fd = -1
        self._complete: list[int] = []
        """Segments that nothing is appended to any more: `sync` closes them, so that nobody else waits for the disk."""
        self._is_new = False
        """Whether the segment's name may not be on the disk yet."""
        self._size = 0
        self._gap = (0, 0, 0)  # count, first and last time of the lookups lost since the last good batch
        self._retry_at = 0.0
        self._definitions: list[bytes] = []
        self._next_number = 0
        directory.mkdir(parents=True, exist_ok=True)
        self._open_segment()

    def client(self, client: Client) -> int:
        """Define a client in this segment and return its number."""
        return self.define(CLIENT, encode_client(client))

    def decision(self, decision: Decision) -> int:
        """Define a decision in this segment and return its number."""
        return self.define(DECISION, encode_decision(decision))

    def define(self, kind: int, octets: bytes) -> int:
        """Define a client or a decision that is encoded already, and return its number."""
        number = self._next_number
        self._next_number = number + 1
        self._definitions.append(_DEFINITION.pack(kind, number, len(octets)) + octets)
        return number

    def commit(self) -> bool:
        """Write the pending lookups; True once the kernel has them, False when it could not take them."""
        pending = self.pending
        if not pending:
            return True
        if self.failure is not None:
            self._lose(pending)
            # Nothing will name what was defined for them: a new segment voids all numbers.
            self._definitions.clear()
            self._retry()
            return False
        body = _pack_lookups(pending, time.time_ns() // 1000)
        if self._definitions:
            body += b"".join(self._definitions)
        batch = _BATCH.pack(len(body), len(pending), crc32(body, len(body) ^ len(pending))) + body
        try:
            _write_whole(self._fd, batch)
        except OSError as failure:
            self._lose(pending)
            self._give_up(failure)
            return False
        self._size += len(batch)
        pending.clear()
        self._definitions.clear()
        if self._size >= self._segment_bytes:
            self._rotate()
        return True

    def sync(self) -> None:
        """Bring what was written to the disk itself (fdatasync); may run in another thread, as a disk may be slow."""
        fd = self._fd
        with contextlib.suppress(IndexError):  # none is left
            while True:
                complete = self._complete.pop()
                with contextlib.suppress(OSError):
                    os.fdatasync(complete)
                os.close(complete)
        if self._is_new:
            self._is_new = False
            try:
                _sync_directory(self._directory)
            except OSError:
                self._is_new = True  # next time, then
        if fd >= 0:
            with contextlib.suppress(OSError):  # given up meanwhile
                os.fdatasync(fd)

    def close(self) -> None:
        """Write what is pending and let go of the segment; tell of a gap while there is a chance."""
        self.commit()
        if self._gap[0]:
            with contextlib.suppress(OSError):  # still the failure that was logged
                self._open_segment()
        if self._fd >= 0:
            self.sync()
            os.close(self._fd)
            self._fd = -1

    def _rotate(self) -> None:
        try:
            self._open_segment()
        except OSError as failure:
            self._give_up(failure)

    def _open_segment(self) -> None:
        started = time.time_ns() // 1000
        name = f"{started:016d}-{self._about['worker']}-{self._about['pid']}{SUFFIX}"
        about = json.dumps(self._about | {"started": started}).encode()
        head = MAGIC + _LENGTH.pack(len(about)) + about
        if self._gap[0]:
            gap = "\0".join(map(str, self._gap)).encode()
            body = _DEFINITION.pack(Kind.GAP, 0, len(gap)) + gap
            head += _BATCH.pack(len(body), 0, crc32(body, len(body))) + body
        # Born under a name that no shipper reads, so that none sees it before it is locked.
        born = self._directory / f".{name}"
        fd = os.open(born, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            _write_whole(fd, head)
            born.rename(self._directory / name)
        except OSError:
            os.close(fd)
            for path in (born, self._directory / name):
                path.unlink(missing_ok=True)
            raise
        if self._fd >= 0:
            self._complete.append(self._fd)
        self._fd, self._size, self._gap, self.failure = fd, len(head), (0, 0, 0), None
        self._is_new = True
        self._forget_numbers()

    def _forget_numbers(self) -> None:
        self._definitions.clear()
        self._next_number = 0
        self.on_new_segment()

    def _lose(self, pending: list[tuple[int, int, int]]) -> None:
        times = [time for time, _, _ in pending]
        count, first, last = self._gap
        self._gap = (count + len(times), min([first or times[0], *times]), max(last, *times))
        self.lost += len(times)
        pending.clear()

    def _give_up(self, failure: OSError) -> None:
        """End the segment: what was defined in a batch that is not there must not be named again."""
        log.error("the journal can't be written (%s): lookups go unlogged until it can", failure)
        self.failure = failure
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._forget_numbers()

    def _retry(self) -> None:
        now = time.monotonic()
        if now < self._retry_at:
            return
        self._retry_at = now + RETRY_SECONDS
        lost = self._gap[0]
        with contextlib.suppress(OSError):  # still the failure that was logged
            self._open_segment()
            log.warning("the journal is written again; %d lookups went unlogged", lost)


def _pack_lookups(pending: list[tuple[int, int, int]], now: int) -> bytes:
    pack = LOOKUP.pack
    try:
        return b"".join([pack(time, client, decision, now - time) for time, client, decision in pending])
    except error:  # the clock was set: a duration below zero, or one that no lookup takes
        return b"".join(
            [pack(time, client, decision, min(max(0, now - time), LONGEST)) for time, client, decision in pending]
        )


def _write_whole(fd: int, data: bytes) -> None:
    """Append all of the data or none of it."""
    written = os.write(fd, data)
    if written == len(data):
        return
    os.ftruncate(fd, os.fstat(fd).st_size - written)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Definition(NamedTuple):
    """One definition as it was read."""

    kind: int
    number: int
    data: bytes


class Batch(NamedTuple):
    """One batch as it was read."""

    end: int
    """Offset in the segment behind the batch."""
    lookups: bytes
    """A multiple of `LOOKUP.size` octets, for `LOOKUP.iter_unpack`."""
    definitions: list[Definition]


class NotAJournalError(Exception):
    """The file does not begin as a segment does."""


class SegmentReader:
    """Reads the batches of one segment, also while it is being written."""

    def __init__(self, path: Path) -> None:
        """Open a segment. Raises `NotAJournalError` when it is none, `OSError` when it can't be read."""
        self.path = path
        self._file = path.open("rb")
        head = self._file.read(len(MAGIC) + _LENGTH.size)
        if len(head) < len(MAGIC) + _LENGTH.size or not head.startswith(MAGIC):
            self._file.close()
            raise NotAJournalError(f"{path} is no journal segment")
        length: int = _LENGTH.unpack_from(head, len(MAGIC))[0]
        try:
            about = json.loads(self._file.read(length))
            self.node = str(about["node"])
        except (ValueError, KeyError, TypeError) as problem:
            self._file.close()
            raise NotAJournalError(f"{path} is no journal segment: its head is damaged") from problem
        self.offset: int = len(head) + length
        """Where the next batch begins."""

    def batches(self) -> Iterator[Batch]:
        """Yield the whole batches from `offset` on; ends before one that is torn or not yet written whole."""
        while True:
            self._file.seek(self.offset)
            head = self._file.read(_BATCH.size)
            if len(head) < _BATCH.size:
                return
            length, count, checksum = _BATCH.unpack(head)
            if not 0 < length <= MAX_BODY or count * LOOKUP.size > length:
                return  # a torn tail: some file systems leave zeros
            body = self._file.read(length)
            if len(body) < length or crc32(body, length ^ count) != checksum:
                return
            self.offset += _BATCH.size + length
            split = count * LOOKUP.size
            yield Batch(self.offset, body[:split], list(_definitions(body, split)))

    def unread(self) -> int:
        """Return how many octets lie behind `offset`: of a segment whose writer is gone, a torn tail."""
        return max(0, os.fstat(self._file.fileno()).st_size - self.offset)

    def is_being_written(self) -> bool:
        """Tell whether the segment's writer is alive."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _definitions(body: bytes, position: int) -> Iterator[Definition]:
    while position < len(body):
        kind, number, length = _DEFINITION.unpack_from(body, position)
        position += _DEFINITION.size
        yield Definition(kind, number, body[position : position + length])
        position += length


def segments(directory: Path) -> list[Path]:
    """Return a directory's segments, oldest first."""
    return sorted(directory.glob(f"[0-9]*{SUFFIX}"))
