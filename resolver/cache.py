"""Bounded memory of a worker: the oldest entry makes room for the newest, one by one, so nothing ever stalls."""

from collections import OrderedDict
from typing import NamedTuple, TypeVar

from resolver.wire import Answer

Key = TypeVar("Key")
Value = TypeVar("Value")


class Bounded(OrderedDict[Key, Value]):
    """A dictionary of at most so many entries; looked up as fast as any."""

    def __init__(self, limit: int) -> None:
        """Hold at most `limit` entries; 0: none."""
        super().__init__()
        self.limit = limit

    def keep(self, key: Key, value: Value) -> None:
        """Store an entry; past the limit the one stored longest ago goes."""
        self[key] = value
        self.move_to_end(key)  # one that was there before is stored anew
        if len(self) > self.limit:
            self.popitem(last=False)

    def drop(self, count: int) -> int:
        """Drop so many entries, or all; return how many that was."""
        dropped = min(count, len(self))
        for _ in range(dropped):
            self.popitem()
        return dropped


class Kept(NamedTuple):
    """An upstream's answer in the cache that all clients share."""

    answer: Answer
    upstream: str
    received: float
    """Seconds on the monotonic clock."""


class Finished(NamedTuple):
    """A reply in a scope's cache, found by the query's octets without reading them."""

    reply: bytes
    """All but the ID."""
    valid_until: float
    """Seconds on the monotonic clock: when a TTL in it changes, or the whole ends."""
    decision: int
    """The decision's number in the journal's segment."""
