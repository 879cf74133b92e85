"""Times as people type them."""

import re

import click

from admin_api.times import parse_time

_DURATION = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


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
