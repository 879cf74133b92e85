"""How octets reach an upstream and come back: UDP from random ports, and TCP or TLS streams.

A transport matches each reply to its exchange (ID, question, and by connected sockets the peer's address: RFC 5452
section 9) and hands it on. Anything else that arrives is ignored, and the wait goes on.
"""

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from resolver.wire import HEADER_LENGTH, cut, framed
from settings import UpstreamAddress

if TYPE_CHECKING:
    from resolver.upstream import Exchange, Server

PORTS = 32
USES_OF_A_PORT = 32
RETIRED_SECONDS = 15.0  # longer than any try waits
BURST = 64
MAX_DATAGRAM = 4096
CONNECT_SECONDS = 3.0
STALE_ENTRIES = 1024
QUEUE_LIMIT = 2048

Received = Callable[["Exchange", "Server", bytes], None]
Lost = Callable[["Exchange", "Server"], None]
Table = dict[int, tuple["Exchange", "Server"]]


class Transport(Protocol):
    """A way to one upstream."""

    def send(self, exchange: "Exchange", server: "Server") -> bool:
        """Send the exchange's query; False when the network refuses it at once."""

    def close(self) -> None:
        """Let go of every socket."""


class RandomNumbers:
    """16-bit numbers that can't be guessed (RFC 5452 section 9.2), drawn in batches: a system call for each is dear."""

    def __init__(self) -> None:
        self._drawn = memoryview(b"").cast("H")
        self._next = 0

    def draw(self) -> int:
        """Return a number from 0 to 65535."""
        if self._next == len(self._drawn):
            self._drawn = memoryview(os.urandom(2048)).cast("H")
            self._next = 0
        number: int = self._drawn[self._next]
        self._next += 1
        return number

    def draw_unused(self, table: Table) -> int:
        """Return a number that is no key of the table."""
        while (number := self.draw()) in table:
            pass
        return number


def answers_question(data: bytes, question: bytes) -> bool:
    """Tell whether a message is a response to a question whose name is in lower case."""
    end = HEADER_LENGTH + len(question)
    if len(data) < end or not data[2] & 0x80 or data[4:6] != b"\0\1":
        return False
    asked = data[HEADER_LENGTH:end]
    return asked == question or (asked[:-4].lower() == question[:-4] and asked[-4:] == question[-4:])


def _deliver(data: bytes, table: Table, received: Received) -> None:
    ident = int.from_bytes(data[:2], "big")
    entry = table.get(ident)
    if entry is not None and answers_question(data, entry[0].question):
        del table[ident]
        received(*entry, data)


class _Port:
    """One connected UDP socket on a port that the kernel drew at random."""

    def __init__(self, address: UpstreamAddress, received: Received, lost: Lost) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self.sock.connect((address.host, address.port))
        except OSError:
            self.sock.close()
            raise
        self.table: Table = {}
        self.uses = 0
        self._received = received
        self._lost = lost
        asyncio.get_running_loop().add_reader(self.sock, self._readable)

    def _readable(self) -> None:
        for _ in range(BURST):
            try:
                data = self.sock.recv(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error: nothing listens there
                self.fail_all()
                return
            if len(data) >= HEADER_LENGTH:
                _deliver(data, self.table, self._received)

    def fail_all(self) -> None:
        """Report every exchange on this port as lost."""
        entries = list(self.table.values())
        self.table.clear()
        for exchange, server in entries:
            self._lost(exchange, server)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.sock)
        self.sock.close()


