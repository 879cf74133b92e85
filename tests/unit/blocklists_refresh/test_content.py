"""Which octets are a list's, and which are no text at all."""

import gzip
import random
import zlib

import pytest

from blocklists.content import is_binary, refuse_binary
from blocklists.errors import NotAListError

LINES = b"".join(b"n%d.example\n" % number for number in range(5000))
RANDOM = random.Random(3).randbytes(200_000)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\n", b"a.example", LINES, LINES.replace(b"\n", b"\r\n"), LINES.replace(b"\n", b"\r")),
        pytest.param(b"\xef\xbb\xbfa.example\n", id="with a byte order mark"),
        pytest.param("bücher.example # für Kinder\n".encode(), id="UTF-8"),
        pytest.param("bücher.example # für Kinder\n".encode("latin-1"), id="Latin-1"),
        pytest.param("例え.example # リスト\n".encode("shift-jis") * 100, id="Shift JIS"),
        pytest.param(b"a.example\n\x1a", id="end of file of DOS"),
        pytest.param(b"a.example\n\f\nb.example\n", id="form feed"),
        pytest.param(LINES + b"a\0b.example\n" + LINES, id="a line that went wrong"),
    ],
)
def test_text_is_for_the_readers(data: bytes) -> None:
    refuse_binary(data)
    assert not is_binary(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image"),
        (b"GIF89a\1\0\1\0", "a GIF image"),
        (b"\x7fELF\2\1\1" + bytes(9), "a program"),
        (b"SQLite format 3\0" + bytes(84), "an SQLite database"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
        ("a.example\n".encode("utf-16"), "text in UTF-16"),
        ("\ufeffa.example\n".encode("utf-16-be"), "text in UTF-16"),
    ],
)
def test_what_is_known_is_named(data: bytes, what: str) -> None:
    with pytest.raises(NotAListError) as caught:
        refuse_binary(data)
    assert str(caught.value) == f"{what}, not a list"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes(100), id="zeros"),
        pytest.param("a.example\n".encode("utf-16-le"), id="UTF-16 without its mark"),
        pytest.param(RANDOM, id="noise"),
        pytest.param(zlib.compress(RANDOM), id="compressed without a head"),
        pytest.param(gzip.compress(RANDOM.hex().encode())[200:], id="the end of a gzip file"),
        pytest.param(LINES + RANDOM, id="text, then noise"),
        pytest.param(LINES + RANDOM[:9000] + LINES, id="noise in the middle"),
    ],
)
def test_binary_data_is_no_list(data: bytes) -> None:
    assert is_binary(data)
    with pytest.raises(NotAListError, match="neither text nor packed in gzip, zstd, zip or tar, so not a list"):
        refuse_binary(data)
