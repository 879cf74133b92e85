"""Queries over a connection that is kept: opened when there is need, replaced when it ends or goes dead.

Servers close connections whenever they like (RFC 7766 section 6.2.4), so a try whose connection ends is sent once more
on a new one before it is lost. One connection takes new tries; others may be left on which answers are still to come.

A path may die and nobody say so: a firewall that fails over drops what it hasn't seen begin. So beside a connection
whose answers are overdue a successor is opened. If nothing came until that one stands, it takes over, and what is owed
is sent once more on it. One that has yet to answer gets no successor: it would fare as well.
"""

import asyncio
import logging
import ssl
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from resolver.upstreams.conversation import Conversation, Tried, Try
from resolver.upstreams.link import Link
from resolver.upstreams.matching import Lost, Received
from resolver.upstreams.standing import Standing
from resolver.upstreams.tls import Plain, TlsClient
from setting_values import UpstreamAddress

if TYPE_CHECKING:
    from resolver.upstreams.exchange import Exchange
    from resolver.upstreams.server import Server

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
SUCCESSOR_SECONDS = 0.5  # from one to the next at least, when they are refused
MAX_LINKS = 8  # one takes new tries; the others have been told to go, by a server that is in no hurry to answer


class PersistentTransport(ABC):
    """What the transports have in common whose connections last; each says what is spoken on them."""

    required_protocol = ""
    """What must be agreed on in ALPN."""

    def __init__(self, address: UpstreamAddress, tls: ssl.SSLContext | None, received: Received, lost: Lost) -> None:
        """With TLS, certificates are checked for the address's name or, where there is none, the address itself."""
        self._address = address
        name = address.name or address.host
        self._tls = TlsClient(tls, name, self.required_protocol) if tls is not None else None
        self._received = received
        self._lost = lost
        self._standing = Standing(str(address))
        self._current: Link | None = None
        self._successor: Link | None = None
        """What is being opened to take over from the current one."""
        self._no_successor_until = 0.0
        self._links: set[Link] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._look_due = 0.0
        self._is_closed = False

    @abstractmethod
    def conversation(self) -> Conversation:
        """Return what is spoken on a new connection."""

    def send(self, exchange: "Exchange", server: "Server") -> bool:
        """Send the exchange's query; False when it can't be sent, or would have to wait behind too many."""
        return self._ask(Try(exchange, server, time.monotonic()))

    def close(self) -> None:
        """Close every connection; nobody is told of the tries on them."""
        self._is_closed = True
        self._current = self._successor = None
        for link in list(self._links):
            self._let_go(link)
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _ask(self, attempt: Try) -> bool:
        link = self._current
        if link is None or not link.is_open:
            link, self._successor = self._successor or self._open(attempt.at), None
            if link is None:
                return False
            self._current = link
        return link.ask(attempt)

    def _open(self, now: float) -> Link | None:
        """Begin to connect; None: not now."""
        if self._is_closed or len(self._links) >= MAX_LINKS:
            return None
        try:
            security = Plain() if self._tls is None else self._tls.connection()
            link = Link(self._address, security, self.conversation(), self)
        except OSError as problem:
            self._standing.failed(problem.strerror or str(problem), now)
            return None
        except (ValueError, TypeError) as problem:  # what `ssl` says of a name that none can have, like "a..test"
            self._standing.failed(f"no certificate can be for such a name: {problem}", now)
            return None
        self._links.add(link)
        if self._looking is None:
            self._look_later()
        return link

    def _let_go(self, link: Link) -> None:
        """Close a connection; nobody is told of the tries on it."""
        self._links.discard(link)
        link.close()
        link.conversation.leave()

    def connected(self, link: Link) -> None:
        """Let a successor take over if it is still needed, and send there once more what is owed."""
        if link is not self._successor:
            return
        self._successor = None
        silent, now = self._current, time.monotonic()
        if silent is not None and not silent.is_overdue(now):
            self._let_go(link)
            return
        self._current = link
        if silent is not None:
            silent.retire()  # and be there for late answers
            first = [attempt for attempt in silent.conversation.owed() if not attempt.is_second]
            for attempt in {attempt.exchange: attempt for attempt in first}.values():
                self._again_or_lost(attempt, now, may_go_again=True)

    def concluded(self, outcome: Tried) -> None:
        """Hand on an answer, or send what it may help to send again."""
        attempt, reply = outcome.attempt, outcome.reply
        if self._is_closed:
            return
        if reply is not None:
            self._standing.worked()
            self._received(attempt.exchange, attempt.server, reply)
            return
        now = time.monotonic()
        if outcome.reason:
            self._standing.failed(outcome.reason, now)
        self._again_or_lost(attempt, now, may_go_again=outcome.may_go_again)

    def ended(self, link: Link, reason: str) -> None:
        """Go on without a connection; what waits on it is sent again or lost."""
        self._links.discard(link)
        attempts = link.conversation.leave()
        now = time.monotonic()
        # That a server passes over what another connection brought it already is no failure of all of it.
        if not link.is_connected or (not link.has_answered and any(not attempt.is_second for attempt in attempts)):
            self._standing.failed(reason, now)
        if link is self._current:
            self._current = None
        elif link is self._successor:
            self._successor = None
        for attempt in attempts:
            if not link.is_connected:  # who waited for it from the first has waited for long enough
                came_later = link.is_given_up and attempt.at > link.begun
                self._again_or_lost(attempt, now, may_go_again=came_later, was_sent=False)
            elif attempt.is_second or not link.is_retired:  # the others went again when it was retired
                self._again_or_lost(attempt, now, may_go_again=True)

    def _again_or_lost(self, attempt: Try, now: float, *, may_go_again: bool, was_sent: bool = True) -> None:
        """Send a try once more at most, not counting that it waited for a connection that didn't come."""
        if attempt.exchange.finished or self._is_closed:
            return
        again = may_go_again and not (was_sent and attempt.is_second)
        if not again or not self._ask(attempt._replace(at=now, is_second=attempt.is_second or was_sent)):
            self._lost(attempt.exchange, attempt.server)

    def _look(self) -> None:
        self._looking = None
        if not self._links:
            return
        now = time.monotonic()
        late = max(0.0, now - self._look_due)
        self._look_later()  # first: whatever goes wrong below, the next look comes
        for link in list(self._links):
            if link in self._links:  # what another's end led to may have closed it
                self._look_at(link, now, late)

    def _look_at(self, link: Link, now: float, late: float) -> None:
        try:
            link.look(now, late)
            if link is self._successor and link.is_unreached(now):
                self._successor = None  # nothing waits on it
                self._let_go(link)
            if link is self._current and self._successor is None and link.is_overdue(now):
                self._succeed(now)
        except Exception:  # a bug costs this connection, not the others
            log.exception("a connection to upstream %s is given up", self._address)
            self._links.discard(link)  # first, lest it is looked at again
            link.close()
            self.ended(link, "given up")

    def _succeed(self, now: float) -> None:
        """Begin to open a successor to the current connection, if none was tried just now."""
        if now >= self._no_successor_until:
            self._no_successor_until = now + SUCCESSOR_SECONDS
            self._successor = self._open(now)

    def _look_later(self) -> None:
        self._look_due = time.monotonic() + LOOK_SECONDS
        self._looking = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)
