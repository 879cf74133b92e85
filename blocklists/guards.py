"""Guards: a list that can't be meant is refused, and the last good version stays.

Refused is what would block a canary, a name that must never be blocked, and what suddenly holds far less or far more
than before. Pure: is told what was there and what is coming.
"""

from collections.abc import Iterable, Iterator
from typing import Self

from blocklists.errors import ListError
from policy.decide import blocked_among
from policy.index import covers
from policy.names import lineage
from policy.rules import Rule
from settings import Settings

# What devices ask for to find out whether they have a network and what time it is. Who blocks these takes whole
# schools off the network, and no list means to. Windows's own are left out: lists against its telemetry do mean them.
EVERYBODYS = ("captive.apple.com", "connectivitycheck.gstatic.com", "pool.ntp.org", "time.apple.com")
FOR_RESOLVERS = frozenset({"doh", "proxies"})
"""Categories whose lists rightly name public resolvers, the district's upstreams perhaps among them."""

SHRUNK = 2
"""A list with less than this part of its rules left was cut short, or emptied."""
GREW = 10
SMALL = 10
"""Rules: below this, a list is somebody's own, and doubles or empties with a few lines."""
LARGE = 100
"""Rules: growing to less than this is no harm."""


class SuspiciousSizeError(ListError):
    """The list suddenly holds far less or far more than before; whoever knows better may force it."""


class CanaryError(ListError):
    """The list would block a name that must never be blocked."""


def check_size(before: int, rules: int) -> None:
    """Compare a list's number of rules with what is loaded; 0: nothing is. Raises `SuspiciousSizeError`."""
    if before >= SMALL and rules * SHRUNK < before:
        change = f"it shrank by more than half, from {before:,} to {rules:,} rules"
    elif before and rules >= max(LARGE, before * GREW):
        change = f"it grew more than tenfold, from {before:,} to {rules:,} rules"
    else:
        return
    raise SuspiciousSizeError(f"{change}; refresh it with --force if that is right")


class Canaries:
    """Names that no list may block."""

    def __init__(self, names: Iterable[str] = (), resolvers: Iterable[str] = ()) -> None:
        """Take the district's own names, and those of its upstream resolvers; all in normal form."""
        self._names = (*EVERYBODYS, *names)
        self._resolvers = tuple(resolvers)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the canaries of a configuration."""
        return cls(settings.blocklists.canaries, [server.name for server in settings.upstream.servers if server.name])

    def watch(self, rules: Iterable[Rule], category: str) -> Iterator[Rule]:
        """Yield the rules of one category of a list. Raises `CanaryError` at their end if they block a canary."""
        names = self._names if category in FOR_RESOLVERS else self._names + self._resolvers
        above = {parent for name in names for parent in lineage(name)}
        about: list[Rule] = []
        for rule in rules:
            if rule.name in above or rule.pattern:
                about.append(rule)
            yield rule
        for name in names:
            blocking = blocked_among([rule for rule in about if covers(rule, name)])
            if blocking is not None:
                raise CanaryError(f"it would block {name} by {blocking}, and that must never be blocked")
