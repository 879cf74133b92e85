"""Forwarding: one exchange with the upstreams for each distinct question.

Owns which upstream is asked, for how long, and when to ask the next. How octets reach an upstream is a transport's
(`resolver.transports`).
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from resolver.transports import StreamTransport, Transport, UdpTransport
from resolver.wire import EDE_NETWORK_ERROR, EDE_NO_REACHABLE_AUTHORITY, HEADER, RCODE_MASK, REFUSED, SERVFAIL, TC
from settings import Upstream as UpstreamSettings
from settings import UpstreamAddress

Key = tuple[bytes, bool, bool]
"""What makes questions identical: the question with its name in lower case, and the DO and CD bits."""

TICK_SECONDS = 0.02
MAX_IN_FLIGHT = 20_000
TRIES_EACH = 2
PENALTY_SECONDS = 5.0
FAILURES_TO_PENALTY = 3


class Exchange:
    """One question on its way through the upstreams, with everyone who waits for the answer."""

    __slots__ = (
        "attempt",
        "deadline",
        "ede",
        "finished",
        "key",
        "last_reply",
        "order",
        "over_tcp",
        "question",
        "tried",
        "waiting",
        "wire",
    )

    def __init__(self, key: Key, question: bytes, wire: bytes, order: list["Server"], deadline: float) -> None:
        self.key = key
        self.question = question
        self.wire = wire
        """The query but for its ID."""
        self.order = order
        """The servers to ask, one after the other."""
        self.deadline = deadline
        self.waiting: list[Any] = []
        self.tried = 0
        """How many of `order` were asked."""
        self.attempt = 0
        """Counts what was sent, so that the end of an earlier wait is told from the end of this one."""
        self.over_tcp = False
        """Whether an answer was truncated, and is asked for again."""
        self.finished = False
        self.last_reply: tuple[Server, bytes] | None = None
        """A refusal or failure that an upstream answered, for when no other does better."""
        self.ede = EDE_NO_REACHABLE_AUTHORITY

    @property
    def server(self) -> "Server":
        """Return who is being asked now."""
        return self.order[self.tried - 1]


class Server:
    """One upstream: its transports, and how it has been doing."""

    def __init__(self, address: UpstreamAddress, transport: Transport, over_tcp: Transport | None) -> None:
        self.address = address
        self.name = str(address)
        self.transport = transport
        self.over_tcp = over_tcp
        """Where a truncated answer is asked for again (RFC 7766 section 5)."""
        self.failures = 0
        """Tries without an answer since the last one."""
        self.shunned_until = 0.0

    def __repr__(self) -> str:
        return f"<Server {self.name} failures={self.failures}>"

    def failed(self) -> None:
        """Count a try that brought nothing; after a few the server is asked last for a while."""
        self.failures += 1
        if self.failures >= FAILURES_TO_PENALTY:
            self.shunned_until = time.monotonic() + PENALTY_SECONDS


Done = Callable[[Exchange, "Server | None", "bytes | None"], None]
"""Called once an exchange is over: with the upstream's message, or None when there is none."""


