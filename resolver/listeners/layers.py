"""What lies between a connection's octets and its framing: nothing, or TLS. Without sockets."""

import ssl
from typing import Protocol


class TlsError(Exception):
    """The client speaks no TLS that we take; `Tls.output` holds the alert that tells it so."""


class Layer(Protocol):
    """What a connection needs to know of the layer below its framing."""

    @property
    def is_established(self) -> bool:
        """Tell whether the framing's octets can pass."""

    @property
    def is_over(self) -> bool:
        """Tell whether the client has said that nothing more comes."""

    @property
    def has_more(self) -> bool:
        """Tell whether `read` may bring more."""

    @property
    def protocol(self) -> str | None:
        """Return what was agreed on by ALPN (RFC 7301)."""

    def receive(self, data: bytes) -> None:
        """Take octets from the client. Raises `TlsError`."""

    def read(self, most: int) -> bytes:
        """Return octets for the framing; empty: there are none. Raises `TlsError`."""

    def write(self, data: bytes) -> None:
        """Take octets of the framing's, once established. Raises `TlsError`."""

    def output(self) -> bytes:
        """Return the octets that are to be sent now."""

    def close(self) -> None:
        """Say goodbye: `output` brings it."""


class Plain:
    """Nothing in between."""

    is_established = True
    is_over = False
    protocol = None

    def __init__(self) -> None:
        self._received = b""
        self._written = b""

    @property
    def has_more(self) -> bool:
        """Tell whether `read` may bring more."""
        return bool(self._received)

    def receive(self, data: bytes) -> None:
        """Take octets from the client."""
        self._received += data

    def read(self, most: int) -> bytes:
        """Return octets for the framing."""
        data, self._received = self._received[:most], self._received[most:]
        return data

    def write(self, data: bytes) -> None:
        """Take octets of the framing's."""
        self._written += data

    def output(self) -> bytes:
        """Return the octets that are to be sent now."""
        data, self._written = self._written, b""
        return data

    def close(self) -> None:
        """TCP's own end says it."""


class Tls:
    """The server's side of one TLS connection (RFC 8446, RFC 5246)."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.is_established = False
        self.is_over = False
        self.protocol: str | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    @property
    def has_more(self) -> bool:
        """Tell whether `read` may bring more; when it brings nothing, OpenSSL has taken in what there was."""
        return self._object.pending() > 0 or self._incoming.pending > 0

    def receive(self, data: bytes) -> None:
        """Take octets from the client, and go on with the handshake. Raises `TlsError`."""
        self._incoming.write(data)
        if self.is_established:
            return
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as problem:
            raise TlsError(problem.reason or str(problem)) from None
        self.is_established = True
        self.protocol = self._object.selected_alpn_protocol()

    def read(self, most: int) -> bytes:
        """Return octets for the framing; empty: there are none. Raises `TlsError`."""
        if not self.is_established:
            return b""
        try:
            data = self._object.read(most)
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLZeroReturnError:
            data = b""
        except ssl.SSLError as problem:
            raise TlsError(problem.reason or str(problem)) from None
        self.is_over = not data  # the client's close_notify (RFC 8446 section 6.1)
        return data

    def write(self, data: bytes) -> None:
        """Take octets of the framing's, once established. Raises `TlsError`."""
        done = 0
        while done < len(data):
            try:
                done += self._object.write(data[done:])
            except ssl.SSLError as problem:
                raise TlsError(problem.reason or str(problem)) from None

    def output(self) -> bytes:
        """Return the octets that are to be sent now."""
        return self._outgoing.read()

    def close(self) -> None:
        """Write a close_notify (RFC 8446 section 6.1); the client's isn't waited for."""
        if self.is_established:
            try:
                self._object.unwrap()
            except ssl.SSLError:  # it would wait, or the client's came already
                return
