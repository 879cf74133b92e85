"""Connections that ended leave nothing in a circle: the collector would not find it."""

import asyncio
import gc
import socket
import ssl
import struct
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from resolver.listeners.connection import Connection
from resolver.listeners.framing import NEVER
from resolver.wire import framed
from tests.integration.listening import Client, Listening, listening, until
from tests.support.certificates import Identity
from tests.support.dns_client import query
from tests.unit.resolver.bench import Bench

RESET = struct.pack("ii", 1, 0)  # socket(7), SO_LINGER: closing throws away what is unsent
QUERY = query("bad.example").to_wire()
POST = (
    b"POST /dns-query HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/dns-message\r\n"
    b"Content-Length: %d\r\n\r\n" % len(QUERY)
) + QUERY


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def request(kind: str) -> bytes:
    """Return what asks a question."""
    if kind == "http/1.1":
        return POST
    if kind != "h2":
        return framed(QUERY)
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    head = {":method": "POST", ":scheme": "https", ":authority": "a.example", ":path": "/dns-query"}
    client.send_headers(1, [*head.items(), ("content-type", "application/dns-message")])
    client.send_data(1, QUERY, end_stream=True)
    return client.data_to_send()


def parts(connection: Any) -> list[weakref.ref[Any]]:
    """Return all that a connection is made of."""
    below = [getattr(connection._layer, "_object", None), getattr(connection._framing, "_connection", None)]
    return [
        weakref.ref(part) for part in (connection, connection._layer, connection._framing, *below) if part is not None
    ]


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("end", ["client", "reset", "server", "half-asked"])
@pytest.mark.parametrize("kind", ["tcp", "dot", "h2", "http/1.1"])
async def test_a_connection_that_ended_is_gone_without_the_collector(
    bench: Bench, identity: Identity, kind: str, end: str
) -> None:
    async with listening(bench, identity) as served:
        client = await served.connect({"tcp": "tcp", "dot": "tls"}.get(kind, "https"), alpn=kind)
        octets = request(kind)
        client.writer.write(octets[:-3] if end == "half-asked" else octets)
        gone = await answered(served, kind, half=end == "half-asked")
        if end == "server":
            await served.streams.close()
        else:
            await leave(client, reset=end == "reset")
        await until(lambda: not served.standing)
        await until(lambda: not any(part() for part in gone))


async def answered(served: Listening, kind: str, *, half: bool) -> list[weakref.ref[Any]]:
    """Wait until the only connection has done what it was asked to; return all that it is made of."""
    await until(lambda: served.standing)  # the client's side stands before ours is accepted
    (connection,) = served.streams.connections._open
    if half:
        await until(lambda: connection._framing is not None and connection._framing.begun < NEVER)
    else:
        await until(lambda: len(served.bench.records) == 1 and not connection.in_flight)
    found = parts(connection)
    assert len(found) == {"tcp": 3, "dot": 4}.get(kind, 5)
    return found


async def leave(client: Client, *, reset: bool) -> None:
    if reset:
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.writer.transport.abort()
    else:
        await client.close()


@pytest.mark.usefixtures("uncollected")
async def test_a_handshake_that_failed_is_gone_without_the_collector(
    bench: Bench, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(bench, identity) as served:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
        context.check_hostname = False
        gone: list[weakref.ref[Any]] = []
        leave_it = served.streams.connections._leave

        def left(connection: Connection) -> None:
            gone.extend(parts(connection))
            leave_it(connection)

        monkeypatch.setattr(served.streams.connections, "_leave", left)
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(*served.ports["tls"], ssl=context)
        await until(lambda: gone)
        await until(lambda: not any(part() for part in gone))
