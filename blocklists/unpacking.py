"""Unpacking: what was fetched becomes the text of a list, or the files of an archive, however it was packed.

Tells packings by their first octets, never by a name. What is packed is not to be trusted: each layer is undone piece
by piece, what comes out of it is counted while it comes, and so a bomb within a bomb costs no more than one.
"""

import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import zstandard

from blocklists.archives import STEP, UnpackedTooLargeError, UnpackError, collect, tar_members, zip_members
from blocklists.content import is_binary

__all__ = ["NotAnArchiveError", "UnpackError", "UnpackedTooLargeError", "is_archive", "members", "unpack"]

MAX_LAYERS = 3  # a .tar.gz that the server compressed once more
MAX_FRAMES = 100_000
"""Members of a gzip file, or frames of a zstd file, one behind the other."""

_PLAIN, _TAR, _ZIP = "plain", "tar", "zip"
_GZIP_MAGIC = b"\x1f\x8b\x08"  # RFC 1952 section 2.3.1
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878 section 3.1.1
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_TAR_MAGIC, _TAR_OFFSET = b"ustar", 257
_UNSUPPORTED = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a": "rar"}
_HEAD = 512  # octets that tell what something is

_GZIP_WINDOW = 31  # zlib's way to say: gzip, with its largest window, and its checksum checked
_ZSTD_STEP = 1 << 10  # octets in; at most 32 MiB come out of them


class NotAnArchiveError(UnpackError):
    """There is one file, and nothing that names it."""


def unpack(data: bytes, limit: int) -> bytes:
    """Return the text of plain, gzip, zstd, zip or tar data; of several files, in the order of their names.

    The limit is in octets. Raises `UnpackError`.
    """
    with _translated():
        kind, layers, chunks = _peeled(data, limit)
        if kind == _PLAIN:
            return data if not layers else collect(chunks, limit)
    return _joined(members(data, limit), limit)


def members(data: bytes, limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each file in an archive, whatever the archive is packed in.

    A name is a path without a beginning, for telling files apart, never for opening one. Links aren't followed. The
    limit is in octets, for all files together; memory holds one of them, if the caller lets go of it. What is cut
    short or damaged may show only at the end. Raises `UnpackError`, `NotAnArchiveError` when there is no archive.
    """
    with _translated():
        kind, layers, chunks = _peeled(data, limit)
        if kind == _TAR:
            yield from tar_members(chunks, limit)
        elif kind == _ZIP:
            yield from zip_members(collect(chunks, limit) if layers else data, limit)
        else:
            raise NotAnArchiveError("it is no archive, zip or tar")


def is_archive(data: bytes, limit: int) -> bool:
    """Tell whether there is a zip or a tar under all compression. Raises `UnpackError`."""
    with _translated():
        return _peeled(data, limit)[0] != _PLAIN


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except UnpackError:
        raise
    except Exception as error:  # these libraries raise whatever a hostile archive makes them stumble over
        raise UnpackError(f"it is damaged ({error or type(error).__name__})") from error


def _peeled(data: bytes, limit: int) -> tuple[str, int, Iterator[bytes]]:
    """Return what is under all compression, the number of layers above it, and its octets in chunks."""
    chunks = iter((data,))
    for layers in range(MAX_LAYERS + 1):
        head, chunks = _beginning(chunks)
        kind = _kind(head)
        if kind not in _DECOMPRESSORS:
            return kind, layers, chunks
        chunks = _counted(_DECOMPRESSORS[kind](_sliced(chunks)), limit)
    raise UnpackError("it is packed too many times over")


def _kind(head: bytes) -> str:
    if head.startswith(_GZIP_MAGIC):
        return "gzip"
    if head.startswith(_ZSTD_MAGIC):
        return "zstd"
    if head.startswith(_ZIP_MAGIC):
        return _ZIP
    if head.startswith(_TAR_MAGIC, _TAR_OFFSET):
        return _TAR
    for magic, name in _UNSUPPORTED.items():
        if head.startswith(magic) and is_binary(head):
            raise UnpackError(f"it is packed with {name}, and only gzip, zstd, zip and tar are understood")
    return _PLAIN


def _beginning(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first octets, and the chunks with them."""
    taken: list[bytes] = []
    size = 0
    while size < _HEAD and (chunk := next(chunks, None)) is not None:
        taken.append(chunk)
        size += len(chunk)
    return b"".join(chunk[:_HEAD] for chunk in taken)[:_HEAD], chain(taken, chunks)


def _sliced(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), STEP):
            yield chunk[start : start + STEP]


def _counted(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise UnpackedTooLargeError(limit)
        yield chunk


def _gunzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of one member after the other; zeros behind one fill up a block and mean nothing."""
    frames = _Frames()
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    for chunk in chunks:
        packed = chunk
        while packed:
            if inflater.eof:
                packed = packed.lstrip(b"\0")
                if not packed:
                    break
                frames.count()
                inflater = zlib.decompressobj(_GZIP_WINDOW)
            yield inflater.decompress(packed, STEP)
            packed = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    yield inflater.flush()
    if not inflater.eof:
        raise UnpackError("it is cut short")


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of one frame after the other. Not by `stream_reader`, which lets a cut frame pass."""
    frames = _Frames()
    frame = zstandard.ZstdDecompressor().decompressobj()
    for chunk in chunks:
        for start in range(0, len(chunk), _ZSTD_STEP):
            packed = chunk[start : start + _ZSTD_STEP]
            while packed:
                if frame.eof:
                    frames.count()
                    frame = zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(packed)
                packed = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise UnpackError("it is cut short")


_DECOMPRESSORS: dict[str, Callable[[Iterator[bytes]], Iterator[bytes]]] = {"gzip": _gunzipped, "zstd": _unzstd}


class _Frames:
    """Counts them: millions of empty ones would take minutes to come to nothing."""

    def __init__(self) -> None:
        self._number = 1

    def count(self) -> None:
        self._number += 1
        if self._number > MAX_FRAMES:
            raise UnpackError("it is packed in too many pieces")


def _joined(files: Iterator[tuple[str, bytes]], limit: int) -> bytes:
    """Return the text files of an archive, a line end between them."""
    texts = sorted((file for file in files if file[1] and not is_binary(file[1])), key=lambda file: file[0])
    if not texts:
        raise UnpackError("it is an archive without a text file")
    if sum(len(content) + 1 for _, content in texts) > limit:
        raise UnpackedTooLargeError(limit)
    joined = io.BytesIO()
    texts.reverse()
    while texts:  # and let go of each, so that memory holds all of them once only
        joined.write(texts.pop()[1])
        if texts:
            joined.write(b"\n")
    return joined.getvalue()
