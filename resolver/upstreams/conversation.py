"""What is said on one connection to an upstream, and what came of it: the words that all such transports share.

A `Conversation` decides and does no I/O. `resolver.upstreams.stream` speaks plain DNS messages,
`resolver.upstreams.https` DNS over HTTPS; `resolver.upstreams.link` carries either over a connection.
"""

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from resolver.upstreams.exchange import Exchange
    from resolver.upstreams.server import Server


class Try(NamedTuple):
    """One time that a server is asked an exchange's question."""

    exchange: "Exchange"
    server: "Server"
    at: float
    """When it was asked, in seconds on the monotonic clock."""
    is_second: bool = False
    """Whether it was sent before, on a connection that ended without an answer."""


class Tried(NamedTuple):
    """How a try ended."""

    attempt: Try
    reply: bytes | None
    """The message that answers the question; None: there will be none here."""
    may_go_again: bool = False
    """Without a reply: whether the server asks for it, or allows it, to be sent once more."""
    reason: str = ""
    """Without a reply: what the server did wrong, for the operator's log; empty when it did nothing wrong."""


class Conversation(Protocol):
    """What is said on one connection."""

    fault: str
    """How the server broke the protocol, so that nothing it says counts any more; empty: it didn't."""

    @property
    def is_open(self) -> bool:
        """Tell whether it takes further tries; if not, those that wait may still be answered."""

    @property
    def waiting(self) -> int:
        """Return how many tries may still be answered."""

    @property
    def unsent(self) -> int:
        """Return how many octets `outgoing` would return."""

    def ask(self, attempt: Try) -> bool:
        """Take a try; False when there are too many."""

    def outgoing(self) -> bytes:
        """Return the octets that are to be sent next, once."""

    def receive(self, data: bytes) -> list[Tried]:
        """Take what the server said and return which tries it ended."""

    def forget(self, before: float) -> None:
        """Drop tries asked before a time whose exchanges are over: nobody is helped by their answers any more."""

    def owed(self) -> list[Try]:
        """Return the tries that have got no answer yet, oldest first."""

    def leave(self) -> list[Try]:
        """Return the tries that got no answer, and forget them: the connection has ended."""
