"""Queries over HTTP/2 to an upstream, as octets; h2's server side reads what ours writes."""

import dns.message
import pytest
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from resolver.upstreams import https
from resolver.upstreams.conversation import Tried, Try
from resolver.upstreams.http2 import CARELESS_STREAMS, LAST_STREAM
from resolver.upstreams.https import Requests, authority
from setting_values import upstream
from tests.support.fake_https import HttpServer, Manners, go_away
from tests.support.transport_recorder import Asked

URL = "https://192.0.2.1/dns-query#doh.test"


class Server:
    """Both ends, joined."""

    def __init__(self, **settings: int) -> None:
        self.manners = Manners(settings={SettingCodes[name]: value for name, value in settings.items()})
        self.http = HttpServer(self.manners, self._asked)
        self.requests = Requests(upstream(URL))
        self.asked: list[tuple[int, bytes]] = []

    def _asked(self, stream: int, query: bytes) -> None:
        self.asked.append((stream, query))

    def exchange(self) -> list[Tried]:
        """Carry octets both ways until nothing is left to say."""
        outcomes = []
        while (up := self.requests.outgoing()) + (down := self.http.outgoing()):
            if up:
                self.http.receive(up)
            outcomes += self.requests.receive(down)
        return outcomes

    def answer(self, number: int) -> None:
        """Answer so many requests, oldest first."""
        for stream, query in self.asked[:number]:
            self.http.respond(stream, dns.message.make_response(dns.message.from_wire(query)).to_wire())
        del self.asked[:number]


def a_try(name: str = "a.test", at: float = 0.0) -> Try:
    return Try(Asked(name), object(), at)  # type: ignore[arg-type] # what a conversation knows of either


def test_requests_before_the_servers_settings_are_as_many_as_any_should_allow() -> None:
    """RFC 9113 section 6.5.2."""
    server = Server(MAX_CONCURRENT_STREAMS=500)
    tries = [a_try(f"n{number}.test") for number in range(300)]
    assert all(server.requests.ask(one) for one in tries)
    server.http.receive(server.requests.outgoing())
    assert len(server.asked) == CARELESS_STREAMS
    server.exchange()
    assert len(server.asked) == server.requests.waiting == 300


def test_an_answer_makes_room_for_the_next() -> None:
    server = Server(MAX_CONCURRENT_STREAMS=2)
    server.exchange()
    for number in range(5):
        server.requests.ask(a_try(f"n{number}.test"))
    server.exchange()
    assert len(server.asked) == 2
    server.answer(1)
    (outcome,) = server.exchange()
    assert outcome.attempt.exchange.question == dns.message.make_query("n0.test", "A").to_wire()[12:]
    assert len(server.asked) == 2
    assert server.requests.waiting == 4


def test_requests_are_answered_as_they_finish() -> None:
    server = Server()
    tries = [a_try(f"n{number}.test") for number in range(5)]
    for one in tries:
        server.requests.ask(one)
    server.exchange()
    server.asked.reverse()
    server.answer(5)
    assert [outcome.attempt for outcome in server.exchange()] == tries[::-1]


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https, "MAX_QUEUED", 3)
    server = Server(MAX_CONCURRENT_STREAMS=1)
    server.exchange()
    assert [server.requests.ask(a_try()) for _ in range(5)] == [True, True, True, True, False]


def test_what_nobody_waits_for_is_not_sent_when_its_turn_comes() -> None:
    server = Server(MAX_CONCURRENT_STREAMS=1)
    server.exchange()
    tries = [a_try("a.test"), a_try("over.test"), a_try("b.test")]
    for one in tries:
        server.requests.ask(one)
    tries[1].exchange.finished = True
    server.exchange()
    server.answer(1)
    server.exchange()
    assert [dns.message.from_wire(query).question[0].name.to_text() for _, query in server.asked] == ["b.test."]


@pytest.mark.parametrize("window", [1, 10, 100])
def test_bodies_are_sent_as_flow_control_lets_them(window: int) -> None:
    """RFC 9113 section 5.2."""
    server = Server(INITIAL_WINDOW_SIZE=window)
    server.exchange()
    tries = [a_try(f"n{number}.test") for number in range(5)]
    for one in tries:
        server.requests.ask(one)
    server.exchange()
    server.answer(5)
    assert [outcome.attempt for outcome in server.exchange()] == tries


