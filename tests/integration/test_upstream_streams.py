"""Transports over TCP and TLS against name servers on loopback that close, stall and lie."""

import asyncio
import gc
import logging
import socket
import struct
import subprocess
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from resolver.upstreams import link, persistent
from tests.support import behaviours, processes
from tests.support.certificates import Authority, Identity
from tests.support.fake_upstream import FakeUpstream
from tests.support.server import accepts, free_port
from tests.support.transport_recorder import WAIT_SECONDS, Asked, Recorder, recorders
from tests.support.unbound import ADDRESS, unbound

RESET = struct.pack("ii", 1, 0)  # socket(7), SO_LINGER: closing throws away what is unsent

Recording = Callable[..., Recorder]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.issue("dns.test", "127.0.0.1")


@pytest.fixture
def tls_upstream(identity: Identity) -> Iterator[FakeUpstream]:
    with FakeUpstream(identity=identity) as server:
        yield server


@pytest.fixture(params=["tcp", "tls"])
def either(request: pytest.FixtureRequest) -> FakeUpstream:
    """Return a server of each kind."""
    server: FakeUpstream = request.getfixturevalue("upstream" if request.param == "tcp" else "tls_upstream")
    return server


@pytest.fixture
async def recording(authority: Authority) -> AsyncIterator[Recording]:
    with recorders(authority.certificate) as made:

        def one(server: FakeUpstream | str, **options: Any) -> Recorder:
            return made(server if isinstance(server, str) else server.url.replace("udp://", "tcp://"), **options)

        yield one


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let connections have their time soon, and not before a handshake is done."""
    monkeypatch.setattr(persistent, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(link, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(link, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(link, "CONNECT_SECONDS", 1.0)


def right(name: str = "a.test") -> list[str]:
    return [str(behaviours.computed_rdata(name, "A"))]


@contextmanager
def old_tls(identity: Identity) -> Iterator[int]:
    """Serve TLS 1.1 and nothing later; yields the port."""
    port = free_port()
    command = ["openssl", "s_server", "-accept", str(port), "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-quiet"]
    command += ["-cert", str(identity.certificate), "-key", str(identity.key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            processes.eventually(lambda: accepts(port))
            yield port
        finally:
            server.kill()


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


# One connection, many queries.


async def test_many_queries_share_a_connection_and_are_answered_as_they_finish(
    either: FakeUpstream, recording: Recording
) -> None:
    """RFC 7766 section 6.2.1.1: pipelined; section 7: in any order."""
    held: list[behaviours.Reply] = []

    def hold(query: behaviours.Query) -> list[behaviours.Reply]:
        held.extend(behaviours.computed(query))
        return []

    either.behave("n0.test", hold)
    either.behave("n199.test", lambda query: [*behaviours.computed(query), *held])
    recorder = recording(either)
    asked = [recorder.ask(f"n{number}.test") for number in range(200)]
    assert await recorder.answers(*asked) == [right(f"n{number}.test") for number in range(200)]
    assert recorder.received[-1][0] is asked[0]
    assert len({query.client for query in either.log}) == 1


async def test_a_large_answer_comes_whole(either: FakeUpstream, recording: Recording) -> None:
    either.behave("big.test", behaviours.big_text(65_000))
    recorder = recording(either)
    (rdata,) = await recorder.answers(recorder.ask("big.test", "TXT"))
    assert len(rdata) == 306


async def test_one_exchange_may_be_asked_twice_and_both_replies_are_handed_on(
    either: FakeUpstream, recording: Recording
) -> None:
    """The second comes for an exchange that is over: it still tells that the server is well."""
    recorder = recording(either)
    asked = recorder.ask("a.test")
    assert recorder.send(asked)
    await recorder.reports(2)
    assert [one for one, _ in recorder.received] == [asked, asked]
    assert len({query.id for query in either.log}) == 2


def header_only(query: behaviours.Query) -> list[behaviours.Reply]:
    return [behaviours.Reply(query.wire[:2] + b"\x81\x82" + bytes(8))]


def echo(query: behaviours.Query) -> list[behaviours.Reply]:
    return [behaviours.Reply(query.wire)]


def short(query: behaviours.Query) -> list[behaviours.Reply]:
    return [behaviours.Reply(b""), behaviours.Reply(query.wire[:5])]


@pytest.mark.parametrize(
    "forgery",
    [behaviours.garbage, behaviours.wrong_id, behaviours.wrong_question, header_only, echo, short],
    ids=lambda forgery: forgery.__name__,
)
async def test_what_answers_no_question_is_passed_over_and_the_wait_goes_on(
    either: FakeUpstream, recording: Recording, forgery: behaviours.Behaviour
) -> None:
    either.default = behaviours.each(forgery, behaviours.computed)
    recorder = recording(either)
    assert await recorder.answers(recorder.ask()) == [right()]
    assert len(either.log) == 1


async def test_a_second_reply_to_one_query_is_passed_over(either: FakeUpstream, recording: Recording) -> None:
    either.behave("a.test", behaviours.each(behaviours.computed, behaviours.computed))
    recorder = recording(either)
    recorder.ask("a.test")
    await recorder.answers(recorder.ask("b.test"))  # it comes behind them
    assert len(recorder.received) == 2


# Connections end.


async def test_a_connection_closed_while_idle_costs_nothing(either: FakeUpstream, recording: Recording) -> None:
    recorder = recording(either)
    await recorder.answers(recorder.ask("a.test"))
    either.end_connections()
    assert await recorder.answers(recorder.ask("b.test")) == [right("b.test")]
    assert not recorder.lost
    assert len({query.client for query in either.log}) == 2


async def test_what_waits_on_a_connection_that_ends_is_sent_again_once(
    either: FakeUpstream, recording: Recording
) -> None:
    """RFC 7766 section 6.2.4: servers close when they like; section 6.2.3: the client may try again."""
    either.behave("hang.test", behaviours.in_turn(behaviours.hang_up, behaviours.computed))
    for name in ("a.test", "b.test"):
        either.behave(name, behaviours.in_turn(behaviours.silent, behaviours.computed))
    recorder = recording(either)
    asked = [recorder.ask(name) for name in ("a.test", "b.test", "hang.test")]
    assert await recorder.answers(*asked) == [right("a.test"), right("b.test"), right("hang.test")]
    assert not recorder.lost
    assert [len(either.asked(name)) for name in ("a.test", "b.test", "hang.test")] == [2, 2, 2]


async def test_and_is_lost_when_that_one_ends_too(either: FakeUpstream, recording: Recording) -> None:
    either.default = behaviours.hang_up
    recorder = recording(either)
    asked = recorder.ask()
    await recorder.reports(1)
    assert recorder.lost == [asked]
    assert len(either.log) == 2


async def test_a_connection_that_is_reset_counts_as_ended(recording: Recording) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        recorder = recording(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        asked = recorder.ask()
        for _ in range(2):
            peer, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(listener), WAIT_SECONDS)
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 1000), WAIT_SECONDS)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            peer.close()
        await recorder.reports(1)
    assert recorder.lost == [asked]


async def test_an_exchange_that_is_over_is_neither_sent_again_nor_lost(
    either: FakeUpstream, recording: Recording
) -> None:
    either.behave("a.test", behaviours.silent)
    either.behave("hang.test", behaviours.hang_up)
    recorder = recording(either)
    recorder.ask("a.test").finished = True
    hung = recorder.ask("hang.test")
    await recorder.reports(1)
    assert recorder.lost == [hung]
    assert len(either.asked("a.test")) == 1


async def test_a_server_that_restarts_is_found_again(either: FakeUpstream, recording: Recording) -> None:
    recorder = recording(either)
    await recorder.answers(recorder.ask("a.test"))
    await asyncio.to_thread(either.stop)
    either.start()
    assert await recorder.answers(recorder.ask("b.test")) == [right("b.test")]


async def test_what_is_lost_may_be_asked_again_from_within_the_report(recording: Recording) -> None:
    """Each loss leads to the next try at once, as the forwarder does it: that must not pile up."""
    recorder = recording(f"tcp://127.0.0.1:{free_port()}")
    left = [0] * 5

    def again(asked: Asked) -> None:
        if left:
            left.pop()
            asked.finished = False
            assert recorder.send(asked)

    recorder.on_lost = again
    for number in range(300):
        recorder.ask(f"n{number}.test")
    await recorder.reports(305)
    assert not recorder.received


async def test_a_network_that_refuses_at_once_is_told_at_once(recording: Recording) -> None:
    recorder = recording("tcp://255.255.255.255:53")
    assert not recorder.send(Asked("a.test"))
    assert not recorder.lost


async def test_a_closed_transport_takes_nothing_and_reports_nothing(either: FakeUpstream, recording: Recording) -> None:
    either.default = behaviours.silent
    recorder = recording(either)
    recorder.ask()
    await eventually(lambda: either.log)
    recorder.transport.close()
    assert not recorder.send(Asked("b.test"))
    await eventually(lambda: not either.connected)
    assert (recorder.received, recorder.lost) == ([], [])


async def test_a_transport_may_be_closed_from_within_a_report(either: FakeUpstream, recording: Recording) -> None:
    recorder = recording(either)
    recorder.on_received = lambda _: recorder.transport.close()
    recorder.ask("a.test")
    await recorder.reports(1)
    await eventually(lambda: not either.connected)
    assert not recorder.lost


# Time.


@pytest.mark.usefixtures("quick")
async def test_a_connection_that_is_idle_is_closed(either: FakeUpstream, recording: Recording) -> None:
    recorder = recording(either)
    await recorder.answers(recorder.ask())
    await eventually(lambda: not either.connected)
    assert not recorder.lost


@pytest.mark.usefixtures("quick")
async def test_a_connection_that_goes_silent_is_replaced(
    either: FakeUpstream, recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """A dead path: what waits there is sent once more on another connection, and lost when that goes silent too."""
    either.behave("dead.test", behaviours.silent)
    recorder = recording(either)
    await recorder.answers(recorder.ask("a.test"))
    dead = recorder.ask("dead.test")
    await recorder.until(lambda: recorder.lost == [dead])
    assert len({query.client for query in either.asked("dead.test")}) == len(either.asked("dead.test")) == 2
    assert await recorder.answers(recorder.ask("b.test")) == [right("b.test")]
    assert len({query.client for query in either.log}) == 3
    assert not caplog.messages, "a query that a server passes over is no failure of it as long as it answers others"


@pytest.mark.usefixtures("quick")
async def test_a_handshake_that_nobody_answers_is_given_up(
    recording: Recording, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "CONNECT_SECONDS", 0.1)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        recorder = recording(f"tls://127.0.0.1:{listener.getsockname()[1]}#dns.test")
        asked = recorder.ask()
        await recorder.reports(1)
    assert recorder.lost == [asked]
    assert "no connection within 0.1 s" in caplog.text


async def test_a_server_that_reads_nothing_is_sent_so_much_and_no_more(recording: Recording) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        recorder = recording(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        large = Asked("large.test")
        large.octets += bytes(60_000)
        loop = asyncio.get_running_loop()
        assert recorder.send(large)
        peer, _ = await loop.sock_accept(listener)
        with peer:
            left = (
                len(large.octets) + 4 - len(await loop.sock_recv(peer, 1))
            )  # so it stands, and the rest is on its way
            while recorder.send(large):
                left += len(large.octets) + 4
                await asyncio.sleep(0)
                assert left < 100_000_000, "no socket's buffer takes so much"
            assert left > 2 * link.UNSENT_LIMIT
            async with asyncio.timeout(WAIT_SECONDS):
                while left:
                    came = len(await loop.sock_recv(peer, 1 << 20))
                    assert came, "it ended before it was all sent"
                    left -= came
            assert recorder.send(large)
        assert not recorder.lost


# TLS.


async def test_the_server_is_told_its_name_and_agrees_on_dot(tls_upstream: FakeUpstream, recording: Recording) -> None:
    recorder = recording(tls_upstream)
    await recorder.answers(recorder.ask())
    (handshake,) = tls_upstream.handshakes
    assert (handshake.sni, handshake.protocol) == ("dns.test", "dot")
    assert handshake.version in {"TLSv1.2", "TLSv1.3"}


async def test_an_address_is_checked_as_one_and_is_no_sni(tls_upstream: FakeUpstream, recording: Recording) -> None:
    """RFC 6066 section 3: literal addresses are not permitted there."""
    recorder = recording(tls_upstream.url.partition("#")[0])
    assert await recorder.answers(recorder.ask()) == [right()]
    assert tls_upstream.handshakes[0].sni is None


async def test_the_next_connection_resumes_the_session(tls_upstream: FakeUpstream, recording: Recording) -> None:
    recorder = recording(tls_upstream)
    for name in ("a.test", "b.test", "c.test"):
        await recorder.answers(recorder.ask(name))
        tls_upstream.end_connections()
    assert [handshake.is_resumed for handshake in tls_upstream.handshakes] == [False, True, True]


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("another name", "Hostname mismatch"),
        ("another address", "IP address mismatch"),
        ("expired", "certificate has expired"),
        ("unknown authority", "unable to get local issuer certificate"),
        ("self-signed", "self-signed certificate"),
    ],
)
async def test_who_cant_prove_who_it_is_is_told_nothing(
    authority: Authority,
    tmp_path: Path,
    recording: Recording,
    caplog: pytest.LogCaptureFixture,
    case: str,
    reason: str,
) -> None:
    """RFC 8310 section 5, strict privacy: the query isn't sent, in plain least of all."""
    if case == "expired":
        shown = authority.issue("expired.test", days=-1)
    elif case == "self-signed":
        alone = Authority(tmp_path)
        shown = Identity("Test authority", alone.certificate, alone._key)
    elif case == "unknown authority":
        shown = Authority(tmp_path).issue("other.test")
    else:
        shown = authority.issue("other.test", "127.0.0.9")
    with FakeUpstream(identity=shown) as server:
        url = server.url.partition("#")[0]
        if case != "another address":
            url += "#dns.test" if case == "another name" else f"#{shown.name.replace(' ', '-')}"
        recorder = recording(url)
        asked = [recorder.ask(f"n{number}.test") for number in range(3)]
        await recorder.reports(3)
        assert recorder.lost == asked
        assert not server.log
    (line,) = caplog.messages
    assert line.startswith(f"upstream {url}: its certificate is refused: ")
    assert reason in line


