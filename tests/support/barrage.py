"""A load whose every answer can be matched to its log row: each client asks each question once, and never again.

Bounded: so many queries a second at most, and so many without an answer. While nobody answers it all but stops.
"""

import random
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

import dns.message
import dns.rdatatype

from tests.support.dns_client import Address, receive_framed, send_framed

UNANSWERED = 200
"""Queries under way at most, over UDP."""
PATIENCE_SECONDS = 1.0
"""After this long a query counts as unanswered; an answer that comes later still counts as an answer."""
LINGER_SECONDS = 6.0  # at the end: longer than the product waits for its upstreams
TCP_TIMEOUT_SECONDS = 6.0
STREAM_PAUSE_SECONDS = 0.08


class Question(NamedTuple):
    """One question of one client: what a log row must repeat."""

    client: str
    qname: str
    qtype: str
    transport: str


@dataclass
class Barrage:
    """Asks; `sent` and `rcodes` may be read once `join` has returned."""

    server: Address
    per_second: float
    sent: set[Question] = field(default_factory=set)
    rcodes: dict[Question, int] = field(default_factory=dict)
    """The answers' rcodes: whatever is in here, a client has received."""
    doubled: list[Question] = field(default_factory=list)
    """Questions that were answered more than once."""
    failures: list[Exception] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, questions: Iterator[Question], tcp_questions: Iterator[Question], *, streams: int = 4) -> None:
        """Begin, in threads: one for UDP, and one for each TCP client, which share their questions."""
        shared = _Shared(tcp_questions)
        targets = [lambda: self._ask_udp(questions), *[lambda: self._ask_tcp(shared)] * streams]
        self._threads = [threading.Thread(target=self._guarded, args=[target]) for target in targets]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until all questions are asked and no answer can come any more. Raises what went wrong."""
        for thread in self._threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def _guarded(self, target: object) -> None:
        assert callable(target)
        try:
            target()
        except Exception as failure:  # noqa: BLE001 - `join` raises it where the test sees it
            self.failures.append(failure)

    # UDP: one socket a client, all in one thread.

    def _ask_udp(self, questions: Iterator[Question]) -> None:
        with ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            sockets: dict[str, socket.socket] = {}
            waiting: dict[tuple[str, int, str], tuple[Question, float]] = {}
            begun = time.monotonic()
            for count, question in enumerate(questions, start=1):
                sock = sockets.get(question.client)
                if sock is None:
                    sock = sockets[question.client] = stack.enter_context(_datagrams(question.client))
                    selector.register(sock, selectors.EVENT_READ, question.client)
                wire, number = _wire(question)
                self.sent.add(question)
                waiting[question.client, number, question.qname] = (question, time.monotonic())
                sock.sendto(wire, self.server)
                while count > (time.monotonic() - begun) * self.per_second or _patient(waiting) >= UNANSWERED:
                    self._receive(selector, waiting, 0.01)
                self._receive(selector, waiting, 0.0)
            until = time.monotonic() + LINGER_SECONDS
            while waiting and time.monotonic() < until:
                self._receive(selector, waiting, 0.1)

    def _receive(
        self,
        selector: selectors.BaseSelector,
        waiting: dict[tuple[str, int, str], tuple[Question, float]],
        seconds: float,
    ) -> None:
        for key, _ in selector.select(seconds):
            assert isinstance(key.fileobj, socket.socket)
            while True:
                try:
                    wire = key.fileobj.recv(4096)
                except BlockingIOError:
                    break
                asked = (key.data, int.from_bytes(wire[:2], "big"), _question_name(wire))
                found = waiting.pop(asked, None)
                if found is None:
                    self.doubled += [question for question in self.rcodes if question[:2] == (asked[0], asked[2])]
                else:
                    self.rcodes[found[0]] = wire[3] & 15

    # TCP: one connection a question as long as it lasts, one question at a time.

    def _ask_tcp(self, questions: "_Shared") -> None:
        for question in questions:
            time.sleep(random.uniform(0.0, STREAM_PAUSE_SECONDS))
            try:
                with socket.create_connection(self.server, TCP_TIMEOUT_SECONDS, (question.client, 0)) as sock:
                    wire, _ = _wire(question)
                    self.sent.add(question)
                    send_framed(sock, wire)
                    self.rcodes[question] = receive_framed(sock)[3] & 15
            except OSError:  # killed meanwhile: the question stays unanswered
                continue


class _Shared:
    """An iterator that several threads draw from."""

    def __init__(self, items: Iterator[Question]) -> None:
        self._items = items
        self._lock = threading.Lock()

    def __iter__(self) -> "_Shared":
        return self

    def __next__(self) -> Question:
        with self._lock:
            return next(self._items)


def _datagrams(client: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((client, 0))
    return sock


def _patient(waiting: dict[tuple[str, int, str], tuple[Question, float]]) -> int:
    """Count the queries that may still be answered soon; they stand in the order they were sent."""
    limit = time.monotonic() - PATIENCE_SECONDS
    count = 0
    for _, sent in reversed(waiting.values()):
        if sent < limit or count >= UNANSWERED:
            break
        count += 1
    return count


def _wire(question: Question) -> tuple[bytes, int]:
    number = random.getrandbits(16)
    rdtype = dns.rdatatype.from_text(question.qtype)
    head = number.to_bytes(2, "big") + b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    labels = b"".join(bytes([len(label)]) + label.encode() for label in question.qname.split("."))
    return head + labels + b"\0" + rdtype.to_bytes(2, "big") + b"\0\x01", number


def _question_name(wire: bytes) -> str:
    """Return the name of a message's question (RFC 1035 section 4.1.2), which is never compressed."""
    labels = []
    position = 12
    while length := wire[position]:
        labels.append(wire[position + 1 : position + 1 + length].decode())
        position += 1 + length
    return ".".join(labels)
