"""Queries over UDP. Whoever forges a reply must guess the ID, the port and the case of the name (RFC 5452 section 9).

Queries are spread over connected sockets on ports that the kernel drew at random, which are replaced after a few uses:
a socket for each query would cost more than the query. A name's letters are sent in random case, which upstreams echo
("0x20"). A reply with the right ID from the right address whose name isn't in that case is taken as a sign: the
question is asked again over TCP, as after a truncated reply, and what it says is ignored.
"""

import asyncio
import os
import select
import socket
import string
from collections.abc import Callable, Iterator
from struct import Struct
from typing import TYPE_CHECKING

from resolver.upstreams.matching import KIND, ONE, RESPONSE, Exchanged, Lost, Received, asks_the_same, with_question
from resolver.wire import HEADER_LENGTH, TC
from setting_values import UpstreamAddress

if TYPE_CHECKING:
    from resolver.upstreams.exchange import Exchange
    from resolver.upstreams.server import Server

PORTS = 32
USES_OF_A_PORT = 32
RETIRED_SECONDS = 15.0  # longer than any try waits
MOST_OWED = 4096
"""Replies that a port may wait for: with more, an unused ID would be hard to find."""
BURST = 64
MAX_DATAGRAM = 4096
DRAWN = 1024
_TC_FLAG = TC >> 8

CASES = 1024
"""Ways to write the letters, of which a query takes one at random. All the letters that are the same are written alike:
a name has as many bits as it has different ones, up to ten."""
_DRAW = Struct("2sBH")
"""What a query draws: its ID, its port, and the case of its letters."""


def _draws() -> Iterator[tuple[bytes, int, int]]:
    """Yield numbers that can't be guessed, from the system's generator: a call of it for each would be dear."""
    while True:
        yield from _DRAW.iter_unpack(os.urandom(DRAWN * _DRAW.size))


def _cases() -> list[bytes]:
    """Return ways to write a name in lower case, each to be translated with."""
    small = string.ascii_lowercase.encode()
    written = []
    for _ in range(CASES):
        bits = int.from_bytes(os.urandom(4), "big")
        letters = bytes(letter ^ (0x20 if bits >> place & 1 else 0) for place, letter in enumerate(small))
        written.append(bytes.maketrans(small, letters))
    return written


class _Port:
    """One connected socket on a port that the kernel drew at random."""

    __slots__ = ("is_retired", "sock", "table", "uses")

    def __init__(self, address: UpstreamAddress) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self.sock.connect((address.host, address.port))
        except OSError:
            self.sock.close()
            raise
        self.table: dict[bytes, Exchanged] = {}
        """By ID: the exchange, whom it asks, and the question as it was sent."""
        self.uses = 0
        self.is_retired = False


class UdpTransport:
    """The ports to one upstream."""

    def __init__(
        self, address: UpstreamAddress, received: Received, lost: Lost, batch_done: Callable[[], None]
    ) -> None:
        self._address = address
        self._received = received
        self._lost = lost
        self._batch_done = batch_done
        """Called when all that has arrived was handed on."""
        self._draws = _draws()
        self._cases = _cases()
        self._ports: list[_Port | None] = [None] * PORTS
        self._open: dict[int, _Port] = {}
        self._unsent: list[tuple[_Port, bytes]] = []
        # All ports behind one descriptor: the loop's own work for each would cost as much as reading the reply.
        self._readiness = select.epoll()
        asyncio.get_running_loop().add_reader(self._readiness.fileno(), self._readable)

    def send(self, exchange: "Exchange", server: "Server") -> bool:
        """Send the exchange's query from a random port."""
        ident, slot, case = next(self._draws)
        port = self._ports[slot % PORTS]
        if port is None or port.uses >= USES_OF_A_PORT:
            try:
                port = self._fresh_port(slot % PORTS)
            except OSError:
                return False
        table = port.table
        if len(table) >= MOST_OWED:
            return False
        while ident in table:
            ident = next(self._draws)[0]
        question = exchange.question
        sent = question[:-4].translate(self._cases[case % CASES]) + question[-4:]
        port.uses += 1
        table[ident] = exchange, server, sent
        unsent = self._unsent
        if not unsent:
            asyncio.get_running_loop().call_soon(self._send_all)
        head, opt = exchange.around(server) if exchange.plain else (exchange.head, exchange.opt)
        unsent.append((port, b"".join((ident, head, sent, opt))))
        return True

    def _send_all(self) -> None:
        """Send what a turn of the loop brought together: waking an upstream for each query is dear to both sides."""
        unsent, self._unsent = self._unsent, []
        for port, datagram in unsent:
            try:
                port.sock.send(datagram)
            except OSError:  # also an ICMP error that an earlier query met
                self._fail_all(port)

    def _fresh_port(self, slot: int) -> _Port:
        last = self._ports[slot]
        try:
            port = _Port(self._address)
        except OSError:  # no descriptor is left: one that is open asks once more
            other = last or next((other for other in self._ports if other is not None), None)
            if other is None:
                raise
            return other
        self._readiness.register(port.sock.fileno(), select.EPOLLIN)
        self._open[port.sock.fileno()] = self._ports[slot] = port
        if last is not None:
            self._retire(last)
        return port

    def _readable(self) -> None:
        """Take one reply from each port that has any; for more the loop comes back."""
        for descriptor, _ in self._readiness.poll(0, BURST):
            port = self._open.get(descriptor)
            if port is None:  # it was closed by what another's reply led to
                continue
            try:
                data = port.sock.recv(MAX_DATAGRAM)
            except BlockingIOError:
                continue
            except OSError:  # an ICMP error: nothing listens there
                self._fail_all(port)
                continue
            self._take(port, data)
        self._batch_done()

    def _take(self, port: _Port, data: bytes) -> None:
        """Hand a datagram on, if it is a reply to a query that was sent."""
        table, ident = port.table, data[:2]
        entry = table.get(ident)
        if entry is None or len(data) < HEADER_LENGTH or data[2] & KIND != RESPONSE:
            return
        exchange, server, sent = entry
        if data[4:6] != ONE:
            data = with_question(data, sent)
            if data[4:6] != ONE:
                return
        if not data.startswith(sent, HEADER_LENGTH):
            if not asks_the_same(data, exchange.question):
                return
            data = data[:2] + bytes([data[2] | _TC_FLAG]) + data[3:]
        del table[ident]
        if port.is_retired and not table:
            self._close(port)
        self._received(exchange, server, data)

    def _fail_all(self, port: _Port) -> None:
        """Report every exchange on a port as lost."""
        entries = list(port.table.values())
        port.table.clear()
        for exchange, server, _ in entries:
            self._lost(exchange, server)

    def _retire(self, port: _Port) -> None:
        """Close a port once nothing is owed on it, or that won't come any more."""
        port.is_retired = True
        if port.table:
            asyncio.get_running_loop().call_later(RETIRED_SECONDS, self._close, port)
        else:
            self._close(port)

    def _close(self, port: _Port) -> None:
        if self._open.get(port.sock.fileno()) is port:
            del self._open[port.sock.fileno()]
            port.sock.close()  # which takes it out of the epoll as well

    def close(self) -> None:
        """Close every port."""
        asyncio.get_running_loop().remove_reader(self._readiness.fileno())
        for port in list(self._open.values()):
            self._close(port)
        self._ports = [None] * PORTS
        self._unsent.clear()
        self._readiness.close()
