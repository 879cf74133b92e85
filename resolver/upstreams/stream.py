"""Queries over one TCP or TLS connection to an upstream, pipelined: DNS messages behind their lengths.

Replies come in any order and are told apart by ID and question (RFC 7766 section 7). What answers no question that was
asked is passed over, and the wait goes on.
"""

import os

from resolver.upstreams.conversation import Conversation, Tried, Try
from resolver.upstreams.matching import answers_question, with_question
from resolver.upstreams.persistent import PersistentTransport
from resolver.wire import HEADER_LENGTH, framed

MAX_WAITING = 1 << 15  # half of all IDs, so that a free one is found at the second draw


class StreamTransport(PersistentTransport):
    """Queries over TCP (RFC 7766) or TLS (RFC 7858)."""

    def conversation(self) -> Conversation:
        """Return a pipeline with nothing in it."""
        return Pipeline()


class Pipeline:
    """The queries that wait on one connection, by their IDs."""

    fault = ""  # whatever octets come, they are frames
    is_open = True

    def __init__(self) -> None:
        self._random = RandomNumbers()
        self._table: dict[int, Try] = {}
        self._outgoing = bytearray()
        self._frames = Frames()

    @property
    def waiting(self) -> int:
        """Return how many tries may still be answered."""
        return len(self._table)

    @property
    def unsent(self) -> int:
        """Return how many octets are to be sent."""
        return len(self._outgoing)

    def ask(self, attempt: Try) -> bool:
        """Take a try; False when too many wait."""
        table = self._table
        if len(table) >= MAX_WAITING:
            return False
        while (ident := self._random.draw()) in table:
            pass
        table[ident] = attempt
        self._outgoing += framed(ident.to_bytes(2, "big") + attempt.exchange.wire(attempt.server))
        return True

    def outgoing(self) -> bytes:
        """Return the queries that are to be sent next, once."""
        octets = bytes(self._outgoing)
        self._outgoing.clear()
        return octets

    def receive(self, data: bytes) -> list[Tried]:
        """Take what the server said and return what answers a question."""
        outcomes = []
        for message in self._frames.receive(data):
            ident = int.from_bytes(message[:2], "big")
            attempt = self._table.get(ident)
            if attempt is None:
                continue
            reply = with_question(message, attempt.exchange.question)
            if answers_question(reply, attempt.exchange.question):
                del self._table[ident]
                outcomes.append(Tried(attempt, reply))
        return outcomes

    def forget(self, before: float) -> None:
        """Drop tries asked before a time whose exchanges are over."""
        old = []
        for ident, attempt in self._table.items():  # in the order in which they were asked
            if attempt.at >= before:
                break
            if attempt.exchange.finished:
                old.append(ident)
        for ident in old:
            del self._table[ident]

    def owed(self) -> list[Try]:
        """Return the tries that have got no answer yet, oldest first."""
        return list(self._table.values())

    def leave(self) -> list[Try]:
        """Return the tries that got no answer, and forget them."""
        attempts = self.owed()
        self._table.clear()
        return attempts


class Frames:
    """Cuts a stream into messages, each behind its 2-octet length (RFC 1035 section 4.2.2).

    However the stream comes in pieces, an octet is copied a fixed number of times.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._missing = 2
        """How many octets must come before there is anything to cut."""

    def receive(self, data: bytes) -> list[bytes]:
        """Return the messages that the data completes; those too short for a header are left out."""
        self._pieces.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return []
        stream = b"".join(self._pieces)
        messages = []
        start = 0
        while (left := len(stream) - start) >= 2:
            length = int.from_bytes(stream[start : start + 2], "big")
            if left < 2 + length:
                self._missing = 2 + length - left
                break
            if length >= HEADER_LENGTH:
                messages.append(stream[start + 2 : start + 2 + length])
            start += 2 + length
        else:
            self._missing = 2 - left
        self._pieces = [stream[start:]]
        return messages


class RandomNumbers:
    """16-bit numbers that can't be guessed (RFC 5452 section 9.2), drawn in batches: a system call for each is dear."""

    def __init__(self) -> None:
        self._drawn = memoryview(b"").cast("H")
        self._next = 0

    def draw(self) -> int:
        """Return a number from 0 to 65535."""
        if self._next == len(self._drawn):
            self._drawn = memoryview(os.urandom(2048)).cast("H")
            self._next = 0
        number: int = self._drawn[self._next]
        self._next += 1
        return number
