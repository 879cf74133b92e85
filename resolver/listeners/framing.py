"""How messages stand in a client's stream, without sockets: octets in, messages out, replies in, octets out.

`LengthPrefixed` is DNS over TCP and TLS; `http1` and `http2` hold the framings of DNS over HTTPS. A framing keeps what
is not whole yet and what can't leave yet, and no more than a bounded amount of either. Knows no clock: it is told.
"""

import math
from typing import NamedTuple, Protocol

from resolver import wire

NEVER = math.inf


class Message(NamedTuple):
    """One DNS message from a client."""

    data: bytes
    target: object
    """What `Framing.reply` is to be given with the answer."""


class Framing(Protocol):
    """What a connection needs to know of its framing."""

    @property
    def most_at_once(self) -> int:
        """Return how many octets are to be given at once: few where they can cause much work."""

    @property
    def most_in_flight(self) -> int:
        """Return how many messages may wait for their answers before anything more is given."""

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more can be read or answered: send what is left, and close."""

    @property
    def begun(self) -> float:
        """Return when the oldest message began that isn't whole yet; `NEVER`: there is none."""

    @property
    def held(self) -> int:
        """Return the octets of answers that can't leave before the client allows it."""

    def receive(self, data: bytes, now: float) -> None:
        """Take octets from the client."""

    def next_message(self) -> Message | None:
        """Return the next whole message."""

    def reply(self, target: object, reply: bytes) -> None:
        """Answer a message; one that its client took back is passed over."""

    def output(self) -> bytes:
        """Return the octets that are to be sent now."""

    def close(self) -> None:
        """Say goodbye, where the protocol has a word for it: `output` brings it."""

    def release(self) -> None:
        """Let go of everything; nothing is called any more."""


class LengthPrefixed:
    """Messages behind their lengths (RFC 1035 section 4.2.2, RFC 7858 section 3.3)."""

    most_at_once = 65_536
    most_in_flight = 1 << 16  # IDs that tell them apart; the connection's own limit is lower
    held = 0

    def __init__(self) -> None:
        self.is_over = False
        self.begun = NEVER
        self._received: bytes | bytearray = b""
        self._start = 0
        """Where what was not taken yet begins."""
        self._replies: list[bytes] = []
        self._now = 0.0

    def receive(self, data: bytes, now: float) -> None:
        """Take octets from the client.

        They are kept as they came where nothing is left from before, the usual case; what comes in parts gathers in an
        array, which costs no more than its octets however small the parts are.
        """
        self._now = now
        if self._start == len(self._received):
            self._received, self._start, self.begun = data, 0, now
            return
        if isinstance(self._received, bytes):
            self._received = bytearray(self._received)
        del self._received[: self._start]
        self._start = 0
        self._received += data

    def next_message(self) -> Message | None:
        """Return the next whole message."""
        received, start = self._received, self._start
        if len(received) - start < 2:
            return None
        end = start + 2 + (received[start] << 8 | received[start + 1])
        if end > len(received):
            return None
        self._start = end
        self.begun = NEVER if end == len(received) else self._now
        return Message(bytes(received[start + 2 : end]), None)

    def reply(self, target: object, reply: bytes) -> None:  # noqa: ARG002 - the ID alone tells whose it is
        """Answer a message; length and message leave in one write (RFC 7766 section 8)."""
        self._replies.append(wire.framed(reply))

    def output(self) -> bytes:
        """Return the octets that are to be sent now."""
        octets = b"".join(self._replies)
        self._replies.clear()
        return octets

    def close(self) -> None:
        """TCP's own end says it."""

    def release(self) -> None:
        """Let go of everything."""
        self._received = b""
