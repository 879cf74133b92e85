"""The files of an archive, one by one: what tar and zip writers make of them, and what attackers do."""

import gzip
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklists import archives
from blocklists.archives import MAX_TAR_HEADER
from blocklists.unpacking import UnpackedTooLargeError, UnpackError, members
from tests.support.packing import edited, tar_entry, tarred, zipped, zstd

LIMIT = 1 << 20
END = bytes(1024)
LIST = tar_entry("list.txt", b"a.example\n")

Pack = Callable[[Mapping[str, bytes]], bytes]


def files(packed: bytes, limit: int = LIMIT) -> list[tuple[str, bytes]]:
    return list(members(packed, limit))


def tar(tar_format: int) -> Pack:
    return lambda entries: tarred(entries, tar_format)


PACKS = [
    pytest.param(zipped, id="zip"),
    pytest.param(tar(tarfile.USTAR_FORMAT), id="ustar"),
    pytest.param(tar(tarfile.GNU_FORMAT), id="GNU tar"),
    pytest.param(tar(tarfile.PAX_FORMAT), id="pax tar"),
    pytest.param(lambda entries: gzip.compress(tarred(entries)), id="tar.gz"),
    pytest.param(lambda entries: zstd(gzip.compress(tarred(entries))), id="tar.gz.zst"),
    pytest.param(lambda entries: gzip.compress(zipped(entries)), id="zip.gz"),
]
UT1 = {
    "blacklists/README": b"read me\n",
    "blacklists/adult/domains": b"a.example\nb.example\n",
    "blacklists/adult/urls": b"",
    "blacklists/adult/usage": b"black\n",
    "blacklists/games/domains": b"x" * 100_000,
}


@pytest.mark.parametrize("pack", PACKS)
def test_files_come_by_name_in_the_archives_order(pack: Pack) -> None:
    assert files(pack(UT1)) == list(UT1.items())


@pytest.mark.parametrize("pack", PACKS)
def test_empty_archive_has_no_files(pack: Pack) -> None:
    if pack is not zipped:  # whose end has a magic of its own
        assert files(pack({"directory/empty": b""})) == [("directory/empty", b"")]
    assert files(zipped({})) == []


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(tar_format: int) -> None:
    names = ["d" * 90 + "/" + "e" * 60 + "/domains", "n" * 100, "d" * 150 + "/" + "n" * 99]
    if tar_format != tarfile.USTAR_FORMAT:
        names += ["n" * 101, "/".join("d" * 200 for _ in range(20)), "é" * 80]
    entries = {name: name.encode() for name in names}
    assert files(tarred(entries, tar_format)) == list(entries.items())


contents = st.dictionaries(
    st.text(st.characters(min_codepoint=33, exclude_characters="/\\.", categories=("L", "N", "P")), min_size=1),
    st.binary(max_size=2000),
    max_size=5,
)


@given(contents, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_every_tar_is_read_as_it_was_written(entries: dict[str, bytes], tar_format: int) -> None:
    if entries:
        assert files(tarred(entries, tar_format)) == list(entries.items())


@given(st.binary(max_size=3000), st.data())
def test_any_octets_are_files_or_an_unpack_error(noise: bytes, data: st.DataObject) -> None:
    """Damage to a good archive included."""
    packed = bytearray(data.draw(st.sampled_from([tarred(UT1), zipped(UT1), gzip.compress(tarred(UT1)), LIST])))
    start = data.draw(st.integers(0, len(packed)))
    packed[start : start + len(noise)] = noise
    try:
        found = files(bytes(packed))
    except UnpackError:
        return
    assert all(isinstance(name, str) and isinstance(content, bytes) for name, content in found)


# What is no file


def test_links_devices_and_directories_are_no_files() -> None:
    """UT1's archive calls one directory by several names with links; following them could lead anywhere."""
    entries: dict[str, bytes | tarfile.TarInfo] = {"adult/domains": b"a.example\n"}
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        entry = tarfile.TarInfo(f"kind{kind.decode()}/domains")
        entry.type = kind
        entry.linkname = "/etc/passwd"
        entries[entry.name] = entry
    entries["last/domains"] = b"b.example\n"
    expected = [("adult/domains", b"a.example\n"), ("last/domains", b"b.example\n")]
    assert files(tarred(entries)) == expected
    assert files(tarred(entries, tarfile.GNU_FORMAT)) == expected


def test_name_of_a_link_does_not_pass_to_the_next_file() -> None:
    link = tarfile.TarInfo("l" * 200)
    link.type = tarfile.SYMTYPE
    link.linkname = "t" * 200
    for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert files(tarred({link.name: link, "list.txt": b"x"}, tar_format)) == [("list.txt", b"x")]


def test_size_of_a_link_or_device_skips_nothing() -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        assert files(tar_entry("odd", kind=kind, size=512) + LIST + END) == [("list.txt", b"a.example\n")]


def test_entries_of_unknown_kind_are_passed_over() -> None:
    for kind in (b"V", b"M", b"D", b"Z"):
        assert files(tar_entry("odd", b"x" * 700, kind=kind) + LIST + END) == [("list.txt", b"a.example\n")]


def test_global_attributes_are_passed_over() -> None:
    packed = io.BytesIO()
    with tarfile.open(
        fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "of git"}
    ) as archive:
        entry = tarfile.TarInfo("list.txt")
        archive.addfile(entry)
    assert files(packed.getvalue()) == [("list.txt", b"")]


