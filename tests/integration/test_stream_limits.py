"""What one client may take of the others' connections, time and memory. Time passes by `Streams.look`, with no wait."""

import asyncio
import socket
import ssl
import time

import dns.message
import pytest

from resolver.listeners.limits import Limits
from resolver.wire import framed
from tests.integration.listening import Listening, client_context, listening, until
from tests.support.certificates import Identity
from tests.support.dns_client import query
from tests.unit.resolver.bench import Bench

TRANSPORTS = ["tcp", "tls", "https"]
FRAMED = ["tcp", "tls"]


SLOW = Limits(
    idle_seconds=1000.0,
    handshake_seconds=1000.0,
    message_seconds=1000.0,
    stalled_seconds=1000.0,
    answer_seconds=1000.0,
    closing_seconds=1000.0,
)
"""Nothing is over; what a test is about it makes shorter, and by so much that no machine is too slow for it."""


def after(served: Listening, seconds: float) -> None:
    """Let the listeners see a later time."""
    served.streams.look(time.monotonic() + seconds)


# Connections.


@pytest.mark.parametrize("transport", FRAMED)
async def test_a_client_with_too_many_connections_loses_the_one_that_was_silent_longest(
    bench: Bench, identity: Identity, transport: str
) -> None:
    async with listening(bench, identity, Limits(connections_each=3)) as served:
        waits, silent, spoke = [await served.connect(transport) for _ in range(3)]
        other = await served.connect(transport, source="127.0.0.2")
        for client, name in (
            (waits, "a.example"),
            (silent, "bad.example"),
            (other, "bad.example"),
            (spoke, "bad.example"),
        ):
            client.ask(name)
            if name == "bad.example":
                await client.answer()
        await until(lambda: bench.network.tries)
        new = await served.connect(transport)
        assert await silent.rest() == b""
        for client in (new, spoke, other):
            client.ask("bad.example")
            await client.answer()
        bench.network.last.answer("a.example. 60 A 192.0.2.1")
        await waits.answer()


async def test_when_there_are_too_many_altogether_the_longest_silent_of_all_goes(
    bench: Bench, identity: Identity
) -> None:
    async with listening(bench, identity, Limits(connections=3)) as served:
        clients = []
        for number, transport in ((1, "tcp"), (2, "tls"), (2, "tcp"), (3, "tcp")):
            clients.append(await served.connect(transport, source=f"127.0.0.{number}"))
            clients[-1].ask("bad.example")
            await clients[-1].answer()
        assert await clients[0].rest() == b""
        assert served.standing == 3
        for client in clients[1:]:
            client.ask("bad.example")
            await client.answer()


# Time.


@pytest.mark.parametrize("transport", FRAMED)
async def test_an_idle_connection_ends_and_one_that_waits_for_its_answer_does_not(
    bench: Bench, identity: Identity, transport: str
) -> None:
    async with listening(bench, identity, SLOW._replace(idle_seconds=100.0)) as served:
        idle, waits = [await served.connect(transport) for _ in range(2)]
        waits.ask("a.example")
        idle.ask("bad.example")
        await idle.answer()
        await until(lambda: bench.network.tries)
        after(served, 90.0)
        assert served.standing == 2
        after(served, 110.0)
        assert await idle.rest() == b""
        bench.network.last.answer("a.example. 60 A 192.0.2.1")
        await waits.answer()
        after(served, 110.0)
        assert await waits.rest() == b""


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_message_that_trickles_in_ends_the_connection(bench: Bench, identity: Identity, transport: str) -> None:
    async with listening(bench, identity, SLOW._replace(message_seconds=100.0)) as served:
        client = await served.connect(transport, alpn="http/1.1" if transport == "https" else "")
        client.writer.write(b"POST /dns-query HT" if transport == "https" else b"\1\0abc")
        await until(lambda: served.standing)
        (connection,) = served.streams.connections._open
        await until(lambda: connection._framing is not None and connection._framing.begun < time.monotonic())
        after(served, 90.0)
        assert not connection.is_ending
        after(served, 110.0)
        assert await client.rest() == b""


