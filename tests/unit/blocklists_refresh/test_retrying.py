"""How long to wait before asking again."""

import time
from collections.abc import Iterator
from email.utils import formatdate
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from blocklists.limits import Limits
from blocklists.retrying import asked_to_wait, http_date, wait

NOW = 1_795_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("120", 120), (" 7 ", 7), ("0", 0)),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW - 90, usegmt=True), 0),
        *(("", None), ("-1", None), ("1.5", None), ("soon", None), ("\u0661", None)),
        ("9" * 400, float("inf")),
    ],
)
def test_wish_of_the_server(text: str, seconds: float | None) -> None:
    """RFC 9110 section 10.2.3: a date or a number of seconds."""
    assert asked_to_wait(CIMultiDict({"retry-after": text}), NOW) == seconds


def test_no_wish() -> None:
    assert asked_to_wait({}, NOW) is None


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the machine into another time zone."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC+7")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "text", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_dates_of_http(text: str) -> None:
    """The three forms of RFC 9110 section 5.6.7."""
    assert http_date(text) == 784_111_777


@given(st.text(max_size=60) | st.from_regex(r"\A[A-Z][a-z]{2}, [0-9]{1,9} [A-Z][a-z]{2} [0-9]{1,9} [0-9: ]{1,20}.*"))
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert http_date(text) is None or isinstance(http_date(text), float)


@given(st.floats(0, 1))
def test_waits_differ_by_chance_and_grow(chance: float) -> None:
    delays = Limits().delays
    assert all(0.5 * delay <= wait(delay, chance) <= 1.5 * delay for delay in delays)
    longest = [wait(delay, 1) for delay in delays]
    assert all(now < 0.6 * after for now, after in pairwise(longest))
    assert wait(0, chance) == 0
