"""One question on its way through the upstreams, and the servers that may be asked. Decides nothing about time."""

from typing import Any

from resolver import wire
from resolver.replies import Answer
from resolver.upstreams.server import Server
from resolver.wire import EDE_NO_REACHABLE_AUTHORITY

RANKED_SECONDS = 0.1
"""For how long an order of the servers holds."""
PROBE_SECONDS = 5.0
"""How long a server goes without a query before one is sent to it for the sake of knowing how it does."""
KEY_DO, KEY_CD, KEY_PRIVATE = 1, 2, 4
"""What a key ends with, in one octet, behind the question: what makes questions identical.

With the last, private addresses stay in the answer: a name leads there that may have them.
"""

_ASKED = {bits: wire.ask(do=bits & KEY_DO != 0, cd=bits & KEY_CD != 0) for bits in range(2 * KEY_PRIVATE)}
_PLAIN_HEAD = wire.COUNTS.pack(wire.RD, 1, 0, 0, 0)
"""For who knows no EDNS: with no bit that came later either."""
KEY_BITS = {(do, cd): bytes([do * KEY_DO | cd * KEY_CD]) for do in (False, True) for cd in (False, True)}


class Route:
    """The servers that answer one part of all names."""

    def __init__(self, servers: list[Server], silence: float) -> None:
        """Take the servers, and for how many seconds one may owe an answer before others are asked first."""
        self.servers = servers
        self._silence = silence
        self.in_flight = 0
        self._ranked = servers
        self._ranked_until = 0.0

    def ranked(self, now: float) -> list[Server]:
        """Return whom to ask, in order: the fastest first, and last who has been silent."""
        if now >= self._ranked_until and len(self.servers) > 1:
            silence = self._silence
            self._ranked = sorted(self.servers, key=lambda s: (not s.is_trusted(now, silence), s.latency))
            self._ranked_until = now + RANKED_SECONDS
        return self._ranked

    def due_for_probe(self, now: float) -> Server | None:
        """Return a server besides the first that hasn't been asked for a while; None: there is none."""
        return next((server for server in self._ranked[1:] if now - server.asked > PROBE_SECONDS), None)


class Exchange:
    """One question on its way through the upstreams, with everyone who waits for the answer."""

    __slots__ = (
        "begun",
        "cut",
        "due",
        "ede",
        "finished",
        "given_up",
        "head",
        "key",
        "name",
        "opt",
        "order",
        "plain",
        "question",
        "route",
        "said",
        "sent",
        "told",
        "tries",
        "unhelped",
        "waiting",
    )

    def __init__(self, key: bytes, name: str, route: Route, begun: float) -> None:
        self.key = key
        self.name = name
        """The question's name as text."""
        self.question = key[:-1]
        """With the name in lower case."""
        self.head, self.opt = _ASKED[key[-1]]
        """What of the query is before the question, but for the ID, and what is behind it."""
        self.route = route
        self.begun = begun
        """Seconds on the monotonic clock."""
        self.order = route.ranked(begun)
        self.due = 0
        """The tick at which it is to be looked at."""
        self.waiting: list[Any] = []
        self.tries = 0
        self.cut: tuple[Server, ...] = ()
        """Who was asked over TCP after a truncated answer, as often as it was."""
        self.plain: tuple[Server, ...] = ()
        """Who is asked without EDNS."""
        self.sent: dict[Server, float] = {}
        """Who has yet to answer, and when it was asked."""
        self.given_up = False
        """Whether somebody took longer than a try does, who may answer yet."""
        self.finished = False
        self.unhelped: tuple[Server, Answer] | None = None
        """What an upstream answered that was no help, for when no other does better: nothing at all, or a failure."""
        self.said = False
        """Whether those who wait were told that it takes long."""
        self.told = (EDE_NO_REACHABLE_AUTHORITY, "")
        """What clients are told of that refusal or failure (RFC 8914)."""
        self.ede = EDE_NO_REACHABLE_AUTHORITY
        """What they are told when nobody answered at all."""

    def around(self, server: Server) -> tuple[bytes, bytes]:
        """Return what a server gets before and behind the question; the ID is left out."""
        return (_PLAIN_HEAD, b"") if server in self.plain else (self.head, self.opt)

    def wire(self, server: Server) -> bytes:
        """Return the query that a server gets, but for its ID."""
        head, opt = self.around(server)
        return head + self.question + opt

    @property
    def has_nothing(self) -> bool:
        """Tell whether somebody answered with nothing at all, which is better than a failure."""
        return self.unhelped is not None and self.unhelped[1].rcode == wire.NOERROR
