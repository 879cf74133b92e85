"""Unpacking what was fetched: every packing, archives of several files, and archives meant to do harm."""

import gzip
import io
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable

import pytest

from blocklists import archives, unpacking
from blocklists.unpacking import MAX_LAYERS, UnpackedTooLargeError, UnpackError, is_archive, members, unpack
from tests.support.packing import tarred, zipped, zstd

LIST = b"".join(b"n%d.example\n" % number for number in range(5000))
LIMIT = 1 << 20


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
    assert unpack(zipped({"../../evil.txt": b"b.example", "/etc/x": b"a.example"}), LIMIT) == b"a.example\nb.example"


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
    monkeypatch.setattr(archives, "MAX_MEMBERS", 19)
    for packed in (zipped(members), tarred(members)):
        with pytest.raises(UnpackError, match="too many files"):
            unpack(packed, LIMIT)


def test_directory_of_a_zip_is_not_read_when_it_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ZIP_DIRECTORY", 20 * 46)
    with pytest.raises(UnpackError, match="too many files"):
        unpack(zipped({f"{number}.txt": b"a" for number in range(20)}), LIMIT)


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


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(gzip.compress(LIST) + bytes(700), id="zeros to fill a block up"),
        pytest.param(gzip.compress(b"") + gzip.compress(LIST) + gzip.compress(b""), id="empty members"),
        pytest.param(b"".join(gzip.compress(LIST[start : start + 7]) for start in range(0, len(LIST), 7)), id="many"),
        pytest.param(gzip.compress(LIST, compresslevel=0), id="stored"),
        pytest.param(gzip.compress(gzip.compress(gzip.compress(LIST))), id="three layers"),
        pytest.param(gzip.compress(zstd(gzip.compress(LIST))), id="different layers"),
    ],
)
def test_odd_compression_is_undone(packed: bytes) -> None:
    assert unpack(packed, LIMIT) == LIST


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 131_072, 500_000])
def test_nothing_is_lost_between_chunks(size: int) -> None:
    content = (LIST * (size // len(LIST) + 1))[:size]
    for pack in (gzip.compress, zstd):
        assert unpack(pack(content), LIMIT) == content
        assert unpack(pack(pack(content)), LIMIT) == content


def test_what_follows_compressed_data_is_no_part_of_it() -> None:
    with pytest.raises(UnpackError, match="damaged"):
        unpack(gzip.compress(LIST) + b"evil.example", LIMIT)
    with pytest.raises(UnpackError):
        unpack(zstd(LIST) + b"evil.example", LIMIT)


def test_checksum_is_checked() -> None:
    packed = bytearray(gzip.compress(LIST))
    packed[-8] ^= 1
    with pytest.raises(UnpackError, match="damaged"):
        unpack(bytes(packed), LIMIT)


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_endless_empty_pieces_are_refused(monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]) -> None:
    monkeypatch.setattr(unpacking, "MAX_FRAMES", 50)
    assert unpack(pack(b"") * 50, LIMIT) == b""
    with pytest.raises(UnpackError, match="packed in too many pieces"):
        unpack(pack(b"") * 51, LIMIT)


def test_long_name_in_a_gzip_header_costs_nothing() -> None:
    header = b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * (1 << 20) + b"\0"
    deflate = zlib.compressobj(wbits=-15)
    content = deflate.compress(LIST) + deflate.flush()
    trailer = zlib.crc32(LIST).to_bytes(4, "little") + len(LIST).to_bytes(4, "little")
    assert unpack(header + content + trailer, LIMIT) == LIST


def test_bomb_within_a_bomb_is_cut_off_while_it_unpacks() -> None:
    packed = gzip.compress(gzip.compress(gzip.compress(bytes(256 << 20))))
    assert len(packed) < 2_000
    tracemalloc.start()
    with pytest.raises(UnpackedTooLargeError):
        unpack(packed, LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_by_a_method_without_bounds_is_refused(method: int) -> None:
    """Bzip2 gives out more than is asked of it; LZMA takes as much memory as the archive says."""
    with pytest.raises(UnpackError, match="packed by another method than deflate"):
        unpack(zipped({"list.txt": LIST}, method), LIMIT)


def test_archive_is_told_under_its_compression() -> None:
    for archive in (zipped({"list.txt": LIST}), tarred({"list.txt": LIST})):
        assert is_archive(archive, LIMIT)
        assert is_archive(gzip.compress(zstd(archive)), LIMIT)
    for plain in (b"", LIST, gzip.compress(LIST), zstd(b"")):
        assert not is_archive(plain, LIMIT)
    with pytest.raises(UnpackError, match="damaged"):
        is_archive(b"\x1f\x8b\x08" + b"\xff" * 600, LIMIT)


def test_text_that_two_copies_would_hold_is_held_once() -> None:
    """An archive of several texts becomes one text; each is let go of as it is copied."""
    packed = gzip.compress(tarred({f"{number}.txt": LIST * 20 for number in range(10)}))
    size = 10 * 20 * len(LIST)
    tracemalloc.start()
    assert len(unpack(packed, 2 * size)) == size + 9
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * size


def test_line_ends_between_texts_count() -> None:
    packed = zipped({str(number): b"a" for number in range(10)})
    assert len(unpack(packed, 20)) == 19
    with pytest.raises(UnpackedTooLargeError):
        unpack(packed, 19)


def test_members_need_an_archive() -> None:
    with pytest.raises(UnpackError, match="it is no archive"):
        list(members(gzip.compress(LIST), LIMIT))
