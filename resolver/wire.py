"""DNS messages as octets: the numbers of the protocol, and reading queries. Upstreams' answers are `resolver.answers`'.

Only what the way of a query needs is read: the header, the question and EDNS. Every bound is checked here; whatever
octets come in, a function returns or raises its own error.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from dnslib import QTYPE

HEADER = Struct(">HHHHHH")
HEADER_LENGTH = 12  # RFC 1035 section 4.1.1
MAX_NAME_OCTETS = 255  # RFC 1035 section 3.1
MAX_LABEL_OCTETS = 63
UDP_LIMIT_PLAIN = 512  # RFC 1035 section 4.2.1
STREAM_LIMIT = 65535  # RFC 1035 section 4.2.2: the length has two octets
UDP_LIMIT_EDNS = 1232  # what passes any path unfragmented: DNS flag day 2020

QR, TC, RD, RA, AD, CD = 0x8000, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE_SHIFT, OPCODE_MASK, RCODE_MASK = 11, 0xF, 0xF
OPCODE_BITS = OPCODE_MASK << OPCODE_SHIFT
DO = 0x8000  # RFC 3225: the first bit of the OPT record's flags

TYPE_A, TYPE_CNAME, TYPE_SOA, TYPE_PTR, TYPE_HINFO, TYPE_AAAA, TYPE_DNAME, TYPE_OPT = 1, 5, 6, 12, 13, 28, 39, 41
TYPE_DS, TYPE_RRSIG, TYPE_NSEC, TYPE_NSEC3, TYPE_SVCB, TYPE_HTTPS = 43, 46, 47, 50, 64, 65
TYPE_IXFR, TYPE_AXFR, TYPE_ANY = 251, 252, 255
CLASS_IN = 1

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, YXDOMAIN, BADVERS = 0, 1, 2, 3, 4, 5, 6, 16
RCODE_NAMES = {
    NOERROR: "NOERROR",
    FORMERR: "FORMERR",
    SERVFAIL: "SERVFAIL",
    NXDOMAIN: "NXDOMAIN",
    NOTIMP: "NOTIMP",
    REFUSED: "REFUSED",
    YXDOMAIN: "YXDOMAIN",
    7: "YXRRSET",
    8: "NXRRSET",
    9: "NOTAUTH",
    10: "NOTZONE",
    BADVERS: "BADVERS",
}

# RFC 8914 section 4: extended DNS errors.
EDE_STALE, EDE_BLOCKED, EDE_PROHIBITED, EDE_STALE_NXDOMAIN, EDE_NOT_AUTHORITATIVE = 3, 15, 18, 19, 20
EDE_NO_REACHABLE_AUTHORITY, EDE_NETWORK_ERROR = 22, 23
EDE_INVALID_QUERY_TYPE = 30  # RFC 9824 section 9

OPTION_KEEPALIVE, OPTION_PADDING, OPTION_EDE = 11, 12, 15  # RFC 7828, 7830, 8914

RECORD = Struct(">HHIH")
"""What a record says behind its owner: type, class, TTL, length of its data."""
TTL = Struct(">I")
COUNTS = Struct(">HHHHH")
"""A header behind the ID: flags, and how many records each section has."""
TYPE_NAMES: dict[int, str] = dict(QTYPE.forward)

new = tuple.__new__
"""Makes a named tuple, as its own constructor does, for a third of the cost: for those that each query makes."""

_DECIMAL = re.compile(r"\\(\d{3})")
_QUESTION_TAIL = Struct(">HH")
OPTION = Struct(">HH")
EMPTY_OPT_LENGTH = 1 + RECORD.size

# The question's name as text, in one pass: lengths become dots, capitals small letters, and what has no place in a host
# name becomes !. From 45 on a length is a letter, a digit or a hyphen too.
_TEXT = bytes(
    ord(".") if 0 < c <= 44
    else ord(chr(c).lower()) if chr(c).isascii() and (chr(c).isalnum() or c in b"_-")
    else ord("!")
    for c in range(256)
)  # fmt: skip
LONGEST_PLAIN_LABEL = 44


class MalformedQueryError(Exception):
    """The client's message is no query that can be answered: FORMERR (RFC 1035 section 4.1.1)."""


class Edns(NamedTuple):
    """What a query's OPT record says (RFC 6891 section 6.1)."""

    payload: int
    """The largest UDP reply that the client takes, in octets."""
    version: int
    do: bool
    options: bytes
    """All of them, as they came; none of a version that isn't 0."""
    octets: bytes
    """The record, its options left out."""

    def offers(self, code: int) -> bool:
        """Tell whether an option of this code is there."""
        return bool(self.options) and any(found == code for found, _ in options_of(self.options))


