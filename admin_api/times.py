"""Times at the edge: RFC 3339 outside, microseconds since the epoch within."""

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# RFC 3339 section 5.6. Leap seconds have no place in a count of microseconds and are refused below.
_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?P<offset>[Zz]|[+-]\d{2}:\d{2})?", re.ASCII)


def parse_time(text: str) -> int:
    """Return a time in microseconds since the epoch. Raises `ValueError` with what is wrong."""
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"must be a time such as 2026-12-01T15:00:00Z, not {text[:80]!r}")
    if found["offset"] is None:
        raise ValueError("must say its time zone: end with Z or an offset such as +02:00")
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise ValueError(f"there is no such time: {text[:80]!r}") from error
    return (moment - _EPOCH) // _MICROSECOND


def format_time(time: int) -> str:
    """Return ``2026-12-01T15:00:00Z``, with six decimals where the second isn't whole."""
    moment = _EPOCH + timedelta(microseconds=time)
    decimals = f".{moment.microsecond:06d}" if moment.microsecond else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{decimals}Z"
