"""The sockets that clients reach: UDP drained in bursts, TCP in frames. Framing alone; the engine does the rest."""

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address

import ifaddr

from resolver import wire
from resolver.engine import TCP, UDP, Engine
from settings import Endpoint

log = logging.getLogger(__name__)

BURST = 64
MAX_DATAGRAM = 4096
RECEIVE_BUFFER = 4 << 20  # octets: what a burst of a whole school needs while a worker is busy
BACKLOG = 512
MAX_CONNECTIONS = 1024
MAX_CONNECTIONS_EACH = 64
IDLE_SECONDS = 10.0  # RFC 7766 section 6.2.3: a few seconds
UNSENT_LIMIT = 1 << 20  # octets a client may leave unread before its connection ends


def local_endpoints(listen: tuple[Endpoint, ...]) -> list[Endpoint]:
    """Return the endpoints with a wildcard spelled out: one per local address, so replies come from the one asked."""
    endpoints: list[Endpoint] = []
    for endpoint in listen:
        if ip_address(endpoint.host).is_unspecified:
            version = ip_address(endpoint.host).version
            endpoints += [Endpoint(host, endpoint.port) for host in _local_addresses(version)]
        else:
            endpoints.append(endpoint)
    return list(dict.fromkeys(endpoints))


def _local_addresses(version: int) -> Iterator[str]:
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if ip.is_IPv4 and version == 4:
                yield str(ip.ip)
            elif ip.is_IPv6 and version == 6:
                assert isinstance(ip.ip, tuple)
                host, _, scope = ip.ip
                yield f"{host}%{adapter.name}" if scope else str(host)


def bind(endpoint: Endpoint, kind: socket.SocketKind, *, shared: bool = True) -> socket.socket:
    """Return a bound socket, shared with the other workers. Raises `OSError`."""
    family, _, _, _, address = socket.getaddrinfo(endpoint.host, endpoint.port, type=kind, flags=socket.AI_NUMERICHOST)[
        0
    ]
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


class UdpListener:
    """Drains one UDP socket."""

    def __init__(self, endpoint: Endpoint, engine: Engine) -> None:
        self._engine = engine
        self._sock = bind(endpoint, socket.SOCK_DGRAM)
        asyncio.get_running_loop().add_reader(self._sock, self._readable)

    def _readable(self) -> bool:
        """Take a burst; False when nothing is left."""
        engine, sock = self._engine, self._sock
        recvfrom, sendto, take = sock.recvfrom, sock.sendto, engine.take
        received = time.time_ns() // 1000
        more = True
        for _ in range(BURST):
            try:
                data, address = recvfrom(MAX_DATAGRAM)
            except OSError:  # nothing more, or an error that belongs to a reply of ours
                more = False
                break
            try:
                take(data, address[0], UDP, sendto, address, received)
            except Exception:
                log.exception("a datagram from %s was not understood", address[0])
        engine.flush()
        return more

    def stop_reading(self) -> None:
        """Take what has arrived, and no more; replies still leave."""
        asyncio.get_running_loop().remove_reader(self._sock)
        with suppress(OSError):
            # A connected socket is given no more: what arrives from now on goes to the other workers' sockets.
            self._sock.connect(self._sock.getsockname())
        while self._readable():
            pass

    def close(self) -> None:
        """Let go of the socket."""
        self._sock.close()


class TcpListener:
    """Accepts connections on one endpoint, within limits."""

    def __init__(self, endpoint: Endpoint, engine: Engine, connections: Counter[str]) -> None:
        self.engine = engine
        self._connections = connections
        self._open: set[_Connection] = set()
        self._sock = bind(endpoint, socket.SOCK_STREAM)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), sock=self._sock, backlog=BACKLOG)

    def admit(self, connection: "_Connection", peer: str) -> bool:
        """Count a new connection in; False when it is one too many."""
        if self._connections.total() >= MAX_CONNECTIONS or self._connections[peer] >= MAX_CONNECTIONS_EACH:
            return False
        self._connections[peer] += 1
        self._open.add(connection)
        return True

    def leave(self, connection: "_Connection", peer: str) -> None:
        """Count a connection out."""
        if connection in self._open:
            self._open.remove(connection)
            self._connections[peer] -= 1
            if not self._connections[peer]:
                del self._connections[peer]

    def drop_idle(self) -> None:
        """End the connections that have been silent too long."""
        limit = time.monotonic() - IDLE_SECONDS
        for connection in [c for c in self._open if c.last_heard < limit]:
            connection.end()

    def stop_accepting(self) -> None:
        """Take no new connection; those that stand go on."""
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        """End every connection."""
        self.stop_accepting()
        for connection in list(self._open):
            connection.end()


class _Connection(asyncio.Protocol):
    """One client's stream: its messages are answered as they finish."""

    def __init__(self, listener: TcpListener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._peer = ""
        self.last_heard = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = transport.get_extra_info("peername")[0]
        if not self._listener.admit(self, self._peer):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        received = time.time_ns() // 1000
        engine = self._listener.engine
        messages, self._buffer = wire.cut(self._buffer + data)
        for message in messages:
            try:
                engine.take(message, self._peer, TCP, self._send, None, received)
            except Exception:
                log.exception("a message from %s was not understood", self._peer)
        if messages:  # whole ones count: a client that lets one trickle in octet by octet keeps no connection
            self.last_heard = time.monotonic()
        engine.flush()

    def _send(self, reply: bytes, _target: object) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(wire.framed(reply))
        if transport.get_write_buffer_size() > UNSENT_LIMIT:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason changes nothing
        self._listener.leave(self, self._peer)
        if self._transport is not None:
            _release(self._transport)
        self._transport = None

    def end(self) -> None:
        """Send what is unsent and close."""
        if self._transport is not None:
            with suppress(OSError):
                self._transport.close()


def _release(transport: asyncio.Transport) -> None:
    """Take from a closed transport its own methods: it holds itself by them, and nobody looks for that (`garbage`)."""
    held = vars(transport)
    for name in [name for name, value in held.items() if getattr(value, "__self__", None) is transport]:
        del held[name]
