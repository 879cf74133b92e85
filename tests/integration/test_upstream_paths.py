"""Paths to upstreams that die without a word and come back: what lookups see, and how many connections it takes."""

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any, cast

import dns.message
import pytest
from h2.settings import SettingCodes

from resolver.upstreams import https, link, persistent
from resolver.upstreams.conversation import Try
from resolver.upstreams.stream import Pipeline
from resolver.upstreams.tls import Plain
from setting_values import upstream
from tests.support import behaviours
from tests.support.asker import Asker
from tests.support.certificates import Authority
from tests.support.connections import handling
from tests.support.fake_upstream import FakeUpstream
from tests.support.relay import Relay
from tests.support.transport_recorder import WAIT_SECONDS, Asked, Recorder, recorders

PATIENT = {"failover_ms": 1000, "try_timeout_ms": 9000, "deadline_ms": 30000}
"""So that nothing but another connection brings the answer, and no slow machine is taken for a dead path."""
SOON = 0.05  # seconds


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class Way:
    """An upstream behind a relay."""

    def __init__(self, upstream: FakeUpstream, relay: Relay) -> None:
        self.upstream = upstream
        self.relay = relay
        self.url = upstream.url.replace("udp://", "tcp://").replace(str(upstream.port), str(relay.port))

    @property
    def connections(self) -> int:
        """Return how many there have been."""
        return len(self.relay.paths)


Opening = Callable[[], Any]


@pytest.fixture(params=["tls", "https"])
async def opening(request: pytest.FixtureRequest, authority: Authority) -> AsyncIterator[Opening]:
    """Make ways to upstreams."""
    identity = authority.issue("dns.test", "127.0.0.1")
    async with AsyncExitStack() as stack:

        async def one() -> Way:
            upstream = stack.enter_context(FakeUpstream(identity=identity, https=request.param == "https"))
            return Way(upstream, await stack.enter_async_context(Relay(upstream.port)))

        yield one


@pytest.fixture
async def way(opening: Opening) -> Way:
    made: Way = await opening()
    return made


@pytest.fixture
async def asking(authority: Authority) -> AsyncIterator[Callable[..., Asker]]:
    made: list[Asker] = []

    def one(*ways: Way, **options: Any) -> Asker:
        made.append(Asker(*(way.url for way in ways), ca_file=str(authority.certificate), **(PATIENT | options)))
        return made[-1]

    yield one
    for asker in made:
        asker.forwarder.close()


@pytest.fixture
async def recording(authority: Authority) -> AsyncIterator[Callable[..., Recorder]]:
    with recorders(authority.certificate) as made:
        yield lambda way, **options: made(way.url, **options)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistent, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(persistent, "SUCCESSOR_SECONDS", SOON)


Asking = Callable[..., Asker]
Recording = Callable[..., Recorder]


def be_doubtful(recorder: Recorder, seconds: float = SOON) -> None:
    """Take a connection for dead that says nothing for so long."""
    recorder.server.overdue = seconds


async def succeeded(recorder: Recorder) -> None:
    """Wait until another connection has taken over, and doubt that one no more, however slow the machine is."""
    first = recorder.transport._current
    await eventually(lambda: recorder.transport._current is not first)
    be_doubtful(recorder, WAIT_SECONDS)


def right(name: str) -> list[str]:
    return [str(behaviours.computed_rdata(name, "A"))]


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def all_are_answered(asker: Asker, kind: str) -> None:
    names = [f"{kind}{number}.test" for number in range(20)]
    results = await asyncio.wait_for(asyncio.gather(*map(asker.start, names)), WAIT_SECONDS)
    assert [result.rdata for result in results] == [right(name) for name in names]


# What lookups see.


@pytest.mark.parametrize("number", [1, 2])
async def test_where_every_path_is_dead_lookups_are_answered_on_fresh_ones(
    opening: Opening, asking: Asking, number: int
) -> None:
    ways = [await opening() for _ in range(number)]
    asker = asking(*ways)
    await all_are_answered(asker, "before")
    for way in ways:
        way.relay.lose()
    standing = [way.connections for way in ways]
    await all_are_answered(asker, "dead")
    await all_are_answered(asker, "after")
    assert max(standing) == 1
    assert max(way.connections for way in ways) == 2


