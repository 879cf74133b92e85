"""What clients reach over TCP: DNS itself, DNS over TLS and DNS over HTTPS, each on its endpoints."""

import asyncio
import errno
import logging
import os
import socket
import time
from pathlib import Path

from resolver.engine import Engine
from resolver.listeners.admission import Connections
from resolver.listeners.binding import bind, local_endpoints
from resolver.listeners.certificates import Certificates
from resolver.listeners.connection import Service
from resolver.listeners.framing import Framing, LengthPrefixed
from resolver.listeners.http1 import Http1
from resolver.listeners.http2 import Http2
from resolver.listeners.limits import Limits
from resolver.transports import HTTPS, TCP, TLS
from setting_values import Endpoint
from settings import Server

log = logging.getLogger(__name__)

BACKLOG = 512
ACCEPTS_PER_TURN = 16
REST_SECONDS = 1.0
"""How long nothing is accepted when the system has nothing left for another connection, and we have none to give."""
FAILURE_SECONDS = 0.1
"""How long nothing is accepted when that fails for another reason, again and again: the listener's own trouble."""
WORD_SECONDS = 60.0
"""Between words about it."""
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
LINGER_SECONDS = 1.0
"""For clients to take what is unsent when a worker stops."""


class Streams:
    """All listeners of one worker but for UDP's."""

    def __init__(self, server: Server, engine: Engine, limits: Limits | None = None) -> None:
        """Bind every endpoint. Raises `OSError`."""
        self.connections = Connections(engine, limits or Limits())
        self._certificates = _certificates(server)
        services = [(Service(TCP, lambda _: LengthPrefixed()), server.listen)]
        if self._certificates is not None:
            certificates = self._certificates
            services += [
                (Service(TLS, lambda _: LengthPrefixed(), lambda: certificates.dot), server.tls_listen),
                (Service(HTTPS, _http, lambda: certificates.doh), server.https_listen),
            ]
        self._listeners = [
            Listener(endpoint, service, self.connections)
            for service, listen in services
            for endpoint in local_endpoints(listen)
        ]

    def start(self) -> None:
        """Begin to accept."""
        for listener in self._listeners:
            listener.start()

    def look(self, now: float) -> None:
        """Do what is due each second: end connections whose time is over, look for another certificate."""
        self.connections.look(now)
        if self._certificates is not None:
            self._certificates.refresh()

    def stop_accepting(self) -> None:
        """Take no new connection; those that stand go on."""
        for listener in self._listeners:
            listener.close()

    async def close(self) -> None:
        """End every connection, once it has taken what is unsent or had time to."""
        self.stop_accepting()
        self.connections.end()
        until = time.monotonic() + LINGER_SECONDS
        while self.connections.unsent and time.monotonic() < until:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0.01)
        self.connections.abort()


class Listener:
    """Accepts connections on one endpoint."""

    def __init__(self, endpoint: Endpoint, service: Service, connections: Connections) -> None:
        self._endpoint = endpoint
        self._service = service
        self._connections = connections
        self._sock = bind(endpoint, socket.SOCK_STREAM)
        self._resting: asyncio.TimerHandle | None = None
        self._next_word = 0.0

    def start(self) -> None:
        """Begin to accept."""
        self._sock.listen(BACKLOG)
        asyncio.get_running_loop().add_reader(self._sock, self._acceptable)

    def _acceptable(self) -> None:
        gave_one_up = False
        failures = 0
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as problem:
                if problem.errno not in EXHAUSTED:
                    failures += 1
                    continue  # accept(2): the error of a connection that is gone already
                self._tell(problem)
                if gave_one_up or not self._connections.give_one_up():
                    self._rest(REST_SECONDS)
                    return
                gave_one_up = True
                continue
            gave_one_up = False
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.take(sock, address[0], self._service)
        if failures == ACCEPTS_PER_TURN:
            self._rest(FAILURE_SECONDS)

    def _tell(self, problem: OSError) -> None:
        """Say that the system has nothing left, now and then."""
        now = time.monotonic()
        if now >= self._next_word:
            self._next_word = now + WORD_SECONDS
            log.error(
                "%s: there is nothing left for another connection (%s): each takes the place of an older one",
                self._endpoint,
                os.strerror(problem.errno or 0),
            )

    def _rest(self, seconds: float) -> None:
        """Accept nothing for a while: what waits keeps the socket readable."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sock)
        self._resting = loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._resting = None
        asyncio.get_running_loop().add_reader(self._sock, self._acceptable)

    def close(self) -> None:
        """Accept no more."""
        if self._resting is not None:
            self._resting.cancel()
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()


def _certificates(server: Server) -> Certificates | None:
    if not (server.tls_listen or server.https_listen):
        return None
    return Certificates(Path(server.certificate), Path(server.private_key))


def _http(protocol: str | None) -> Framing:
    return Http2() if protocol == "h2" else Http1()