class UdpTransport:
    """Queries over UDP, spread over sockets that are replaced after a few uses.

    A socket for each query would cost more than the query; this way an off-path attacker still has to guess the ID
    and which of many short-lived ports it left from.
    """

    def __init__(self, address: UpstreamAddress, received: Received, lost: Lost) -> None:
        self._address = address
        self._received = received
        self._lost = lost
        self._random = RandomNumbers()
        self._ports: dict[int, _Port] = {}
        self._retired: deque[_Port] = deque()

    def send(self, exchange: "Exchange", server: "Server") -> bool:
        """Send the exchange's query from a random port."""
        try:
            port = self._port(self._random.draw() % PORTS)
        except OSError:
            return False
        port.uses += 1
        ident = self._random.draw_unused(port.table)
        try:
            port.sock.send(ident.to_bytes(2, "big") + exchange.wire)
        except OSError:  # also an ICMP error that an earlier query met
            port.fail_all()
            return False
        port.table[ident] = exchange, server
        return True

    def _port(self, slot: int) -> _Port:
        port = self._ports.get(slot)
        if port is None or port.uses >= USES_OF_A_PORT:
            fresh = _Port(self._address, self._received, self._lost)
            if port is not None:
                self._retired.append(port)
                asyncio.get_running_loop().call_later(RETIRED_SECONDS, self._close_oldest)
            port = self._ports[slot] = fresh
        return port

    def _close_oldest(self) -> None:
        if self._retired:
            self._retired.popleft().close()

    def close(self) -> None:
        """Close every port."""
        for port in [*self._ports.values(), *self._retired]:
            port.close()
        self._ports.clear()
        self._retired.clear()


class StreamTransport:
    """Queries over one TCP or TLS connection, pipelined (RFC 7766 section 6.2.1.1), opened when there is need."""

    def __init__(self, address: UpstreamAddress, tls: ssl.SSLContext | None, received: Received, lost: Lost) -> None:
        self._address = address
        self._tls = tls
        self._received = received
        self._lost = lost
        self._random = RandomNumbers()
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._queue: list[bytes] = []
        self._table: Table = {}
        self._prune_at = STALE_ENTRIES

    def send(self, exchange: "Exchange", server: "Server") -> bool:
        """Send the exchange's query, once the connection stands."""
        if len(self._queue) >= QUEUE_LIMIT:
            return False
        if len(self._table) >= self._prune_at:
            self._table = {number: entry for number, entry in self._table.items() if not entry[0].finished}
            self._prune_at = max(STALE_ENTRIES, 2 * len(self._table))  # so that pruning stays cheap for each query
        ident = self._random.draw_unused(self._table)
        self._table[ident] = exchange, server
        message = framed(ident.to_bytes(2, "big") + exchange.wire)
        if self._connection is not None:
            self._connection.write(message)
        else:
            self._queue.append(message)
            if self._connecting is None:
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
        return True

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        name = self._address.name or self._address.host
        try:
            _, connection = await asyncio.wait_for(
                loop.create_connection(
                    lambda: _Connection(self._message, self._disconnected),
                    self._address.host,
                    self._address.port,
                    ssl=self._tls,
                    server_hostname=name if self._tls else None,
                ),
                CONNECT_SECONDS,
            )
        except (OSError, TimeoutError):  # also a certificate that doesn't fit (ssl.SSLError)
            self._connecting = None  # first: what is lost now may be tried here again, which connects anew
            self._disconnected()
            return
        self._connecting = None
        if connection.is_closed:
            return
        self._connection = connection
        queue, self._queue = self._queue, []
        connection.write(b"".join(queue))

    def _message(self, data: bytes) -> None:
        _deliver(data, self._table, self._received)

    def _disconnected(self) -> None:
        self._connection = None
        self._queue.clear()
        entries = list(self._table.values())
        self._table.clear()
        for exchange, server in entries:
            if not exchange.finished:
                self._lost(exchange, server)

    def close(self) -> None:
        """Close the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()


class _Connection(asyncio.Protocol):
    """One stream, cut into messages."""

    def __init__(self, message: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._message = message
        self._lost = lost
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        messages, self._buffer = cut(self._buffer + data)
        for message in messages:
            if len(message) >= HEADER_LENGTH:
                self._message(message)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason changes nothing
        self.is_closed = True
        self._lost()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
