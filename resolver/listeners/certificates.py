"""The certificate of this node: loaded, and loaded again when its files change.

A certificate that is renewed takes two files to replace, one after the other. Each pair is tried on a context of its
own first; one that doesn't fit leaves the last good one in use. Connections that stand keep what they began with.
"""

import logging
import ssl
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

DOT_PROTOCOLS = ["dot"]  # RFC 7858's name in IANA's registry of ALPN protocols
DOH_PROTOCOLS = ["h2", "http/1.1"]  # RFC 8484 section 5.2: HTTP/2 is the least that is recommended

_ANOTHERS = {62, 64}  # X509_verify_cert_error_string(3): HOSTNAME_MISMATCH, IP_ADDRESS_MISMATCH

Stamp = tuple[tuple[int, int, int], ...]


class CertificateError(Exception):
    """The certificate and its key can't be used: a sentence for the operator that names the setting."""


class Certificates:
    """Gives the context that new connections are to use."""

    def __init__(self, certificate: Path, private_key: Path) -> None:
        """Load the pair; where it can't be used, none is offered until it can, and so no connection comes about."""
        self._certificate, self._private_key = certificate, private_key
        self._stamp = self._look()
        try:
            self.dot, self.doh = load(certificate, private_key)
        except CertificateError as error:
            log.error("%s; nobody is served over TLS and HTTPS until it can", error)  # noqa: TRY400 - the operator's
            self.dot, self.doh = _context(DOT_PROTOCOLS), _context(DOH_PROTOCOLS)

    def refresh(self) -> None:
        """Load the pair again if its files have changed; one that can't be used is told of once."""
        stamp = self._look()  # before they are read: what changes meanwhile is seen the next time
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.dot, self.doh = load(self._certificate, self._private_key)
        except CertificateError as error:
            log.error("%s; the last one stays in use", error)  # noqa: TRY400 - the operator's, not a bug
        else:
            log.info("the certificate was read again from %s", self._certificate)

    def _look(self) -> Stamp:
        return tuple(_stamp(path) for path in (self._certificate, self._private_key))


def load(certificate: Path, private_key: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts for DNS over TLS and over HTTPS. Raises `CertificateError` for a pair that can't be used."""
    contexts = _context(DOT_PROTOCOLS), _context(DOH_PROTOCOLS)
    for context in contexts:
        try:
            # With a password, so that OpenSSL asks nobody at a terminal for it.
            context.load_cert_chain(certificate, private_key, password="")
        except (OSError, ValueError) as problem:  # ssl.SSLError is an OSError
            raise CertificateError(
                f"server.certificate: {certificate} and the private key {private_key} can't be used: {_reason(problem)}"
            ) from problem
    return contexts


def carries(certificate: Path, private_key: Path, host: str) -> bool:
    """Tell whether a client that trusts the certificate finds a name or an IP address in it (RFC 9525).

    What else clients may find wrong with it is not told. Raises `CertificateError` as `load`.
    """
    offered = load(certificate, private_key)[0]
    context = ssl.create_default_context(cafile=str(certificate))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # whoever issued it, it is what is trusted
    context.hostname_checks_common_name = False  # RFC 9525 section 2
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=host)
    server = offered.wrap_bio(to_server, to_client, server_side=True)
    try:
        for end in (client, server, client):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLError as problem:
        return getattr(problem, "verify_code", 0) not in _ANOTHERS
    return True


def _context(protocols: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9325 section 3.1.1
    context.options |= ssl.OP_NO_RENEGOTIATION  # RFC 9325 section 3.5; it costs the server more than the client
    context.set_alpn_protocols(protocols)  # a client that offers none of them, or none at all, is served nevertheless
    return context


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_mtime_ns, status.st_size


def _reason(problem: OSError | ValueError) -> str:
    if not isinstance(problem, ssl.SSLError):
        return getattr(problem, "strerror", None) or str(problem)
    if problem.reason == "KEY_VALUES_MISMATCH":
        return "the key is not the certificate's"
    if problem.reason is None:  # OpenSSL's "PEM lib" tells no more
        return "one of them is no PEM file, or the key has a password"
    return problem.reason.lower().replace("_", " ")