async def test_a_server_that_speaks_old_tls_alone_is_told_nothing(
    identity: Identity, recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    with old_tls(identity) as port:
        recorder = recording(f"tls://127.0.0.1:{port}#dns.test")
        asked = recorder.ask()
        await recorder.reports(1)
    assert recorder.lost == [asked]
    assert "TLS failed: tlsv1 alert protocol version" in caplog.text


async def test_a_plain_server_is_told_nothing_in_plain(
    upstream: FakeUpstream, recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """It reads the ClientHello as a message that is far from whole; our side ends it when the server does."""
    recorder = recording(f"tls://127.0.0.1:{upstream.port}#dns.test")
    asked = recorder.ask()
    await eventually(lambda: upstream.connected)
    upstream.end_connections()
    await recorder.reports(1)
    assert recorder.lost == [asked]
    assert "it closed the connection during the handshake" in caplog.text
    assert not upstream.log


# What the log says.


async def test_failing_and_working_again_are_told_once(recording: Recording, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = FakeUpstream(port=free_port())
    recorder = recording(f"tcp://127.0.0.1:{server.port}")
    for number in range(3):
        recorder.ask(f"n{number}.test")
        await recorder.reports(number + 1)
    with server:
        await recorder.answers(recorder.ask("a.test"), recorder.ask("b.test"))
    name = f"upstream tcp://127.0.0.1:{server.port}"
    assert caplog.messages == [f"{name}: Connection refused", f"{name} answers again"]


# Garbage.


@pytest.mark.parametrize("end", ["server", "refused certificate", "silence", "transport", "nobody there"])
async def test_a_connection_that_ended_is_gone_without_the_collector(
    tls_upstream: FakeUpstream, recording: Recording, request: pytest.FixtureRequest, end: str
) -> None:
    """Workers hardly ever look for circles (`resolver.garbage`)."""
    if end == "silence":
        request.getfixturevalue("quick")
        tls_upstream.default = behaviours.silent
    url = tls_upstream.url
    if end == "refused certificate":
        url = url.replace("dns.test", "other.test")
    elif end == "nobody there":
        url = f"tls://127.0.0.1:{free_port()}#dns.test"
    gc.disable()
    try:
        recorder = recording(url)
        recorder.ask()
        (opened,) = recorder.transport._links
        parts = [opened, opened.conversation, opened._connection, opened._connection._security]
        gone = [weakref.ref(part) for part in parts]
        del opened, parts
        if end == "transport":
            await eventually(lambda: tls_upstream.log)
            recorder.transport.close()
        else:
            await recorder.reports(1)
        if end == "server":
            tls_upstream.end_connections()
        await eventually(lambda: [ref() for ref in gone] == [None] * 4)
    finally:
        gc.enable()


# A server that others wrote.


async def test_unbound_is_asked_over_tls(identity: Identity, tmp_path: Path, recording: Recording) -> None:
    with unbound(tmp_path, identity, "tls") as url:
        recorder = recording(url)
        asked = [recorder.ask(f"n{number}.test") for number in range(500)]
        assert await recorder.answers(*asked) == [[ADDRESS]] * 500
        assert not recorder.lost
