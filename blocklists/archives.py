"""Archives: the files in a tar or a zip, one after the other, from octets that are not to be trusted.

Nothing is written, links are not followed, and a name is only a name. Memory holds one file at a time, and no more of
an archive's own tables than the limits below. Zip is read by the standard library from a directory of bounded size;
tar by hand, because the library's reader takes headers of any length and goes back and forth.
"""

import io
import stat
import zipfile
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from blocklists.errors import BlocklistError

MAX_MEMBERS = 20_000
"""Entries of an archive, whatever they are."""
MAX_ZIP_DIRECTORY = 4 << 20  # octets of a zip's central directory
MAX_TAR_HEADER = 64 << 10  # octets of a long name, or of further attributes
STEP = 64 << 10  # octets that are unpacked at a time

_BLOCK = 512
_CUT_SHORT = "it is cut short"


class UnpackError(BlocklistError):
    """What was fetched can't be unpacked; the message continues a sentence about it."""


class UnpackedTooLargeError(UnpackError):
    """More comes out than the limit allows."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"it unpacks to more than {limit:,} bytes")


def collect(chunks: Iterator[bytes], limit: int) -> bytes:
    """Return the chunks as one, which is in memory once only. Raises `UnpackedTooLargeError`."""
    collected = io.BytesIO()
    for chunk in chunks:
        if collected.tell() + len(chunk) > limit:
            raise UnpackedTooLargeError(limit)
        collected.write(chunk)
    return collected.getvalue()


# Zip: APPNOTE.TXT

# Sections 4.3.16 and 4.3.15
_END_OF_DIRECTORY = Struct("<4s4H2LH")
_END_SIGNATURE, _ZIP64_LOCATOR, _ZIP64_LOCATOR_SIZE = b"PK\x05\x06", b"PK\x06\x07", 20
# Section 4.4.5. The others may ask for any amount of memory, or give out more than is asked of them.
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


def zip_members(data: bytes, limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield each file's name and content, up to the limit in all."""
    _check_directory(data)
    left = limit
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_MEMBERS:
            raise UnpackError("it is an archive of too many files")
        for entry in entries:
            if entry.is_dir() or stat.S_ISLNK(entry.external_attr >> 16):
                continue
            if entry.compress_type not in _METHODS:
                raise UnpackError("it is a zip archive that is packed by another method than deflate")
            with archive.open(entry) as member:
                try:
                    content = collect(iter(lambda: member.read(STEP), b""), left)
                except UnpackedTooLargeError as error:
                    raise UnpackedTooLargeError(limit) from error
            left -= len(content)
            yield _cleaned(entry.filename), content
            del content  # before the next one comes


def _check_directory(data: bytes) -> None:
    """Raise `UnpackError` when a zip lists more members than memory should hold: zipfile reads all at once."""
    end = data.rfind(_END_SIGNATURE)
    if data.startswith(_ZIP64_LOCATOR, max(0, end - _ZIP64_LOCATOR_SIZE)):
        raise UnpackError("it is a zip archive of the 64-bit kind")
    if _END_OF_DIRECTORY.unpack_from(data, end)[5] > MAX_ZIP_DIRECTORY:
        raise UnpackError("it is an archive of too many files")


# Tar: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar's manual, "Basic Tar Format"

_NAME, _SIZE, _CHECKSUM, _TYPE = slice(0, 100), slice(124, 136), slice(148, 156), slice(156, 157)
_MAGIC, _PREFIX, _IS_EXTENDED, _IS_EXTENDED_FURTHER = slice(257, 263), slice(345, 500), 482, 504
_USTAR = b"ustar\0"
_FILES = frozenset({b"0", b"\0", b"7"})
_WITHOUT_CONTENT = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})  # whatever their size says
_LONG_NAME, _ATTRIBUTES, _SPARSE = b"L", frozenset({b"x", b"X"}), b"S"
_LONGEST_LENGTH = 10  # digits


class _Entry(NamedTuple):
    """What a header says."""

    kind: bytes
    name: bytes
    size: int
    is_extended: bool


class _Octets:
    """Octets that come in chunks, taken in other portions."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield so many octets. Raises `UnpackError` when there are fewer."""
        while size > 0:
            while not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    raise UnpackError(_CUT_SHORT)
                self._rest = memoryview(chunk)
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            yield piece

    def take(self, size: int) -> bytes:
        return b"".join(self.pieces(size))

    def skip(self, size: int) -> None:
        for _ in self.pieces(size):
            pass

    def finish(self) -> None:
        """Go to the end, where damage to the packing around would show."""
        for _ in self._chunks:
            pass