@pytest.mark.parametrize("transport", ["tls", "https"])
async def test_who_begins_no_tls_is_not_waited_for(bench: Bench, identity: Identity, transport: str) -> None:
    async with listening(bench, identity, SLOW._replace(handshake_seconds=100.0)) as served:
        served.adopt(*await asyncio.open_connection(*served.ports[transport]))
        await until(lambda: served.standing)
        after(served, 90.0)
        assert served.standing == 1
        after(served, 110.0)
        assert served.standing == 0


@pytest.mark.parametrize("transport", ["tls", "https"])
async def test_who_speaks_no_tls_is_left_at_once(bench: Bench, identity: Identity, transport: str) -> None:
    async with listening(bench, identity) as served:
        client = served.adopt(*await asyncio.open_connection(*served.ports[transport]))
        client.ask("bad.example")
        assert await client.rest() == b""
        assert bench.records == []


@pytest.mark.parametrize("transport", ["tls", "https"])
async def test_who_speaks_an_old_tls_is_told_so(bench: Bench, identity: Identity, transport: str) -> None:
    """RFC 8996: nothing before TLS 1.2."""
    context = client_context("dot")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with listening(bench, identity) as served:
        with pytest.raises(ssl.SSLError, match="alert protocol version"):
            await asyncio.open_connection(*served.ports[transport], ssl=context)


async def test_who_leaves_the_end_of_a_connection_unanswered_is_left(bench: Bench, identity: Identity) -> None:
    async with listening(bench, identity, SLOW._replace(idle_seconds=100.0, closing_seconds=100.0)) as served:
        client = await served.connect()
        await until(lambda: served.standing)
        after(served, 110.0)
        assert await client.rest() == b""
        assert served.standing == 1
        client.writer.write(b"whatever")
        after(served, 90.0)
        assert served.standing == 1
        after(served, 110.0)
        assert served.standing == 0


# Messages.