async def test_what_is_asked_on_a_connection_that_is_reset_is_answered_on_another(way: Way, asking: Asking) -> None:
    """As by a firewall that says so: nobody waits for anything."""
    asker = asking(way, failover_ms=9000)
    await all_are_answered(asker, "before")
    for number in range(1, 6):
        way.relay.reset()
        await all_are_answered(asker, f"round{number}-")
        assert way.connections == 1 + number


async def test_what_is_asked_on_a_connection_that_the_upstream_closed_is_answered_on_another(
    way: Way, asking: Asking
) -> None:
    asker = asking(way, failover_ms=9000)
    await all_are_answered(asker, "before")
    for number in range(1, 6):
        way.upstream.end_connections()
        await all_are_answered(asker, f"round{number}-")
        assert way.connections == 1 + number


# How connections replace each other.


@pytest.mark.usefixtures("quick")
async def test_what_is_owed_goes_again_once_with_what_came_later(way: Way, recording: Recording) -> None:
    way.upstream.behave("owed.test", behaviours.in_turn(behaviours.silent, behaviours.computed))
    recorder = recording(way)
    await recorder.answers(recorder.ask("a.test"))
    owed = recorder.ask("owed.test")
    await eventually(lambda: way.upstream.asked("owed.test"))
    way.relay.lose()
    be_doubtful(recorder)
    assert recorder.send(owed)  # as the forwarder does when it has waited
    later = recorder.ask("later.test")
    await succeeded(recorder)
    assert await recorder.answers(owed, later) == [right("owed.test"), right("later.test")]
    assert [len(way.upstream.asked(name)) for name in ("owed.test", "later.test")] == [2, 1]
    assert way.connections == 2
    assert not recorder.lost


@pytest.mark.usefixtures("quick")
async def test_all_that_is_owed_goes_again_though_it_is_more_than_may_wait(
    way: Way, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "UNSENT_LIMIT", 5_000)
    monkeypatch.setattr(https, "MAX_QUEUED", 50)
    way.upstream.manners.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 500}
    recorder = recording(way)
    await recorder.answers(recorder.ask("a.test"))
    way.relay.lose()
    owed = []
    for batch in range(10):  # each is sent before the next
        owed += [recorder.ask(f"owed{batch}-{number}.test") for number in range(30)]
        await eventually(lambda: not recorder.unsent)
    be_doubtful(recorder)
    await succeeded(recorder)
    await recorder.answers(*owed)
    assert not recorder.lost
    assert way.connections == 2


async def test_what_goes_again_takes_no_room_from_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "UNSENT_LIMIT", 1_000)
    first = Try(cast(Any, Asked("a.test")), cast(Any, None), 0.0)
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for before in (0, 100):
            one = link.Link(
                upstream(f"tcp://127.0.0.1:{listening.getsockname()[1]}"), Plain(), Pipeline(), cast(Any, None)
            )
            assert all(one.ask(first._replace(is_second=True)) for _ in range(before))
            number = 0
            while one.ask(first):
                number += 1
            one.close()
            taken.append(number)
    assert 10 < taken[0] <= taken[1] + 1


@pytest.mark.usefixtures("quick")
async def test_a_late_answer_counts_and_then_the_old_connection_ends(way: Way, recording: Recording) -> None:
    recorder = recording(way)
    await recorder.answers(recorder.ask("a.test"))
    way.relay.lose()
    be_doubtful(recorder)
    asked = recorder.ask("b.test")
    await recorder.answers(asked)
    be_doubtful(recorder, WAIT_SECONDS)
    way.relay.heal()
    await recorder.reports(3)
    assert [one for one, _ in recorder.received[1:]] == [asked, asked]
    await eventually(lambda: way.upstream.connected == 1)
    await recorder.answers(recorder.ask("c.test"))
    assert way.connections == 2
    assert not recorder.lost