class Forwarder:
    """Asks upstreams; identical questions in flight share one exchange."""

    def __init__(self, settings: UpstreamSettings, done: Done) -> None:
        self._try_seconds = settings.try_timeout_ms / 1000
        self._deadline_seconds = settings.deadline_ms / 1000
        self._done = done
        self._in_flight: dict[Key, Exchange] = {}
        self._timeouts: deque[tuple[float, Exchange, int, Server]] = deque()
        self._ticking = False
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        self._servers = [self._server(address, context) for address in settings.servers]

    def _server(self, address: UpstreamAddress, context: ssl.SSLContext) -> Server:
        if address.scheme == "udp":
            over_tcp = StreamTransport(address, None, self._received, self._lost)
            return Server(address, UdpTransport(address, self._received, self._lost), over_tcp)
        tls = context if address.scheme == "tls" else None
        return Server(address, StreamTransport(address, tls, self._received, self._lost), None)

    @property
    def in_flight(self) -> int:
        """Return how many exchanges are under way."""
        return len(self._in_flight)

    def ask(self, key: Key, question: bytes, wire: bytes, waiter: object) -> bool:
        """Have a question answered and the waiter told; False when too much is in flight already.

        Questions of one key share an exchange. `done` may be called before this returns.
        """
        exchange = self._in_flight.get(key)
        if exchange is not None:
            exchange.waiting.append(waiter)
            return True
        if len(self._in_flight) >= MAX_IN_FLIGHT:
            return False
        now = time.monotonic()
        exchange = Exchange(key, question, wire, self._order(now), now + self._deadline_seconds)
        exchange.waiting.append(waiter)
        self._in_flight[key] = exchange
        self._try_next(exchange)
        return True

    def _order(self, now: float) -> list[Server]:
        """Return whom to ask, in order: as configured, but who has been silent comes last."""
        servers = self._servers
        if len(servers) > 1:
            servers = sorted(servers, key=lambda server: server.shunned_until > now)
        return servers * TRIES_EACH

    def _try_next(self, exchange: Exchange) -> None:
        exchange.over_tcp = False
        while exchange.tried < len(exchange.order) and time.monotonic() < exchange.deadline:
            server = exchange.order[exchange.tried]
            exchange.tried += 1
            if self._send(exchange, server, server.transport):
                return
            exchange.ede = EDE_NETWORK_ERROR
            server.failed()
        self._finish(exchange, *(exchange.last_reply or (None, None)))

    def _send(self, exchange: Exchange, server: Server, transport: Transport) -> bool:
        exchange.attempt += 1
        if not transport.send(exchange, server):
            return False
        self._timeouts.append((time.monotonic() + self._try_seconds, exchange, exchange.attempt, server))
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        return True

    def _tick(self) -> None:
        """Give up the tries that have waited long enough."""
        now = time.monotonic()
        timeouts = self._timeouts
        while timeouts and timeouts[0][0] <= now:
            _, exchange, attempt, server = timeouts.popleft()
            if exchange.attempt == attempt and not exchange.finished:
                server.failed()
                self._try_next(exchange)
        self._ticking = bool(timeouts)
        if timeouts:
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _received(self, exchange: Exchange, server: Server, data: bytes) -> None:
        """Take a message that answers the exchange's question."""
        server.failures = 0
        server.shunned_until = 0.0
        if exchange.finished:
            return
        flags = HEADER.unpack_from(data)[1]
        if not flags & TC and flags & RCODE_MASK not in {SERVFAIL, REFUSED}:
            self._finish(exchange, server, data)
        elif exchange.server is not server:
            return  # late, and no help: the one that is being asked now may do better
        elif flags & TC:
            self._ask_over_tcp(exchange, server)
        else:
            # Another upstream may do better; without one, this is the answer.
            exchange.last_reply = server, data
            self._try_next(exchange)

    def _ask_over_tcp(self, exchange: Exchange, server: Server) -> None:
        """Ask for the whole of a truncated answer, which is never passed on as whole (RFC 2181 section 9)."""
        if exchange.over_tcp:
            return  # a late datagram: the stream is being waited for
        if server.over_tcp is None:
            self._try_next(exchange)
            return
        exchange.over_tcp = True
        if not self._send(exchange, server, server.over_tcp):
            self._try_next(exchange)

    def _lost(self, exchange: Exchange, server: Server) -> None:
        """Give up a try that can bring no answer any more: the network refused it."""
        if exchange.finished:
            return
        server.failed()
        exchange.ede = EDE_NETWORK_ERROR
        if exchange.server is server:  # else the wait for it was over before
            self._try_next(exchange)

    def _finish(self, exchange: Exchange, server: Server | None, reply: bytes | None) -> None:
        exchange.finished = True
        del self._in_flight[exchange.key]
        self._done(exchange, server, reply)

    def close(self) -> None:
        """Let go of every socket."""
        for server in self._servers:
            server.transport.close()
            if server.over_tcp is not None:
                server.over_tcp.close()
