"""Telling a list's format from its content."""

import pytest

from blocklists.formats.detection import SAMPLE, detect
from blocklists.listing import Parsed, read_list


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0 a.example", "hosts"),
        ("# Title: a list\n\n127.0.0.1\tlocalhost\n::1 localhost\n0.0.0.0 a.example b.example # note", "hosts"),
        (":: a.example\n:: b.example", "hosts"),
        ("===\n0.0.0.0 a.example\n0.0.0.0 b.example", "hosts"),
        ("a.example\nb.example", "domains"),
        ("a.example # note\n\nb.example", "domains"),
        ("a.example\nhttp://b.example/\n192.0.2.1", "domains"),
        ("192.0.2.1\n192.0.2.2 # note", "domains"),
        ("*.a.example\n*.b.example", "wildcard"),
        (".a.example\n.b.example", "wildcard"),
        ("a.example\n*.a.example\nb.example\n*.b.example", "wildcard"),
        ("||a.example^", "adblock"),
        ("! Title\n||a.example^\n@@||b.example^", "adblock"),
        ("||a.example^\nb.example\nc.example", "adblock"),
        ("*$removeparam=id\n||a.example^\na.example##.banner", "adblock"),
        ("[Adblock Plus 2.0]\na.example\nb.example", "adblock"),
        (r"/^ads[0-9]+\./" + "\n" + r"/^track\./$important", "adblock"),
        ("address=/a.example/0.0.0.0", "dnsmasq"),
        ("# dnsmasq\nlocal=/a.example/\nserver=/b.example/", "dnsmasq"),
        ("server=/a.example/192.0.2.1", "dnsmasq"),
        ("a.example CNAME .\n*.a.example CNAME .", "rpz"),
        ("$TTL 300\n@ SOA ns. host. 1 2 3 4 5\n  NS ns.\na.example 60 IN CNAME .", "rpz"),
        ("; zone\na.example A 0.0.0.0\na.example AAAA ::", "rpz"),
        ('server:\nlocal-zone: "a.example" always_null', "unbound"),
        ('local-zone: "a.example" redirect\nlocal-data: "a.example A 0.0.0.0"', "unbound"),
        ("", "domains"),
        ("# nothing but this", "domains"),
        ("{}\n[]\n%%", "domains"),
    ],
)
def test_format_is_told_from_content(text: str, expected: str) -> None:
    for end in ("\n", "\r\n", "\r"):
        assert detect(text.replace("\n", end).encode()) == expected
    assert read_list(b"\xef\xbb\xbf" + text.encode()).format == expected


def test_stray_line_of_another_format_does_not_change_what_all_the_others_mean() -> None:
    """As adblock, plain names would reach themselves alone."""
    plain = "".join(f"n{number}.example\n" for number in range(100))
    for stray in ("||a.example^\n", "*.a.example\n", "a.example##.banner\n", "/path/\n", "0.0.0.0 a.example\n"):
        assert detect((stray * 20 + plain).encode()) == "domains"


def test_majority_decides_between_formats() -> None:
    assert detect(b"0.0.0.0 a.example\n||b.example^\n||c.example^") == "adblock"
    assert detect(b"||b.example^\n0.0.0.0 a.example\n0.0.0.0 c.example") == "hosts"


def test_long_preamble_hides_no_list() -> None:
    assert detect(b"# licence\n" * 10_000 + b"0.0.0.0 a.example") == "hosts"


def test_sample_is_bounded() -> None:
    """What comes behind the sample is read in the format that the sample has."""
    listing = read_list(b"0.0.0.0 a.example\n" * SAMPLE + b"||b.example^\n" * (2 * SAMPLE))
    assert listing.format == "hosts"
    assert sum(isinstance(item, Parsed) for item in listing) == SAMPLE
