"""Archives for tests, packed by the standard library and zstandard: readers that share no code with ours."""

import io
import tarfile
import zipfile
from collections.abc import Mapping

import zstandard


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(members: Mapping[str, bytes | tarfile.TarInfo], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tar_format) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def tar_entry(name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, size: int | None = None) -> bytes:
    """Return one entry of a GNU tar, of any kind, that claims any size."""
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.size = len(content) if size is None else size
    header = entry.tobuf(tarfile.GNU_FORMAT)
    return header + content + bytes(-len(content) % 512)


def edited(header: bytes, position: int, octets: bytes) -> bytes:
    """Return a tar header with other octets at a position, and the checksum that belongs to it."""
    changed = bytearray(header)
    changed[position : position + len(octets)] = octets
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed[:512])
    return bytes(changed)
