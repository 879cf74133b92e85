"""TLS towards upstreams, without sockets: octets in, octets out.

OpenSSL checks the certificate during the handshake, against the configured name or, where there is none, the address
(RFC 8310 section 8.1). What fails the check is told nothing, in plain least of all (section 5, strict privacy).
"""

import logging
import ssl
from contextlib import suppress
from typing import Protocol

log = logging.getLogger(__name__)

CHUNK = 1 << 16


class TlsError(Exception):
    """The upstream could not prove who it is, or spoke TLS badly; the message is for the operator's log."""


class Security(Protocol):
    """What stands between a socket and what is said over it."""

    is_established: bool
    """Whether something may be said yet."""
    is_ended: bool
    """Whether the upstream has said its last word."""

    def start(self) -> bytes:
        """Return the first octets for the network. Raises `TlsError`."""

    def receive(self, octets: bytes) -> bytes:
        """Take octets from the network and return what was said. Raises `TlsError`."""

    def send(self, said: bytes) -> bytes:
        """Return octets for the network: what is said, and what the protocol itself has to send. Raises `TlsError`."""

    def finish(self) -> bytes:
        """Return the last octets for the network."""


def tls_context(ca_file: str, protocols: list[str]) -> ssl.SSLContext:
    """Return what checks upstreams: against the authorities of a file or, when it is empty, the system's.

    The protocols are those offered in ALPN (RFC 7301): ``dot`` for TLS upstreams, ``h2`` for HTTPS ones.
    Where the file can't be read nobody is trusted: other upstreams, and what needs none, go on.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except OSError as problem:  # ssl.SSLError is one: the file was good when it was configured
        log.error("upstream.ca_file: %s can't be used (%s): no upstream is trusted", ca_file, problem)  # noqa: TRY400 - the operator's
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8310 section 8.1 by way of BCP 195; RFC 9113 section 9.2
    context.set_alpn_protocols(protocols)
    return context


class Plain:
    """A connection without TLS: what is said is what is sent."""

    is_established = True
    is_ended = False

    def start(self) -> bytes:
        """Return nothing: there is no handshake."""
        return b""

    def receive(self, octets: bytes) -> bytes:
        """Return the octets."""
        return octets

    def send(self, said: bytes) -> bytes:
        """Return what is said."""
        return said

    def finish(self) -> bytes:
        """Return nothing."""
        return b""


class TlsClient:
    """Makes the TLS of each connection to one upstream; each resumes the session of the one before it."""

    def __init__(self, context: ssl.SSLContext, name: str, required_protocol: str = "") -> None:
        """Check certificates for a name or an address. A required protocol must be agreed on in ALPN."""
        self.context = context
        self.name = name
        self.required_protocol = required_protocol
        self.session: ssl.SSLSession | None = None

    def connection(self) -> "Tls":
        """Return the TLS of a new connection."""
        session, self.session = self.session, None  # a ticket is used once: RFC 8446 appendix C.4
        return Tls(self, session)


class Tls:
    """The TLS of one connection."""

    def __init__(self, client: TlsClient, session: ssl.SSLSession | None) -> None:
        self._client = client
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        # For an address this checks the certificate's IP addresses and sends no SNI (RFC 6066 section 3).
        self._tls = client.context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=client.name, session=session
        )
        self.is_established = False
        self.is_ended = False

    def start(self) -> bytes:
        """Return the ClientHello. Raises `TlsError`."""
        self._shake_hands()
        return self._outgoing.read()

    def receive(self, octets: bytes) -> bytes:
        """Take octets and return what was said in them; `send` has what the handshake answers. Raises `TlsError`."""
        self._incoming.write(octets)
        if not self.is_established:
            self._shake_hands()
        return self._read() if self.is_established else b""

    def send(self, said: bytes) -> bytes:
        """Return what is said, encrypted, behind what the handshake has left. Raises `TlsError`."""
        try:
            if said:
                self._tls.write(said)  # takes all of it: the buffer behind it has no end
        except ssl.SSLError as problem:
            raise TlsError(_reason(problem)) from problem
        return self._outgoing.read()

    def finish(self) -> bytes:
        """Return the farewell (close_notify), without which no session may be resumed; the session is kept."""
        if self.is_established:
            with suppress(ssl.SSLError):  # it waits for the other side's farewell; we don't
                self._tls.unwrap()
            self._client.session = self._tls.session
        return self._outgoing.read()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as problem:
            raise TlsError(_reason(problem)) from problem
        required = self._client.required_protocol
        if required and self._tls.selected_alpn_protocol() != required:
            raise TlsError(f"it does not speak {required} (ALPN)")
        self.is_established = True

    def _read(self) -> bytes:
        parts = []
        try:
            while part := self._tls.read(CHUNK):
                parts.append(part)
            self.is_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_ended = True
        except ssl.SSLError as problem:
            raise TlsError(_reason(problem)) from problem
        return b"".join(parts)


def _reason(problem: ssl.SSLError) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {problem.verify_message}"
    return f"TLS failed: {(problem.reason or str(problem)).replace('_', ' ').lower()}"
