"""DNS clients for tests: dnspython's messages over plain sockets, from any loopback address, and `dig`.

None of them sends a query twice, so each call is one datagram or message to the server.
"""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import dns.message

Address = tuple[str, int]
"""Host and port."""

TIMEOUT_SECONDS = 10.0  # longer than the product's own deadline for its upstreams, on a machine that stands still


def query(name: str, rdtype: str = "A", **options: Any) -> dns.message.Message:
    """Return a query with a random ID; options as `dns.message.make_query` takes them (`use_edns`, `payload`, ...)."""
    return dns.message.make_query(name, rdtype, **options)


def udp(
    server: Address,
    name: str,
    rdtype: str = "A",
    *,
    source: str = "",
    timeout: float = TIMEOUT_SECONDS,
    **options: Any,
) -> dns.message.Message:
    """Ask over UDP and return the answer to this query. Raises `TimeoutError` when none comes."""
    message = query(name, rdtype, **options)
    with udp_socket(server, source=source, timeout=timeout) as sock:
        sock.send(message.to_wire())
        response = dns.message.from_wire(sock.recv(65535))
    assert message.is_response(response), f"not an answer to {name} {rdtype}:\n{response}"
    return response


def tcp(
    server: Address,
    name: str,
    rdtype: str = "A",
    *,
    source: str = "",
    timeout: float = TIMEOUT_SECONDS,
    **options: Any,
) -> dns.message.Message:
    """Ask over a TCP connection of its own. Raises `OSError` when no answer comes."""
    message = query(name, rdtype, **options)
    with tcp_socket(server, source=source, timeout=timeout) as sock:
        send_framed(sock, message.to_wire())
        response = dns.message.from_wire(receive_framed(sock))
    assert message.is_response(response), f"not an answer to {name} {rdtype}:\n{response}"
    return response


# Raw octets, for what no sound client sends.


@contextmanager
def udp_socket(server: Address, *, source: str = "", timeout: float = TIMEOUT_SECONDS) -> Iterator[socket.socket]:
    """Give a UDP socket that is connected to the server."""
    with socket.socket(_family(server), socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        if source:
            sock.bind((source, 0))
        sock.connect(server)
        yield sock


@contextmanager
def tcp_socket(server: Address, *, source: str = "", timeout: float = TIMEOUT_SECONDS) -> Iterator[socket.socket]:
    """Give a TCP connection to the server."""
    with socket.create_connection(server, timeout, (source, 0) if source else None) as sock:
        yield sock


def exchange(server: Address, wire: bytes, *, source: str = "", timeout: float = TIMEOUT_SECONDS) -> bytes:
    """Send one datagram and return the next one that comes. Raises `TimeoutError` when none does."""
    with udp_socket(server, source=source, timeout=timeout) as sock:
        sock.send(wire)
        return sock.recv(65535)


def send_framed(sock: socket.socket, *wires: bytes) -> None:
    """Write messages to a stream in one go, each behind its length (RFC 1035 section 4.2.2)."""
    sock.sendall(b"".join(len(wire).to_bytes(2, "big") + wire for wire in wires))


def receive_framed(sock: socket.socket) -> bytes:
    """Read one message from a stream. Raises `ConnectionError` when the stream ends before it is whole."""
    return _read(sock, int.from_bytes(_read(sock, 2), "big"))


def _read(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = sock.recv(length - len(data))
        if not part:
            raise ConnectionError(f"the stream ended after {len(data)} of {length} octets")
        data += part
    return data


def _family(server: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server[0] else socket.AF_INET


# dig


class DigRecord(NamedTuple):
    """One record as dig prints it."""

    name: str
    """Without the trailing dot."""
    ttl: int
    rdtype: str
    rdata: str


@dataclass(frozen=True, slots=True)
class Dig:
    """What dig said."""

    status: str
    """``NOERROR``, ``NXDOMAIN``, ...; empty when no answer came."""
    flags: frozenset[str]
    answer: list[DigRecord]
    authority: list[DigRecord]
    ede: tuple[int, str] | None
    """The extended error (RFC 8914): its code and its text."""
    text: str
    """All that dig printed."""

    @property
    def rdata(self) -> list[str]:
        """Return the answer's data, sorted."""
        return sorted(record.rdata for record in self.answer)


def dig(server: Address, name: str, rdtype: str = "A", *options: str, source: str = "", seconds: int = 10) -> Dig:
    """Ask with the `dig` command: one try, EDNS and a cookie unless the options (``+noedns``) say otherwise."""
    command = ["dig", f"@{server[0]}", "-p", str(server[1]), "+tries=1", f"+time={seconds}", *options]
    command += ["-b", source] if source else []
    command += ["-q", name, "-t", rdtype]
    # dig exits 9 when no answer came, which the empty status tells.
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds + 5)
    return parse_dig(done.stdout + done.stderr)


_STATUS = re.compile(r"->>HEADER<<- opcode: \w+, status: (\w+),")
_FLAGS = re.compile(r"^;; flags:([^;]*);", re.MULTILINE)
_EDE = re.compile(r"^; EDE: (\d+)(?: \([^)]*\))?(?:: \((.*)\))?", re.MULTILINE)


def parse_dig(text: str) -> Dig:
    """Read dig's usual output."""
    status, flags, ede = _STATUS.search(text), _FLAGS.search(text), _EDE.search(text)
    return Dig(
        status=status[1] if status else "",
        flags=frozenset(flags[1].split()) if flags else frozenset(),
        answer=_section(text, "ANSWER"),
        authority=_section(text, "AUTHORITY"),
        ede=(int(ede[1]), ede[2] or "") if ede else None,
        text=text,
    )


def _section(text: str, title: str) -> list[DigRecord]:
    _, found, rest = text.partition(f";; {title} SECTION:\n")
    lines = rest.partition("\n\n")[0].splitlines() if found else []
    fields = [line.split(maxsplit=4) for line in lines]
    return [DigRecord(name.removesuffix("."), int(ttl), rdtype, rdata) for name, ttl, _, rdtype, rdata in fields]
