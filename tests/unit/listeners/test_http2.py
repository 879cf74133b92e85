"""DNS over HTTP/2 as a transcript; h2's client speaks to ours."""

import gc
import weakref
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

import dns.message
import h2.events
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame, RstStreamFrame

from resolver.listeners.framing import NEVER, Message
from resolver.listeners.http2 import CONNECTION_WINDOW, MOST_STREAMS, PATIENCE, STREAM_WINDOW, Http2

QUERY = dns.message.make_query("www.example", "A", id=0).to_wire()
ANSWER = dns.message.make_response(dns.message.from_wire(QUERY)).to_wire()
TARGET = "/dns-query?dns=" + urlsafe_b64encode(QUERY).rstrip(b"=").decode()
DNS = ("content-type", "application/dns-message")
HEAD = [(":method", "GET"), (":scheme", "https"), (":authority", "dns.example")]


@dataclass
class Client:
    """The other end: what it wrote goes to the framing, and what that wrote comes back as events."""

    framing: Http2 = field(default_factory=Http2)
    now: float = 1.0
    events: list[h2.events.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Bring the octets of both sides to the other."""
        self.framing.receive(self.h2.data_to_send(), self.now)
        self.hear()

    def hear(self) -> None:
        self.events += self.h2.receive_data(self.framing.output())

    def get(self, target: str = TARGET, method: str = "GET") -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(":method", method), *HEAD[1:], (":path", target)], end_stream=True)
        return stream

    def post(self, body: bytes | None = QUERY, *fields: tuple[str, str], target: str = "/dns-query") -> int:
        """Begin a request with a body; None: it is yet to come."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(":method", "POST"), *HEAD[1:], (":path", target), *(fields or (DNS,))])
        if body is not None:
            self.h2.send_data(stream, body, end_stream=True)
        return stream

    def heard(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def status(self, stream: int) -> int:
        (head,) = [event for event in self.heard(h2.events.ResponseReceived) if event.stream_id == stream]
        return int(dict(head.headers)[b":status"])

    def body(self, stream: int) -> bytes:
        return b"".join(event.data for event in self.heard(h2.events.DataReceived) if event.stream_id == stream)

    @property
    def goodbye(self) -> int | None:
        """Return the error code of the GOAWAY that came."""
        found = self.heard(h2.events.ConnectionTerminated)
        return found[0].error_code if found else None


def whole(framing: Http2) -> list[Message]:
    return list(iter(framing.next_message, None))


def test_streams_are_answered_as_they_finish() -> None:
    client = Client()
    streams = [client.get(), client.post(), client.get()]
    client.flush()
    assert whole(client.framing) == [Message(QUERY, stream) for stream in streams]
    for stream in reversed(streams):
        client.framing.reply(stream, ANSWER + bytes([stream]))
    client.hear()
    assert [event.stream_id for event in client.heard(h2.events.StreamEnded)] == streams[::-1]
    for stream in streams:
        assert client.status(stream) == 200
        assert client.body(stream) == ANSWER + bytes([stream])
    assert client.goodbye is None


def test_octet_by_octet_a_request_is_the_same() -> None:
    client = Client()
    client.post()
    for octet in client.h2.data_to_send():
        assert client.framing.next_message() is None
        client.framing.receive(bytes([octet]), client.now)
    assert whole(client.framing) == [Message(QUERY, 1)]


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        ("/dns-query", "GET", 400),
        ("/dns-query?dns=AAAA", "GET", 400),
        ("/elsewhere", "GET", 404),
        (TARGET, "HEAD", 405),
        (TARGET, "PATCH", 405),
        ("/dns-query", "POST", 415),
        ("/dns-query?dns=" + "A" * 9000, "GET", 414),
    ],
)
def test_a_request_without_a_query_is_refused_and_others_are_not(target: str, method: str, status: int) -> None:
    client = Client()
    refused, sound = client.get(target, method), client.get()
    client.flush()
    assert client.status(refused) == status
    assert whole(client.framing) == [Message(QUERY, sound)]


