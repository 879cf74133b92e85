"""How many failed attempts an address has. A token bucket each, no clock of its own."""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

BURST = 10
"""Failures at once."""
PER_SECOND = 0.2
"""Failures for ever after."""
REMEMBERED = 10_000
"""Addresses. Past that the one longest quiet is forgotten, as if it had been good."""


class Throttle:
    """Counts failures by address."""

    def __init__(self, clock: Callable[[], float], *, burst: int = BURST, per_second: float = PER_SECOND) -> None:
        """Take a clock of seconds that never goes back."""
        self._clock = clock
        self._burst = burst
        self._per_second = per_second
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def fail(self, address: str) -> float:
        """Count a failure; return 0, or when it was one too many in how many seconds the next one counts again."""
        key = _subscriber(address)
        now = self._clock()
        left, then = self._buckets.pop(key, (float(self._burst), now))
        left = min(self._burst, left + (now - then) * self._per_second)
        allowed = left >= 1
        left -= allowed
        self._buckets[key] = (left, now)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._per_second


def _subscriber(address: str) -> str:
    """Return what one subscriber can't change at will: an IPv4 address, or the /64 of an IPv6 one (RFC 4291 2.5.4)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(int(parsed) >> 64)
    return str(parsed)
