"""Cached answers on disk, so that a start with no upstream in reach still has what was known (RFC 8767).

A file is one worker's, written in slices under another name and renamed::

    "HMA2", digest of settings, entry..., JSON [upstream...], f64 monotonic and f64 wall clock, u32 length of that JSON,
    u32 CRC-32 of all before
    entry = u16 length, u32 length, question, answer (as `resolver.cache` keeps it)

It is trusted as far as its checksum goes: whoever can write into the state directory can do worse.
"""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from struct import error as struct_error
from typing import BinaryIO
from zlib import crc32

from resolver.cache import HEAD, AnswerCache
from settings import Settings

log = logging.getLogger(__name__)

MAGIC = b"HMA2"
DIGEST_OCTETS = 16
_START_OCTETS = len(MAGIC) + DIGEST_OCTETS
_ENTRY = Struct("<HI")
_END = Struct("<ddI")
_CHECKSUM = Struct("<I")
_UPSTREAM = 7
"""The place of the upstream's number in `HEAD`."""
MODE = 0o600  # what a school looks up is nobody else's business
SLICE = 300
"""Entries that are written at a time: to put them together takes 0.1 ms."""
CHUNK = 1 << 18
READ_SECONDS = 5.0
"""How long a start may take for it; the 100,000 answers of the usual settings take 0.3 s."""


def digest_of(settings: Settings) -> bytes:
    """Return what stands for the settings that decide what an answer may be, and for the form that it is kept in."""
    upstream, cache = settings.upstream, settings.cache
    decisive = [
        HEAD.format,
        upstream.servers,
        sorted(upstream.zones.items()),
        upstream.ca_file,
        sorted(settings.filter.private_zones),
        settings.local.records,
        cache.min_ttl_seconds,
        cache.max_ttl_seconds,
    ]
    return blake2b(json.dumps(decisive).encode(), digest_size=DIGEST_OCTETS).digest()


def write(path: Path, cache: AnswerCache, digest: bytes) -> None:
    """Write what is cached; may run in a thread, while the cache is in use.

    A failure is logged: the cache is no more than a convenience.
    """
    unfinished = path.with_suffix(".unfinished")
    checksum = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE), "wb") as file:
            for part in _parts(cache, digest):
                checksum = crc32(part, checksum)
                file.write(part)
            file.write(_CHECKSUM.pack(checksum))
        unfinished.replace(path)
    except OSError as problem:
        log.warning("the cached answers could not be written to %s: %s", path, problem.strerror)
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _parts(cache: AnswerCache, digest: bytes) -> Iterator[bytes]:
    """Yield the file piece by piece, what was used last coming last."""
    yield MAGIC + digest
    young, old = cache.memory.young, cache.memory.old  # in this order: when one becomes the other, nothing is missed
    for generation in (old, young):
        keys = list(generation)  # one step, so that it may change meanwhile; 100,000 hold the interpreter for 1 ms
        for start in range(0, len(keys), SLICE):
            entries = [(key, generation.get(key)) for key in keys[start : start + SLICE]]
            yield b"".join(
                [_ENTRY.pack(len(key), len(value)) + key + value for key, value in entries if value is not None]
            )
    names = json.dumps(list(cache.upstreams)).encode()  # last: what came meanwhile may be of one that is new
    yield names + _END.pack(time.monotonic(), time.time(), len(names))


def read(path: Path, cache: AnswerCache, digest: bytes, longest_stale: int) -> int:
    """Fill a cache from a file, leaving out what expired more than so many seconds ago; return how many there were."""
    try:
        with path.open("rb") as file:
            end = _checked(file)
            file.seek(len(MAGIC))
            if file.read(DIGEST_OCTETS) != digest:
                log.info("the answers cached in %s are of other settings, and not used", path)
                return 0
            return _fill(file, end, cache, longest_stale)
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, LookupError, struct_error) as problem:
        log.warning("the answers cached in %s can't be used: %s", path, problem)
        return 0


def _checked(file: BinaryIO) -> int:
    """Return where what the checksum covers ends. Raises `ValueError`."""
    end = left = os.fstat(file.fileno()).st_size - _CHECKSUM.size
    checksum = 0
    magic = b""
    while left > 0 and (chunk := file.read(min(CHUNK, left))):
        magic = magic or chunk[: len(MAGIC)]
        checksum = crc32(chunk, checksum)
        left -= len(chunk)
    if end < _START_OCTETS + _END.size or magic != MAGIC or file.read() != _CHECKSUM.pack(checksum):
        raise ValueError("it is damaged, or of another version")
    return end


def _fill(file: BinaryIO, end: int, cache: AnswerCache, longest_stale: int) -> int:
    file.seek(end - _END.size)
    monotonic, wall, length = _END.unpack(file.read(_END.size))
    end -= _END.size + length
    file.seek(end)
    numbers = [cache.number_of(str(name)) for name in json.loads(file.read(length))]
    file.seek(_START_OCTETS)
    position = _START_OCTETS
    now = time.monotonic()
    # A wall clock that was set back meanwhile makes nothing younger than it was.
    shift = now - monotonic - max(0.0, time.time() - wall)
    count = seen = 0
    while position < end:
        key_length, value_length = _ENTRY.unpack(file.read(_ENTRY.size))
        position += _ENTRY.size + key_length + value_length
        key, value = file.read(key_length), bytearray(file.read(value_length))
        fields = list(HEAD.unpack_from(value))
        fields[0] += shift
        if now - fields[0] < fields[1] + longest_stale:
            fields[_UPSTREAM] = numbers[fields[_UPSTREAM]]
            HEAD.pack_into(value, 0, *fields)
            cache.keep_octets(key, bytes(value))
            count += 1
        seen += 1
        if seen % SLICE == 0 and time.monotonic() - now > READ_SECONDS:
            log.warning("there was time for no more than %d of the answers cached in %s", seen, file.name)
            break
    return count