def test_what_is_refused_by_its_head_is_told_at_once_and_its_body_thrown_away() -> None:
    client = Client()
    stream = client.post(None, ("content-type", "text/plain"))
    client.flush()
    assert client.status(stream) == 415
    for _ in range(20):
        client.h2.send_data(stream, bytes(14_000))
        client.flush()
    assert client.framing.begun == 1.0
    client.h2.send_data(stream, b"", end_stream=True)
    client.flush()
    assert client.framing.begun == NEVER
    assert client.heard(h2.events.StreamReset) == []
    assert client.goodbye is None


@pytest.mark.parametrize("fields", [(DNS,), (DNS, ("content-length", "70000"))])
def test_a_body_that_is_too_large_is_refused(fields: tuple[tuple[str, str], ...]) -> None:
    client = Client()
    stream = client.post(None, *fields)
    left = 70_000
    while left:
        octets = min(14_000, left, client.h2.local_flow_control_window(stream))
        client.h2.send_data(stream, bytes(octets))
        client.flush()
        left -= octets
    client.h2.end_stream(stream)
    client.flush()
    assert client.status(stream) == 413
    assert client.heard(h2.events.StreamReset) == []
    assert client.goodbye is None
    assert whole(client.framing) == []


def test_the_longest_body_is_taken_and_its_windows_are_opened_again() -> None:
    """More bodies than the connection's window holds, one after the other."""
    client = Client()
    body = QUERY + bytes(65_535 - len(QUERY))
    for _ in range(2 * CONNECTION_WINDOW // len(body) + 1):
        stream = client.post(None)
        for start in range(0, len(body), 16_384):
            client.h2.send_data(stream, body[start : start + 16_384], end_stream=start + 16_384 >= len(body))
            client.flush()
        assert whole(client.framing) == [Message(body, stream)]
        client.framing.reply(stream, ANSWER)


def test_bodies_that_arent_whole_are_bounded_by_the_windows() -> None:
    client = Client()
    sent = 0
    for _ in range(MOST_STREAMS):
        stream = client.post(None)
        octets = min(client.h2.local_flow_control_window(stream), 16_384)
        sent += octets
        if octets:
            client.h2.send_data(stream, bytes(octets))
        client.flush()
    assert sent == CONNECTION_WINDOW
    assert client.h2.remote_settings.initial_window_size == STREAM_WINDOW


def test_an_answer_waits_for_its_windows() -> None:
    """RFC 9113 section 5.2, of the stream and of the connection."""
    client = Client()
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    stream = client.get()
    client.flush()
    client.framing.reply(stream, ANSWER)
    client.hear()
    assert client.body(stream) == ANSWER[:10]
    assert client.framing.held == len(ANSWER) - 10
    client.h2.increment_flow_control_window(5, stream)
    client.flush()
    assert client.body(stream) == ANSWER[:15]
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
    client.flush()
    assert client.body(stream) == ANSWER
    assert client.framing.held == 0
    assert [event.stream_id for event in client.heard(h2.events.StreamEnded)] == [stream]


def test_a_large_answer_is_cut_into_frames_and_waits_for_the_connection() -> None:
    client = Client()
    streams = [client.get(), client.get()]
    client.flush()
    for stream in streams:
        client.framing.reply(stream, bytes(60_000))
    client.hear()
    assert client.framing.held == 120_000 - 65_535
    client.h2.increment_flow_control_window(100_000)
    client.flush()
    assert [client.body(stream) for stream in streams] == [bytes(60_000)] * 2


@pytest.mark.parametrize("when", ["at once", "later", "while it is held"])
def test_the_answer_to_a_stream_that_was_reset_is_dropped(when: str) -> None:
    client = Client()
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    reset, other = client.get(), client.get()
    if when != "at once":
        client.flush()
    if when == "while it is held":
        client.framing.reply(reset, ANSWER)
    client.h2.reset_stream(reset, ErrorCodes.CANCEL)
    client.h2.increment_flow_control_window(1000, other)
    client.flush()
    assert whole(client.framing) == [Message(QUERY, reset), Message(QUERY, other)]
    client.framing.reply(reset, ANSWER)
    client.framing.reply(other, ANSWER)
    client.hear()
    assert client.body(reset) == b""
    assert client.body(other) == ANSWER
    assert client.framing.held == 0
    assert client.goodbye is None


def test_a_refusal_of_a_stream_that_was_reset_hurts_nobody() -> None:
    client = Client()
    refused = client.post(None, ("content-type", "text/plain"))
    client.h2.reset_stream(refused)
    sound = client.get()
    client.flush()
    assert whole(client.framing) == [Message(QUERY, sound)]
    assert client.goodbye is None
    assert not client.framing.is_over


@pytest.mark.parametrize("flood", ["pings", "settings", "resets", "unfinished", "goodbyes"])
def test_a_flood_of_frames_that_ask_for_nothing_is_ended(flood: str) -> None:
    """Rapid reset is CVE-2023-44487."""
    client = Client()
    for number in range(PATIENCE + 2):
        if client.framing.is_over:
            break
        if flood == "pings":
            client.h2.ping(number.to_bytes(8, "big"))
        elif flood == "goodbyes":
            if number == 0:
                client.post(None)
            client.framing.receive(GoAwayFrame(0).serialize(), client.now)
        elif flood == "settings":
            client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000 + number})
        elif flood == "resets":
            client.h2.reset_stream(client.get())
        elif number == 0:
            stream = client.post(None)
        else:
            client.h2.send_data(stream, b"a")
        client.framing.receive(client.h2.data_to_send(), client.now)
        for message in whole(client.framing):
            client.framing.reply(message.target, ANSWER)
    assert client.framing.is_over
    client.hear()
    assert client.goodbye == ErrorCodes.ENHANCE_YOUR_CALM


