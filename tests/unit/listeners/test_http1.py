"""DNS over HTTP/1.1 as a transcript; h11's client reads what we write."""

from base64 import urlsafe_b64encode
from dataclasses import dataclass, field

import dns.message
import h11
import pytest

from resolver.listeners.framing import NEVER, Message
from resolver.listeners.http1 import Http1

QUERY = dns.message.make_query("www.example", "A", id=0).to_wire()
ANSWER = dns.message.make_response(dns.message.from_wire(QUERY)).to_wire()
GET = b"GET /dns-query?dns=" + urlsafe_b64encode(QUERY).rstrip(b"=") + b" HTTP/1.1\r\nHost: dns.example\r\n\r\n"
POST = (
    b"POST /dns-query HTTP/1.1\r\nHost: dns.example\r\nContent-Type: application/dns-message\r\n"
    b"Content-Length: %d\r\n\r\n" % len(QUERY)
) + QUERY


@dataclass
class Response:
    status: int
    fields: dict[bytes, bytes]
    body: bytes


@dataclass
class Client:
    """The other end."""

    framing: Http1 = field(default_factory=Http1)
    now: float = 1.0

    def send(self, data: bytes) -> Message | None:
        self.framing.receive(data, self.now)
        return self.framing.next_message()

    def responses(self, *methods: str) -> list[Response]:
        """Read the responses to requests of these methods."""
        octets, found = self.framing.output(), []
        for method in methods:
            reader = h11.Connection(h11.CLIENT)
            reader.send(h11.Request(method=method, target="/", headers=[("Host", "dns.example")]))
            reader.send(h11.EndOfMessage())
            reader.receive_data(octets)
            head, body = reader.next_event(), b""
            assert isinstance(head, h11.Response), octets
            while isinstance(event := reader.next_event(), h11.Data):
                body += event.data
            assert isinstance(event, h11.EndOfMessage)
            octets = reader.trailing_data[0]
            found.append(Response(head.status_code, dict(head.headers), body))
        assert octets == b""
        return found

    def refused(self, request: bytes, method: str = "GET") -> Response:
        """Send what reaches no engine; return the response."""
        assert self.send(request) is None
        (response,) = self.responses(method)
        return response


@pytest.mark.parametrize("request_", [GET, POST])
def test_a_request_is_answered_and_the_next_one_may_follow(request_: bytes) -> None:
    client = Client()
    for _ in range(3):
        assert client.send(request_) == Message(QUERY, None)
        client.framing.reply(None, ANSWER)
        (response,) = client.responses("GET")
        assert (response.status, response.body) == (200, ANSWER)
        assert response.fields[b"content-type"] == b"application/dns-message"
        assert client.framing.begun == NEVER
    assert not client.framing.is_over


def test_a_request_may_come_octet_by_octet() -> None:
    client = Client()
    found = [client.send(bytes([octet])) for octet in POST]
    assert found == [None] * (len(POST) - 1) + [Message(QUERY, None)]


def test_requests_in_one_piece_are_answered_one_by_one() -> None:
    """RFC 9112 section 9.3.2."""
    client = Client()
    assert client.send(POST + GET + GET) == Message(QUERY, None)
    for _ in range(2):
        assert client.framing.next_message() is None
        client.framing.reply(None, ANSWER)
        assert client.framing.next_message() == Message(QUERY, None)
    client.framing.reply(None, ANSWER)
    assert client.framing.next_message() is None
    assert [response.body for response in client.responses("GET", "GET", "GET")] == [ANSWER] * 3


@pytest.mark.parametrize("fields", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_body_may_come_in_chunks_and_a_refusal_keeps_the_connection(fields: bytes) -> None:
    client = Client()
    body = {b"": b"", b"Content-Length: 5\r\n": b"12345"}.get(fields, b"3\r\n123\r\n2\r\n45\r\n0\r\n\r\n")
    response = client.refused(b"POST /elsewhere HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n" + body, "POST")
    assert response.status == 404
    assert not client.framing.is_over
    chunked = POST.replace(b"Content-Length: %d" % len(QUERY), b"Transfer-Encoding: chunked").removesuffix(QUERY)
    assert client.send(chunked + b"%x\r\n" % len(QUERY) + QUERY + b"\r\n0\r\n\r\n") == Message(QUERY, None)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET.replace(b"?dns=", b"?name="), 400),
        (GET.replace(b"/dns-query", b"/"), 404),
        (GET.replace(b"GET", b"DELETE"), 405),
        (POST.replace(b"application/dns-message", b"text/plain"), 415),
        (POST.replace(b"Host: dns.example\r\n", b""), 400),
        (b"\x16\x03\x01\x00\xff\r\n\r\n", 400),
        (GET.replace(b"?dns=", b"?dns=" + b"A" * 9000), 414),
        (b"GET /dns-query?dns=" + b"A" * 40_000, 414),
        (GET.removesuffix(b"\r\n") + b"X: " + b"A" * 40_000, 431),
    ],
)
def test_a_request_without_a_query_is_refused(request_: bytes, status: int) -> None:
    assert Client().refused(request_).status == status


def test_head_is_told_what_is_allowed() -> None:
    response = Client().refused(GET.replace(b"GET", b"HEAD"), "HEAD")
    assert (response.status, response.fields[b"allow"]) == (405, b"GET, POST")


def test_a_body_that_is_too_large_is_refused_before_it_came() -> None:
    client = Client()
    request = POST.replace(b"Content-Length: %d" % len(QUERY), b"Content-Length: 65536").removesuffix(QUERY)
    response = client.refused(request, "POST")
    assert (response.status, response.fields[b"connection"]) == (413, b"close")
    assert client.framing.is_over


def test_a_body_of_unknown_length_is_refused_once_it_is_too_large() -> None:
    client = Client()
    assert client.send(POST.split(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n") is None
    for _ in range(64):
        assert client.send(b"400\r\n" + bytes(1024) + b"\r\n") is None
    assert [response.status for response in client.responses("POST")] == [413]
    assert client.framing.is_over


def test_who_waits_for_a_word_before_the_body_gets_it() -> None:
    """RFC 9110 section 10.1.1."""
    client = Client()
    head = POST.removesuffix(QUERY).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    assert client.send(head) is None
    assert client.framing.output().startswith(b"HTTP/1.1 100 ")
    assert client.send(QUERY) == Message(QUERY, None)
    refused = Client().refused(head.replace(b"/dns-query", b"/elsewhere"), "POST")
    assert (refused.status, refused.fields[b"connection"]) == (404, b"close")


@pytest.mark.parametrize(
    "request_", [GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), GET.replace(b"HTTP/1.1", b"HTTP/1.0")]
)
def test_who_wants_no_more_is_answered_and_left(request_: bytes) -> None:
    client = Client()
    assert client.send(request_) == Message(QUERY, None)
    assert not client.framing.is_over
    client.framing.reply(None, ANSWER)
    assert [response.body for response in client.responses("GET")] == [ANSWER]
    assert client.framing.is_over


def test_a_request_begins_with_its_first_octet() -> None:
    client = Client()
    client.send(POST[:10])
    client.now = 5.0
    client.send(POST[10:20])
    assert client.framing.begun == 1.0
    client.send(POST[20:] + POST[:5])
    client.framing.reply(None, ANSWER)
    assert client.framing.begun == 5.0
