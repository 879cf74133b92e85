"""DNS messages as octets: reading queries, scanning answers, writing replies.

Only what the way of a query needs is read: the header, the question, EDNS, and of an answer where its records and
TTLs stand. Every bound is checked here; whatever octets come in, a function returns or raises its own error.
"""

import re
from collections.abc import Callable, Sequence
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

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE_SHIFT, OPCODE_MASK, RCODE_MASK = 11, 0xF, 0xF
DO = 0x8000  # RFC 3225: the first bit of the OPT record's flags

TYPE_A, TYPE_SOA, TYPE_AAAA, TYPE_OPT, TYPE_IXFR, TYPE_AXFR = 1, 6, 28, 41, 251, 252
CLASS_IN = 1

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
RCODE_NAMES = {
    NOERROR: "NOERROR",
    FORMERR: "FORMERR",
    SERVFAIL: "SERVFAIL",
    NXDOMAIN: "NXDOMAIN",
    NOTIMP: "NOTIMP",
    REFUSED: "REFUSED",
    6: "YXDOMAIN",
    7: "YXRRSET",
    8: "NXRRSET",
    9: "NOTAUTH",
    10: "NOTZONE",
    BADVERS: "BADVERS",
}

# RFC 8914 section 4: extended DNS errors.
EDE_OPTION = 15
EDE_BLOCKED, EDE_PROHIBITED, EDE_NO_REACHABLE_AUTHORITY, EDE_NETWORK_ERROR = 15, 18, 22, 23

_QUESTION_TAIL = Struct(">HH")
_RECORD = Struct(">HHIH")
_OPTION = Struct(">HH")
_TTL = Struct(">I")
_PLAIN_NAME = re.compile(rb"[A-Za-z0-9_.-]+")


class MalformedQueryError(Exception):
    """The client's message is no query that can be answered: FORMERR (RFC 1035 section 4.1.1)."""


class MalformedAnswerError(Exception):
    """The upstream's message can't be read."""


class Edns(NamedTuple):
    """What a query's OPT record says (RFC 6891 section 6.1)."""

    payload: int
    """The largest UDP reply that the client takes, in octets."""
    version: int
    do: bool
    has_options: bool


class Query(NamedTuple):
    """One query, read."""

    flags: int
    name: str
    """Lower case, without the trailing dot, ``.`` for the root; octets outside printable ASCII as \\DDD."""
    qtype: int
    qclass: int
    question: bytes
    """The question section as it came, case kept (RFC 4343)."""
    edns: Edns | None

    @property
    def opcode(self) -> int:
        """Return the kind of request; 0 is a query."""
        return self.flags >> OPCODE_SHIFT & OPCODE_MASK

    @property
    def type_name(self) -> str:
        """Return the type as text; of one without a name ``TYPE123`` (RFC 3597 section 5)."""
        return QTYPE.forward.get(self.qtype) or f"TYPE{self.qtype}"


def cut(stream: bytes) -> tuple[list[bytes], bytes]:
    """Cut a stream into its messages, each behind its 2-octet length (RFC 1035 section 4.2.2), and what is left."""
    messages = []
    position = 0
    while len(stream) - position >= 2:
        end = position + 2 + int.from_bytes(stream[position : position + 2], "big")
        if end > len(stream):
            break
        messages.append(stream[position + 2 : end])
        position = end
    return messages, stream[position:]


def framed(message: bytes) -> bytes:
    """Return a message behind its length, to be sent in one write (RFC 7766 section 8)."""
    return len(message).to_bytes(2, "big") + message


def is_query(data: bytes) -> bool:
    """Tell whether octets are a request at all; what is none gets no answer (RFC 1035 section 4.1.1, QR)."""
    return len(data) >= HEADER_LENGTH and not data[2] & 0x80


def read_query(data: bytes) -> Query:
    """Read a request of at least a header's length. Raises `MalformedQueryError`."""
    _, flags, questions, answers, authorities, additionals = HEADER.unpack_from(data)
    # RFC 9619 section 4: exactly one question. No request of ours carries records before the additional section.
    if questions != 1 or answers or authorities:
        raise MalformedQueryError("not exactly one question and nothing else")
    try:
        name, end = _read_name(data)
        qtype, qclass = _QUESTION_TAIL.unpack_from(data, end)
        edns = _read_edns(data, end + 4, additionals) if additionals else None
    except (IndexError, struct_error) as problem:
        raise MalformedQueryError("cut short") from problem
    if qtype == TYPE_OPT:
        raise MalformedQueryError("OPT is no type to ask for")  # RFC 6891 section 6.1.1
    return Query(flags, name, qtype, qclass, data[HEADER_LENGTH : end + 4], edns)


