"""What clients may take of a worker's connections, time and memory."""

from typing import NamedTuple


class Limits(NamedTuple):
    """For all of a worker's TCP, TLS and HTTPS connections together."""

    connections: int = 1024
    connections_each: int = 64
    """For one client's address."""
    in_flight: int = 256
    """Messages of one connection that may wait for their answers before more is read from it."""
    unsent_pause: int = 64 << 10
    """Octets that a client may leave unread before no more is read from it."""
    unsent: int = 1 << 20
    """Octets that a client may leave unread before its connection ends."""
    idle_seconds: float = 10.0
    """Between a client's messages: RFC 7766 section 6.2.3 recommends a few seconds."""
    handshake_seconds: float = 5.0
    message_seconds: float = 10.0
    """For a message to become whole, however steadily it trickles."""
    stalled_seconds: float = 5.0
    """How long a client may leave `unsent_pause` unread."""
    answer_seconds: float = 35.0
    """For an answer, after which its connection may count as idle: more than `upstream.deadline_ms` allows."""
    closing_seconds: float = 2.0
    """For a client to take the rest and close its end."""