def test_sparse_files_are_left_out() -> None:
    """Old GNU kind, with its map in the header and in further blocks, and the kinds with it among the attributes.

    They would grow to sizes that are in no octet of the archive.
    """
    huge = b"77777777777\0"
    sparse = edited(tar_entry("big.txt", kind=tarfile.GNUTYPE_SPARSE), 483, huge)
    assert files(sparse + LIST + END) == [("list.txt", b"a.example\n")]
    extended = edited(edited(tar_entry("big.txt", b"data", kind=tarfile.GNUTYPE_SPARSE)[:512], 483, huge), 482, b"\1")
    further = bytes(504) + b"\1" + bytes(7) + bytes(512)
    assert files(extended + further + b"data" + bytes(508) + LIST + END) == [("list.txt", b"a.example\n")]
    attributes = b"22 GNU.sparse.major=1\n"
    pax = tar_entry("pax", attributes, kind=tarfile.XHDTYPE) + tar_entry("big.txt", b"1\n0\n512\n")
    assert files(pax + LIST + END) == [("list.txt", b"a.example\n")]


# Names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("./blacklists/adult/domains", "blacklists/adult/domains"),
        ("/etc/passwd", "etc/passwd"),
        ("../../../etc/passwd", "etc/passwd"),
        ("a/../../b", "a/b"),
        ("a//b/./c", "a/b/c"),
        ("..\\..\\windows\\x", "windows/x"),
        ("a\x1b[2Jb", "a\ufffd[2Jb"),
        ("a\nb", "a\ufffdb"),
    ],
)
def test_name_leads_nowhere_and_harms_no_terminal(name: str, expected: str) -> None:
    assert files(tarred({name: b"x"})) == [(expected, b"x")]
    assert files(tarred({name: b"x"}, tarfile.GNU_FORMAT)) == [(expected, b"x")]
    assert files(zipped({name: b"x"})) == [(expected, b"x")]


