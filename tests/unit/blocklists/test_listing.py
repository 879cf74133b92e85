"""Whole lists: line ends, encodings, positions, limits, and what is no list at all."""

import tracemalloc

import pytest

from blocklists.errors import ListError, NotAListError, UnknownFormatError
from blocklists.formats import adblock
from blocklists.formats.lines import MAX_LINE, lines
from blocklists.listing import FORMATS, MAX_REJECTED_TEXT, Parsed, Reason, Rejection, read_list
from policy.rules import Rule, Scope, Traits


def names(data: bytes, list_format: str = "domains") -> list[tuple[int, str]]:
    """Return line and name, or line and reason."""
    return [
        (item.line, item.rule.name if isinstance(item, Parsed) else f"!{item.reason}")
        for item in read_list(data, format=list_format)
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_in_any_of_three_ways(end: bytes) -> None:
    data = end.join([b"a.example", b"", b"# note", b"b.example", b"-", b"c.example"])
    expected = [(1, "a.example"), (4, "b.example"), (5, "!name"), (6, "c.example")]
    assert names(data) == expected
    assert names(data + end) == expected


def test_line_ends_may_be_mixed() -> None:
    assert names(b"a.example\rb.example\r\nc.example\n\rd.example") == [
        (1, "a.example"),
        (2, "b.example"),
        (3, "c.example"),
        (5, "d.example"),
    ]


def test_other_control_characters_end_no_line() -> None:
    """str.splitlines() would split here."""
    data = "a.example\x0bb.example\x0cc.example\x1cd.example\x85e.example\u2028f.example".encode()
    assert names(data) == [(1, "!syntax")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("\ufeffa.example\n".encode(), [(1, "a.example")]),
        ("\ufeff# bücher\na.example\n".encode(), [(2, "a.example")]),
        ("a.example\n\ufeffb.example\n\ufeff# c.example".encode(), [(1, "a.example"), (2, "b.example")]),
        ("bücher.example".encode(), [(1, "xn--bcher-kva.example")]),
        ("bücher.example".encode("latin-1"), [(1, "xn--bcher-kva.example")]),
        ("ä.example\n".encode() + "ä.test".encode("latin-1"), [(1, "xn--4ca.example"), (2, "xn--4ca.test")]),
        (b"# caf\xe9\na.example", [(2, "a.example")]),
        (b"a.exa\x00mple\nb.example", [(1, "!name"), (2, "b.example")]),
        ("a.example".encode("utf-16"), [(1, "!name")]),
        (b"\x1f\x8b\x08\x00\xff\xfe", [(1, "!name")]),
    ],
)  # fmt: skip
def test_octets_are_read_as_utf_8_or_latin_1(data: bytes, expected: list[tuple[int, str]]) -> None:
    assert names(data) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_long_list_is_read_in_blocks_and_counted_through(end: str) -> None:
    """Blocks are a mebibyte: the cut falls in names, and between CR and LF."""
    wanted = [f"n{number:07}.example" for number in range(200_000)]
    assert names(end.join(wanted).encode()) == list(enumerate(wanted, start=1))


@pytest.mark.parametrize("offset", range(-2, 3))
def test_block_may_be_cut_anywhere_in_a_line_end(offset: int) -> None:
    head = b"#" + b"x" * ((1 << 20) - 3 + offset)
    assert names(head + b"\r\na.example\r\nb.example") == [(2, "a.example"), (3, "b.example")]
    assert names(head + b"\ra.example\rb.example") == [(2, "a.example"), (3, "b.example")]


def test_line_that_is_too_long_is_rejected_and_the_next_one_read() -> None:
    for length in (MAX_LINE + 1, 1 << 20, (1 << 20) + 1, 5 << 20):
        data = b"a.example\n" + b"x" * length + b"\r\nb.example"
        first, rejection, last = list(read_list(data, format="domains"))
        assert rejection == Rejection(2, "x" * MAX_REJECTED_TEXT, Reason.LIMIT)
        assert (first.line, last.line) == (1, 3)


def test_blanks_make_no_line_too_long() -> None:
    blanks = b" " * (3 << 20)
    assert names(blanks + b"a.example" + blanks + b"\n" + blanks + b"\nb.example") == [
        (1, "a.example"),
        (3, "b.example"),
    ]


def test_rejected_text_is_cut() -> None:
    [rejection] = read_list(b"http://a.example/" + b"x" * 1000, format="domains")
    assert isinstance(rejection, Rejection)
    assert rejection.text == "http://a.example/" + "x" * (MAX_REJECTED_TEXT - 17)