@pytest.mark.usefixtures("quick")
async def test_a_connection_that_speaks_again_in_time_stays(way: Way, recording: Recording) -> None:
    recorder = recording(way)
    await recorder.answers(recorder.ask("a.test"))
    way.relay.is_down = True
    way.relay.lose()
    be_doubtful(recorder)
    asked = recorder.ask("b.test")
    await eventually(lambda: way.connections == 2)
    way.relay.paths[0].set()
    assert await recorder.answers(asked) == [right("b.test")]
    way.relay.heal()
    await eventually(lambda: len(recorder.transport._links) == 1)
    await recorder.answers(recorder.ask("c.test"))
    assert len({query.client for query in way.upstream.log}) == 1
    assert len(way.upstream.asked("b.test")) == 1


@pytest.mark.usefixtures("quick")
async def test_a_server_that_passes_over_one_question_is_not_left_for_it(
    way: Way, recording: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """As long as it answers others: that one goes again once, and nobody is told of a failure."""
    way.upstream.behave("never.test", behaviours.silent)
    recorder = recording(way)
    await recorder.answers(recorder.ask("a.test"))
    be_doubtful(recorder)
    recorder.ask("never.test")
    await eventually(lambda: len(way.upstream.asked("never.test")) == 2)
    for number in range(50):
        await recorder.answers(recorder.ask(f"n{number}.test"))
        await asyncio.sleep(0.005)
    assert len(way.upstream.asked("never.test")) == 2
    assert not caplog.messages


async def answered_by_hand(listening: socket.socket, recorder: Recorder) -> socket.socket:
    """Accept the next connection, answer one question on it, and return it."""
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(listening)
    query = await loop.sock_recv(connection, 512)
    before = len(recorder.received)
    connection.send(query[:4] + b"\x81\x80" + query[6:])
    await recorder.until(lambda: len(recorder.received) > before)
    return connection


@pytest.mark.usefixtures("quick")
async def test_where_syns_are_dropped_another_is_sent_before_the_kernel_sends_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which takes up to three seconds. A listener drops them once it holds as many connections as it may."""
    monkeypatch.setattr(link, "REACH_SECONDS", 0.1)
    monkeypatch.setattr(link, "CONNECT_SECONDS", WAIT_SECONDS)
    monkeypatch.setattr(link, "SILENT_SECONDS", WAIT_SECONDS)
    successors: set[link.Link] = set()
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        listening.setblocking(False)
        recorder = Recorder(f"tcp://127.0.0.1:{listening.getsockname()[1]}")
        stack.callback(recorder.transport.close)
        recorder.ask("a.test")
        stack.enter_context(await answered_by_hand(listening, recorder))
        fill = stack.enter_context(socket.create_connection(listening.getsockname()))
        recorder.ask("b.test")
        be_doubtful(recorder)

        def is_tried_again() -> bool:
            assert len(recorder.transport._links) <= 2
            successors.update(one for one in [recorder.transport._successor] if one is not None)
            return len(successors) >= 3

        await eventually(is_tried_again)
        fill.close()
        stack.enter_context((await asyncio.get_running_loop().sock_accept(listening))[0])
        stack.enter_context(await answered_by_hand(listening, recorder))
        assert not recorder.lost


# When it is we who stand still.


@pytest.mark.parametrize("before", [0, 1], ids=["during the handshake", "behind a question"])
async def test_that_this_process_stood_still_is_no_silence_of_the_upstream(
    way: Way, recording: Recording, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """As when the journal's disk takes seconds for a write. It is seen when all that waits is done at once."""
    monkeypatch.setattr(link, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(link, "SILENT_SECONDS", 1.0)
    recorder = recording(way)
    for number in range(before):
        await recorder.answers(recorder.ask(f"before{number}.test"))
    asked = recorder.ask()
    time.sleep(1.1)  # noqa: ASYNC251 - that is what it is about
    assert await recorder.answers(asked) == [right("a.test")]
    assert way.connections == 1


# When nothing helps.


@pytest.mark.usefixtures("quick")
async def test_while_the_upstream_is_down_fresh_connections_are_few(
    way: Way, recording: Recording, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One at a time, each for as long as a handshake may take; and once it is back, what is asked is answered."""
    monkeypatch.setattr(link, "CONNECT_SECONDS", 0.5)
    recorder = recording(way, finishes=False)
    await recorder.answers(recorder.ask("a.test"))
    way.relay.is_down = True
    way.relay.lose()
    be_doubtful(recorder)
    begun = time.monotonic()
    for number in range(150):
        recorder.send(recorder.ask(f"n{number}.test"))
        await asyncio.sleep(0.01)
        assert len(recorder.transport._links) <= 2
    assert way.connections <= 2 + (time.monotonic() - begun) / 0.5
    assert "no connection within 0.5 s" in caplog.text
    way.relay.is_down = False
    assert await recorder.answers(recorder.ask("b.test")) == [right("b.test")]


@pytest.mark.usefixtures("quick")
async def test_a_server_that_answers_nobody_any_more_is_not_hurried(
    way: Way, recording: Recording, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that has yet to answer gets no successor: there would be one for each time that it is overdue."""
    monkeypatch.setattr(link, "SILENT_SECONDS", 0.3)
    recorder = recording(way)
    await recorder.answers(recorder.ask("a.test"))
    way.upstream.default = behaviours.silent
    be_doubtful(recorder)
    begun = time.monotonic()
    for number in range(100):
        recorder.ask(f"n{number}.test")
        await asyncio.sleep(0.01)
    assert way.connections <= 3 + (time.monotonic() - begun) / 0.3
    assert "it said nothing for 0.3 s" in caplog.text
    way.upstream.default = behaviours.computed
    assert await recorder.answers(recorder.ask("b.test")) == [right("b.test")]


@pytest.mark.usefixtures("quick")
async def test_who_came_late_to_a_handshake_that_nobody_answers_gets_another(
    way: Way, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "CONNECT_SECONDS", 0.5)
    recorder = recording(way)
    way.relay.is_down = True
    first, later = recorder.ask("first.test"), recorder.ask("later.test")
    await eventually(lambda: way.connections == 1)
    way.relay.is_down = False
    assert await recorder.answers(later) == [right("later.test")]
    assert recorder.lost == [first]


@pytest.mark.usefixtures("quick")
async def test_and_no_third(way: Way, recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "CONNECT_SECONDS", 0.1)
    recorder = recording(way)
    way.relay.is_down = True
    first, *later = [recorder.ask(f"n{number}.test") for number in range(20)]
    await recorder.reports(20)
    assert recorder.lost == [first, *later]
    await eventually(lambda: not recorder.transport._links)
    assert way.connections == 2


@pytest.mark.usefixtures("quick")
async def test_a_connection_on_which_nothing_can_be_told_apart_any_more_is_replaced() -> None:
    """One length was wrong: what comes behind it is octets, and no answers."""
    connections = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while True:
            query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            reply = dns.message.make_response(dns.message.from_wire(query)).to_wire()
            is_lie = b"lie" in query and writer is connections[0]
            writer.write((b"\xff\xff" if is_lie else len(reply).to_bytes(2, "big")) + reply)
            await writer.drain()

    async with handling(answer) as port:
        recorder = Recorder(f"tcp://127.0.0.1:{port}")
        await recorder.answers(recorder.ask("first.test"))
        be_doubtful(recorder)
        recorder.ask("lie.test")
        later = recorder.ask("0.test")
        async with asyncio.timeout(WAIT_SECONDS):
            for number in itertools.count(1):
                if recorder.reply(later) is not None:
                    break
                recorder.ask(f"{number}.test")
                await asyncio.sleep(SOON / 5)
        assert len(connections) > 1
        recorder.transport.close()