def _read_name(data: bytes) -> tuple[str, int]:
    """Return the question's name, and where it ends."""
    position = HEADER_LENGTH
    labels = []
    while length := data[position]:
        if length > MAX_LABEL_OCTETS:
            raise MalformedQueryError("a compressed or unknown label in the question")  # RFC 1035 section 4.1.4
        labels.append(data[position + 1 : position + 1 + length])
        position += 1 + length
        if position - HEADER_LENGTH >= MAX_NAME_OCTETS:
            raise MalformedQueryError("a name over 255 octets")
    joined = b".".join(labels)
    if joined.count(b".") == len(labels) - 1 and _PLAIN_NAME.fullmatch(joined):
        return joined.lower().decode("ascii"), position + 1
    return ".".join(_escaped(label) for label in labels) or ".", position + 1


def _escaped(label: bytes) -> str:
    """Write a label as text (RFC 1035 section 5.1); what could be misread in it becomes its decimal number."""
    return "".join(chr(c) if 0x21 <= c <= 0x7E and c not in b".\\" else f"\\{c:03d}" for c in label.lower())


def _read_edns(data: bytes, position: int, records: int) -> Edns | None:
    """Find the OPT record among the additional records."""
    edns = None
    for _ in range(records):
        owner = position
        position = _skip_name(data, position)
        rtype, payload, ttl, length = _RECORD.unpack_from(data, position)
        position += _RECORD.size + length
        if position > len(data):
            raise MalformedQueryError("a record cut short")
        if rtype == TYPE_OPT:
            # RFC 6891 section 6.1.1: one at most, and owned by the root.
            if edns is not None or data[owner] != 0:
                raise MalformedQueryError("more than one OPT record, or one with a name")
            edns = Edns(payload, ttl >> 16 & 0xFF, bool(ttl & DO), length > 0)
    return edns


def _skip_name(data: bytes, position: int) -> int:
    """Return where the name at a position ends."""
    while length := data[position]:
        if length >= 0xC0:  # a compression pointer ends the name: RFC 1035 section 4.1.4
            return position + 2
        if length > MAX_LABEL_OCTETS:
            raise MalformedQueryError("an unknown kind of label")
        position += 1 + length
    return position + 1


class Answer(NamedTuple):
    """What is answered, apart from who asks: everything of a reply behind the question, EDNS left out."""

    rcode: int
    ad: bool
    """Whether the upstream vouches for it (RFC 4035 section 3.2.3)."""
    answers: int
    authorities: int
    body: bytes
    """The records; names in it may point back into the question."""
    ttls: tuple[int, ...]
    """Where in the body each record's TTL stands."""
    lifetime: int
    """Seconds that it may be kept; 0: not at all."""


def scan_answer(data: bytes, question: bytes, max_ttl: int, *, do: bool) -> Answer:
    """Find the records and TTLs of an upstream's reply to a question, TTLs capped. Raises `MalformedAnswerError`.

    What wasn't asked for is not passed on: additional records, and an answer's authorities but for their proofs and
    the SOA that tells that an alias leads to nothing.
    """
    _, flags, _, answers, authorities, _ = HEADER.unpack_from(data)
    start = position = end = HEADER_LENGTH + len(question)
    ttls: list[int] = []
    smallest = largest = max_ttl
    negative = soa = -1
    try:
        for number in range(answers + authorities):
            position = _skip_name(data, position)
            rtype, _, ttl, length = _RECORD.unpack_from(data, position)
            if ttl > largest:
                largest = ttl
                ttl = _sound_ttl(ttl, max_ttl)
            ttls.append(position + 4 - start)
            position += _RECORD.size + length
            if number < answers:
                smallest = min(smallest, ttl)
                end = position
            elif rtype == TYPE_SOA:
                # RFC 2308 section 5: a negative answer is kept as long as its SOA says.
                negative, soa = min(ttl, _TTL.unpack_from(data, position - 4)[0]), ttls[-1]
                smallest = min(smallest, negative)
    except (IndexError, struct_error, MalformedQueryError) as problem:
        raise MalformedAnswerError("a record cut short") from problem
    if position > len(data):
        raise MalformedAnswerError("a record cut short")
    if answers and not do and negative < 0:
        authorities, position = 0, end
        del ttls[answers:]
    body = data[start:position]
    if negative >= 0:  # RFC 2308 section 3: so that whoever caches our copy lets go of it as soon
        body = body[:soa] + _TTL.pack(negative) + body[soa + _TTL.size :]
    if largest > max_ttl:
        body = _with_ttls(body, ttls, lambda ttl: _sound_ttl(ttl, max_ttl))
    rcode = flags & RCODE_MASK
    keepable = (answers or negative >= 0) and rcode in {NOERROR, NXDOMAIN}
    return Answer(rcode, bool(flags & AD), answers, authorities, body, tuple(ttls), smallest if keepable else 0)


