"""One TCP connection to an upstream: a socket, and the TLS on it. Knows nothing of what is said over it.

asyncio's own transports are not used: they hold themselves in circles that nobody collects (`resolver.garbage`), resume
no TLS session, and cost several times this.
"""

import asyncio
import os
import socket
from contextlib import suppress
from typing import Protocol

from resolver.upstreams.tls import Security, TlsError

CHUNK = 1 << 16


class User(Protocol):
    """Who is told what happens to a connection."""

    def connected(self) -> None:
        """Know that something may be said from now on."""

    def received(self, data: bytes) -> None:
        """Take what was said."""

    def disconnected(self, reason: str) -> None:
        """Know that it ended, and not by `Connection.close`: the last call."""


class Connection:
    """A connection that is being opened, stands, or has ended."""

    def __init__(self, host: str, port: int, security: Security, user: User) -> None:
        """Begin to connect to an address. Raises `OSError` when that is refused at once."""
        self._loop = asyncio.get_running_loop()
        self._security = security
        self._user: User | None = user
        self.is_reached = False
        """Whether the server's host has said a word."""
        self._unsent = bytearray()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(BlockingIOError):
                self._socket.connect((host, port))
            self._loop.add_writer(self._socket, self._connected)
        except OSError:
            self._socket.close()
            raise

    @property
    def unsent(self) -> int:
        """Return how many octets the network hasn't taken yet."""
        return len(self._unsent)

    def write(self, said: bytes) -> None:
        """Say something, once `User.connected` was called."""
        if self._user is not None:
            try:
                self._send(self._security.send(said))
            except TlsError as problem:
                self._end(str(problem))

    def close(self) -> None:
        """End it; its user hears no more."""
        if self._user is None:
            return
        with suppress(OSError):  # a farewell that doesn't fit is left out
            farewell = self._security.finish()
            if farewell and not self._unsent:
                self._socket.send(farewell)
        self._release()

    def _connected(self) -> None:
        self._loop.remove_writer(self._socket)
        self.is_reached = True
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._end(os.strerror(code))
            return
        self._loop.add_reader(self._socket, self._readable)
        try:
            self._send(self._security.start())
        except TlsError as problem:
            self._end(str(problem))
            return
        if self._security.is_established and self._user is not None:
            self._user.connected()

    def _readable(self) -> None:
        try:
            octets = self._socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as problem:
            self._end(problem.strerror or str(problem))
            return
        if octets:
            self._take(octets)
        else:
            established = self._security.is_established
            self._end("it closed the connection" if established else "it closed the connection during the handshake")

    def _take(self, octets: bytes) -> None:
        security = self._security
        was_established = security.is_established
        try:
            data = security.receive(octets)
            self._send(security.send(b""))
        except TlsError as problem:
            self._refuse(str(problem))
            return
        if self._user is not None and security.is_established and not was_established:
            self._user.connected()
        if self._user is not None and data:
            self._user.received(data)
        if security.is_ended:
            self._end("it closed the connection")

    def _refuse(self, reason: str) -> None:
        """End it with the alert that TLS has left to send."""
        with suppress(OSError, TlsError):
            self._socket.send(self._security.send(b""))
        self._end(reason)

    def _send(self, octets: bytes) -> None:
        if not octets or self._user is None:
            return
        if not self._unsent:
            try:
                sent = self._socket.send(octets)
            except BlockingIOError:
                sent = 0
            except OSError as problem:
                self._end(problem.strerror or str(problem))
                return
            octets = octets[sent:]
        if octets:
            if not self._unsent:
                self._loop.add_writer(self._socket, self._writable)
            self._unsent += octets

    def _writable(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as problem:
            self._end(problem.strerror or str(problem))
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._socket)

    def _end(self, reason: str) -> None:
        user = self._user
        if user is not None:
            self._security.finish()
            self._release()
            user.disconnected(reason)

    def _release(self) -> None:
        """Let go of the socket and of the user, who holds this: so nothing stays in a circle."""
        self._user = None
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
