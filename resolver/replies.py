"""Replies as octets: what is answered, and how it is written for the client that asked.

Knows what was read of the query, and nothing of where the answer comes from.
"""

from typing import NamedTuple

from resolver.wire import (
    AD,
    BARE_OPT,
    CD,
    COUNTS,
    DO,
    EMPTY_OPT_LENGTH,
    HEADER,
    HEADER_LENGTH,
    OPCODE_BITS,
    OPTION,
    OPTION_EDE,
    OPTION_KEEPALIVE,
    OPTION_PADDING,
    QR,
    RA,
    RCODE_MASK,
    RD,
    RECORD,
    SERVFAIL,
    STREAM_LIMIT,
    TC,
    TYPE_OPT,
    UDP_LIMIT_EDNS,
    UDP_LIMIT_PLAIN,
    Edns,
    Query,
    skip_name,
)

MAX_EDE_TEXT = 96  # RFC 8914 section 6: short, so that no answer is truncated for it
PADDED_TO = 468  # octets: RFC 8467 section 4.1
_RESPONSE, _ECHOED = QR | RA, OPCODE_BITS | RD | CD  # what every reply has, and what it has of its query


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
    targets: tuple[str, ...] = ()
    """Other names that it leads to: aliases' and services' targets, as text in lower case."""
    is_stripped: bool = False
    """Whether private addresses were taken out, and none is left."""


def write_reply(query: Query, answer: Answer, opt: bytes) -> bytes:
    """Return a reply but for its 2-octet ID: the question in lower case, the answer's records, and its OPT if any."""
    flags = _RESPONSE | query.flags & _ECHOED | answer.rcode & RCODE_MASK
    # RFC 6840 section 5.8: AD only for a client that shows it knows the bit.
    if answer.ad and (query.flags & AD or (query.edns is not None and query.edns.do)):
        flags |= AD
    head = COUNTS.pack(flags, 1, answer.answers, answer.authorities, 1 if opt else 0)
    return b"".join((head, query.folded, answer.body, opt))


def opt_record(edns: Edns, rcode: int, ede: tuple[int, str] | None) -> bytes:
    """Return the OPT record of a reply to a query that has one."""
    if ede is None and rcode <= RCODE_MASK:
        return BARE_OPT[edns.do]
    options = b""
    if ede is not None:
        code, text = ede
        extra = text.encode()[:MAX_EDE_TEXT].decode(errors="ignore").encode()  # RFC 8914 section 2: whole characters
        options = OPTION.pack(OPTION_EDE, 2 + len(extra)) + code.to_bytes(2, "big") + extra
    ttl = rcode >> 4 << 24 | (DO if edns.do else 0)
    return b"\0" + RECORD.pack(TYPE_OPT, UDP_LIMIT_EDNS, ttl, len(options)) + options


def with_options(reply: bytes, opt_length: int, *, keepalive: int | None, padded: bool) -> bytes:
    """Return a reply (but for its ID) whose last so many octets are its OPT record, with more options in it.

    `keepalive` is how long a connection may be idle, in units of 100 ms (RFC 7828 section 3.1).
    """
    options = reply[len(reply) - opt_length + EMPTY_OPT_LENGTH :]
    room = STREAM_LIMIT - 2 - len(reply)  # what doesn't fit is left out: the answer goes first
    if keepalive is not None and room >= OPTION.size + 2:
        options += OPTION.pack(OPTION_KEEPALIVE, 2) + keepalive.to_bytes(2, "big")
        room -= OPTION.size + 2
    if padded and room >= OPTION.size:  # RFC 8467 section 4.1: the whole message, its ID included
        room -= OPTION.size
        octets = min(-(STREAM_LIMIT - room) % PADDED_TO, room)
        options += OPTION.pack(OPTION_PADDING, octets) + bytes(octets)
    head = reply[: len(reply) - opt_length + EMPTY_OPT_LENGTH - 2]
    return head + len(options).to_bytes(2, "big") + options


def udp_limit(query: Query) -> int:
    """Return the largest UDP reply to a query, in octets."""
    if query.edns is None:
        return UDP_LIMIT_PLAIN
    return min(max(query.edns.payload, UDP_LIMIT_PLAIN), UDP_LIMIT_EDNS)  # RFC 6891 section 6.2.3


def truncated(query: Query, rcode: int, opt: bytes) -> bytes:
    """Return the reply, but for its ID, that tells a client to ask again over TCP (RFC 2181 section 9)."""
    reply = bytearray(write_reply(query, bare(rcode), opt))
    reply[0] |= TC >> 8
    return bytes(reply)


def write_error(data: bytes, rcode: int, question: bytes = b"", opt: bytes = b"") -> bytes:
    """Return an error reply to a query that can't be read, but for its ID: with the question and an OPT, if any."""
    flags = _RESPONSE | HEADER.unpack_from(data)[1] & _ECHOED | rcode
    return COUNTS.pack(flags, 1 if question else 0, 0, 0, 1 if opt else 0) + question + opt


def bare(rcode: int) -> Answer:
    """Return an answer of a response code and no record."""
    return Answer(rcode, ad=False, answers=0, authorities=0, body=b"", ttls=(), lifetime=0)


def as_servfail(reply: bytes) -> bytes:
    """Return a whole reply's header and question, its response code SERVFAIL, its records gone but for a bare OPT."""
    ident, flags, questions, _, _, additionals = HEADER.unpack_from(reply)
    end = skip_name(reply, HEADER_LENGTH) + 4 if questions else HEADER_LENGTH
    flags = flags & ~(RCODE_MASK | AD | TC) | SERVFAIL
    opt = BARE_OPT[False] if additionals else b""  # RFC 6891 section 6.1.1
    return HEADER.pack(ident, flags, questions, 0, 0, additionals) + reply[HEADER_LENGTH:end] + opt
