"""All stream listeners of one worker, in the tests' own loop, on a bench: upstreams answer when a test says so."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resolver.listeners.limits import Limits
from resolver.listeners.streams import Streams
from resolver.wire import framed
from setting_values import Endpoint
from settings import from_document
from tests.support.certificates import Identity
from tests.support.dns_client import query
from tests.support.server import free_port
from tests.unit.resolver.bench import Bench

SECONDS = 30.0
ALPN = {"tls": "dot", "https": "h2"}


@dataclass
class Listening:
    """The listeners and their ports."""

    bench: Bench
    streams: Streams
    ports: dict[str, Endpoint]
    """By transport."""
    clients: list["Client"] = field(default_factory=list)

    async def connect(self, transport: str = "tcp", source: str = "127.0.0.1", alpn: str = "") -> "Client":
        """Return a connection of a client that trusts any certificate; it is closed with the listeners."""
        tls = client_context(alpn or ALPN[transport]) if transport != "tcp" else None
        reader, writer = await asyncio.open_connection(*self.ports[transport], ssl=tls, local_addr=(source, 0))
        return self.adopt(reader, writer)

    def adopt(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> "Client":
        """Close a connection with the listeners."""
        self.clients.append(Client(reader, writer))
        return self.clients[-1]

    @property
    def standing(self) -> int:
        """Return how many connections there are."""
        return len(self.streams.connections)


@dataclass
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def ask(self, *names: str, rdtype: str = "A") -> None:
        """Send queries behind their lengths, in one piece."""
        self.writer.write(b"".join(framed(query(name, rdtype).to_wire()) for name in names))

    async def answer(self) -> bytes:
        """Return the next message."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.readexactly(int.from_bytes(await self.reader.readexactly(2), "big"))

    async def rest(self) -> bytes:
        """Return what comes until the server ends the connection."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.read()
            except OSError:
                return b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (OSError, ssl.SSLError):
            return


@asynccontextmanager
async def listening(bench: Bench, identity: Identity, limits: Limits | None = None) -> AsyncIterator[Listening]:
    """Serve over TCP, TLS and HTTPS."""
    ports = {transport: Endpoint("127.0.0.1", free_port()) for transport in ("tcp", "tls", "https")}
    server = {
        "listen": [str(ports["tcp"])],
        "tls_listen": [str(ports["tls"])],
        "https_listen": [str(ports["https"])],
        "certificate": str(identity.certificate),
        "private_key": str(identity.key),
    }
    streams = Streams(from_document({"server": server}, Path("/")).server, bench.engine, limits)
    streams.start()
    served = Listening(bench, streams, ports)
    try:
        yield served
    finally:
        await streams.close()
        for client in served.clients:
            await client.close()
    assert not served.standing


def client_context(*protocols: str) -> ssl.SSLContext:
    """Return a client's context that trusts anybody and offers protocols."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


async def until(condition: Any) -> None:
    """Wait for what has no event."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