@pytest.mark.parametrize("status", [200, 413])
def test_an_answer_to_half_a_request_ends_it(status: int) -> None:
    """RFC 9113 section 8.1: a server may answer without hearing all; what is left isn't sent."""
    server = Server(INITIAL_WINDOW_SIZE=1)
    server.exchange()
    one = a_try()
    server.requests.ask(one)
    server.http.receive(server.requests.outgoing())
    server.http.outgoing()  # it withholds what would open the window
    server.manners.status = status
    answer = dns.message.make_response(dns.message.from_wire(b"\0\0" + one.exchange.wire(one.server))).to_wire()
    server.http.respond(1, answer if status == 200 else b"")
    (outcome,) = server.exchange()
    assert (outcome.reply, outcome.reason) in {(answer, ""), (None, "it answers with HTTP status 413")}
    assert server.http.cancelled == [1]
    assert server.requests.waiting == 0


def test_go_away_gives_back_what_was_not_looked_at_and_what_was_not_sent() -> None:
    """RFC 9113 section 6.8."""
    server = Server(MAX_CONCURRENT_STREAMS=3)
    server.exchange()
    tries = [a_try(f"n{number}.test") for number in range(5)]
    for one in tries:
        server.requests.ask(one)
    server.exchange()
    outcomes = server.requests.receive(go_away(3))
    assert outcomes == [Tried(one, None, may_go_again=True) for one in tries[2:]]
    assert not server.requests.is_open
    server.answer(2)
    assert [outcome.attempt for outcome in server.exchange()] == tries[:2]
    assert server.requests.waiting == 0
    assert not server.requests.fault


def test_a_server_that_announces_its_end_first_loses_nothing() -> None:
    """RFC 9113 section 6.8: the highest stream first, the real one later."""
    server = Server()
    server.requests.ask(a_try())
    server.exchange()
    assert server.requests.receive(go_away(LAST_STREAM)) == []
    assert (server.requests.is_open, server.requests.waiting) == (False, 1)
    (outcome,) = server.requests.receive(go_away(0))
    assert outcome.may_go_again


def test_the_old_that_are_over_give_their_streams_up() -> None:
    server = Server(MAX_CONCURRENT_STREAMS=3)
    server.exchange()
    tries = [a_try("old.test", 1), a_try("waiting.test", 1), a_try("new.test", 5), a_try("next.test", 6)]
    for one in tries:
        server.requests.ask(one)
    server.exchange()
    tries[0].exchange.finished = tries[2].exchange.finished = True
    server.requests.forget(5)
    server.exchange()
    assert server.http.cancelled == [1]
    assert server.requests.leave() == tries[1:]


def test_what_came_before_a_fault_counts() -> None:
    server = Server()
    one = a_try()
    server.requests.ask(one)
    server.exchange()
    server.answer(1)
    (outcome,) = server.requests.receive(server.http.outgoing() + b"\xff" * 20)
    assert outcome.attempt is one
    assert server.requests.fault == "it broke HTTP/2: a frame is too large"


def test_a_connection_ends_with_its_last_stream() -> None:
    """RFC 9113 section 5.1.1: identifiers aren't used twice."""
    server = Server()
    server.requests._http2._h2.highest_outbound_stream_id = LAST_STREAM - 2
    assert server.requests.is_open
    assert server.requests.ask(a_try())
    assert not server.requests.is_open


@given(st.data())
def test_however_the_octets_are_split_the_outcomes_are_the_same(data: st.DataObject) -> None:
    server = Server()
    tries = [a_try(f"n{number}.test") for number in range(4)]
    for one in tries:
        server.requests.ask(one)
    server.http.receive(server.requests.outgoing())
    server.answer(3)
    octets = server.http.outgoing() + go_away(5)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)))))
    outcomes = []
    for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        outcomes += server.requests.receive(octets[start:end])
    assert [(outcome.attempt, outcome.may_go_again) for outcome in outcomes] == [
        *((one, False) for one in tries[:3]),
        (tries[3], True),
    ]


@given(st.binary(max_size=300), st.booleans())
def test_any_garbage_is_a_fault_or_nothing(garbage: bytes, framed: bool) -> None:
    server = Server()
    server.requests.ask(a_try())
    server.exchange()
    if framed:
        garbage = len(garbage[6:]).to_bytes(3, "big") + garbage
    server.requests.receive(garbage)
    assert server.requests.leave() or not server.requests.fault


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://192.0.2.1", "192.0.2.1"),
        ("https://192.0.2.1:8443", "192.0.2.1:8443"),
        ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ("https://2001:db8::1#doh.test", "doh.test"),
        ("https://192.0.2.1:8443/x#doh.test", "doh.test:8443"),
    ],
)
def test_what_a_server_is_called(url: str, expected: str) -> None:
    """RFC 9113 section 8.3.1."""
    assert authority(upstream(url)) == expected
