"""Queries as octets: what is read of them, and what is refused. dnspython reads along."""

import struct

import dns.edns
import dns.exception
import dns.message
import dns.name
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from resolver import wire
from resolver.wire import MalformedQueryError
from tests.unit.resolver.messages import OPT, octets

labels = st.lists(st.binary(min_size=1, max_size=63), max_size=6).filter(lambda found: sum(map(len, found)) < 200)
letters = st.characters(codec="ascii", categories=["L", "Nd"], include_characters="-_").map(str.encode)
host_labels = st.builds(
    lambda letter, size: letter * size, letters, st.sampled_from([1, 3, 9, 44, 45, 48, 57, 60, 63])
) | st.binary(min_size=1, max_size=63)
names = st.lists(host_labels, max_size=5).filter(lambda found: sum(map(len, found)) + len(found) < 255)


def read(name: str = "a.example", rdtype: str = "A", **options: object) -> wire.Query:
    return wire.read_query(dns.message.make_query(name, rdtype, **options).to_wire())  # type: ignore[arg-type] # passed on


def test_a_query_is_read() -> None:
    query = wire.read_query(
        dns.message.make_query("WWW.A.example", "AAAA", use_edns=0, payload=4000, want_dnssec=True).to_wire()
    )
    assert (query.name, query.qtype, query.qclass, query.opcode, query.type_name) == ("www.a.example", 28, 1, 0, "AAAA")
    assert query.question == b"\3WWW\1A\7example\0\0\x1c\0\1"
    assert query.folded == b"\3www\1a\7example\0\0\x1c\0\1"
    assert query.edns == (4000, 0, True, b"", b"\0\0\x29\x0f\xa0\0\0\x80\0\0\0")


def test_without_an_opt_record_there_is_no_edns() -> None:
    assert read(use_edns=False).edns is None


@pytest.mark.parametrize(
    ("number", "name"), [(1, "A"), (65, "HTTPS"), (255, "ANY"), (65280, "TYPE65280"), (0, "TYPE0")]
)
def test_a_type_is_named(number: int, name: str) -> None:
    assert wire.read_query(octets(b"a", b"example", qtype=number)).type_name == name


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ((), "."),
        ((b"A", b"EXAMPLE"), "a.example"),
        ((b"a.example",), "a\\046example"),
        ((b"www.a", b"example"), "www\\046a.example"),
        ((b"a", b"example\0"), "a.example\\000"),
        ((b"a\0", b"example"), "a\\000.example"),
        ((b"a", b"te st"), "a.te\\032st"),
        ((b"a\\.example",), "a\\092\\046example"),
        # Lengths that look like a letter, a digit or a hyphen, octets that look like a length, and the last plain one.
        ((b"x" * 44, b"y" * 45, b"example"), "x" * 44 + "." + "y" * 45 + ".example"),
        ((b"a" * 48, b"b" * 57, b"c" * 60), "a" * 48 + "." + "b" * 57 + "." + "c" * 60),
        ((b"a\1b", b"example"), "a\\001b.example"),
        ((b"\7example",), "\\007example"),
        ((b"a", b"b" * 47 + b"\5"), "a." + "b" * 47 + "\\005"),
        ((b"a\7example",), "a\\007example"),
        ((b"a!b", b"example"), "a!b.example"),
        ((b"a\xc3\xa9", b"example"), "a\\195\\169.example"),
        ((b"\xff",), "\\255"),
        ((b".",), "\\046"),
        ((b"_dmarc", b"a-b", b"example"), "_dmarc.a-b.example"),
        ((b"a/b", b"example"), "a/b.example"),
        ((b"x" * 63, b"example"), "x" * 63 + ".example"),
    ],
)
def test_a_name_is_written_so_that_no_other_is_written_the_same(labels: tuple[bytes, ...], name: str) -> None:
    assert wire.read_query(octets(*labels)).name == name


@given(labels, labels)
def test_names_are_equal_exactly_when_their_labels_are_but_for_case(first: list[bytes], second: list[bytes]) -> None:
    """RFC 4343: letters of either case are the same; nothing else is."""
    for one, other in ((first, second), (first, [label.swapcase() for label in first])):
        same = [label.lower() for label in one] == [label.lower() for label in other]
        assert (wire.read_query(octets(*one)).name == wire.read_query(octets(*other)).name) == same


