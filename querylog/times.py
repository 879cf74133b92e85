"""Times and days as the log counts them: microseconds and whole days since the epoch, UTC.

Also how administrators write a time, and how one is shown to them.
"""

import re
from datetime import UTC, date, datetime, timedelta

from querylog.errors import InvalidQueryError

DAY = 86_400_000_000  # microseconds
LAST_DAY = date.max.toordinal() - date(1970, 1, 1).toordinal()

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_MICROSECOND = timedelta(microseconds=1)
_AGO = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": DAY, "w": 7 * DAY}
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
# RFC 3339 section 5.6, with the space that its note allows.
_DATE_TIME = rf"{_DATE}[Tt ][0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]+)?"
_TIME = re.compile(rf"{_DATE}|{_DATE_TIME}(?:[Zz]|[+-][0-9]{{2}}:[0-9]{{2}})")
_NO_ZONE = re.compile(_DATE_TIME)


def parse_time(text: str, now: int, field: str = "time") -> int:
    """Return the time that an administrator wrote: RFC 3339, a date (its midnight, UTC), or how long ago.

    How long ago is a number and one of ``s m h d w``: ``15m``. Raises `InvalidQueryError` naming the field.
    """
    text = text.strip()
    ago = _AGO.fullmatch(text)
    if ago:
        return now - int(ago[1]) * _UNITS[ago[2]]
    if _TIME.fullmatch(text):
        try:
            parsed = datetime.fromisoformat(text.upper())
        except ValueError as error:
            raise InvalidQueryError(field, f"no such time: {text!r} ({error})") from error
        return (parsed.replace(tzinfo=parsed.tzinfo or UTC) - _EPOCH) // _MICROSECOND
    if _NO_ZONE.fullmatch(text):
        raise InvalidQueryError(field, "must say its time zone: end with Z or an offset such as +02:00")
    raise InvalidQueryError(
        field, f"not a time: {text[:80]!r}; write 2026-12-01T15:00:00Z, 2026-12-01, or how long ago: 15m, 2h, 7d"
    )


def format_time(time: int) -> str:
    """Return a time as RFC 3339 with microseconds: ``2026-12-01T15:00:00.000000Z``."""
    moment = _EPOCH + timedelta(microseconds=time)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z"


def day_of(calendar: date) -> int:
    """Return the number of a calendar day."""
    return calendar.toordinal() - _EPOCH_ORDINAL


def calendar_day(day: int) -> date:
    """Return the calendar day of a number from 0 to `LAST_DAY`."""
    return date.fromordinal(day + _EPOCH_ORDINAL)
