"""Times as people type them."""

import re
from datetime import UTC, datetime

import click

_DURATION = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_expiry(text: str, now: int) -> int:
    """Return when something ends, in microseconds since the epoch: a time (RFC 3339), or a duration from now.

    Raises `click.UsageError` for anything else.
    """
    duration = _DURATION.fullmatch(text.strip())
    if duration:
        return now + int(duration[1]) * _SECONDS[duration[2]] * 1_000_000
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise click.UsageError(
            f"{text!r} is neither a duration like 45m, 2h or 7d nor a time like 2026-12-01T15:00:00Z"
        )
    return int((time - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)