@given(names)
@example([b"x" * 44, b"y" * 45])
@example([b"x" * 45])
@example([b"A" * 63, b"-" * 45, b"0" * 48])
@example([b"a\x01b", b"\x03com"])
def test_a_name_reads_back_as_the_same_labels(found: list[bytes]) -> None:
    """RFC 1035 section 5.1: the text is presentation format, which dnspython reads too."""
    assume(found != [b"@"])  # alone it is the origin, in master files (section 5.1), which a log has none of
    data = octets(*found)
    name, end = wire.read_name(data, 12)
    assert end == len(data) - 4
    assert dns.name.from_text(name) == dns.name.from_wire(data, 12)[0] == dns.name.Name([*found, b""])
    assert name == name.lower()
    assert name.isascii()
    assert name.isprintable()
    assert " " not in name


@given(st.binary(max_size=300))
def test_any_octets_are_a_name_exactly_when_dnspython_says_so(data: bytes) -> None:
    """A pointer is none: a question has nothing to point to (RFC 1035 section 4.1.4)."""
    try:
        expected, used = dns.name.from_wire(data, 0)
        compressed = b"".join(bytes([len(label)]) + label for label in expected.labels) != data[:used]
    except dns.exception.DNSException:
        compressed = True
    if compressed:
        with pytest.raises((MalformedQueryError, IndexError)):
            wire.read_name(data, 0)
        return
    name, end = wire.read_name(data, 0)
    assert end == used
    assert name == "." if not expected.labels[:-1] else dns.name.from_text(name) == expected


def test_the_longest_name_is_255_octets() -> None:
    """RFC 1035 section 3.1: length octets and the root's included."""
    longest = [b"x" * 63] * 3 + [b"y" * 61]
    assert len(wire.read_query(octets(*longest)).question) == 255 + 4
    with pytest.raises(MalformedQueryError):
        wire.read_query(octets(*longest[:3], b"y" * 62))
    assert wire.read_query(octets(*[b"a"] * 127)).name == ".".join("a" * 127)
    with pytest.raises(MalformedQueryError):
        wire.read_query(octets(*[b"a"] * 128))


@pytest.mark.parametrize(
    "data",
    [
        octets(b"a", counts=(0, 0, 0, 0)),
        octets(b"a", counts=(2, 0, 0, 0)) + octets(b"a")[12:],
        octets(b"a", counts=(1, 1, 0, 0)) + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4",
        octets(b"a", counts=(1, 0, 1, 0)) + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4",
        octets(b"a")[:-1],
        octets(b"a")[:-5],
        octets(b"a")[:12],
        octets()[:12] + b"\xc0\x0c\0\1\0\1",
        octets()[:12] + b"\x40a\0\0\1\0\1",
        octets()[:12] + b"\x80a\0\0\1\0\1",
        octets()[:12] + b"\3ab",
        octets(b"a", qtype=41),
        octets(b"a", counts=(1, 0, 0, 1)),
        octets(b"a", counts=(1, 0, 0, 1)) + OPT[:-1],
        octets(b"a", counts=(1, 0, 0, 2)) + OPT,
        octets(b"a", counts=(1, 0, 0, 2)) + OPT + OPT,
        octets(b"a", counts=(1, 0, 0, 1)) + b"\1x" + OPT,
        octets(b"a", counts=(1, 0, 0, 1)) + b"\xc0\x0c" + OPT[1:],
        octets(b"a", counts=(1, 0, 0, 1)) + OPT[:-2] + b"\0\1",
        octets(b"a", counts=(1, 0, 0, 65535)) + OPT,
    ],
    ids=[
        "no question",
        "two questions",
        "a record in the answer section",
        "a record in the authority section",
        "cut in the class",
        "cut in the name",
        "no question section",
        "a pointer as the question's name",
        "a label of type 01",
        "a label of type 10",
        "a label cut short",
        "OPT as the type",
        "an additional record that isn't there",
        "an OPT record cut short",
        "one additional record of two",
        "two OPT records",
        "an OPT record with a name",
        "an OPT record with a pointer for its name",
        "an OPT record's data cut short",
        "65,535 additional records",
    ],
)
def test_what_is_malformed_is_told(data: bytes) -> None:
    with pytest.raises(MalformedQueryError):
        wire.read_query(data)


