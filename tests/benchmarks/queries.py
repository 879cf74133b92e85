"""Queries as the load generator (load.c) reads them: who asks, and the octets that are sent.

Clients are numbered; the nth is always the same address of 127.0.0.0/8.
"""

from collections.abc import Container, Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import dns.name

HEADER = b"\0\0\1\0\0\1\0\0\0\0\0\0"
"""RFC 1035 section 4.1.1: a standard query with RD, one question; the ID is set when it leaves."""
TYPES = {"A": 1, "AAAA": 28, "HTTPS": 65}
OPT = b"\0\0\x29\x04\xd0\0\0\0\0"
"""RFC 6891 section 6.1.2: the root, type OPT, 1232 octets, no flags; the length of its options follows."""
COOKIE = 10
"""The option's code (RFC 7873 section 4)."""
QUESTION_TAIL = 4
"""Octets of type and class behind the name."""
SUNK = 0x8000
"""The bit of a query's length in a file that says that its name must be sunk."""
LOOPBACK = 127 << 24
SCATTER = 0x9E3779B1
"""Odd, so that no two clients share an address."""


class Query(NamedTuple):
    """What one client asks."""

    client: int
    """Its number, from 1 up to 16 million."""
    wire: bytes


def address_of(client: int) -> int:
    """Return a client's IPv4 address as a number; no two in a row are neighbours."""
    return LOOPBACK | client * SCATTER & 0xFFFFFF


@lru_cache(maxsize=100_000)
def name_wire(name: str) -> bytes:
    """Return a name's octets, uncompressed."""
    octets = dns.name.from_text(name).to_wire()
    assert octets is not None  # it is when it is written to a file
    return octets


def wire(name: bytes, rdtype: int) -> bytes:
    """Return a query for a name, given as octets, in class IN."""
    return HEADER + name + rdtype.to_bytes(2, "big") + b"\0\1"


def with_cookie(octets: bytes, cookie: bytes) -> bytes:
    """Return a query, which must have no OPT record, with one that holds a client's cookie of 8 octets."""
    option = COOKIE.to_bytes(2, "big") + len(cookie).to_bytes(2, "big") + cookie
    return octets[:11] + b"\1" + octets[12:] + OPT + len(option).to_bytes(2, "big") + option


def name_of(octets: bytes) -> bytes:
    """Return the name that a query, which must have no OPT record, asks for, as octets."""
    return octets[len(HEADER) : -QUESTION_TAIL]


def write(path: Path, queries: Iterable[Query], sunk: Container[bytes] = ()) -> Path:
    """Write a file for load.c, and return where it is. `sunk` are the names, as octets, that must be sunk."""
    with path.open("wb") as file:
        file.writelines(
            address_of(client).to_bytes(4, "big")
            + (len(octets) | (SUNK if sunk and name_of(octets) in sunk else 0)).to_bytes(2, "big")
            + octets
            for client, octets in queries
        )
    return path
