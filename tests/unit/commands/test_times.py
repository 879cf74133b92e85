"""When an exception ends, as people type it."""

import click
import pytest

from commands.times import parse_expiry

NOW = 1_795_521_600_000_000  # 2026-11-24T12:00:00Z
SECOND = 1_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("45s", 45), ("45m", 2_700), ("2h", 7_200), ("7d", 604_800), ("2w", 1_209_600), (" 1h ", 3_600)],
)
def test_duration_counts_from_now(text: str, seconds: int) -> None:
    assert parse_expiry(text, NOW) == NOW + seconds * SECOND


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-12-01T15:00:00Z", 1_796_137_200_000_000),
        ("2026-12-01T17:00:00+02:00", 1_796_137_200_000_000),
        ("2026-12-01 15:00:00z", 1_796_137_200_000_000),
        ("2026-12-01T15:00:00.123457Z", 1_796_137_200_123_457),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
    ],
)
def test_time_is_exact_to_the_microsecond(text: str, time: int) -> None:
    assert parse_expiry(text, NOW) == time


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2h30m",
        "-2h",
        "1.5h",
        "2 h",
        "h",
        "10000000s",
        "٣h",
        "2026-12-01",
        "2026-12-01T15:00:00",
        "2026-12-01T15:00Z",
        "2026-13-01T15:00:00Z",
        "2026-12-01T25:00:00Z",
        "2026-12-01T15:00:00+99:00",
        "1796137200",
    ],
)
def test_anything_else_is_a_mistake_in_the_call(text: str) -> None:
    with pytest.raises(click.UsageError, match="is neither a duration like"):
        parse_expiry(text, NOW)
