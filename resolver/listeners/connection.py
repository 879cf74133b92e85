"""One client's connection, whatever runs over it: the socket, how much is taken from it and when it ends.

What the octets mean is the framing's matter, what becomes of the messages the engine's. Nothing here may refer to
itself in a circle once a connection has ended (`resolver.garbage`): so there are no asyncio transports, which do.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from resolver import wire
from resolver.engine import Engine
from resolver.listeners.framing import NEVER, Framing, Message
from resolver.listeners.layers import Layer, Plain, Tls, TlsError
from resolver.listeners.limits import Limits
from resolver.listeners.outgoing import NOT_NOW, Outgoing

log = logging.getLogger(__name__)

RECEIVE = 16_384  # octets: as much as a TLS record carries
MESSAGES_PER_TURN = 16  # of one connection, before others have their turn


class Service(NamedTuple):
    """What is served on a port."""

    transport: str
    """How the log names it."""
    framing: Callable[[str | None], Framing]
    """Makes the framing for what was agreed on by ALPN."""
    context: Callable[[], ssl.SSLContext] | None = None
    """Gives the TLS context for a new connection; None: it is not encrypted."""


class Connection:
    """One client's stream: its messages are answered as they finish."""

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        service: Service,
        engine: Engine,
        limits: Limits,
        left: Callable[["Connection"], None],
    ) -> None:
        """Begin to read from an accepted socket; `left` is called once, when it is closed."""
        self.peer = peer
        self.in_flight = 0
        """Messages that wait for their answers."""
        self.last_active = self._opened = time.monotonic()
        """When a whole message came or an answer left, last."""
        self.is_closed = False
        self._sock = sock
        self._service = service
        self._engine = engine
        self._limits = limits
        self._left = left
        self._loop = asyncio.get_running_loop()
        self._layer: Layer = Plain() if service.context is None else Tls(service.context())
        self._most_in_flight = limits.in_flight
        self._framing: Framing | None = None
        self._agree()
        self._outgoing = Outgoing(sock, self._moved)
        self._stalled_since = NEVER
        self._ending_since = NEVER
        self._ended = False
        """Whether the client has said that nothing more comes; answers may still leave."""
        self._reads = True
        self._turn_is_due = False
        self._held_up = False
        """Whether what has arrived may hold more messages than were handed on."""
        self._in_turn = False
        self._loop.add_reader(sock, self._readable)

    # From the client.

    def _readable(self) -> None:
        if self._turn_is_due:  # what is there comes first
            return
        try:
            data = self._sock.recv(RECEIVE)
        except NOT_NOW:
            return
        except OSError:
            self.abort()
            return
        if self.is_ending:
            if not data:
                self.abort()
            return  # what comes after the end is thrown away, so that it makes the kernel send no reset
        try:
            if data:
                self._layer.receive(data)
            else:
                self._ended = True
        except TlsError as problem:
            self._end_for(problem)
        else:
            self._turn()

    def _turn(self) -> None:
        """Hand on some of what has arrived; the rest when others had their turn."""
        self._turn_is_due = False
        if self.is_closed or self.is_ending:
            return
        self._in_turn = True  # so that the answers of a turn leave in one write
        try:
            self._held_up = self._hand_on()
            self._engine.flush()
        except TlsError as problem:
            self._end_for(problem)
        except Exception:
            log.exception("a connection from %s failed", self.peer)
            self.abort()
        finally:
            self._in_turn = False
        self._settle()

    def _hand_on(self) -> bool:
        """Give the engine what is whole; tell whether there may be more. Raises `TlsError`."""
        framing = self._framing or self._agree()
        if framing is None:
            return False
        if self._must_wait():
            return True
        data = self._layer.read(framing.most_at_once)
        now = time.monotonic()
        if data:
            framing.receive(data, now)
        elif self._layer.is_over:
            self._ended = True
        received = time.time_ns() // 1000
        for _ in range(MESSAGES_PER_TURN):
            message = framing.next_message()
            if message is None:
                return self._layer.has_more
            self.last_active = now
            self._take(message, received)
            if self.in_flight >= self._most_in_flight:
                break
        return True

    def _agree(self) -> Framing | None:
        """Return the framing that was agreed on; None: not yet."""
        if not self._layer.is_established:
            return None
        framing = self._framing = self._service.framing(self._layer.protocol)
        self._most_in_flight = min(self._limits.in_flight, framing.most_in_flight)
        return framing

    def _take(self, message: Message, received: int) -> None:
        data, target = message
        answered = wire.is_query(data)  # nothing else ever is: RFC 1035 section 4.1.1
        self.in_flight += answered
        try:
            self._engine.take(data, self.peer, self._service.transport, self._reply, target, received)
        except Exception:
            log.exception("a message from %s was not understood", self.peer)
            self.in_flight -= answered

    def _must_wait(self) -> bool:
        """Tell whether nothing more is to be taken until answers have left.

        Those that a framing holds don't count: what lets them leave must still be read.
        """
        return self.in_flight >= self._most_in_flight or self._outgoing.unsent > self._limits.unsent_pause

    # To the client.

    def _reply(self, reply: bytes, target: object) -> None:
        """Take an answer from the engine."""
        self.in_flight -= 1
        self.last_active = time.monotonic()
        if self.is_closed or self.is_ending or self._framing is None:
            return
        self._framing.reply(target, reply)
        if not self._in_turn:
            self._settle()

    def _settle(self) -> None:
        """Send what there is to send, and see how to go on."""
        self._send_output()
        framing = self._framing
        unsent = self._outgoing.unsent + (framing.held if framing is not None else 0)
        if unsent > self._limits.unsent:
            self.abort()
        if self.is_closed or self._ending_since != NEVER:
            return
        if unsent <= self._limits.unsent_pause:
            self._stalled_since = NEVER
        elif self._stalled_since == NEVER:
            self._stalled_since = time.monotonic()
        nothing_more = self._ended and not self._held_up and not self.in_flight
        if nothing_more or (framing is not None and framing.is_over):
            self.end()
            return
        waits = self._must_wait()
        if self._held_up and not waits and not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)
        self._read(wanted=not waits and not self._ended)

    def _send_output(self) -> None:
        """Bring the framing's octets through the layer to the socket."""
        if self.is_closed:
            return
        layer, framing = self._layer, self._framing
        if framing is not None:
            data = framing.output()
            try:
                if data:
                    layer.write(data)
            except TlsError as problem:
                log.debug("TLS with %s failed: %s", self.peer, problem)
                self.abort()
                return
        data = layer.output()
        if data:
            self._outgoing.send(data)
            if self._outgoing.is_lost:
                self.abort()

    def _moved(self) -> None:
        """See how to go on when some of what was left has been sent."""
        if self._outgoing.is_lost:
            self.abort()
        elif self.is_ending:
            self._finish()
        else:
            self._settle()

    def _read(self, *, wanted: bool) -> None:
        if wanted != self._reads:
            self._reads = wanted
            if wanted:
                self._loop.add_reader(self._sock, self._readable)
            else:
                self._loop.remove_reader(self._sock)

    # The end.

    @property
    def is_ending(self) -> bool:
        """Tell whether no message is taken any more."""
        return self._ending_since != NEVER

    @property
    def unsent(self) -> int:
        """Return the octets that the kernel has not taken yet."""
        return self._outgoing.unsent

    def look_at(self, now: float) -> None:
        """End what has been silent, slow or in the way for too long."""
        limits, framing = self._limits, self._framing
        if self.is_ending:
            if now - self._ending_since > limits.closing_seconds:
                self.abort()
            return
        if framing is None:
            if now - self._opened > limits.handshake_seconds:
                self.abort()
            return
        if now - self._stalled_since > limits.stalled_seconds:
            self.abort()
            return
        silence = limits.answer_seconds if self.in_flight else limits.idle_seconds
        if now - self.last_active > silence or now - framing.begun > limits.message_seconds:
            self.end()

    def end(self) -> None:
        """Take no more, send what is unsent, and close."""
        if self.is_closed or self.is_ending:
            return
        self._ending_since = time.monotonic()
        if self._framing is not None:
            self._framing.close()
        self._send_output()
        self._layer.close()
        self._send_output()
        self._finish()

    def _end_for(self, problem: TlsError) -> None:
        log.debug("TLS with %s failed: %s", self.peer, problem)
        self.end()  # the alert leaves with it

    def _finish(self) -> None:
        """Close our end when all is sent, and wait for the client to close the other: it may still be sending."""
        if self.is_closed or self._outgoing.unsent:
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:  # the client is gone
            self._ended = True
        if self._ended:
            self.abort()
        else:
            self._read(wanted=True)

    def abort(self) -> None:
        """Close at once."""
        if self.is_closed:
            return
        self.is_closed = True
        self._loop.remove_reader(self._sock)
        self._outgoing.stop()
        with suppress(OSError):
            self._sock.close()
        if self._framing is not None:
            self._framing.release()
        self._left(self)
