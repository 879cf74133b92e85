"""A steady load of queries over UDP that notices every answer that comes late or not at all.

Queries leave at fixed times, whether or not answers come, so that a server that stalls can't slow its own examination.
An answer's arrival is the kernel's time stamp of its datagram, not the moment at which this process gets to it.
"""

import random
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Self

import dns.message
import dns.rcode

from tests.support.dns_client import Address

RATE = 500
"""Queries a second."""
LATE_MS = 20.0
PATIENCE_SECONDS = 5.0
"""How long a stub resolver waits (resolv.conf(5)): later answers help nobody."""
EVERY_NTH_ASKS_FOR_THE_NEW = 25

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; the socket module doesn't name it
_TIMESPEC = struct.Struct("@qq")
_BUFFER = 4 << 20
_LONGEST_ANSWER = 4096
_NANOSECONDS = 1_000_000_000
_NAMED, _OTHER, _NEW = range(3)


@dataclass(slots=True)
class Watch:
    """What a prober saw."""

    sent: int = 0
    answers: list[tuple[float, float]] = field(default_factory=list)
    """For each that came in time: how many milliseconds it took, and how many seconds after the change it was asked."""
    lost: int = 0
    """Queries without an answer in time."""
    wrong: int = 0
    """Listed names that were let through, and others that were blocked."""
    silence_ms: float = 0.0
    """The longest time without any answer."""
    in_force_seconds: float | None = None
    """From the change's begin until the new name was blocked first."""

    @property
    def latest_ms(self) -> float:
        """Return the slowest answer that came in time."""
        return max(self.answers, default=(0.0, 0.0))[0]

    @property
    def late(self) -> int:
        """Return how many answers came after `LATE_MS`."""
        return sum(latency > LATE_MS for latency, _ in self.answers)


class Prober(threading.Thread):
    """Asks one server, from `start` until `finish`; half listed names, half others, in turn.

    The server blocks with NXDOMAIN, and its upstream knows every name. `new` is a name that is about to be listed: now
    and then a new name below it is asked for, which no cache can know.
    """

    def __init__(self, server: Address, listed: Sequence[str], others: Sequence[str], new: str) -> None:
        super().__init__(daemon=True)
        self.is_new_blocked = threading.Event()
        self._server = server
        chance = random.Random(3)
        self._listed = [_wire(name) for name in chance.sample(listed, len(listed))]
        self._others = [_wire(name) for name in others]
        self._new = new
        self._changed_at = time.time_ns()
        self._is_changing = False
        self._done = threading.Event()
        self._waiting: dict[int, tuple[int, int]] = {}  # by ID: when it was sent, and what it asks for
        self._arrivals: list[int] = []
        self._watch = Watch()

    @classmethod
    def idle(cls, server: Address, names: Sequence[str]) -> Self:
        """Return one for a server whose list doesn't change."""
        return cls(server, names, names, "never.new.example")

    def mark(self) -> None:
        """Note that the change begins now: call it once things have begun."""
        self._changed_at = time.time_ns()
        self._is_changing = True

    def finish(self) -> Watch:
        """Stop asking, wait for what is still to come, and return what was seen."""
        self._done.set()
        self.join()
        self._watch.lost += len(self._waiting)
        self._watch.silence_ms = max((later - earlier for earlier, later in pairwise(self._arrivals)), default=0) / 1e6
        return self._watch

    def run(self) -> None:
        """Ask at a steady pace. Not to be called: `start` does."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            sock.setblocking(False)
            due = time.time_ns()
            self._arrivals.append(due)
            for number, (kind, query) in enumerate(self._queries()):
                due += _NANOSECONDS // RATE
                self._receive_until(sock, due)
                if self._done.is_set():
                    break
                self._send(sock, number & 0xFFFF, kind, query)
            self._last_answers(sock)

    def _queries(self) -> Iterator[tuple[int, bytes]]:
        """Yield what to ask, without an ID."""
        for number in count():
            if number % EVERY_NTH_ASKS_FOR_THE_NEW == 0:
                yield _NEW, _wire(f"q{number}.{self._new}")
            elif number % 2:
                yield _NAMED, self._listed[number // 2 % len(self._listed)]
            else:
                yield _OTHER, self._others[number // 2 % len(self._others)]

    def _send(self, sock: socket.socket, query_id: int, kind: int, query: bytes) -> None:
        if query_id in self._waiting:  # since 65,536 queries
            self._watch.lost += 1
        self._watch.sent += 1
        self._waiting[query_id] = (time.time_ns(), kind)
        try:
            sock.sendto(query_id.to_bytes(2, "big") + query, self._server)
        except OSError:  # the buffer is full: no answer will come
            return

    def _last_answers(self, sock: socket.socket) -> None:
        until = time.time_ns() + int(PATIENCE_SECONDS * _NANOSECONDS)
        while self._waiting and time.time_ns() < until:
            self._receive_until(sock, min(until, time.time_ns() + _NANOSECONDS // 10))

    def _receive_until(self, sock: socket.socket, moment: int) -> None:
        while (left := moment - time.time_ns()) > 0:
            if not select.select([sock], [], [], left / _NANOSECONDS)[0]:
                return
            data, ancillary, _, _ = sock.recvmsg(_LONGEST_ANSWER, socket.CMSG_SPACE(_TIMESPEC.size))
            self._take(data, _stamp(ancillary))

    def _take(self, data: bytes, arrived_at: int) -> None:
        asked = self._waiting.pop(int.from_bytes(data[:2], "big"), None)
        if asked is None:  # answered twice
            return
        sent_at, kind = asked
        self._arrivals.append(arrived_at)
        latency = (arrived_at - sent_at) / 1e6
        if latency > PATIENCE_SECONDS * 1000:
            self._watch.lost += 1
            return
        self._watch.answers.append((latency, (sent_at - self._changed_at) / _NANOSECONDS))
        blocked = data[3] & 0x0F == dns.rcode.NXDOMAIN
        if kind != _NEW:
            self._watch.wrong += blocked != (kind == _NAMED)
        elif blocked and self._is_changing and not self.is_new_blocked.is_set():
            self._watch.in_force_seconds = (arrived_at - self._changed_at) / _NANOSECONDS
            self.is_new_blocked.set()


def _wire(name: str) -> bytes:
    """Return a query for the name's address, without its ID."""
    return dns.message.make_query(name, "A").to_wire()[2:]


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> int:
    """Return when the kernel took a datagram in, in nanoseconds since the epoch."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return int(seconds) * _NANOSECONDS + int(nanoseconds)
    return time.time_ns()