def test_rejection_shows_the_whole_line_and_is_one_for_all_its_bad_names() -> None:
    items = list(read_list(b"\n  0.0.0.0 com b.example http://c.example/ # note\n", format="hosts"))
    assert items[0] == Rejection(2, "0.0.0.0 com b.example http://c.example/ # note", Reason.PUBLIC_SUFFIX)
    assert items[1:] == [Parsed(2, Rule("b.example", Traits(Scope.EXACT)))]


def test_listing_may_be_read_more_than_once() -> None:
    data = b"||a.example^\n/x[0-9]/\n||b.example^$badfilter\n||b.example^\n||com^"
    listing = read_list(data)
    assert list(listing) == list(listing)
    assert len(list(listing)) == 3


def test_memory_does_not_grow_with_the_list() -> None:
    data = b"".join(b"n%07d.example\n" % number for number in range(60_000))
    listing = read_list(data, format="domains")
    next(iter(listing))  # whatever is loaded once
    tracemalloc.start()
    count = sum(1 for _ in listing)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 12 << 20


@pytest.mark.parametrize("list_format", FORMATS)
@pytest.mark.parametrize(
    "page",
    [
        b"<!DOCTYPE html>\n<html></html>",
        b"\xef\xbb\xbf\r\n  <!doctype HTML>",
        b"<html lang=en>",
        b"\n\n<head><title>404</title></head>",
        b"<!-- error --><html>",
        b'<?xml version="1.0"?><Error/>',
        b"<center>nginx</center>",
    ],
)
def test_web_page_is_no_list(list_format: str, page: bytes) -> None:
    with pytest.raises(NotAListError, match="an HTML page, not a list"):
        read_list(page, format=list_format)


def test_single_list_is_no_archive() -> None:
    with pytest.raises(NotAListError, match="no archive"):
        read_list(b"a.example", format="ut1")


@pytest.mark.parametrize("name", ["HOSTS", "", "pihole"])
def test_unknown_format_is_named(name: str) -> None:
    with pytest.raises(UnknownFormatError, match="there is no format"):
        read_list(b"a.example", format=name)
    assert issubclass(UnknownFormatError, ListError)


@pytest.mark.parametrize("data", [b"", b"\n", b"# nothing\n", b"\xef\xbb\xbf", b"\r\r\r"])
def test_empty_list_holds_nothing(data: bytes) -> None:
    assert list(read_list(data)) == []


def test_line_numbers_count_blank_lines() -> None:
    assert list(lines(b"\n\na\n \nb")) == [(3, "a"), (5, "b")]


# What a list takes back


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("||a.example^\n||a.example^$badfilter", []),
        ("||a.example^$badfilter\n||a.example^", []),
        ("||a.example^\n||a.example^$badfilter\n||a.example^", []),
        ("||A.example.^\n||a.example^|$badfilter", []),
        ("||a.example^$all\n||a.example^$badfilter", []),
        ("||a.example^$badfilter,important\n||a.example^$important", []),
        ("||a.example^$badfilter\n||a.example^$important", ["||a.example^$important"]),
        ("||a.example^$badfilter\n||b.a.example^\n||example.test^", ["||b.a.example^", "||example.test^"]),
        ("||a.example^$badfilter\na.example", ["a.example"]),
        ("a.example$badfilter\na.example", []),
        ("||a.example^$badfilter\n@@||a.example^", ["@@||a.example^"]),
        ("@@||a.example^$badfilter\n@@||a.example^", []),
        ("||a.example^$dnstype=AAAA|A\n||a.example^$dnstype=A|AAAA,badfilter", []),
        ("||a.example^$dnstype=A\n||a.example^$badfilter", ["||a.example^$dnstype=A"]),
        ("||a.example^$denyallow=x.test|y.test\n||a.example^$badfilter,denyallow=y.test|x.test", []),
        ("/ads[0-9]/\n/ads[0-9]/$badfilter", []),
        ("/ads[0-9]/\n/ads[0-8]/$badfilter", ["/ads[0-9]/"]),
        ("||a.example^ # note\n||a.example^$badfilter  # not a tracker", []),
        ("||a.example^\n! ||a.example^$badfilter", ["||a.example^"]),
        ("||a.example^\n||a.example^$BadFilter", []),
    ],
)
def test_badfilter_takes_back_the_same_rule_before_or_after(text: str, expected: list[str]) -> None:
    items = list(read_list(text.encode(), format="adblock", allow_public_suffix=False))
    assert [str(item.rule) for item in items if isinstance(item, Parsed)] == expected
    assert len(items) == len(expected)


