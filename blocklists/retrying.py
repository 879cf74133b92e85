"""When to try again: after longer and longer waits that differ from node to node, and never before a server wants it.

Pure: knows no clock and no chance but those it is given.
"""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from blocklists.errors import BusyError


class AskedToWaitError(BusyError):
    """The server can't answer for now, and says for how long."""

    def __init__(self, location: str, reason: str, seconds: float) -> None:
        """Say where and why; the seconds are the server's wish."""
        super().__init__(location, reason)
        self.seconds = seconds


def wait(delay: float, chance: float) -> float:
    """Return how many seconds to wait where `delay` is meant: from half of it to one and a half.

    The chance is from 0 to 1. Without it the nodes of many districts would all come back in the same second.
    """
    return delay * (0.5 + chance)


def asked_to_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Return for how many seconds a server asks to be left alone, None when it doesn't (RFC 9110 section 10.2.3).

    The time is in seconds since the epoch.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    date = http_date(text)
    return None if date is None else max(0.0, date - now)


def http_date(text: str) -> float | None:
    """Return a date of HTTP in seconds since the epoch, None when it is none (RFC 9110 section 5.6.7)."""
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
