"""The HTTPS transport against HTTP/2 servers on loopback, sound and broken."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from resolver.upstreams import http2, link, persistent
from tests.support import behaviours
from tests.support.certificates import Authority, Identity
from tests.support.fake_https import go_away
from tests.support.fake_upstream import FakeUpstream
from tests.support.transport_recorder import WAIT_SECONDS, Asked, Recorder, recorders
from tests.support.unbound import ADDRESS, unbound

Recording = Callable[..., Recorder]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.issue("doh.test", "127.0.0.1")


@pytest.fixture
def upstream(identity: Identity) -> Iterator[FakeUpstream]:
    with FakeUpstream(identity=identity, https=True) as server:
        yield server


@pytest.fixture
async def recording(authority: Authority) -> AsyncIterator[Recording]:
    with recorders(authority.certificate) as made:

        def one(server: FakeUpstream | str, **options: Any) -> Recorder:
            return made(server if isinstance(server, str) else server.url, **options)

        yield one


def right(name: str = "a.test") -> list[str]:
    return [str(behaviours.computed_rdata(name, "A"))]


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


# Requests.


async def test_a_request_says_what_it_must_and_nothing_more(upstream: FakeUpstream, recording: Recording) -> None:
    """RFC 8484 section 4.1: POST, the message as the body, ID 0; nothing that tells one asker from another."""
    recorder = recording(upstream)
    assert await recorder.answers(recorder.ask()) == [right()]
    (request,) = upstream.http[0].requests
    assert request.headers == {
        ":method": "POST",
        ":scheme": "https",
        ":authority": f"doh.test:{upstream.port}",
        ":path": "/dns-query",
        "accept": "application/dns-message",
        "content-type": "application/dns-message",
        "content-length": str(len(request.body)),
    }
    assert dns.message.from_wire(request.body).id == 0
    assert [(shake.sni, shake.protocol) for shake in upstream.handshakes] == [("doh.test", "h2")]


async def test_path_and_address_are_asked_for_as_configured(upstream: FakeUpstream, recording: Recording) -> None:
    recorder = recording(f"https://127.0.0.1:{upstream.port}/own/path")
    assert await recorder.answers(recorder.ask()) == [right()]
    (request,) = upstream.http[0].requests
    assert (request.headers[":authority"], request.headers[":path"]) == (f"127.0.0.1:{upstream.port}", "/own/path")
    assert upstream.handshakes[0].sni is None


async def test_many_requests_share_a_connection(upstream: FakeUpstream, recording: Recording) -> None:
    recorder = recording(upstream)
    asked = [recorder.ask(f"n{number}.test") for number in range(300)]
    assert await recorder.answers(*asked) == [right(f"n{number}.test") for number in range(300)]
    assert len(upstream.http) == 1


async def test_no_more_at_once_than_the_server_allows(upstream: FakeUpstream, recording: Recording) -> None:
    """RFC 9113 section 5.1.2."""
    upstream.manners.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 3}
    recorder = recording(upstream)
    await recorder.answers(recorder.ask("first.test"))  # now it is known
    upstream.default = behaviours.slow(0.01)
    asked = [recorder.ask(f"n{number}.test") for number in range(20)]
    assert await recorder.answers(*asked) == [right(f"n{number}.test") for number in range(20)]
    assert upstream.http[0].most_at_once == 3
    assert not recorder.lost


async def test_those_that_wait_for_a_stream_are_so_many_and_no_more(
    upstream: FakeUpstream, recording: Recording
) -> None:
    upstream.manners.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
    recorder = recording(upstream)
    await recorder.answers(recorder.ask("first.test"))
    upstream.default = behaviours.silent
    taken = 0
    asked = Asked("a.test")
    while recorder.send(asked):
        taken += 1
        assert taken < 10_000
    assert taken > 1000
    assert not recorder.lost


async def test_a_request_that_nobody_waits_for_gives_its_stream_up(
    upstream: FakeUpstream, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistent, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(link, "KEPT_SECONDS", 0.0)
    upstream.manners.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
    recorder = recording(upstream)
    await recorder.answers(recorder.ask("first.test"))
    upstream.behave("stuck.test", behaviours.silent)
    stuck = recorder.ask("stuck.test")
    next_one = recorder.ask("next.test")
    stuck.finished = True
    assert await recorder.answers(next_one) == [right("next.test")]
    assert len(upstream.http[0].cancelled) == 1


# Responses.


async def test_large_answers_never_run_out_of_window(
    upstream: FakeUpstream, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some 3 MB through a window of 128 KiB: RFC 9113 section 5.2."""
    monkeypatch.setattr(http2, "CONNECTION_WINDOW", 1 << 16)
    upstream.behave("big.test", behaviours.big_text(64_000))
    recorder = recording(upstream)
    asked = [recorder.ask("big.test", "TXT") for _ in range(50)]
    await recorder.until(lambda: all(recorder.reply(one) for one in asked))
    assert not recorder.lost
    assert len(upstream.http) == 1