def test_a_client_that_asks_may_go_on_for_long() -> None:
    """What sound clients send along with a request is none of a flood."""
    client = Client()
    for _ in range(3 * PATIENCE):
        stream = client.post()
        client.h2.ping(bytes(8))
        client.flush()
        (message,) = whole(client.framing)
        client.framing.reply(message.target, ANSWER)
        client.hear()
        client.h2.increment_flow_control_window(len(ANSWER))
    assert client.body(stream) == ANSWER
    assert client.goodbye is None
    assert len(client.framing._connection._closed_streams) == client.framing._connection.MAX_CLOSED_STREAMS


def test_a_stream_more_than_there_may_be_is_refused_and_the_others_are_answered() -> None:
    """RFC 9113 section 5.1.2: it may be sent again."""
    client = Client()
    assert client.h2.remote_settings.max_concurrent_streams == MOST_STREAMS
    client.h2.remote_settings.update({SettingCodes.MAX_CONCURRENT_STREAMS: 1000})
    client.h2.remote_settings.acknowledge()
    streams = [client.get() for _ in range(MOST_STREAMS)]
    refused = [client.get(), client.post(), client.get("/elsewhere")]
    client.flush()
    client.h2.remote_settings.acknowledge()
    assert [message.target for message in whole(client.framing)] == streams
    resets = {event.stream_id: event.error_code for event in client.heard(h2.events.StreamReset)}
    assert resets == dict.fromkeys(refused, ErrorCodes.REFUSED_STREAM)
    for stream in streams:
        client.framing.reply(stream, ANSWER)
    client.hear()
    again = client.get()
    client.flush()
    assert whole(client.framing) == [Message(QUERY, again)]
    assert [client.status(stream) for stream in streams] == [200] * MOST_STREAMS
    assert client.goodbye is None