def test_badfilter_of_a_public_suffix_takes_it_back_where_it_may_be_listed() -> None:
    data = b"||com.br^$badfilter\n||com.br^"
    assert list(read_list(data, format="adblock", allow_public_suffix=True)) == []


def test_line_that_is_too_long_takes_nothing_back() -> None:
    data = b"||a.example^\n||a.example^$badfilter #" + b"x" * MAX_LINE
    assert names(data, "adblock") == [(1, "a.example"), (2, "!limit")]


# Limits against lists that would cost too much


def test_expressions_of_a_list_are_limited_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adblock, "MAX_EXPRESSIONS", 3)
    data = b"/a/\n/b(/\n/c/\n/d/\n||a.example^"
    assert names(data, "adblock") == [(1, "a"), (2, "!regex"), (3, "c"), (4, "!limit"), (5, "a.example")]


def test_expressions_of_a_list_are_limited_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adblock, "MAX_PROGRAM", 100)
    data = b"/[a-z]{60}[0-9]{60}/\n/a/\n||a.example^"
    assert names(data, "adblock") == [(1, "[a-z]{60}[0-9]{60}"), (2, "!limit"), (3, "a.example")]


def test_what_a_list_takes_back_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adblock, "MAX_TAKEN_BACK", 1)
    data = b"||a.example^$badfilter\n||b.example^$badfilter\n||a.example^\n||b.example^"
    assert names(data, "adblock") == [(2, "!limit"), (4, "b.example")]


def test_kinds_of_rules_in_a_list_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adblock, "MAX_TRAITS", 2)
    lines_of = [b"||a%d.example^$denyallow=x%d.test" % (number, number) for number in range(3)]
    data = b"\n".join([*lines_of, lines_of[0], b"||b.example^"])
    assert names(data, "adblock") == [
        (1, "a0.example"), (2, "a1.example"), (3, "!limit"), (4, "a0.example"), (5, "b.example"),
    ]  # fmt: skip


# Response policy zones are more than lines


def test_zone_file_says_where_names_are_relative_to() -> None:
    zone = b"""$TTL 300
$ORIGIN rpz.local.
@ IN SOA ns.rpz.local. hostmaster.rpz.local. (
    2026 ; serial
    3600
    600 604800 300 )
  IN NS ns.rpz.local.
@ TXT "about it"
a.example CNAME .
b.example.rpz.local. CNAME .
$ORIGIN example.rpz.local.
c CNAME .
*.d CNAME rpz-passthru.
"""
    rules = [str(item.rule) for item in read_list(zone, format="rpz") if isinstance(item, Parsed)]
    assert rules == ["a.example", "b.example", "c.example", "@@*.d.example"]
    assert len(list(read_list(zone, format="rpz"))) == 4


def test_zone_file_may_begin_at_the_root() -> None:
    zone = b"$ORIGIN .\nrpz.local IN SOA ns. host. 1 2 3 4 5\n NS ns.\n$ORIGIN rpz.local.\na.example CNAME .\n"
    assert names(zone, "rpz") == [(5, "a.example")]


def test_zone_without_an_origin_takes_it_from_its_first_record() -> None:
    zone = b"rpz.local. SOA ns. host. 1 2 3 4 5\nrpz.local. NS ns.\na.example.rpz.local. CNAME .\nb.example CNAME .\n"
    assert names(zone, "rpz") == [(3, "a.example"), (4, "b.example")]


def test_record_without_an_owner_has_the_last_one() -> None:
    zone = b"a.example A 0.0.0.0\n  AAAA ::\n  300 IN TXT x\nb.example FOO\n  CNAME .\n"
    assert names(zone, "rpz") == [(1, "a.example"), (2, "a.example"), (3, "!action"), (4, "!syntax"), (5, "b.example")]


def test_start_of_authority_that_never_ends_does_not_swallow_the_zone() -> None:
    zone = b"@ SOA ns. host. (\n" + b"".join(b"n%d.example CNAME .\n" % number for number in range(30))
    assert names(zone, "rpz")[0] == (2, "n0.example")
    rubbish = b"@ SOA ns. host. (\n" + b"".join(b"n%d.example\n" % number for number in range(30))
    assert names(rubbish, "rpz") == [(number, "!syntax") for number in range(22, 32)]