class Query(NamedTuple):
    """One query, read."""

    flags: int
    name: str
    """Lower case, without the trailing dot, ``.`` for the root; octets outside printable ASCII as \\DDD."""
    qtype: int
    qclass: int
    question: bytes
    """The question section as it came, case kept (RFC 4343)."""
    folded: bytes
    """The question section with its name in lower case."""
    edns: Edns | None

    type_name: str
    """The type as text."""
    plain: bytes
    """The octets behind the ID as the plainest client would write them: the name in lower case, no options.

    Queries that differ in these alone get the same answer.
    """

    @property
    def opcode(self) -> int:
        """Return the kind of request; 0 is a query."""
        return (self.flags & OPCODE_BITS) >> OPCODE_SHIFT


def type_name(qtype: int) -> str:
    """Return a type as text; of one without a name ``TYPE123`` (RFC 3597 section 5)."""
    return TYPE_NAMES.get(qtype) or f"TYPE{qtype}"


def framed(message: bytes) -> bytes:
    """Return a message behind its length, to be sent in one write (RFC 7766 section 8)."""
    return len(message).to_bytes(2, "big") + message


def is_query(data: bytes) -> bool:
    """Tell whether octets are a request at all; what is none gets no answer (RFC 1035 section 4.1.1, QR)."""
    return len(data) >= HEADER_LENGTH and not data[2] & 0x80


def read_query(data: bytes) -> Query:
    """Read a request of at least a header's length. Raises `MalformedQueryError`."""
    head = data[2:HEADER_LENGTH]
    flags, additionals = _USUAL_HEADS.get(head) or _read_head(head)
    try:
        name, end = read_name(data, HEADER_LENGTH)
        qtype, qclass = _QUESTION_TAIL.unpack_from(data, end)
        edns = _USUAL_EDNS.get(data[end + 4 :]) if additionals == 1 else None
        if additionals and edns is None:
            edns = _read_edns(data, end + 4, additionals)
    except (IndexError, struct_error) as problem:
        raise MalformedQueryError("cut short") from problem
    if qtype == TYPE_OPT:
        raise MalformedQueryError("OPT is no type to ask for")  # RFC 6891 section 6.1.1
    question = data[HEADER_LENGTH : end + 4]
    folded = data[HEADER_LENGTH:end].lower() + question[-4:]
    if additionals > 1 or (additionals and edns is None):  # the plainest client sends no other record
        head = head[:-2] + (b"\0\0" if edns is None else b"\0\1")
    plain = head + folded if edns is None else head + folded + edns.octets
    text = TYPE_NAMES.get(qtype) or type_name(qtype)
    return new(Query, (flags, name, qtype, qclass, question, folded, edns, text, plain))


def _read_head(head: bytes) -> tuple[int, int]:
    """Return the flags, and how many additional records there are."""
    flags, questions, answers, authorities, additionals = COUNTS.unpack(head)
    # RFC 9619 section 4: exactly one question. No request of ours carries records before the additional section.
    if questions != 1 or answers or authorities:
        raise MalformedQueryError("not exactly one question and nothing else")
    return flags, additionals


# Nearly all queries: recursion desired, AD at will, with EDNS or without.
_USUAL_HEADS = {
    COUNTS.pack(flags, 1, 0, 0, additionals): (flags, additionals) for flags in (RD, RD | AD) for additionals in (0, 1)
}


def read_name(data: bytes, start: int) -> tuple[str, int]:
    """Return an uncompressed name as text, and where it ends. Raises `MalformedQueryError`, `IndexError`."""
    # Nearly every name, in 0.8 us instead of 2. Between labels are their lengths, which are dots in the text. Where all
    # are small, an octet of a label that looks like one makes a dot too many.
    end = data.find(0, start)
    if start < end < start + MAX_NAME_OCTETS:
        position, labels = start, 0
        while position < end and (length := data[position]) <= LONGEST_PLAIN_LABEL:
            position += length + 1
            labels += 1
        text = data[start + 1 : end].translate(_TEXT)
        if position == end and text.count(b".") == labels - 1 and b"!" not in text:
            return text.decode("ascii"), end + 1
    return _read_labels(data, start)


def _read_labels(data: bytes, start: int) -> tuple[str, int]:
    position = start
    labels = []
    while length := data[position]:
        if length > MAX_LABEL_OCTETS:
            raise MalformedQueryError("a compressed or unknown label in the question")  # RFC 1035 section 4.1.4
        labels.append(data[position + 1 : position + 1 + length])
        position += 1 + length
        if position - start >= MAX_NAME_OCTETS:
            raise MalformedQueryError("a name over 255 octets")
    return _text_of(labels), position + 1


def _text_of(labels: list[bytes]) -> str:
    """Return a name as text: lower case, no trailing dot, ``.`` for the root; odd octets as decimal numbers."""
    return ".".join(_escaped(label) for label in labels) or "."


def _escaped(label: bytes) -> str:
    """Write a label as text (RFC 1035 section 5.1); what could be misread in it becomes its decimal number."""
    return "".join(chr(c) if 0x21 <= c <= 0x7E and c not in b".\\" else f"\\{c:03d}" for c in label.lower())


