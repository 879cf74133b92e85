"""DNS over HTTPS (RFC 8484), whatever the version of HTTP: what a request carries, and how long an answer is fresh.

Decides on methods, paths and fields; `http1` and `http2` bring them here and take responses away.
"""

import re
from base64 import urlsafe_b64decode
from email.utils import formatdate
from struct import error as struct_error
from typing import NamedTuple
from urllib.parse import parse_qs

from resolver import wire
from resolver.wire import RECORD, TTL

PATH = b"/dns-query"
MEDIA_TYPE = b"application/dns-message"  # RFC 8484 section 6
LONGEST_TARGET = 8192  # octets: RFC 9110 section 4.1 asks for 8,000
MOST_FIELDS = 16  # in a URL's query

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)

Fields = list[tuple[bytes, bytes]]


class RefusedError(Exception):
    """The client's request carries no query: a status code, and what goes with it."""

    def __init__(self, status: int, *fields: tuple[bytes, bytes]) -> None:
        self.status = status
        self.fields: Fields = [*fields, (b"content-length", b"0")]
        super().__init__(status)


class Head(NamedTuple):
    """A request but for its body."""

    method: bytes
    target: bytes
    """The path and the query behind it."""
    content_type: bytes
    content_length: bytes


def check(head: Head) -> None:
    """See what the head alone tells. Raises `RefusedError`."""
    if len(head.target) > LONGEST_TARGET:
        raise RefusedError(414)
    if _path_and_query(head)[0] != PATH:
        raise RefusedError(404)
    if head.method not in {b"GET", b"POST"}:
        raise RefusedError(405, (b"allow", b"GET, POST"))
    if head.method == b"POST":
        if head.content_type.partition(b";")[0].strip().lower() != MEDIA_TYPE:
            raise RefusedError(415)
        if head.content_length.isdigit():
            check_length(int(head.content_length))


def check_length(octets: int) -> None:
    """See whether a body of so many octets may be a message. Raises `RefusedError`."""
    if octets > wire.STREAM_LIMIT:  # RFC 8484 section 6
        raise RefusedError(413)


def query_of(head: Head, body: bytes) -> bytes:
    """Return the DNS query that a request carries, whose head was checked. Raises `RefusedError`."""
    data = body if head.method == b"POST" else _from_target(head)
    if not wire.is_query(data):
        raise RefusedError(400)
    return data


def _path_and_query(head: Head) -> tuple[bytes, bytes]:
    target = head.target
    absolute = _ABSOLUTE.match(target)  # RFC 9112 section 3.2.2
    path, _, query = target[absolute.end() if absolute else 0 :].partition(b"?")
    return path, query


def _from_target(head: Head) -> bytes:
    """Return what ``?dns=`` holds, in base64url without padding (RFC 8484 section 4.1 and 6)."""
    try:
        fields = parse_qs(_path_and_query(head)[1].decode("ascii"), max_num_fields=MOST_FIELDS)
        (text,) = fields["dns"]
    except (ValueError, KeyError):  # not ASCII, too many fields, none, or more than one
        raise RefusedError(400) from None
    if _BASE64URL.fullmatch(text) is None or len(text) % 4 == 1:
        raise RefusedError(400)
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def answer_fields(reply: bytes) -> Fields:
    """Return the header fields of the response that carries a DNS reply."""
    seconds = freshness(reply)
    return [
        (b"date", formatdate(usegmt=True).encode()),  # RFC 9110 section 6.6.1
        (b"content-type", MEDIA_TYPE),
        (b"content-length", b"%d" % len(reply)),
        (b"cache-control", b"no-store" if seconds is None else b"max-age=%d" % seconds),
    ]


def freshness(reply: bytes) -> int | None:
    """Return for how many seconds a reply may be kept (RFC 8484 section 5.1); None: not at all.

    That is the smallest TTL of its answers, or what the SOA record of a negative one says (RFC 2308 section 5).
    """
    _, flags, questions, answers, authorities, _ = wire.HEADER.unpack_from(reply)
    if flags & wire.RCODE_MASK not in {wire.NOERROR, wire.NXDOMAIN} or flags & wire.TC:
        return None
    ttls = []
    try:
        position = wire.HEADER_LENGTH
        for _ in range(questions):
            position = wire.skip_name(reply, position) + 4
        for number in range(answers + authorities):
            position = wire.skip_name(reply, position)
            rtype, _, ttl, length = RECORD.unpack_from(reply, position)
            position += RECORD.size + length
            if number < answers:
                ttls.append(ttl)
            elif rtype == wire.TYPE_SOA:
                ttls.append(min(ttl, TTL.unpack_from(reply, position - TTL.size)[0]))
    except (IndexError, struct_error, wire.MalformedQueryError):
        return None
    return None if position > len(reply) else min(ttls, default=None)
