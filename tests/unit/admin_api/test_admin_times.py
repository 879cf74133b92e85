import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_api.times import format_time, parse_time
from storage.checks import LATEST


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5z", 1_500_000),
        ("1970-01-01t02:00:00+02:00", 0),
        ("1969-12-31T23:59:59.999999-00:00", -1),
        ("2026-12-01 15:00:00Z", 1_796_137_200_000_000),
        ("1970-01-01T00:00:00.1234567Z", 123_456),
    ],
)
def test_any_rfc_3339_time_is_read(text: str, microseconds: int) -> None:
    assert parse_time(text) == microseconds


@pytest.mark.parametrize("text", ["2026-12-01T15:00:00", "2026-12-01 15:00:00.5"])
def test_a_time_without_zone_is_refused_as_such(text: str) -> None:
    with pytest.raises(ValueError, match="must say its time zone"):
        parse_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2026-12-01",
        "1796137200",
        "2026-12-01T15:00Z",
        "2026-W49-2T15:00:00Z",
        "\N{FULLWIDTH DIGIT TWO}026-12-01T15:00:00Z",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a time such as"):
        parse_time(text)


@pytest.mark.parametrize("text", ["2026-02-30T00:00:00Z", "2026-12-01T24:01:00Z", "2026-12-31T23:59:60Z"])
def test_a_time_that_never_is_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="there is no such time"):
        parse_time(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_the_ends_of_the_calendar_are_times(text: str) -> None:
    assert isinstance(parse_time(text), int)


def test_whole_seconds_are_shown_whole() -> None:
    assert format_time(1_796_137_200_000_000) == "2026-12-01T15:00:00Z"
    assert format_time(1_796_137_200_000_001) == "2026-12-01T15:00:00.000001Z"


@given(st.integers(0, LATEST))
def test_what_is_shown_is_read_back(time: int) -> None:
    assert parse_time(format_time(time)) == time
