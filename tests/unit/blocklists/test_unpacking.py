"""Unpacking what was fetched: every packing, archives of several files, and archives meant to do harm."""

import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping

import pytest
import zstandard

from blocklists import unpacking
from blocklists.unpacking import MAX_LAYERS, UnpackedTooLargeError, UnpackError, unpack

LIST = b"".join(b"n%d.example\n" % number for number in range(5000))
LIMIT = 1 << 20


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


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(LIST, id="plain"),
        pytest.param(gzip.compress(LIST), id="gzip"),
        pytest.param(gzip.compress(LIST[:1000]) + gzip.compress(LIST[1000:]), id="gzip of two members"),
        pytest.param(gzip.compress(gzip.compress(LIST)), id="gzip twice"),
        pytest.param(zstd(LIST), id="zstd"),
        pytest.param(zstd(LIST[:1000]) + zstd(LIST[1000:]), id="zstd of two frames"),
        pytest.param(zipped({"list.txt": LIST}), id="zip"),
        pytest.param(zipped({"list.txt": LIST}, zipfile.ZIP_STORED), id="zip stored"),
        pytest.param(gzip.compress(tarred({"list.txt": LIST})), id="tar.gz"),
        pytest.param(gzip.compress(gzip.compress(tarred({"list.txt": LIST}))), id="tar.gz compressed again"),
        pytest.param(zstd(tarred({"list.txt": LIST})), id="tar.zst"),
        pytest.param(tarred({"list.txt": LIST}), id="tar"),
        pytest.param(tarred({"list.txt": LIST}, tarfile.USTAR_FORMAT), id="ustar"),
        pytest.param(tarred({"x" * 200: LIST}, tarfile.GNU_FORMAT), id="GNU tar"),
    ],
)
def test_packing_is_told_from_the_first_octets(packed: bytes) -> None:
    assert unpack(packed, LIMIT) == LIST


@pytest.mark.parametrize("data", [b"", b"a", b"\x1f", b"PK", b"BZh.example", b"\xef\xbb\xbfa.example", b"\0" * 600])
def test_what_is_not_packed_comes_out_as_it_is(data: bytes) -> None:
    assert unpack(data, LIMIT) == data


def test_text_files_of_an_archive_come_in_the_order_of_their_names() -> None:
    members = {"b/2.txt": b"b2.example\n", "a.txt": b"a.example", "b/1.txt": b"b1.example\n", "c.txt": b""}
    expected = b"a.example\nb1.example\n\nb2.example\n"
    assert unpack(zipped(members), LIMIT) == expected
    assert unpack(gzip.compress(tarred(members)), LIMIT) == expected


def test_other_files_of_an_archive_are_left_out() -> None:
    members = {"list.txt": b"a.example", "LICENSE.pdf": b"%PDF-1.5\n\0\1\2"}
    assert unpack(zipped(members), LIMIT) == b"a.example"
    assert unpack(tarred(members), LIMIT) == b"a.example"