class Counting:
    """A connection's socket that keeps what each call sent."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.calls: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.calls.append(bytes(data))
        return self._sock.send(data)

    def fileno(self) -> int:
        return self._sock.fileno()


@pytest.mark.parametrize("transport", FRAMED)
@pytest.mark.parametrize("count", [1, 5])
async def test_what_is_answered_together_leaves_in_one_write(
    bench: Bench, identity: Identity, transport: str, count: int
) -> None:
    """RFC 7766 section 8: the length and the message in a single write, and so with all answers of a turn."""
    async with listening(bench, identity) as served:
        client = await served.connect(transport)
        client.ask("bad.example")  # so that the tickets of a handshake have left as well
        await client.answer()
        (connection,) = served.streams.connections._open
        counting = Counting(connection._sock)
        connection._outgoing._sock = counting  # type: ignore[assignment] # it does what a socket does
        client.ask(*["bad.example"] * count)
        for _ in range(count):
            answer = await client.answer()
        assert len(counting.calls) == 1
        if transport == "tcp":
            assert counting.calls[0].endswith(framed(answer))
            assert len(counting.calls[0]) == count * len(framed(answer))


@pytest.mark.parametrize("transport", FRAMED)
async def test_messages_beyond_those_in_flight_wait_and_none_is_lost(
    bench: Bench, identity: Identity, transport: str
) -> None:
    async with listening(bench, identity, Limits(in_flight=4)) as served:
        client = await served.connect(transport)
        client.ask(*(f"n{number}.example" for number in range(40)))
        for number in range(40):
            in_flight = min(4, 40 - number)
            await until(lambda: len(bench.network.tries) >= number + in_flight)  # noqa: B023 - it is called here
            await asyncio.sleep(0)
            assert len(bench.network.tries) == number + in_flight
            bench.network.tries[number].answer(f"n{number}.example. 60 A 192.0.2.1")
            await client.answer()


async def test_http11_requests_in_one_piece_wait_for_each_other(bench: Bench, identity: Identity) -> None:
    """RFC 9112 section 9.3.2: answers leave in the order of their requests."""
    async with listening(bench, identity) as served:
        client = await served.connect("https", alpn="http/1.1")
        names = [f"n{number}.example" for number in range(5)]
        client.writer.write(b"".join(posted(query(name).to_wire()) for name in names))
        for number, name in enumerate(names):
            await until(lambda: len(bench.network.tries) > number)  # noqa: B023 - it is called here
            await asyncio.sleep(0)
            assert len(bench.network.tries) == number + 1
            bench.network.tries[number].answer(f"{name}. 60 A 192.0.2.{number}")
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            answer = dns.message.from_wire(await client.reader.readexactly(length))
            assert str(answer.answer[0][0]) == f"192.0.2.{number}"


def posted(message: bytes) -> bytes:
    head = "POST /dns-query HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/dns-message\r\n"
    return f"{head}Content-Length: {len(message)}\r\n\r\n".encode() + message


async def test_one_client_with_much_to_ask_holds_up_nobody(bench: Bench, identity: Identity) -> None:
    """All of it has arrived before the listener looks, and each has its turn."""
    bench.counts = False
    async with listening(bench, identity) as served:
        greedy, modest = (socket.create_connection(served.ports["tcp"]) for _ in range(2))
        with greedy, modest:
            greedy.sendall(framed(query("bad.example").to_wire()) * 500)
            modest.sendall(framed(query("modest.bad.example").to_wire()))
            await until(lambda: len(bench.records) == 501)
            names = [record.decision.qname for record in bench.records]
            assert names.index("modest.bad.example") < 100


async def test_who_closes_one_half_still_gets_its_answers(bench: Bench, identity: Identity) -> None:
    async with listening(bench, identity) as served:
        sock = socket.create_connection(served.ports["tcp"])
        sock.sendall(framed(query("a.example").to_wire()) + framed(query("bad.example").to_wire()))
        sock.shutdown(socket.SHUT_WR)
        client = served.adopt(*await asyncio.open_connection(sock=sock))
        await until(lambda: bench.network.tries)
        bench.network.last.answer("a.example. 60 A 192.0.2.1")
        stream = await client.rest()
        first = int.from_bytes(stream[:2], "big")
        assert len(stream) == 4 + first + int.from_bytes(stream[2 + first : 4 + first], "big")
        await until(lambda: not served.standing)


# Who doesn't read.


async def unread(served: Listening, bench: Bench, count: int = 400) -> socket.socket:
    """Return the connection of a client that asks for 24 MB of answers and reads none."""
    one = await served.connect()
    one.ask("large.example", rdtype="TXT")
    await until(lambda: bench.network.tries)
    bench.network.last.answer(f"large.example. 60 TXT {' '.join(['a' * 255] * 230)}")
    await one.answer()
    await one.close()
    await until(lambda: not served.standing)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(served.ports["tcp"])
    sock.setblocking(False)
    sock.send(framed(query("large.example", "TXT").to_wire()) * count)
    return sock


async def test_from_who_does_not_read_nothing_more_is_read_and_then_it_is_left(
    bench: Bench, identity: Identity
) -> None:
    bench.counts = False
    async with listening(bench, identity, SLOW._replace(unsent=4 << 20, stalled_seconds=100.0)) as served:
        with await unread(served, bench):
            await until(lambda: any(c.unsent > Limits().unsent_pause for c in served.streams.connections._open))
            (connection,) = [c for c in served.streams.connections._open if c.unsent]
            answered = len(bench.records)
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(bench.records) == answered < 400
            assert connection.unsent < (4 << 20)
            after(served, 90.0)
            assert not connection.is_ending
            after(served, 110.0)
            assert connection.is_closed


async def test_who_reads_late_gets_all_of_it(bench: Bench, identity: Identity) -> None:
    bench.counts = False
    async with listening(bench, identity, Limits(unsent=4 << 20)) as served:
        sock = await unread(served, bench, count=150)
        await until(lambda: any(c.unsent > Limits().unsent_pause for c in served.streams.connections._open))
        client = served.adopt(*await asyncio.open_connection(sock=sock))
        for _ in range(150):
            assert len(await client.answer()) > 58_000


async def test_who_leaves_too_much_unread_is_left_at_once(bench: Bench, identity: Identity) -> None:
    bench.counts = False
    async with listening(bench, identity, Limits(unsent=100_000)) as served:
        with await unread(served, bench):
            await until(lambda: len(bench.records) > 1 and not served.standing)
            assert len(bench.records) < 400
