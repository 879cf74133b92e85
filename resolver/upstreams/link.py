"""One connection to an upstream with what is said on it, and when to let go of it."""

import asyncio
import time
from typing import Protocol

from resolver.upstreams.connection import Connection
from resolver.upstreams.conversation import Conversation, Tried, Try
from resolver.upstreams.tls import Security
from setting_values import UpstreamAddress

CONNECT_SECONDS = 3.0
REACH_SECONDS = 1.0  # RFC 6298 section 2: so long a kernel waits before it repeats its first SYN, and then twice that
SILENT_SECONDS = 3.0  # after a try: the path is dead, though TCP will be long in noticing
IDLE_SECONDS = 30.0  # RFC 7766 section 6.2.3 leaves it to us; public resolvers close after 10 s and more
KEPT_SECONDS = 5.0  # how long an answer that nobody waits for any more may still tell how the server is doing
UNSENT_LIMIT = 1 << 17  # octets: a few thousand queries
NO_MORE = "it takes no more queries"


class Owner(Protocol):
    """Who opened a link."""

    def connected(self, link: "Link") -> None:
        """Know that a link stands."""

    def concluded(self, outcome: Tried) -> None:
        """Take what came of a try."""

    def ended(self, link: "Link", reason: str) -> None:
        """Know that a link is over; tries may be left in its conversation."""


class Link:
    """A connection and its conversation."""

    def __init__(self, address: UpstreamAddress, security: Security, conversation: Conversation, owner: Owner) -> None:
        """Begin to connect. Raises `OSError` when that is refused at once."""
        self.conversation = conversation
        self.is_connected = False
        self.is_given_up = False
        """Whether it had its time, rather than that anybody ended it."""
        self.is_retired = False
        self.has_answered = False
        self._owner = owner
        self.begun = self._heard = time.monotonic()
        """In seconds; and the last sign of life since, or from when on silence counts."""
        self._unheard: Try | None = None
        """The first try since then. One before says little: what a server doesn't answer may be its own affair."""
        self._most_unsent = UNSENT_LIMIT
        self._is_flushing = False
        self._connection = Connection(address.host, address.port, security, self)

    def ask(self, attempt: Try) -> bool:
        """Take a try; False when it would have to wait behind too much.

        What was sent before is always let in, and leaves as much room for others: there is no more of it than other
        connections took.
        """
        conversation = self.conversation
        unsent = conversation.unsent + self._connection.unsent
        if attempt.is_second:
            self._most_unsent = max(self._most_unsent, unsent + UNSENT_LIMIT)
        if unsent > self._most_unsent or not conversation.ask(attempt):
            return False
        if self._unheard is None:
            self._unheard = attempt
        self._flush_soon()
        return True

    @property
    def is_open(self) -> bool:
        """Tell whether it is there for further tries; if not, those that wait may still be answered."""
        return self.conversation.is_open and not self.is_retired

    def is_overdue(self, now: float) -> bool:
        """Tell whether the server has answered here, and now says nothing for longer than it takes to answer."""
        unheard = self._unheard
        return self.has_answered and unheard is not None and self._silent(now) >= unheard.server.overdue

    def is_unreached(self, now: float) -> bool:
        """Tell whether another SYN may fare better than to wait for when the kernel repeats its own."""
        return not self._connection.is_reached and now - self.begun >= REACH_SECONDS

    def retire(self) -> None:
        """Take no more tries, and end with those that wait."""
        self.is_retired = True

    def look(self, now: float, late: float) -> None:
        """End it if it has had its time, of which that doesn't count by which we were late to look, in seconds.

        Then this process stood still, as on a slow disk: what it sends only now, nobody could answer.
        """
        since = self._heard if self._unheard is None else max(self._heard, self._unheard.at)
        self._heard = min(now, since + late)
        self.conversation.forget(now - KEPT_SECONDS)
        self._flush_soon()
        if not self.is_connected:
            self._end_after(CONNECT_SECONDS, now - self._heard, f"no connection within {CONNECT_SECONDS:g} s")
        elif not self.is_open and not self.conversation.waiting:
            self._end(NO_MORE)
        elif self._unheard is not None:
            self._end_after(SILENT_SECONDS, self._silent(now), f"it said nothing for {SILENT_SECONDS:g} s")
        else:
            self._end_after(IDLE_SECONDS, now - self._heard, "idle")

    def close(self) -> None:
        """End it without a word to its owner."""
        self._connection.close()

    def connected(self) -> None:
        """Say what waits to be said."""
        self.is_connected = True
        self._heard = time.monotonic()
        self._owner.connected(self)
        self._flush_soon()

    def received(self, data: bytes) -> None:
        """Tell the owner what came of which tries."""
        conversation = self.conversation
        for outcome in conversation.receive(data):
            # This counts, not octets: where a message had a wrong length, none behind it can be told from another.
            self._heard, self._unheard = time.monotonic(), None
            if outcome.reply is not None:
                self.has_answered = True
            self._owner.concluded(outcome)
        if conversation.fault:
            self._end(conversation.fault)
        elif not self.is_open and not conversation.waiting:
            self._end(NO_MORE)
        else:
            self._flush_soon()

    def disconnected(self, reason: str) -> None:
        """Tell the owner."""
        self._owner.ended(self, reason)

    def _flush_soon(self) -> None:
        """Send once all that is asked in this turn of the loop is there: one write and one TLS record for a batch."""
        if self.is_connected and self.conversation.unsent and not self._is_flushing:
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        self._connection.write(self.conversation.outgoing())

    def _silent(self, now: float) -> float:
        """Return for how long there has been reason to wait for a word, in seconds."""
        return 0.0 if self._unheard is None else now - max(self._heard, self._unheard.at)

    def _end_after(self, limit: float, seconds: float, reason: str) -> None:
        if seconds >= limit:
            self.is_given_up = True
            self._end(reason)

    def _end(self, reason: str) -> None:
        self._connection.close()
        self._owner.ended(self, reason)