def aged(answer: Answer, seconds: int) -> bytes:
    """Return an answer's records with their TTLs counted down (RFC 1035 section 3.2.1)."""
    return _with_ttls(answer.body, answer.ttls, lambda ttl: max(0, ttl - seconds))


def _sound_ttl(ttl: int, max_ttl: int) -> int:
    return 0 if ttl >= 0x80000000 else min(ttl, max_ttl)  # RFC 2181 section 8: with the top bit set it is 0


def _with_ttls(body: bytes, places: Sequence[int], change: Callable[[int], int]) -> bytes:
    changed = bytearray(body)
    for place in places:
        _TTL.pack_into(changed, place, change(_TTL.unpack_from(changed, place)[0]))
    return bytes(changed)


def write_reply(query: Query, answer: Answer, body: bytes, ede: tuple[int, str] | None = None) -> bytes:
    """Return a reply but for its 2-octet ID: the question as it was asked, the answer's records, EDNS if asked."""
    edns = query.edns
    flags = QR | RA | query.flags & (OPCODE_MASK << OPCODE_SHIFT | RD | CD) | answer.rcode & RCODE_MASK
    # RFC 6840 section 5.8: AD only for a client that shows it knows the bit.
    if answer.ad and (query.flags & AD or (edns is not None and edns.do)):
        flags |= AD
    opt = b"" if edns is None else _opt(edns, answer.rcode, ede)
    counts = _COUNTS.pack(flags, 1, answer.answers, answer.authorities, 1 if opt else 0)
    return b"".join((counts, query.question, body, opt))


_COUNTS = Struct(">HHHHH")


def _opt(edns: Edns, rcode: int, ede: tuple[int, str] | None) -> bytes:
    options = b""
    if ede is not None:
        code, text = ede
        extra = text.encode()[:MAX_EDE_TEXT].decode(errors="ignore").encode()  # RFC 8914 section 2: whole characters
        options = _OPTION.pack(EDE_OPTION, 2 + len(extra)) + code.to_bytes(2, "big") + extra
    ttl = rcode >> 4 << 24 | (DO if edns.do else 0)
    return b"\0" + _RECORD.pack(TYPE_OPT, UDP_LIMIT_EDNS, ttl, len(options)) + options


MAX_EDE_TEXT = 96  # RFC 8914 section 6: short, so that no answer is truncated for it


def udp_limit(query: Query) -> int:
    """Return the largest UDP reply to a query, in octets."""
    if query.edns is None:
        return UDP_LIMIT_PLAIN
    return min(max(query.edns.payload, UDP_LIMIT_PLAIN), UDP_LIMIT_EDNS)  # RFC 6891 section 6.2.3


def truncated(query: Query, answer: Answer) -> bytes:
    """Return the reply, but for its ID, that tells a client to ask again over TCP (RFC 2181 section 9)."""
    empty = answer._replace(answers=0, authorities=0)
    reply = bytearray(write_reply(query, empty, b""))
    reply[0] |= TC >> 8
    return bytes(reply)


def write_error(data: bytes, query: Query | None, rcode: int) -> bytes:
    """Return an error reply, but for its ID; without the question where it couldn't be read."""
    if query is not None:
        return write_reply(query, bare(rcode), b"")
    flags = HEADER.unpack_from(data)[1]
    return _COUNTS.pack(QR | RA | flags & (OPCODE_MASK << OPCODE_SHIFT | RD | CD) | rcode, 0, 0, 0, 0)


def bare(rcode: int) -> Answer:
    """Return an answer of a response code and no record."""
    return Answer(rcode, ad=False, answers=0, authorities=0, body=b"", ttls=(), lifetime=0)


def as_servfail(reply: bytes) -> bytes:
    """Return a whole reply's header and question, its response code SERVFAIL, its records gone but for a bare OPT."""
    ident, flags, questions, _, _, additionals = HEADER.unpack_from(reply)
    end = _skip_name(reply, HEADER_LENGTH) + 4 if questions else HEADER_LENGTH
    flags = flags & ~(RCODE_MASK | AD | TC) | SERVFAIL
    opt = _ASK_OPT[False] if additionals else b""  # RFC 6891 section 6.1.1
    return HEADER.pack(ident, flags, questions, 0, 0, additionals) + reply[HEADER_LENGTH:end] + opt


# RFC 6891 section 6.1.2: an OPT record that offers 1232 octets, with and without DO.
_ASK_OPT = {do: b"\0" + _RECORD.pack(TYPE_OPT, UDP_LIMIT_EDNS, DO if do else 0, 0) for do in (False, True)}


def write_upstream_query(question: bytes, *, do: bool, cd: bool) -> bytes:
    """Return the query to an upstream, but for its ID."""
    flags = RD | AD | (CD if cd else 0)
    return _COUNTS.pack(flags, 1, 0, 0, 1) + question + _ASK_OPT[do]