@pytest.mark.parametrize("manner", ["pieces", "informs", "parameter"])
async def test_a_response_may_come_in_any_lawful_form(
    upstream: FakeUpstream, recording: Recording, manner: str
) -> None:
    if manner == "pieces":
        upstream.manners.frame = 1
    elif manner == "informs":
        upstream.manners.informs = True
    else:
        upstream.manners.content_type = "Application/DNS-Message; charset=none"
    recorder = recording(upstream)
    assert await recorder.answers(recorder.ask()) == [right()]


@pytest.mark.parametrize(
    ("manners", "reason"),
    [
        ({"status": 403}, "it answers with HTTP status 403"),
        ({"status": 204}, "it answers with HTTP status 204"),
        ({"status": 302}, "it answers with HTTP status 302"),
        ({"content_type": "text/html"}, "it answers with content of the type 'text/html'"),
        ({"headers": [("content-length", "65536")]}, "its answer is too long"),
        ({"headers": [("content-length", "9" * 1000)]}, "its answer is too long"),
        ({"headers": [("content-length", "9" * 5000)]}, "it broke HTTP/2"),
        ({"headers": [("content-length", "0000007")]}, "it broke HTTP/2"),
        ({"resets": [ErrorCodes.INTERNAL_ERROR]}, "it reset the request (HTTP/2 error 2)"),
        ({"resets": [ErrorCodes.HTTP_1_1_REQUIRED]}, "it reset the request (HTTP/2 error 13)"),
    ],
    ids=lambda case: str(case)[:40],
)
async def test_what_is_no_answer_loses_the_try_and_is_told(
    upstream: FakeUpstream,
    recording: Recording,
    caplog: pytest.LogCaptureFixture,
    manners: dict[str, Any],
    reason: str,
) -> None:
    vars(upstream.manners).update(manners)
    recorder = recording(upstream)
    asked = recorder.ask()
    await recorder.reports(1)
    assert recorder.lost == [asked]
    (line,) = caplog.messages
    assert line.startswith(f"upstream {upstream.url}: {reason}")


def too_long(query: behaviours.Query) -> list[behaviours.Reply]:
    return [behaviours.Reply(behaviours.computed(query)[0].wire + bytes(65_535))]  # type: ignore[operator] # it has one


def empty(query: behaviours.Query) -> list[behaviours.Reply]:
    return [behaviours.Reply(b"\0")]


def echo(query: behaviours.Query) -> list[behaviours.Reply]:
    return [behaviours.Reply(query.wire)]


@pytest.mark.parametrize(
    "forgery",
    [behaviours.garbage, behaviours.wrong_question, echo, empty, too_long],
    ids=lambda forgery: forgery.__name__,
)
async def test_a_body_that_answers_another_question_loses_the_try_and_no_other(
    upstream: FakeUpstream, recording: Recording, forgery: behaviours.Behaviour
) -> None:
    upstream.behave("forged.test", forgery)
    recorder = recording(upstream)
    forged, sound = recorder.ask("forged.test"), recorder.ask("sound.test")
    await recorder.reports(2)
    assert recorder.lost == [forged]
    assert recorder.rdata(sound) == right("sound.test")
    assert await recorder.answers(recorder.ask("later.test")) == [right("later.test")]
    assert len(upstream.http) == 1


async def test_a_refused_stream_is_tried_once_more(upstream: FakeUpstream, recording: Recording) -> None:
    """RFC 9113 section 8.7."""
    upstream.manners.resets = [ErrorCodes.REFUSED_STREAM]
    recorder = recording(upstream)
    assert await recorder.answers(recorder.ask()) == [right()]
    upstream.manners.resets = [ErrorCodes.REFUSED_STREAM] * 2
    asked = recorder.ask("b.test")
    await recorder.until(lambda: recorder.lost == [asked])


async def test_a_reply_to_an_exchange_that_is_over_is_handed_on(upstream: FakeUpstream, recording: Recording) -> None:
    recorder = recording(upstream)
    asked = recorder.ask()
    asked.finished = True
    await recorder.reports(1)
    assert [one for one, _ in recorder.received] == [asked]


# Connections end.