def test_name_that_is_no_utf_8() -> None:
    assert files(edited(LIST, 0, b"\xe9t\xe9.txt\0") + END) == [("\ufffdt\ufffd.txt", b"a.example\n")]


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE])
def test_endless_name_is_refused_before_it_is_read(kind: bytes) -> None:
    bomb = gzip.compress(tar_entry("long", b"n" * (48 << 20), kind=kind) + LIST + END)
    tracemalloc.start()
    with pytest.raises(UnpackError, match="a name or attributes that are too long"):
        files(bomb, 1 << 30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20


def test_name_may_be_as_long_as_the_limit() -> None:
    name = "n" * (MAX_TAR_HEADER - 1)
    assert files(tar_entry("long", name.encode() + b"\0", kind=b"L") + LIST + END) == [(name, b"a.example\n")]


# Lies about size


@pytest.mark.parametrize(
    "size",
    [
        b"\xff" * 12,  # minus one in base 256
        b"\xff" * 10 + b"\xfe\x00",  # minus 512: back to the same header for ever
        b"-0000000512\0",
        b"00000009999\0",
        b"0x000000010\0",
        b"size\0\0\0\0\0\0\0\0",
    ],
)
def test_size_that_is_no_number_is_refused(size: bytes) -> None:
    with pytest.raises(UnpackError, match="damaged"):
        files(edited(LIST, 124, size) + END)


@pytest.mark.parametrize("size", [b"77777777777\0", b"\x80" + b"\xff" * 11, b"\x80" + bytes(6) + b"\x10" + bytes(4)])
def test_size_over_the_limit_is_refused_at_once(size: bytes) -> None:
    with pytest.raises(UnpackedTooLargeError):
        files(edited(LIST, 124, size) + END)


def test_size_beyond_the_end_is_cut_short() -> None:
    with pytest.raises(UnpackError, match="cut short"):
        files(edited(LIST, 124, b"00000100000\0") + END)


def test_size_in_base_256_is_understood() -> None:
    assert files(edited(LIST, 124, b"\x80" + bytes(10) + b"\x0a") + END) == [("list.txt", b"a.example\n")]


def attributed(attributes: bytes) -> bytes:
    return tar_entry("pax", attributes, kind=tarfile.XHDTYPE) + LIST + END


def test_attributes_outdo_the_header() -> None:
    assert files(attributed(b"12 path=new\n9 size=3\n")) == [("new", b"a.e")]


@pytest.mark.parametrize(
    "attributes",
    [
        *(b"path=new\n", b"12 path=new", b"13 path=new\n", b"3 path=new\n", b"0 path=new\n", b"-5 path=new\n"),
        *(b"9 size=-1\n", b"9 size=1_\n", b"10 size=0x1\n", b"8 pathx\n", b"1" * 5000 + b" path=new\n", b" " * 100),
    ],
)
def test_attributes_that_are_none_are_refused(attributes: bytes) -> None:
    with pytest.raises(UnpackError, match="damaged"):
        files(attributed(attributes))


def test_size_among_the_attributes_is_limited_too() -> None:
    with pytest.raises(UnpackedTooLargeError):
        files(attributed(b"20 size=99999999999\n"))


# The archive as a whole


def test_checksum_of_a_header_is_checked() -> None:
    damaged = bytearray(LIST + END)
    damaged[3] ^= 1
    with pytest.raises(UnpackError, match="damaged"):
        files(bytes(damaged))


@pytest.mark.parametrize("pack", [tarred, lambda entries: gzip.compress(tarred(entries)), zipped])
def test_cut_archive_is_never_taken_for_the_whole(pack: Pack) -> None:
    """Cut between two files as well: an archive has an end that is written."""
    packed = pack({"a": bytes(512), "b": b"\1" * 512, "c": b"\2" * 512})
    whole = len(packed) if packed[:2] in {b"PK", b"\x1f\x8b"} else packed.rindex(b"\2") + 1
    for size in range(300, whole, max(1, whole // 64)):
        with pytest.raises(UnpackError):
            files(packed[:size])
    with pytest.raises(UnpackError):
        files(packed[: whole - 1])


def test_damage_behind_the_last_file_is_found() -> None:
    packed = bytearray(gzip.compress(tarred(UT1)))
    packed[-6] ^= 1  # of the checksum
    found: list[str] = []
    with pytest.raises(UnpackError, match="damaged"):
        found.extend(name for name, _ in members(bytes(packed), LIMIT))


def test_what_stands_behind_the_end_is_ignored() -> None:
    assert files(tarred({"a": b"x"}) + tarred({"b": b"y"})) == [("a", b"x")]


def test_number_of_files_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    entries = {str(number): b"" for number in range(6)}
    for packed in (
        zipped(entries),
        tarred(entries, tarfile.GNU_FORMAT),
        tar_entry("d", kind=tarfile.DIRTYPE) * 6 + END,
    ):
        with pytest.raises(UnpackError, match="an archive of too many files"):
            files(packed)


@pytest.mark.parametrize("pack", PACKS)
def test_size_is_limited_over_all_files(pack: Pack) -> None:
    packed = pack({str(number): bytes(400_000) for number in range(3)})
    if packed[:1] == b"0":  # a bare tar, as large as its files
        packed = gzip.compress(packed)
    seen: list[int] = []

    def read() -> Iterator[int]:
        return (len(content) for _, content in members(packed, LIMIT))

    with pytest.raises(UnpackedTooLargeError, match="it unpacks to more than 1,048,576 bytes"):
        seen.extend(read())
    assert sum(seen) <= LIMIT


def test_files_of_a_zip_that_share_their_octets_count_each() -> None:
    """A few kilobytes whose directory names the same content again and again."""
    packed = zipped({"a": bytes(LIMIT // 2)})
    start = packed.index(b"PK\x01\x02")
    end = packed.index(b"PK\x05\x06")
    directory = packed[start:end] * 5
    tail = bytearray(packed[end:])
    tail[8:10] = tail[10:12] = (5).to_bytes(2, "little")
    tail[12:16] = len(directory).to_bytes(4, "little")
    with pytest.raises(UnpackError):  # newer readers of the library refuse the overlap itself
        files(packed[:start] + directory + bytes(tail))


def test_zip_of_the_64_bit_kind_is_refused() -> None:
    """Its directory may be of any size."""
    packed = zipped({"a": b"x"})
    end = packed.index(b"PK\x05\x06")
    with pytest.raises(UnpackError, match="a zip archive of the 64-bit kind"):
        files(packed[:end] + b"PK\x06\x07" + bytes(16) + packed[end:])


def test_memory_holds_one_file_at_a_time() -> None:
    size = 4 << 20
    packed = gzip.compress(tarred({f"{number}/domains": bytes([number]) * size for number in range(8)}))
    tracemalloc.start()
    for _, content in members(packed, 64 << 20):
        assert len(content) == size
        del content
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * size


def test_zip_whose_link_and_directory_are_left_out() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.mkdir("directory")
        archive.writestr("directory/list", "a.example")
    assert files(packed.getvalue()) == [("directory/list", b"a.example")]
