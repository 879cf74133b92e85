"""Times as people type them and read them."""

import re

import click

from admin_api.times import parse_time
from querylog.errors import InvalidQueryError
from querylog.times import parse_time as parse_past_time

_DURATION = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
# A number is told in a unit until it reaches so many of the seconds.
_AGES = ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h"), (float("inf"), 86_400, "days"))


def parse_expiry(text: str, now: int) -> int:
    """Return when something ends, in microseconds since the epoch: a time (RFC 3339), or a duration from now.

    Raises `click.UsageError` for anything else.
    """
    text = text.strip()
    duration = _DURATION.fullmatch(text)
    if duration:
        return now + int(duration[1]) * _SECONDS[duration[2]] * 1_000_000
    try:
        return parse_time(text)
    except ValueError as error:
        raise click.UsageError(
            f"{text[:80]!r} is neither a duration like 45m, 2h or 7d nor a time like 2026-12-01T15:00:00Z"
        ) from error


def parse_past(text: str, now: int, option: str) -> int:
    """Return a time in microseconds since the epoch: RFC 3339, a date, or how long ago. Raises `click.UsageError`."""
    try:
        return parse_past_time(text, now, option)
    except InvalidQueryError as error:
        raise click.UsageError(str(error)) from error


def age(then: int | None, now: int) -> str:
    """Return how long ago a time in microseconds was, in words: ``3 h ago``."""
    if then is None:
        return "never"
    seconds = max(0, now - then) // 1_000_000
    size, unit = next((size, unit) for end, size, unit in _AGES if seconds < end)
    return f"{seconds // size} {unit} ago"