def test_links_and_devices_of_an_archive_are_not_followed() -> None:
    entries: dict[str, bytes | tarfile.TarInfo] = {"list.txt": b"a.example"}
    for number, kind in enumerate(
        (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    ):
        entry = tarfile.TarInfo(f"a{number}")
        entry.type = kind
        entry.linkname = "list.txt"
        entries[entry.name] = entry
    assert unpack(tarred(entries), LIMIT) == b"a.example"


def test_link_of_a_zip_is_not_taken_for_a_list() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/hostname")
        archive.writestr("list.txt", "a.example")
    assert unpack(packed.getvalue(), LIMIT) == b"a.example"


def test_names_that_climb_out_of_the_archive_go_nowhere() -> None:
    """Names only sort: nothing is written."""
    assert unpack(zipped({"../../evil.txt": b"a.example", "/etc/x": b"b.example"}), LIMIT) == b"a.example\nb.example"


BOMB = bytes(LIMIT + 1)


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(gzip.compress(BOMB), id="gzip"),
        pytest.param(zstd(BOMB), id="zstd"),
        pytest.param(zipped({"list.txt": BOMB}), id="zip"),
        pytest.param(zipped({f"{number}.txt": bytes(LIMIT // 4) for number in range(5)}), id="zip of several"),
        pytest.param(gzip.compress(tarred({"list.txt": b"a" * LIMIT})), id="tar.gz"),
        pytest.param(gzip.compress(gzip.compress(BOMB)), id="gzip in gzip"),
    ],
)
def test_bomb_is_cut_off(packed: bytes) -> None:
    assert len(packed) < 20_000
    with pytest.raises(UnpackedTooLargeError, match="it unpacks to more than 1,048,576 bytes"):
        unpack(packed, LIMIT)


@pytest.mark.parametrize("pack", [gzip.compress, zstd, lambda data: zipped({"list.txt": data})])
def test_bomb_is_cut_off_while_it_unpacks(pack: Callable[[bytes], bytes]) -> None:
    packed = pack(bytes(256 << 20))
    tracemalloc.start()
    with pytest.raises(UnpackedTooLargeError):
        unpack(packed, LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 << 20


def test_sparse_member_of_a_tar_is_left_out() -> None:
    """It would grow to a size that is in no octet of the archive."""
    entry = tarfile.TarInfo("big.txt")
    entry.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    header[386 : 386 + 24] = b"00000000000\0" + b"00000000000\0"
    header[483 : 483 + 12] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert unpack(bytes(header) + tarred({"list.txt": b"a.example"}), LIMIT) == b"a.example"


def test_tar_whose_members_lead_back_to_themselves_ends() -> None:
    entry = tarfile.TarInfo("loop.txt")
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + struct.pack(">H", 0xFE00)  # minus 512 in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(UnpackError):
        unpack(bytes(header) * 3, LIMIT)


@pytest.mark.parametrize("pack", [gzip.compress, zstd, lambda data: zipped({"list.txt": data})])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_cut_data_is_never_taken_for_the_whole(pack: Callable[[bytes], bytes], part: float) -> None:
    packed = pack(LIST)
    with pytest.raises(UnpackError):
        unpack(packed[: int(len(packed) * part)], LIMIT)


def test_cut_tar_is_never_taken_for_the_whole() -> None:
    packed = tarred({"list.txt": LIST})
    with pytest.raises(UnpackError):
        unpack(packed[: len(LIST) // 2], LIMIT)


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: zipped({"list.txt": data})])
def test_damaged_data_is_refused(pack: Callable[[bytes], bytes]) -> None:
    packed = bytearray(pack(LIST))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(UnpackError, match="damaged"):
        unpack(bytes(packed), LIMIT)


def test_packing_has_a_last_layer() -> None:
    packed = LIST
    for _ in range(MAX_LAYERS + 1):
        packed = gzip.compress(packed)
    with pytest.raises(UnpackError, match="packed too many times over"):
        unpack(packed, LIMIT)


@pytest.mark.parametrize("members", [{}, {"a.pdf": b"%PDF\0"}, {"empty.txt": b""}])
def test_archive_without_a_text_file_is_refused(members: dict[str, bytes]) -> None:
    with pytest.raises(UnpackError, match="an archive without a text file"):
        unpack(zipped(members), LIMIT)
    if members:
        with pytest.raises(UnpackError, match="an archive without a text file"):
            unpack(gzip.compress(tarred(members)), LIMIT)


def test_archive_of_too_many_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    members = {f"{number}.txt": b"a" for number in range(20)}
    monkeypatch.setattr(unpacking, "MAX_MEMBERS", 19)
    monkeypatch.setattr(unpacking, "MAX_DIRECTORY", 20 * 46)
    for packed in (zipped(members), tarred(members)):
        with pytest.raises(UnpackError, match="too many files"):
            unpack(packed, LIMIT)


def test_encrypted_zip_is_refused() -> None:
    packed = bytearray(zipped({"list.txt": LIST}))
    packed[6] |= 1  # general purpose bit 0, APPNOTE.TXT section 4.4.4
    packed[packed.rfind(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(UnpackError, match="encrypted"):
        unpack(bytes(packed), LIMIT)


@pytest.mark.parametrize(
    ("magic", "name"),
    [(b"BZh91AY&SY\0", "bzip2"), (b"\xfd7zXZ\0\0", "xz"), (b"7z\xbc\xaf\x27\x1c\0", "7z"), (b"Rar!\x1a\x07\0", "rar")],
)
def test_other_packings_are_named(magic: bytes, name: str) -> None:
    with pytest.raises(UnpackError, match=f"packed with {name}"):
        unpack(magic, LIMIT)