def test_other_additional_records_are_passed_over() -> None:
    tsig_like = b"\xc0\x0c" + struct.pack(">HHIH", 250, 255, 0, 3) + b"abc"
    query = wire.read_query(octets(b"a", counts=(1, 0, 0, 2)) + tsig_like + OPT)
    assert query.edns is not None
    assert query.name == "a"


def test_options_are_kept_as_they_came() -> None:
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    unknown = dns.edns.GenericOption(dns.edns.OptionType.make(65001), b"")
    edns = read(use_edns=0, options=[cookie, unknown]).edns
    assert edns is not None
    assert edns.options == b"\0\x0a\0\x0812345678\xfd\xe9\0\0"
    assert [edns.offers(code) for code in (10, 65001, 11, 0)] == [True, True, False, False]
    assert edns.octets == OPT


@pytest.mark.parametrize("options", [b"\0\x0a\xff\xff\0\0", b"\0", b"\0\x0a\0", b"\0\x0a\0\0\0\x0b\0\1"])
def test_options_that_lie_about_their_length_are_malformed(options: bytes) -> None:
    """RFC 6891 section 6.1.2: what can't be read to its end is no OPT record."""
    with pytest.raises(MalformedQueryError):
        wire.read_query(octets(b"a", counts=(1, 0, 0, 1)) + OPT[:-2] + len(options).to_bytes(2, "big") + options)


# What queries have in common.


def test_queries_that_differ_in_case_and_options_alone_are_plainly_the_same() -> None:
    plain = read("a.example", use_edns=0).plain
    assert plain == dns.message.make_query("a.example", "A", use_edns=0).to_wire()[2:]
    for name, options in [
        ("A.Example", []),
        ("a.EXAMPLE", [dns.edns.GenericOption(dns.edns.OptionType.make(10), b"12345678")]),
        (
            "a.example",
            [dns.edns.ECSOption("192.0.2.1"), dns.edns.GenericOption(dns.edns.OptionType.make(12), bytes(100))],
        ),
    ]:
        assert read(name, use_edns=0, options=options).plain == plain


def test_other_records_are_no_part_of_the_plain_query() -> None:
    """It is read again, to ask a new index what clients ask."""
    tsig_like = b"\xc0\x0c" + struct.pack(">HHIH", 250, 255, 0, 3) + b"abc"
    bare, with_edns = octets(b"a", b"example"), octets(b"a", b"example", counts=(1, 0, 0, 1)) + OPT
    for count in (1, 2, 256):
        data = octets(b"a", b"example", counts=(1, 0, 0, count)) + tsig_like * count
        assert wire.read_query(data).plain == bare[2:]
        data = octets(b"a", b"example", counts=(1, 0, 0, count + 1)) + tsig_like * count + OPT
        assert wire.read_query(data).plain == with_edns[2:]


def test_what_makes_another_reply_makes_another_plain_query() -> None:
    """The flags, the size, DO, EDNS at all, the type, the class, the name."""
    different = [
        read("a.example", use_edns=0),
        read("b.example", use_edns=0),
        read("a.example", "AAAA", use_edns=0),
        read("a.example", rdclass="CH", use_edns=0),
        read("a.example", use_edns=False),
        read("a.example", use_edns=1),
        read("a.example", use_edns=0, payload=512),
        read("a.example", use_edns=0, want_dnssec=True),
        *(read("a.example", use_edns=0, flags=0x0100 | bit) for bit in (0x0010, 0x0020)),
        read("a.example", use_edns=0, flags=0),
    ]
    assert len({query.plain for query in different}) == len(different)


@pytest.mark.parametrize("data", [b"", b"\0" * 11, octets(b"a", flags=0x8100), octets(b"a", flags=0x8000)[:12]])
def test_what_is_no_request_is_told(data: bytes) -> None:
    assert not wire.is_query(data)
