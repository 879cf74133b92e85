"""A small name server in a thread of its own, on real loopback sockets: UDP and TCP on one port, or TLS, or HTTPS.

It keeps a log of what it was asked, treats each name as it is told to (`tests.support.behaviours`), and can be stopped
and started again on the same port. By default any name has an A, an AAAA and a TXT record.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

import dns.exception
import dns.message
import dns.rdatatype
from h2.exceptions import ProtocolError

from tests.support import plain_queries
from tests.support.behaviours import Behaviour, Query, Reply, computed
from tests.support.certificates import Identity
from tests.support.fake_https import HttpServer, Manners
from tests.support.server import free_port

ELSEWHERE = "127.0.0.66"
START_SECONDS = 10.0
ACCEPT_SECONDS = 0.5  # a TLS handshake may take for ever


class Handshake(NamedTuple):
    """What a client and the server agreed on."""

    sni: str | None
    protocol: str | None
    """By ALPN."""
    version: str
    is_resumed: bool


class FakeUpstream:
    """A name server that does what the test says.

    `behave` may be called while it serves. Queries that can't be read are counted and get no answer.
    """

    def __init__(
        self, address: str = "127.0.0.1", port: int = 0, *, identity: Identity | None = None, https: bool = False
    ) -> None:
        self.address = address
        self.port = port
        """Chosen at the first start when it is 0: one that no client's socket gets meanwhile."""
        self.identity = identity
        """With one it serves TLS or HTTPS; without, UDP and TCP."""
        self.protocols = ["h2" if https else "dot"]
        """What it speaks, for ALPN."""
        self.manners = Manners()
        """How it treats requests over HTTPS."""
        self.default: Behaviour = computed
        self.log: list[Query] = []
        self.unreadable = 0
        self.handshakes: list[Handshake] = []
        self.http: list[HttpServer] = []
        """Each HTTPS connection there was, oldest first."""
        self.failures: list[Exception] = []
        """What went wrong in a behaviour or with HTTP/2; `stop` raises the first."""
        self._https = https
        self._behaviours: dict[str, Behaviour] = {}
        self._thread: threading.Thread | None = None

    # For the test.

    @property
    def url(self) -> str:
        """Return what the product's configuration calls it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        if self.identity is None:
            return f"udp://{host}:{self.port}"
        scheme, path = ("https", "/dns-query") if self._https else ("tls", "")
        return f"{scheme}://{host}:{self.port}{path}#{self.identity.name}"

    def behave(self, name: str, behaviour: Behaviour) -> None:
        """Treat a name so from now on; ``*.slow.example`` is every name below ``slow.example``."""
        self._behaviours[name.lower().removesuffix(".")] = behaviour

    def asked(self, name: str, rdtype: str | None = None) -> list[Query]:
        """Return the queries for a name, oldest first."""
        return [
            query for query in list(self.log) if query.name.lower() == name.lower() and rdtype in {None, query.rdtype}
        ]

    def forget(self) -> None:
        """Empty the log."""
        self.log = []

    def end_connections(self, *, say: bytes = b"") -> None:
        """Close every connection in good order, after some octets; returns once that is done."""
        self.say(say)
        self._on_each(lambda connection: connection.close())

    def say(self, octets: bytes) -> None:
        """Send octets on every connection, whatever is said there; returns once that is done."""
        self._on_each(lambda connection: connection.say(octets))

    @property
    def connected(self) -> int:
        """Return how many streams stand."""
        return len(self._connections)

    def start(self) -> Self:
        """Bind and serve; returns once it does. Raises `OSError` when the port is taken."""
        if self._thread is not None:
            raise RuntimeError("it serves already")
        sockets = self._bind()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(*sockets)), name=f"upstream {self.port}")
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise RuntimeError("the fake upstream did not start")
        return self

    def stop(self) -> None:
        """Close every socket and connection, without a word to the clients. Does nothing when it is stopped."""
        if self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None
        if self.failures:
            raise self.failures[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<FakeUpstream {self.url} {'serves' if self._thread else 'stopped'} asked={len(self.log)}>"

    def _on_each(self, do: Callable[["_Client"], None]) -> None:
        async def run() -> None:
            for connection in list(self._connections):
                do(connection)

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(START_SECONDS)

    # In its thread.

    def _bind(self) -> tuple[socket.socket | None, socket.socket]:
        self.port = self.port or free_port()
        stream = self._socket(socket.SOCK_STREAM, self.port)
        if self.identity is not None:
            return None, stream
        try:
            return self._socket(socket.SOCK_DGRAM, self.port), stream
        except OSError:
            stream.close()
            raise

    def _socket(self, kind: socket.SocketKind, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        sock = socket.socket(family, kind)
        try:
            sock.setblocking(False)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.bind((self.address, port))
        except OSError:
            sock.close()
            raise
        return sock

    async def _serve(self, datagrams: socket.socket | None, stream: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._connections: set[_Client] = set()
        self._later: set[asyncio.TimerHandle] = set()
        if datagrams is not None:
            self._loop.add_reader(datagrams, self._read_datagrams, datagrams)
        context = self._context(self.identity) if self.identity else None
        kind = _HttpClient if self._https else _Client
        server = await self._loop.create_server(lambda: kind(self), sock=stream, ssl=context)
        self._ready.set()
        await self._stopping.wait()
        for handle in self._later:
            handle.cancel()
        server.close()
        # What has just been accepted becomes a connection in a turn of its own.
        accepting = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if accepting:
            await asyncio.wait(accepting, timeout=ACCEPT_SECONDS)
        for connection in list(self._connections):
            connection.abort()
        if datagrams is not None:
            self._loop.remove_reader(datagrams)
            datagrams.close()
        await asyncio.sleep(0)  # the aborted connections close their sockets in the loop's next turn

    def _context(self, identity: Identity) -> ssl.SSLContext:
        context = identity.server_context()
        context.set_alpn_protocols(self.protocols)
        self._names: dict[ssl.SSLObject | ssl.SSLSocket, str | None] = {}

        def named(tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
            self._names[tls] = name

        context.sni_callback = named
        return context

    def _read_datagrams(self, sock: socket.socket) -> None:
        for _ in range(64):
            try:
                wire, client = sock.recvfrom(65535)
            except OSError:
                return
            for reply in self._replies(wire, "udp", client[:2]):
                self._when_due(reply, self._send_datagram, sock, reply, client)

    def _send_datagram(self, sock: socket.socket, reply: Reply, client: tuple[str, int]) -> None:
        if reply.wire is None:
            return
        with contextlib.suppress(OSError):  # the client is gone
            if not reply.from_elsewhere:
                sock.sendto(reply.wire, client)
                return
            family = sock.family
            with socket.socket(family, socket.SOCK_DGRAM) as other:
                other.bind((ELSEWHERE, self.port) if family == socket.AF_INET else (self.address, 0))
                other.sendto(reply.wire, client)

    def _when_due(self, reply: Reply, send: object, *arguments: object) -> None:
        assert callable(send)
        if not reply.after:
            send(*arguments)
            return

        def fire() -> None:
            self._later.discard(handle)
            send(*arguments)

        handle = self._loop.call_later(reply.after, fire)
        self._later.add(handle)

    def _replies(self, wire: bytes, transport: str, client: tuple[str, int]) -> list[Reply]:
        try:
            query = _query(wire, transport, client)
        except (dns.exception.DNSException, IndexError):
            self.unreadable += 1
            return []
        self.log.append(query)
        try:
            return self._behaviour_for(query.name.lower())(query)
        except Exception as failure:  # noqa: BLE001 - a test's own bug must reach the test, not end the thread
            self.failures.append(failure)
            return []

    def _behaviour_for(self, name: str) -> Behaviour:
        found = self._behaviours.get(name)
        parent = name
        while found is None and parent:
            parent = parent.partition(".")[2]
            found = self._behaviours.get(f"*.{parent}")
        return found or self.default


def _query(wire: bytes, transport: str, client: tuple[str, int]) -> Query:
    """Read a query that comes now. Raises `dns.exception.DNSException`, or `IndexError` where nothing is asked."""
    now = time.monotonic()
    asked = plain_queries.read(wire)
    if asked is None:
        question = dns.message.from_wire(wire).question[0]
        asked = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
    return Query(*asked, transport, client, int.from_bytes(wire[:2], "big"), wire, now)


class _Client(asyncio.Protocol):
    """One client's stream (RFC 1035 section 4.2.2)."""

    def __init__(self, server: FakeUpstream) -> None:
        self._server = server
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._address = transport.get_extra_info("peername")[:2]
        self._server._connections.add(self)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            sni = self._server._names.pop(tls, None)
            agreed = Handshake(sni, tls.selected_alpn_protocol(), tls.version(), tls.session_reused)
            self._server.handshakes.append(agreed)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        kind = "tls" if self._server.identity else "tcp"
        while len(self._buffer) >= 2:
            end = 2 + int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < end:
                return
            wire, self._buffer = self._buffer[2:end], self._buffer[end:]
            for reply in self._server._replies(wire, kind, self._address):
                self._server._when_due(reply, self._send, reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._connections.discard(self)

    def say(self, octets: bytes) -> None:
        self._transport.write(octets)

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _send(self, reply: Reply) -> None:
        if reply.wire is None:
            self._transport.close()
        elif not self._transport.is_closing():
            self._transport.write(len(reply.wire).to_bytes(2, "big") + reply.wire)


class _HttpClient(_Client):
    """One client's HTTP/2 connection (RFC 8484)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._http = HttpServer(self._server.manners, self._asked)
        self._server.http.append(self._http)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            self._http.receive(data)
        except ProtocolError as failure:
            self._server.failures.append(failure)
        self._flush()

    def _asked(self, stream: int, query: bytes) -> None:
        for reply in self._server._replies(query, "https", self._address):
            self._server._when_due(reply, self._respond, stream, reply)

    def _respond(self, stream: int, reply: Reply) -> None:
        if reply.wire is None:
            self._transport.close()
        elif not self._transport.is_closing():
            self._http.respond(stream, reply.wire)
            self._flush()

    def _flush(self) -> None:
        self._transport.write(self._http.outgoing())