def name_octets(text: str) -> bytes:
    """Return a name as octets, from the text that `read_name` makes of them."""
    if text == ".":
        return b"\0"
    labels = [_DECIMAL.sub(lambda octet: chr(int(octet[1])), label).encode("latin-1") for label in text.split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def read_malformed(data: bytes) -> Query:
    """Read what there is of a request that `read_query` can't read: its one question, and that it has an OPT record.

    What isn't there is empty; so is `plain`, always.
    """
    flags, questions, *records = COUNTS.unpack_from(data, 2)
    name, qtype, qclass, question, edns = "", 0, 0, b"", None
    with suppress(IndexError, struct_error, MalformedQueryError):
        if questions == 1:
            asked, end = read_name(data, HEADER_LENGTH)
            qtype, qclass = _QUESTION_TAIL.unpack_from(data, end)
            name, question = asked, data[HEADER_LENGTH : end + 4]
    with suppress(IndexError, struct_error, MalformedQueryError):
        position = HEADER_LENGTH
        for _ in range(questions):
            position = skip_name(data, position) + 4
        edns = _first_edns(data, position, sum(records))
    folded = question[:-4].lower() + question[-4:]
    return Query(flags, name, qtype, qclass, question, folded, edns, type_name(qtype) if question else "", b"")


def _first_edns(data: bytes, position: int, records: int) -> Edns | None:
    """Find an OPT record, whatever is wrong with it; its options are left out."""
    for _ in range(records):
        position = skip_name(data, position)
        rtype, payload, ttl, length = RECORD.unpack_from(data, position)
        if rtype == TYPE_OPT:
            return Edns(payload, ttl >> 16 & 0xFF, bool(ttl & DO), b"", b"")
        position += RECORD.size + length
    return None


def _read_edns(data: bytes, position: int, records: int) -> Edns | None:
    """Find the OPT record among the additional records."""
    edns = None
    for _ in range(records):
        owner = position
        position = skip_name(data, position)
        rtype, payload, ttl, length = RECORD.unpack_from(data, position)
        position += RECORD.size + length
        if position > len(data):
            raise MalformedQueryError("a record cut short")
        if rtype == TYPE_OPT:
            # RFC 6891 section 6.1.1: one at most, and owned by the root.
            if edns is not None or data[owner] != 0:
                raise MalformedQueryError("more than one OPT record, or one with a name")
            version = ttl >> 16 & 0xFF
            # RFC 6891 section 6.1.3: what another version's options are, nobody here can tell.
            options = b"" if version else data[position - length : position]
            if options:
                list(options_of(options))  # to its end: what can't be read is no OPT record
            bare = data[owner : owner + EMPTY_OPT_LENGTH - 2] + b"\0\0"
            edns = Edns(payload, version, bool(ttl & DO), options, bare)
    return edns


# What nearly every query ends with that has EDNS: no options, and a payload that its software is known for.
_USUAL_EDNS = {
    octets: Edns(payload, 0, do, b"", octets)
    for payload in (512, 1220, 1232, 1280, 1400, 1410, 1432, 1440, 1452, 1472, 1680, 2048, 4000, 4096, 8192, 65494)
    for do in (False, True)
    for octets in [b"\0" + RECORD.pack(TYPE_OPT, payload, DO if do else 0, 0)]
}


def options_of(options: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield an OPT record's options, each by its code (RFC 6891 section 6.1.2). Raises `MalformedQueryError`."""
    position = 0
    while position < len(options):
        if len(options) - position < OPTION.size:
            raise MalformedQueryError("an option cut short")
        code, length = OPTION.unpack_from(options, position)
        position += OPTION.size + length
        if position > len(options):
            raise MalformedQueryError("an option cut short")
        yield code, options[position - length : position]


def skip_name(data: bytes, position: int) -> int:
    """Return where the name at a position ends. Raises `MalformedQueryError`, `IndexError`."""
    while length := data[position]:
        if length >= 0xC0:  # a compression pointer ends the name: RFC 1035 section 4.1.4
            return position + 2
        if length > MAX_LABEL_OCTETS:
            raise MalformedQueryError("an unknown kind of label")
        position += 1 + length
    return position + 1


# RFC 6891 section 6.1.2: an OPT record that offers 1232 octets, with and without DO.
BARE_OPT = {do: b"\0" + RECORD.pack(TYPE_OPT, UDP_LIMIT_EDNS, DO if do else 0, 0) for do in (False, True)}


def ask(*, do: bool, cd: bool) -> tuple[bytes, bytes]:
    """Return what is before and behind the question of a query to an upstream; the ID is left out."""
    return COUNTS.pack(RD | AD | (CD if cd else 0), 1, 0, 0, 1), BARE_OPT[do]
