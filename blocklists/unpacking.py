"""Unpacking: what was fetched becomes the text of a list, however it was packed.

Tells packings by their first octets, never by a name. Archives are not to be trusted: what comes out is counted
while it comes, links are not followed, and nothing is written anywhere.
"""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from struct import Struct

import zstandard

from blocklists.errors import BlocklistError

MAX_LAYERS = 3  # a .tar.gz that the server compressed once more
MAX_MEMBERS = 10_000
MAX_DIRECTORY = 4 << 20  # octets of a zip's central directory

_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_TAR, _TAR_OFFSET = b"ustar", 257
_UNSUPPORTED = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a": "rar"}

_STEP = 64 << 10
_ZSTD_STEP = 1 << 10  # octets in; at most 32 MiB come out of them
_TEXT_SAMPLE = 8 << 10

# APPNOTE.TXT sections 4.3.16 and 4.3.15
_END_OF_DIRECTORY = Struct("<4s4H2LH")
_END_SIGNATURE, _ZIP64_LOCATOR, _ZIP64_LOCATOR_SIZE = b"PK\x05\x06", b"PK\x06\x07", 20


class UnpackError(BlocklistError):
    """What was fetched can't be unpacked; the message continues a sentence about it."""


class UnpackedTooLargeError(UnpackError):
    """More comes out than the limit allows."""


def unpack(data: bytes, limit: int) -> bytes:
    """Return the text of plain, gzip, zstd, zip or tar data; of several files, in the order of their names.

    The limit is in octets. Raises `UnpackError`.
    """
    try:
        for _ in range(MAX_LAYERS + 1):
            unpacked = _unpack_layer(data, limit)
            if unpacked is None:
                return data
            data = unpacked
    except UnpackError:
        raise
    except Exception as error:  # these libraries raise whatever a hostile archive makes them stumble over
        raise UnpackError(f"it is damaged ({error or type(error).__name__})") from error
    raise UnpackError("it is packed too many times over")


def _unpack_layer(data: bytes, limit: int) -> bytes | None:
    """Return what is packed in the data, None when it isn't packed."""
    if data.startswith(_GZIP):
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return _collect(iter(lambda: stream.read(_STEP), b""), limit)
    if data.startswith(_ZSTD):
        return _collect(_zstd(data), limit)
    if data.startswith(_ZIP):
        return _joined(_zip_members(data, limit), limit)
    if data.startswith(_TAR, _TAR_OFFSET):
        return _joined(_tar_members(data), limit)
    for magic, name in _UNSUPPORTED.items():
        if data.startswith(magic) and b"\0" in data[:_TEXT_SAMPLE]:
            raise UnpackError(f"it is packed with {name}, and only gzip, zstd, zip and tar are understood")
    return None


def _collect(chunks: Iterator[bytes], limit: int) -> bytes:
    collected = io.BytesIO()
    for chunk in chunks:
        if collected.tell() + len(chunk) > limit:
            raise UnpackedTooLargeError(f"it unpacks to more than {limit:,} bytes")
        collected.write(chunk)
    return collected.getvalue()


def _zstd(data: bytes) -> Iterator[bytes]:
    """Yield the content of one frame after the other. Not by `stream_reader`, which lets a cut frame pass."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    position = 0
    while position < len(data):
        yield frame.decompress(data[position : position + _ZSTD_STEP])
        position += _ZSTD_STEP
        if frame.eof:
            position = min(position, len(data)) - len(frame.unused_data)
            if position < len(data):
                frame = zstandard.ZstdDecompressor().decompressobj()
    if not frame.eof:
        raise UnpackError("it is cut short")


def _joined(members: Iterator[tuple[str, bytes]], limit: int) -> bytes:
    """Return the text files among an archive's members, a line end between them."""
    texts: list[tuple[str, bytes]] = []
    size = 0
    for name, content in members:
        size += len(content) + 1
        if size > limit:
            raise UnpackedTooLargeError(f"it unpacks to more than {limit:,} bytes")
        if content and b"\0" not in content[:_TEXT_SAMPLE]:
            texts.append((name, content))
    if not texts:
        raise UnpackError("it is an archive without a text file")
    texts.sort(key=lambda text: text[0])
    return b"\n".join(content for _, content in texts)


def _zip_members(data: bytes, limit: int) -> Iterator[tuple[str, bytes]]:
    _check_directory(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or stat.S_ISLNK(entry.external_attr >> 16):
                continue
            with archive.open(entry) as member:
                yield entry.filename, _collect(iter(lambda: member.read(_STEP), b""), limit)


def _check_directory(data: bytes) -> None:
    """Raise `UnpackError` when a zip lists more members than memory should hold: zipfile reads all at once."""
    end = data.rfind(_END_SIGNATURE)
    if data.startswith(_ZIP64_LOCATOR, max(0, end - _ZIP64_LOCATOR_SIZE)):
        raise UnpackError("it is a zip archive of the 64-bit kind")
    if _END_OF_DIRECTORY.unpack_from(data, end)[5] > MAX_DIRECTORY:
        raise UnpackError("it is an archive of too many files")


def _tar_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for number, entry in enumerate(archive):
            if number >= MAX_MEMBERS:  # also ends an archive whose members lead back to themselves
                raise UnpackError("it is an archive of too many files")
            if entry.isreg() and not entry.issparse():
                member = archive.extractfile(entry)
                assert member is not None  # a regular file has content
                yield entry.name, member.read()
