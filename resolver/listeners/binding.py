"""Which sockets there are: one per local address, shared with the other workers."""

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import ifaddr

from setting_values import Endpoint

RECEIVE_BUFFER = 4 << 20  # octets: what a burst of a whole school needs while a worker is busy


def local_endpoints(listen: tuple[Endpoint, ...]) -> list[Endpoint]:
    """Return the endpoints with a wildcard spelled out: one per local address, so replies come from the one asked."""
    endpoints: list[Endpoint] = []
    for endpoint in listen:
        if ip_address(endpoint.host).is_unspecified:
            version = ip_address(endpoint.host).version
            endpoints += [Endpoint(host, endpoint.port) for host in _local_addresses(version)]
        else:
            endpoints.append(endpoint)
    return list(dict.fromkeys(endpoints))


def _local_addresses(version: int) -> Iterator[str]:
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if ip.is_IPv4 and version == 4:
                yield str(ip.ip)
            elif ip.is_IPv6 and version == 6:
                assert isinstance(ip.ip, tuple)
                host, _, scope = ip.ip
                yield f"{host}%{adapter.name}" if scope else str(host)


def bind(endpoint: Endpoint, kind: socket.SocketKind, *, shared: bool = True) -> socket.socket:
    """Return a bound socket, shared with the other workers. Raises `OSError`."""
    family, _, _, _, address = socket.getaddrinfo(endpoint.host, endpoint.port, type=kind, flags=socket.AI_NUMERICHOST)[
        0
    ]
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