def tar_members(chunks: Iterator[bytes], limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield each file's name and content; links, devices and sparse files are left out."""
    octets = _Octets(chunks)
    name: bytes | None = None
    attributes: dict[bytes, bytes] = {}
    for entry in _entries(octets):
        if entry.kind == _LONG_NAME:
            name = _taken_header(octets, entry.size).rstrip(b"\0")
            continue
        if entry.kind in _ATTRIBUTES:
            attributes = _attributes(_taken_header(octets, entry.size))
            continue
        if entry.kind == _SPARSE and entry.is_extended:
            _skip_sparse_map(octets)
        path = attributes.get(b"path", name or entry.name)
        size = _decimal(attributes[b"size"]) if b"size" in attributes else entry.size
        if size > limit:
            raise UnpackedTooLargeError(limit)
        if entry.kind in _FILES and not path.endswith(b"/") and not _is_sparse(attributes):
            content = _content(octets, size)
            yield _cleaned(path.decode(errors="replace")), content
            del content  # before the next one comes
        elif entry.kind not in _WITHOUT_CONTENT:
            octets.skip(_whole_blocks(size))
        name, attributes = None, {}
    octets.finish()


def _entries(octets: _Octets) -> Iterator[_Entry]:
    """Yield headers up to the block of zeros that ends an archive; the octets between them are the taker's."""
    for _ in range(MAX_MEMBERS):
        block = octets.take(_BLOCK)
        if not any(block):
            return
        if _number(block[_CHECKSUM]) != sum(block) - sum(block[_CHECKSUM]) + len(block[_CHECKSUM]) * ord(" "):
            raise UnpackError("it is damaged (the checksum of a tar header is wrong)")
        name = block[_NAME].partition(b"\0")[0]
        if block[_MAGIC] == _USTAR:  # GNU's own kind has something else where the prefix would be
            prefix = block[_PREFIX].partition(b"\0")[0]
            name = prefix + b"/" + name if prefix else name
        yield _Entry(block[_TYPE], name, _number(block[_SIZE]), bool(block[_IS_EXTENDED]))
    raise UnpackError("it is an archive of too many files")


def _number(field: bytes) -> int:
    """Return a number in octal digits, or in base 256 with the first bit set, as GNU writes large ones."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b"\0 ")
    if digits and not digits.isdigit():  # a sign, say: sizes below zero are an attack
        raise UnpackError("it is damaged (a number of a tar header is none)")
    return int(digits or b"0", 8)


def _decimal(digits: bytes) -> int:
    if not digits.isdigit():
        raise UnpackError("it is damaged (a number among the attributes of a tar entry is none)")
    return int(digits)


def _content(octets: _Octets, size: int) -> bytes:
    content = collect((bytes(piece) for piece in octets.pieces(size)), size)
    octets.skip(_whole_blocks(size) - size)
    return content


def _taken_header(octets: _Octets, size: int) -> bytes:
    if size > MAX_TAR_HEADER:
        raise UnpackError("it is an archive with a name or attributes that are too long")
    return octets.take(_whole_blocks(size))[:size]


def _attributes(header: bytes) -> dict[bytes, bytes]:
    """Return what records of the form ``<length> <key>=<value>`` and a line feed say; the length is of all of it."""
    found = {}
    position = 0
    while position < len(header):
        space = header.index(b" ", position, position + _LONGEST_LENGTH)
        end = position + _decimal(header[position:space])
        key, is_set, value = header[space + 1 : end - 1].partition(b"=")
        if end <= space or header[end - 1 : end] != b"\n" or not is_set:
            raise UnpackError("it is damaged (the attributes of a tar entry are none)")
        found[key] = value
        position = end
    return found


def _is_sparse(attributes: dict[bytes, bytes]) -> bool:
    """Tell whether a file has a map of its holes before its content, or in its attributes."""
    return any(key.startswith(b"GNU.sparse.") for key in attributes)


def _skip_sparse_map(octets: _Octets) -> None:
    while octets.take(_BLOCK)[_IS_EXTENDED_FURTHER]:
        pass


def _whole_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _cleaned(name: str) -> str:
    """Return a name by which files are told apart and shown, and which leads nowhere."""
    parts = (part for part in name.replace("\\", "/").split("/") if part not in {"", ".", ".."})
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in "/".join(parts))
