"""Which HTTP requests carry a query, and how long an answer is fresh: RFC 8484."""

from base64 import urlsafe_b64encode
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.listeners import doh
from resolver.listeners.doh import Head, RefusedError

QUERY = dns.message.make_query("www.example", "A", id=0).to_wire()
TEXT = urlsafe_b64encode(QUERY).rstrip(b"=")
DNS = b"application/dns-message"


def get(target: bytes = b"/dns-query?dns=" + TEXT, method: bytes = b"GET") -> Head:
    return Head(method, target, b"", b"")


def post(content_type: bytes = DNS, length: bytes = b"", target: bytes = b"/dns-query") -> Head:
    return Head(b"POST", target, content_type, length)


def query_of(head: Head, body: bytes = b"") -> bytes:
    doh.check(head)
    return doh.query_of(head, body)


@pytest.mark.parametrize(
    "head",
    [
        get(),
        get(b"/dns-query?ct=application/dns-message&dns=" + TEXT),
        get(b"https://dns.example/dns-query?dns=" + TEXT),
        get(b"/dns-query?dns=" + TEXT.replace(b"A", b"%41")),
    ],
)
def test_get_carries_it_in_the_url(head: Head) -> None:
    assert query_of(head) == QUERY


@pytest.mark.parametrize("content_type", [DNS, b"Application/DNS-Message", b"application/dns-message ;charset=utf-8"])
def test_post_carries_it_in_the_body(content_type: bytes) -> None:
    assert query_of(post(content_type), QUERY) == QUERY
    assert query_of(post(content_type, b"65535"), QUERY + bytes(65_535 - len(QUERY)))[:12] == QUERY[:12]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (get(b"/"), 404),
        (get(b"/dns-query/?dns=" + TEXT), 404),
        (get(b"*", b"OPTIONS"), 404),
        (get(b"dns.example:443", b"CONNECT"), 404),
        (get(method=b"HEAD"), 405),
        (get(method=b"PUT"), 405),
        (get(method=b"get"), 405),
        (post(b"text/plain"), 415),
        (post(b""), 415),
        (post(DNS, b"65536"), 413),
        (get(b"/dns-query?dns=" + b"A" * 8192), 414),
    ],
)
def test_the_head_alone_may_be_enough_to_refuse(head: Head, status: int) -> None:
    with pytest.raises(RefusedError) as refused:
        doh.check(head)
    assert refused.value.status == status
    assert ((b"allow", b"GET, POST") in refused.value.fields) == (status == 405)


ANSWER = dns.message.make_response(dns.message.from_wire(QUERY)).to_wire()


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"?",
        b"?dns",
        b"?dns=",
        b"?DNS=" + TEXT,
        b"?dns=" + TEXT + b"&dns=" + TEXT,
        b"?dns=" + TEXT + b"=",
        b"?dns=" + TEXT[:-1] + b"+",
        b"?dns=" + TEXT[:-2] + b"%00",
        b"?dns=\xff",
        b"?dns=" + b"A" * 15,
        b"?dns=" + b"A" * 17,
        b"?" + b"a=b&" * 40 + b"dns=" + TEXT,
        b"?dns=" + urlsafe_b64encode(ANSWER).rstrip(b"="),
    ],
)
def test_what_is_no_query_in_the_url_is_a_bad_request(query: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        query_of(get(b"/dns-query" + query))
    assert refused.value.status == 400


@pytest.mark.parametrize("body", [b"", b"\0" * 11, ANSWER])
def test_what_is_no_query_in_the_body_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        query_of(post(), body)
    assert refused.value.status == 400


@given(st.binary(max_size=60), st.binary(max_size=20), st.binary(max_size=20))
def test_any_request_is_a_query_or_refused(target: bytes, content_type: bytes, body: bytes) -> None:
    for head in (get(b"/dns-query?dns=" + target), get(target), post(content_type, target=target), post(length=target)):
        with suppress(RefusedError):
            assert len(query_of(head, body)) >= 12


def reply(*answers: str, authority: str = "", rcode: str = "NOERROR", flags: int = 0) -> bytes:
    response = dns.message.make_response(dns.message.from_wire(QUERY))
    response.set_rcode(dns.rcode.from_text(rcode))
    response.flags |= flags
    for section, lines in ((response.answer, answers), (response.authority, [authority] if authority else [])):
        for line in lines:
            name, ttl, rdtype, rdata = line.split(maxsplit=3)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", rdtype, rdata))
    return response.to_wire()


A = "www.example. 300 A 192.0.2.1"
SOA = "example. 900 SOA ns.example. admin.example. 1 2 3 4 60"


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        (reply(A), 300),
        (reply("www.example. 20 CNAME a.example.", "a.example. 300 A 192.0.2.1"), 20),
        (reply("www.example. 0 A 192.0.2.1"), 0),
        (reply(A, authority="example. 5 NS ns.example."), 300),
        (reply(authority=SOA, rcode="NXDOMAIN"), 60),
        (reply(authority=SOA.replace(" 900 ", " 30 ")), 30),
        (reply("www.example. 300 CNAME a.example.", authority=SOA), 60),
        (reply(), None),
        (reply(authority="example. 5 NS ns.example."), None),
        (reply(A, rcode="SERVFAIL"), None),
        (reply(rcode="REFUSED", authority=SOA), None),
        (reply(A, flags=dns.flags.TC), None),
        (reply(A)[:-1], None),
        (reply(A).replace(b"\x03www", b"\x43www"), None),  # RFC 6891 section 5: no such kind of label
    ],
)
def test_an_answer_is_fresh_for_its_smallest_ttl(message: bytes, seconds: int | None) -> None:
    """RFC 8484 section 5.1; of a negative answer RFC 2308 section 5."""
    assert doh.freshness(message) == seconds


def test_an_answer_says_what_it_is_and_how_long_it_is_fresh() -> None:
    message = reply(A)
    fields: Any = dict(doh.answer_fields(message))
    assert parsedate_to_datetime(fields.pop(b"date").decode()).utcoffset() is not None
    assert fields == {
        b"content-type": DNS,
        b"content-length": str(len(message)).encode(),
        b"cache-control": b"max-age=300",
    }
    assert dict(doh.answer_fields(reply(rcode="SERVFAIL")))[b"cache-control"] == b"no-store"


@given(st.binary(min_size=12, max_size=100))
def test_whatever_a_reply_holds_its_freshness_is_told(message: bytes) -> None:
    seconds = doh.freshness(message)
    assert seconds is None or seconds >= 0