@pytest.mark.parametrize("code", [ErrorCodes.NO_ERROR, ErrorCodes.ENHANCE_YOUR_CALM])
@pytest.mark.parametrize("when", ["with the request", "later", "before its body", "while its answer is held"])
def test_a_client_that_goes_gets_the_answers_that_it_waits_for(when: str, code: ErrorCodes) -> None:
    """RFC 9113 section 6.8: what was asked before is finished, then the connection ends."""
    client = Client()
    framing = client.framing
    goaway = GoAwayFrame(0, error_code=code).serialize()
    if when == "while its answer is held":
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
        client.flush()
    stream = client.post(None if when == "before its body" else QUERY)
    if when == "with the request":
        framing.receive(client.h2.data_to_send() + goaway, client.now)
    client.flush()
    if when in {"later", "before its body"}:
        framing.receive(goaway, client.now)
    if when == "before its body":
        assert not framing.is_over
        client.h2.send_data(stream, QUERY, end_stream=True)
        client.flush()
    assert whole(framing) == [Message(QUERY, stream)]
    assert not framing.is_over
    framing.reply(stream, ANSWER)
    client.hear()
    if when == "while its answer is held":
        framing.receive(goaway, client.now)
        assert not framing.is_over
        client.h2.increment_flow_control_window(1000, stream)
        client.flush()
    assert client.body(stream) == ANSWER
    assert framing.is_over
    assert client.goodbye is None
    framing.close()
    client.hear()
    assert client.goodbye == ErrorCodes.NO_ERROR


def test_a_client_that_goes_and_waits_for_nothing_is_let_go_at_once() -> None:
    client = Client()
    reset = client.get()
    client.flush()
    client.framing.receive(GoAwayFrame(0).serialize(), client.now)
    assert not client.framing.is_over
    client.h2.reset_stream(reset)
    client.flush()
    assert not client.framing.is_over, "its query reached us: it is still to be handed on"
    assert whole(client.framing) == [Message(QUERY, reset)]
    assert client.framing.is_over


def test_fields_that_are_too_many_end_the_connection() -> None:
    client = Client()
    client.h2.send_headers(1, [*HEAD, (":path", TARGET), *((f"x-{n}", "a" * 100) for n in range(200))])
    client.flush()
    assert client.goodbye == ErrorCodes.ENHANCE_YOUR_CALM
    assert client.framing.is_over


def test_a_request_begins_with_its_head_and_the_oldest_counts() -> None:
    client = Client()
    assert client.framing.begun == NEVER
    first = client.post(None)
    client.flush()
    client.now = 5.0
    client.post(None)
    client.get()
    client.flush()
    assert client.framing.begun == 1.0
    client.h2.send_data(first, QUERY, end_stream=True)
    client.flush()
    assert client.framing.begun == 5.0


def test_at_the_end_it_says_which_request_was_the_last() -> None:
    client = Client()
    stream = client.get()
    client.flush()
    client.framing.close()
    client.hear()
    (event,) = client.heard(h2.events.ConnectionTerminated)
    assert (event.error_code, event.last_stream_id) == (ErrorCodes.NO_ERROR, stream)
    assert client.framing.is_over
    client.framing.reply(stream, ANSWER)
    client.framing.close()
    assert client.framing.output() == b""


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\n\r\n", bytes(100)])
def test_what_is_no_http2_is_told_so(octets: bytes) -> None:
    framing = Http2()
    framing.receive(octets, 1.0)
    assert framing.is_over
    assert framing.next_message() is None


def test_a_reset_of_a_stream_that_never_was_ends_the_connection() -> None:
    client = Client()
    client.framing.receive(RstStreamFrame(stream_id=7).serialize(), 1.0)
    client.hear()
    assert client.framing.is_over
    assert client.goodbye == ErrorCodes.PROTOCOL_ERROR


def test_released_it_is_gone_without_the_collector() -> None:
    gc.disable()
    try:
        framing = Http2()
        gone = weakref.ref(framing._connection)
        framing.release()
        del framing
        assert gone() is None
    finally:
        gc.enable()
