"""Under which names the API may be called. Pure.

A page in somebody's browser may have its own name resolve to this server (DNS rebinding) and would then call us as
its own origin. Its requests carry its name in Host, which is none of ours.
"""

from collections.abc import Iterable
from ipaddress import ip_address

LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


def host_of(header: str) -> str | None:
    """Return the host of a Host header (RFC 9110 section 7.2), lower case and without its port; None: it is none."""
    header = header.strip().lower()
    if header.startswith("["):
        host, bracket, rest = header[1:].partition("]")
        if not bracket or (rest and not _is_port(rest)):
            return None
        return host if _is_address(host) and ":" in host else None
    host, colon, _ = header.partition(":")
    if not host or (colon and not _is_port(header[len(host) :])):
        return None
    return host.removesuffix(".")


def is_ours(header: str, names: Iterable[str]) -> bool:
    """Tell whether a Host header names this server: by address, as loopback, or by a configured name."""
    host = host_of(header)
    if host is None:
        return False
    # Every address is fine: nobody can make an address resolve to another.
    return _is_address(host) or host in LOOPBACK_NAMES or host in {name.lower().removesuffix(".") for name in names}


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and (text == ":" or text[1:].isdigit())


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
