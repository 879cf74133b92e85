"""Forwarding: one exchange with the upstreams for each distinct question.

Owns who is asked, when the next one is asked besides, and when to give up. How octets reach an upstream is a
transport's, and how an upstream has been doing is `Server`'s.

Waiting for a server and failing over to the next are one thing: whoever has not answered by the time that nineteen of
twenty of its answers take (at most `failover_ms`) gets company. The first good answer wins.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from resolver import replies, wire
from resolver.answers import has_opt, read_answer, read_rcode
from resolver.compression import MalformedAnswerError
from resolver.local import zone_of
from resolver.replies import Answer
from resolver.rewriting import Terms
from resolver.upstreams.exchange import KEY_DO, KEY_PRIVATE, Exchange, Route
from resolver.upstreams.https import HttpsTransport
from resolver.upstreams.matching import Transport
from resolver.upstreams.server import Server
from resolver.upstreams.stream import StreamTransport
from resolver.upstreams.tls import tls_context
from resolver.upstreams.udp import UdpTransport
from resolver.wire import EDE_NETWORK_ERROR
from setting_values import UpstreamAddress
from settings import Upstream as UpstreamSettings

log = logging.getLogger(__name__)

TICKS_A_SECOND = 100
MAX_IN_FLIGHT = 20_000
MAX_WAITING = 2_000
"""For one answer: so many take 10 ms to be answered."""
MAX_ON_A_ROUTE = 15_000
"""So that a zone's own servers, gone silent, don't keep everybody else waiting."""
TRIES_EACH = 2
SILENCE = 2
"""How many times as long as until the next is asked a server may owe an answer, before it is asked last."""
HELPFUL = frozenset({wire.NOERROR, wire.NXDOMAIN, wire.YXDOMAIN})
"""What ends an exchange, unless it comes with nothing. Whoever answers anything else may know less than another."""
NO_EDNS = frozenset({wire.FORMERR, wire.NOTIMP})
"""What a server without EDNS says to a query with it, in a reply without an OPT record (RFC 6891 section 7)."""


Done = Callable[[Exchange, list[Any], "Server | None", "Answer | None"], None]
"""Called once an exchange is over: with who waited, and what the upstream answered, or None when there is nothing."""


class Forwarder:
    """Asks upstreams; identical questions in flight share one exchange."""

    def __init__(
        self,
        settings: UpstreamSettings,
        terms: Terms,
        done: Done,
        *,
        slow: Callable[[Exchange], None],
        slow_seconds: float,
        batch_done: Callable[[], None],
    ) -> None:
        """Take who is told that exchanges are done, that one takes long, and that all that arrived was handed on."""
        self._failover = settings.failover_ms / 1000
        self._try_seconds = settings.try_timeout_ms / 1000
        self._deadline = settings.deadline_ms / 1000
        self._terms = [terms] * KEY_PRIVATE + [terms._replace(private_zones=(".",))] * KEY_PRIVATE
        """How answers are read, by the last octet of their questions' keys."""
        self._done = done
        self._slow = slow
        self._slow_seconds = slow_seconds
        self._batch_done = batch_done
        self._ca_file = settings.ca_file
        self._in_flight: dict[bytes, Exchange] = {}
        self._wakes: dict[int, list[bytes]] = {}
        """The keys of the exchanges to look at again, by the tick when that is due."""
        self._ticking = False
        self._default = self._route(settings.servers)
        self._zones = {zone: self._route(addresses) for zone, addresses in settings.zones.items()}

    def _route(self, addresses: Iterable[UpstreamAddress]) -> Route:
        return Route([self._server(address) for address in addresses], silence=SILENCE * self._failover)

    def _server(self, address: UpstreamAddress) -> Server:
        stream = partial(StreamTransport, address, received=self._received, lost=self._lost)
        if address.scheme == "udp":
            datagrams = UdpTransport(address, self._received, self._lost, self._batch_done)
            return Server(address, datagrams, stream(tls=None), self._failover)
        if address.scheme == "https":
            tls = tls_context(self._ca_file, ["h2"])
            return Server(address, HttpsTransport(address, tls, self._received, self._lost), None, self._failover)
        dot = tls_context(self._ca_file, ["dot"]) if address.scheme == "tls" else None
        return Server(address, stream(tls=dot), None, self._failover)

    @property
    def in_flight(self) -> int:
        """Return how many exchanges are under way."""
        return len(self._in_flight)

    def status(self) -> list[dict[str, Any]]:
        """Return how each upstream is doing."""
        now, silence = time.monotonic(), SILENCE * self._failover
        return [
            {
                "upstream": server.name,
                "zone": zone,
                "trusted": server.is_trusted(now, silence),
                "latency_ms": round(server.latency * 1000, 1),
                "failures": server.failures,
            }
            for zone, route in {"": self._default, **self._zones}.items()
            for server in route.servers
        ]

    def takes_long(self, key: bytes) -> bool:
        """Tell whether a question is under way, and those who waited were told that it takes long."""
        exchange = self._in_flight.get(key)
        return exchange is not None and exchange.said

    def ask(self, key: bytes, name: str, waiter: object | None) -> bool:
        """Have a question answered and the waiter told; False when too much is in flight already.

        Questions of one key share an exchange. `done` may be called before this returns.
        """
        exchange = self._in_flight.get(key)
        if exchange is None:
            route = self._route_of(key, name) if self._zones else self._default
            if len(self._in_flight) >= MAX_IN_FLIGHT or route.in_flight >= MAX_ON_A_ROUTE:
                return False
            now = time.monotonic()
            exchange = self._in_flight[key] = Exchange(key, name, route, now)
            if waiter is not None:
                exchange.waiting.append(waiter)
            route.in_flight += 1
            self._try_next(exchange, now)
            if len(route.servers) > 1 and not exchange.finished and (probed := route.due_for_probe(now)) is not None:
                self._send(exchange, probed, now)
        elif waiter is not None:
            if len(exchange.waiting) >= MAX_WAITING:
                return False
            exchange.waiting.append(waiter)
        return True

    def _route_of(self, key: bytes, name: str) -> Route:
        if key[-5:-3] == DS:  # RFC 4035 section 3.1.4.1: the parent's side of a zone's cut has it
            name = name.partition(".")[2]
        return self._zones.get(zone_of(name, self._zones), self._default)

    def _try_next(self, exchange: Exchange, now: float) -> None:
        """Ask the next server; end the exchange when there is none, and nobody has yet to answer."""
        servers = exchange.order
        count = len(servers)
        most = TRIES_EACH * count if exchange.unhelped is None or not exchange.has_nothing else count
        while exchange.tries < most:
            server = servers[exchange.tries % count]
            exchange.tries += 1
            if self._send(exchange, server, now):
                again = exchange.tries >= count  # who is next has been asked before
                self._wake_at(exchange, now + (self._failover if again else server.patience))
                return
        if not exchange.sent and (exchange.unhelped or not exchange.given_up):
            self._finish(exchange, *(exchange.unhelped or (None, None)))

    def _send(self, exchange: Exchange, server: Server, now: float) -> bool:
        server.asked = now
        if server.plain_until > now and server not in exchange.plain:
            exchange.plain += (server,)
        if _is_sent(server.transport, exchange, server):
            exchange.sent.setdefault(server, now)
            return True
        exchange.ede = EDE_NETWORK_ERROR
        server.failed(now)
        return False

    # Time.

    def _wake_at(self, exchange: Exchange, moment: float) -> None:
        latest = exchange.begun + self._deadline
        exchange.due = tick = int(min(moment, latest) * TICKS_A_SECOND) + 1
        due = self._wakes.get(tick)
        if due is None:
            due = self._wakes[tick] = []
        due.append(exchange.key)
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(1 / TICKS_A_SECOND, self._tick)

    def _tick(self) -> None:
        """Look at the exchanges that were to be looked at by now."""
        now = time.monotonic()
        try:
            for tick in [tick for tick in self._wakes if tick <= now * TICKS_A_SECOND]:
                for key in self._wakes.pop(tick):
                    exchange = self._in_flight.get(key)
                    if exchange is not None and exchange.due == tick:
                        self._look_at(exchange, now)
        finally:  # a bug in one is not the end of all waiting
            self._ticking = bool(self._wakes)
            if self._ticking:
                asyncio.get_running_loop().call_later(1 / TICKS_A_SECOND, self._tick)

    def _look_at(self, exchange: Exchange, now: float) -> None:
        """Give up what has waited long enough, and ask the next server besides."""
        for server in [server for server, sent in exchange.sent.items() if now - sent >= self._try_seconds]:
            del exchange.sent[server]
            exchange.given_up = True
            server.failed(now)
        waited = now - exchange.begun
        if waited >= self._slow_seconds and not exchange.said:
            exchange.said = True
            try:
                self._slow(exchange)
            except Exception:  # or it would never be looked at again, and neither would those of the same tick
                log.exception("those who wait for %s can't be told that it takes long", exchange.name)
        if waited >= self._deadline or (exchange.has_nothing and exchange.tries >= len(exchange.order)):
            self._finish(exchange, *(exchange.unhelped or (None, None)))
            return
        due = exchange.due
        self._try_next(exchange, now)
        if exchange.due == due and not exchange.finished:  # nobody else could be asked
            self._wake_at(exchange, now + self._failover)

    # What comes back.

    def _received(self, exchange: Exchange, server: Server, data: bytes) -> None:
        """Take a message that answers the exchange's question."""
        sent = exchange.sent.pop(server, None)
        now = time.monotonic()
        if sent is not None:
            server.answered(now - sent, now, data)
        if exchange.finished:
            return
        if data[2] & TC_OCTET:
            self._ask_over_tcp(exchange, server, now)
            return
        try:
            bits = exchange.key[-1]
            answer = read_answer(data, exchange.question, exchange.name, self._terms[bits], do=bits & KEY_DO != 0)
            rcode = answer.rcode
            if not answer.answers or rcode not in HELPFUL:
                rcode, told = read_rcode(data, rcode)
        except MalformedAnswerError as problem:
            answer, rcode, told = replies.bare(wire.SERVFAIL), wire.SERVFAIL, (wire.EDE_NETWORK_ERROR, str(problem))
        except Exception:  # a bug costs this answer, not those that came with it
            log.exception("an answer from %s to %s can't be read: %s", server.name, exchange.name, data[:512].hex())
            answer, rcode, told = replies.bare(wire.SERVFAIL), wire.SERVFAIL, (wire.EDE_NETWORK_ERROR, "")
        # Behind the reading: whatever goes wrong from here on is no matter of what the upstream said.
        if rcode in HELPFUL and (answer.answers or rcode != wire.NOERROR or answer.authorities or answer.is_stripped):
            if exchange.plain and server in exchange.plain:
                self._helped_plainly(exchange, server, answer, data)
            self._finish(exchange, server, answer)
            return
        self._unhelped(exchange, server, answer if rcode == wire.NOERROR else replies.bare(rcode), told)
        if not (rcode in NO_EDNS and self._ask_plainly(exchange, server, data, now)) and not exchange.sent:
            self._try_next(exchange, now)

    def _unhelped(self, exchange: Exchange, server: Server, answer: Answer, told: tuple[int, str]) -> None:
        """Keep an answer for when nobody does better.

        NOERROR without a record, and without the SOA that says that there is none (RFC 2308 section 2.2), is what a
        lame server says, or one that refers us to others.
        """
        if answer.rcode == wire.NOERROR:
            exchange.unhelped = server, answer
        elif not exchange.has_nothing:
            exchange.unhelped, exchange.told = (server, answer), told

    def _ask_plainly(self, exchange: Exchange, server: Server, data: bytes, now: float) -> bool:
        """Ask once more without EDNS (RFC 6891 section 6.2.2), if a reply may mean that the server doesn't know it.

        With DO as well: an answer without signatures is worth more than none.
        """
        if server in exchange.plain or data[10:12] != b"\0\0":  # an error's only additional record would be its OPT
            return False
        exchange.plain += (server,)
        return self._send(exchange, server, now)

    def _helped_plainly(self, exchange: Exchange, server: Server, answer: Answer, data: bytes) -> None:
        """Learn that it helped to ask without EDNS, where records or an SOA came of it.

        With an OPT record they answer what was asked before, with EDNS. Without one, even that was asked of a server
        that knows none (RFC 6891 section 7).
        """
        if (answer.answers or answer.authorities) and not has_opt(data):
            server.knows_no_edns(exchange.begun)

    def _ask_over_tcp(self, exchange: Exchange, server: Server, now: float) -> None:
        """Ask for the whole of a truncated answer, which is never passed on as whole (RFC 2181 section 9)."""
        stream = server.over_tcp if exchange.cut.count(server) < TRIES_EACH else None  # it may be cut there as well
        exchange.cut += (server,)
        if stream is not None and _is_sent(stream, exchange, server):
            exchange.sent[server] = now
        elif not exchange.sent:
            self._try_next(exchange, now)

    def _lost(self, exchange: Exchange, server: Server) -> None:
        """Give up a try that can bring no answer any more: the network refused it."""
        if exchange.finished or exchange.sent.pop(server, None) is None:
            return
        now = time.monotonic()
        server.failed(now)
        exchange.ede = EDE_NETWORK_ERROR
        if not exchange.sent:
            self._try_next(exchange, now)

    def _finish(self, exchange: Exchange, server: Server | None, answer: Answer | None) -> None:
        """End an exchange, once, and tell; a bug in what that leads to costs those who waited, and nobody else."""
        if exchange.finished:
            return
        exchange.finished = True
        waiting, exchange.waiting = exchange.waiting, []
        for silent, sent in exchange.sent.items():
            silent.overtaken(sent)
        exchange.route.in_flight -= 1
        del self._in_flight[exchange.key]
        try:
            self._done(exchange, waiting, server, answer)
        except Exception:  # else replies that came in the same batch, or are due in the same tick, would go unseen
            log.exception("what was answered to %s can't be told to who waited", exchange.name)

    def give_up(self) -> None:
        """End every exchange with what there is."""
        for exchange in list(self._in_flight.values()):
            self._finish(exchange, *(exchange.unhelped or (None, None)))

    def close(self) -> None:
        """Let go of every socket."""
        for route in (self._default, *self._zones.values()):
            for server in route.servers:
                server.close()


def _is_sent(transport: Transport, exchange: Exchange, server: Server) -> bool:
    """Have a transport ask, and tell whether it could; a bug in one costs this try."""
    try:
        return transport.send(exchange, server)
    except Exception:
        log.exception("%s can't be asked", server.name)
        return False


TC_OCTET = wire.TC >> 8
DS = wire.TYPE_DS.to_bytes(2, "big")