async def test_go_away_lets_what_was_accepted_finish_and_the_rest_go_again(
    upstream: FakeUpstream, recording: Recording
) -> None:
    """RFC 9113 section 6.8: as nginx says after each 1,000 requests."""
    upstream.behave("seen.test", behaviours.slow(0.1))
    upstream.behave("unseen.test", behaviours.in_turn(behaviours.silent, behaviours.computed))
    recorder = recording(upstream)
    await recorder.answers(recorder.ask("first.test"))
    seen, unseen = recorder.ask("seen.test"), recorder.ask("unseen.test")
    await eventually(lambda: upstream.asked("unseen.test"))
    upstream.say(go_away(3))
    assert await recorder.answers(seen, unseen) == [right("seen.test"), right("unseen.test")]
    assert (len(upstream.asked("seen.test")), len(upstream.asked("unseen.test"))) == (1, 2)
    assert await recorder.answers(recorder.ask("later.test")) == [right("later.test")]
    assert len(upstream.http) == 2
    await eventually(lambda: upstream.connected == 1)
    assert not recorder.lost


async def test_go_away_while_idle_costs_nothing(upstream: FakeUpstream, recording: Recording) -> None:
    recorder = recording(upstream)
    await recorder.answers(recorder.ask("a.test"))
    upstream.end_connections(say=go_away(1))
    assert await recorder.answers(recorder.ask("b.test")) == [right("b.test")]
    assert not recorder.lost


async def test_what_waits_on_a_connection_that_ends_is_sent_again_once(
    upstream: FakeUpstream, recording: Recording
) -> None:
    upstream.behave("a.test", behaviours.in_turn(behaviours.hang_up, behaviours.computed))
    upstream.behave("b.test", behaviours.hang_up)
    recorder = recording(upstream)
    assert await recorder.answers(recorder.ask("a.test")) == [right()]
    asked = recorder.ask("b.test")
    await recorder.until(lambda: recorder.lost == [asked])
    assert len(upstream.asked("b.test")) == 2


@pytest.mark.parametrize(
    "nonsense",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3, b"\0\0\x04\x07\0" + bytes(8), b"\0\0\0\x01\x04\0\0\0\x01", b"\xff" * 50],
    ids=["HTTP/1.1", "a short GOAWAY", "headers of nothing", "a frame too large"],
)
async def test_a_server_that_breaks_http_2_is_left(
    upstream: FakeUpstream, recording: Recording, caplog: pytest.LogCaptureFixture, nonsense: bytes
) -> None:
    recorder = recording(upstream)
    upstream.default = behaviours.silent
    asked = [recorder.ask("a.test"), recorder.ask("b.test")]
    await eventually(lambda: len(upstream.log) == 2)
    upstream.say(nonsense)
    await eventually(lambda: len(upstream.log) == 4)
    upstream.say(nonsense)
    await recorder.reports(2)
    assert recorder.lost == asked
    assert f"upstream {upstream.url}: it broke HTTP/2" in caplog.text
    upstream.default = behaviours.computed
    assert await recorder.answers(recorder.ask("c.test")) == [right("c.test")]


async def test_a_server_without_http_2_is_told_nothing(
    identity: Identity, recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeUpstream(identity=identity) as server:
        server.stop()
        server.protocols = ["http/1.1"]
        server.start()
        recorder = recording(server.url.replace("tls://", "https://"))
        asked = recorder.ask()
        await recorder.reports(1)
        assert recorder.lost == [asked]
        assert (server.log, server.unreadable) == ([], 0)
    assert "it does not speak h2 (ALPN)" in caplog.text


async def test_who_cant_prove_who_it_is_is_told_nothing(
    upstream: FakeUpstream, recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = recording(upstream.url.replace("doh.test", "other.test"))
    asked = recorder.ask()
    await recorder.reports(1)
    assert recorder.lost == [asked]
    assert not upstream.log
    assert "its certificate is refused: Hostname mismatch" in caplog.text


@pytest.mark.parametrize("end", ["server", "transport", "protocol error", "go away"])
async def test_a_connection_that_ended_is_gone_without_the_collector(
    upstream: FakeUpstream, recording: Recording, end: str
) -> None:
    """Workers hardly ever look for circles (`resolver.garbage`)."""
    gc.disable()
    try:
        recorder = recording(upstream)
        await recorder.answers(recorder.ask())
        (opened,) = recorder.transport._links
        parts = [opened, opened.conversation, opened._connection, opened.conversation._http2._h2]  # type: ignore[attr-defined] # it is ours
        gone = [weakref.ref(part) for part in parts]
        del opened, parts
        if end == "server":
            upstream.end_connections()
        elif end == "transport":
            recorder.transport.close()
        elif end == "protocol error":
            upstream.say(b"\xff" * 50)
        else:
            upstream.say(go_away(1))
        await eventually(lambda: [ref() for ref in gone] == [None] * 4)
    finally:
        gc.enable()


# A server that others wrote.


async def test_unbound_is_asked_over_https(identity: Identity, tmp_path: Path, recording: Recording) -> None:
    with unbound(tmp_path, identity, "https") as url:
        recorder = recording(url)
        asked = [recorder.ask(f"n{number}.test") for number in range(500)]
        assert await recorder.answers(*asked) == [[ADDRESS]] * 500
        assert not recorder.lost
