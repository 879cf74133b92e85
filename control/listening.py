"""Finds out, before anything is started or replaced, whether everything can be listened on that the settings name."""

import logging
import os
import socket
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from control.errors import ListenError
from resolver.listeners.binding import bind, local_endpoints
from resolver.listeners.certificates import CertificateError, carries, load
from setting_values import Endpoint
from settings import Server

log = logging.getLogger(__name__)

_KINDS = {
    "listen": (socket.SOCK_DGRAM, socket.SOCK_STREAM),
    "tls_listen": (socket.SOCK_STREAM,),
    "https_listen": (socket.SOCK_STREAM,),
}


def check(server: Server, served: Server | None = None) -> None:
    """See whether clients can be served; workers hold the endpoints that are served already. Raises `ListenError`."""
    for problem in contradictions(server):
        raise ListenError(problem)
    held = {endpoint for setting in _KINDS for endpoint in getattr(served, setting, ())}
    for setting, kinds in _KINDS.items():
        new = tuple(endpoint for endpoint in getattr(server, setting) if endpoint not in held)
        for endpoint in local_endpoints(new):
            for kind in kinds:
                try_to_bind(f"server.{setting}", endpoint, kind)


def contradictions(server: Server) -> Iterator[str]:
    """Yield what can't work whatever else runs on this host: a certificate that doesn't fit, two services on a port."""
    if server.tls_listen or server.https_listen:
        try:
            load(Path(server.certificate), Path(server.private_key))
        except CertificateError as error:
            yield str(error)
    # Workers share ports among themselves, so the kernel would let DNS and TLS share one, each getting some.
    times = Counter(endpoint for setting in _KINDS for endpoint in set(local_endpoints(getattr(server, setting))))
    for setting in ("tls_listen", "https_listen"):
        for endpoint in local_endpoints(getattr(server, setting)):
            if times[endpoint] > 1:
                yield f"server.{setting}: {endpoint} is listened on for something else already"


def misnamed(server: Server) -> Iterator[str]:
    """Yield what keeps every client from proving that a server of this name is this one."""
    if server.name and not _carries(server, server.name):
        yield f"server.name: {server.certificate} doesn't carry {server.name}, so no client can use that name"


def unproved(server: Server) -> Iterator[str]:
    """Yield what keeps devices from finding the encrypted ports by themselves.

    RFC 9462 section 4.2: the certificate must carry the address under which a device knows us.
    """
    hosts = dict.fromkeys(endpoint.host for endpoint in local_endpoints(server.listen) if _is_for_others(endpoint.host))
    missing = [host for host in hosts if server.name and not _carries(server, host)]
    if missing:
        yield (
            f"server.certificate: {server.certificate} doesn't carry {', '.join(missing)}: "
            f"devices with that for a resolver don't find its encrypted ports by themselves"
        )


def warn(server: Server) -> None:
    """Log what lets a server that can be served by be less than it could be."""
    for problem in (*misnamed(server), *unproved(server)):
        log.warning("%s", problem)


def _carries(server: Server, host: str) -> bool:
    if not (server.tls_listen or server.https_listen):
        return True
    try:
        return carries(Path(server.certificate), Path(server.private_key), host)
    except CertificateError:  # which is told by `contradictions`
        return True


def _is_for_others(host: str) -> bool:
    address = ip_address(host)
    return not (address.is_loopback or address.is_link_local)


def try_to_bind(setting: str, endpoint: Endpoint, kind: socket.SocketKind) -> None:
    """Find out whether a port can be had. Raises `ListenError` naming the setting."""
    try:
        bind(endpoint, kind, shared=False).close()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ListenError(f"{setting}: {endpoint} can't be used: {reason}") from error
