"""One query while it is being answered, and how that ends."""

from collections.abc import Callable
from typing import Any, NamedTuple

from policy.decide import ALLOWED, Verdict
from resolver.cache import Finished, Kept
from resolver.clients import Client
from resolver.replies import Answer
from resolver.wire import Query

Send = Callable[[bytes, Any], object]
"""Sends a reply to a target, both as the listener wants them; may raise `OSError`."""


class Lookup:
    """One query that is being answered the whole way."""

    __slots__ = (
        "alias",
        "client",
        "data",
        "key",
        "peer",
        "query",
        "received",
        "send",
        "stale",
        "target",
        "transport",
        "verdict",
    )

    def __init__(
        self,
        data: bytes,
        peer: str,
        transport: str,
        send: Send,
        target: object,
        received: int,
        client: Client,
    ) -> None:
        self.data = data
        self.peer = peer
        self.transport = transport
        self.send = send
        self.target = target
        self.received = received
        """Microseconds since the epoch."""
        self.client = client
        """As it was when the lookup began: it counts what is in flight."""
        self.query = ABSENT
        """What was read of it."""
        self.key = b""
        """The question as the cache and the upstreams know it."""
        self.alias: Answer | None = None
        """Records of our own that lead to a name which somebody else knows."""
        self.stale: Kept | None = None
        """What was known before, and has expired."""
        self.verdict: Verdict = ALLOWED


ABSENT = Query(0, "", 0, 0, b"", b"", None, "", b"")
"""Stands for what wasn't read."""


class Outcome(NamedTuple):
    """How a stage ends a lookup."""

    answer: Answer | None
    """None: silence, unless there is a finished reply."""
    verdict: str = ""
    """Empty: the policy's."""
    ede: tuple[int, str] | None = None
    upstream: str = ""
    cached: bool = False
    valid_seconds: float = 0.0
    """How long the reply may be given again as it is; 0: not at all."""
    kept: bytes | None = None
    """The cached answer that it is made of, by which it can be renewed after that."""
    rule: str = ""
    """What decided; empty: the policy's rule."""
    finished: Finished | None = None
    """A reply that was given before."""
