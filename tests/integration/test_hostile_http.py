"""HTTP/2 clients that mean harm or leave early, over real TLS; h2's client speaks for them."""

import asyncio
from typing import Any

import h2.events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from resolver.listeners.http2 import MOST_STREAMS, PATIENCE
from resolver.listeners.limits import Limits
from tests.integration.listening import SECONDS, Client, Listening, listening, until
from tests.support.certificates import Identity
from tests.support.dns_client import query
from tests.unit.resolver.bench import Bench

HEAD = {":method": "POST", ":scheme": "https", ":authority": "dns.example", ":path": "/dns-query"}


class Speaker:
    """An HTTP/2 client on a connection."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.h2 = H2Connection(H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.events: list[Any] = []
        self.is_ended = False

    def ask(self, name: str, rdtype: str = "A") -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [*HEAD.items(), ("content-type", "application/dns-message")])
        self.h2.send_data(stream, query(name, rdtype).to_wire(), end_stream=True)
        return stream

    def send(self) -> None:
        self._client.writer.write(self.h2.data_to_send())

    def say(self, octets: bytes) -> None:
        """Send what there is to send, and octets behind it."""
        self.send()
        self._client.writer.write(octets)

    async def ends(self) -> None:
        """Wait for the end of the connection."""
        async with asyncio.timeout(SECONDS):
            assert await self._client.reader.read() == b""

    async def hear(self, kind: type[Any]) -> Any:
        """Read on until something happens, and return that."""
        self.send()
        while not (found := [event for event in self.events if isinstance(event, kind)]):
            async with asyncio.timeout(SECONDS):
                data = await self._client.reader.read(65_536)
            assert data, f"it ended: {self.events}"
            self.events += self.h2.receive_data(data)
            self.send()
        self.events.remove(found[0])
        return found[0]


async def speaker(served: Listening) -> Speaker:
    return Speaker(await served.connect("https"))


async def test_streams_side_by_side_are_answered_as_they_finish(bench: Bench, identity: Identity) -> None:
    async with listening(bench, identity) as served:
        client = await speaker(served)
        slow, fast = client.ask("a.example"), client.ask("bad.example")
        assert (await client.hear(h2.events.StreamEnded)).stream_id == fast
        bench.network.last.answer("a.example. 60 A 192.0.2.1")
        assert (await client.hear(h2.events.StreamEnded)).stream_id == slow


async def test_a_client_that_says_goodbye_gets_what_it_still_waits_for(bench: Bench, identity: Identity) -> None:
    """RFC 9113 section 6.8: then the connection is closed."""
    async with listening(bench, identity) as served:
        client = await speaker(served)
        asked = client.ask("a.example")
        client.say(GoAwayFrame(0).serialize())
        await until(lambda: bench.network.tries)
        assert len(served.streams.connections._open) == 1
        bench.network.last.answer("a.example. 60 A 192.0.2.1")
        assert (await client.hear(h2.events.StreamEnded)).stream_id == asked
        await client.hear(h2.events.ConnectionTerminated)
        await client.ends()


async def test_the_answer_to_a_stream_that_was_reset_is_dropped_and_logged_once(
    bench: Bench, identity: Identity
) -> None:
    async with listening(bench, identity) as served:
        client = await speaker(served)
        reset = client.ask("a.example")
        client.send()
        await until(lambda: bench.network.tries)
        client.h2.reset_stream(reset)
        client.send()
        bench.network.last.answer("a.example. 60 A 192.0.2.1")
        other = client.ask("bad.example")
        assert (await client.hear(h2.events.StreamEnded)).stream_id == other
        assert sorted(record.decision.qname for record in bench.records) == ["a.example", "bad.example"]


async def test_a_rapid_reset_is_ended_and_its_client_told_to_be_calm(bench: Bench, identity: Identity) -> None:
    bench.counts = False
    async with listening(bench, identity) as served:
        client, other = await speaker(served), await speaker(served)
        for _ in range(2 * PATIENCE):
            client.h2.reset_stream(client.ask("bad.example"))
        assert (await client.hear(h2.events.ConnectionTerminated)).error_code == ErrorCodes.ENHANCE_YOUR_CALM
        await other.hear(h2.events.SettingsAcknowledged)
        answered = other.ask("bad.example")
        assert (await other.hear(h2.events.StreamEnded)).stream_id == answered


async def test_streams_that_are_reset_while_their_lookups_go_on_count_as_in_flight(
    bench: Bench, identity: Identity
) -> None:
    """So that resetting buys a client no more of the upstreams than waiting does."""
    async with listening(bench, identity) as served:
        client = await speaker(served)
        for number in range(2 * MOST_STREAMS):
            client.h2.reset_stream(client.ask(f"n{number}.example"))
        client.send()
        (connection,) = served.streams.connections._open
        await until(lambda: connection.in_flight == MOST_STREAMS)
        assert len(bench.network.tries) == MOST_STREAMS
        assert not connection._reads


async def test_answers_that_no_window_is_opened_for_are_not_kept_for_long(bench: Bench, identity: Identity) -> None:
    async with listening(bench, identity, Limits(unsent=60_000)) as served:
        client = await speaker(served)
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        client.ask("large.example", "TXT")
        client.send()
        await until(lambda: bench.network.tries)
        bench.network.last.answer(f"large.example. 60 TXT {' '.join(['a' * 255] * 200)}")
        (connection,) = served.streams.connections._open
        await until(lambda: connection._framing is not None and connection._framing.held > 50_000)
        client.ask("large.example", "TXT")
        client.send()
        await until(lambda: connection.is_closed)


async def test_a_body_that_trickles_in_ends_the_connection_whatever_else_is_asked(
    bench: Bench, identity: Identity
) -> None:
    async with listening(bench, identity) as served:
        client = await speaker(served)
        stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream, [*HEAD.items(), ("content-type", "application/dns-message")])
        client.h2.send_data(stream, b"a")
        client.ask("bad.example")
        await client.hear(h2.events.StreamEnded)
        (connection,) = served.streams.connections._open
        framing = connection._framing
        assert framing is not None
        connection.last_active = framing.begun + 100.0  # as if something were asked all the time
        connection.look_at(framing.begun + 9.0)
        assert not connection.is_ending
        connection.look_at(framing.begun + 11.0)
        assert (await client.hear(h2.events.ConnectionTerminated)).error_code == ErrorCodes.NO_ERROR


async def test_when_it_stops_it_says_goodbye(bench: Bench, identity: Identity) -> None:
    async with listening(bench, identity) as served:
        client = await speaker(served)
        stream = client.ask("bad.example")
        await client.hear(h2.events.StreamEnded)
        await served.streams.close()
        goodbye = await client.hear(h2.events.ConnectionTerminated)
        assert (goodbye.error_code, goodbye.last_stream_id) == (ErrorCodes.NO_ERROR, stream)
