"""Which answers may be put together, by RFC 9110 sections 13.1.5, 14 and 15.3.7, and which never."""

from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL

from blocklists.resuming import Received

LISTS = URL("https://lists.example/list.txt")
NOW = 1_795_000_000.0
OLD, RECENT = formatdate(NOW - 3600, usegmt=True), formatdate(NOW - 59, usegmt=True)


def received(*, size: int = 10, url: URL = LISTS, now: float = NOW, **headers: Any) -> Received:
    """Return a download of a hundred octets that broke off."""
    found = Received()
    found.start(url, headers_of({"Content_Length": "100", **headers}), now)
    found.add(b"x" * size)
    return found


def headers_of(headers: dict[str, str]) -> CIMultiDict[str]:
    return CIMultiDict({name.replace("_", "-"): value for name, value in headers.items() if value})


def test_what_is_missing_is_asked_for_on_condition() -> None:
    assert received(ETag='"1"').conditions(LISTS) == {"Range": "bytes=10-", "If-Range": '"1"'}
    assert received(Last_Modified=OLD).conditions(LISTS) == {"Range": "bytes=10-", "If-Range": OLD}


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no validator"),
        pytest.param({"ETag": 'W/"1"'}, id="a weak tag"),
        pytest.param({"ETag": "1"}, id="no tag at all"),
        pytest.param({"ETag": 'W/"1"', "Last_Modified": OLD}, id="a date beside a weak tag"),
        pytest.param({"Last_Modified": RECENT}, id="a date so recent that the list may have changed since"),
        pytest.param({"Last_Modified": OLD, "Date": OLD}, id="recent by the server's own clock"),
        pytest.param({"Last_Modified": formatdate(NOW + 3600)}, id="a date to come"),
        pytest.param({"Last_Modified": "yesterday"}, id="no date"),
        pytest.param({"ETag": '"1"', "Accept_Ranges": "none"}, id="a server that gives no parts"),
    ],
)
def test_all_is_asked_for_anew_where_versions_can_not_be_told_apart(headers: dict[str, Any]) -> None:
    assert received(**headers).conditions(LISTS) == {}


def test_servers_clock_decides_how_old_a_date_is() -> None:
    there = formatdate(NOW - 1000, usegmt=True)
    assert received(now=NOW - 4000, Last_Modified=OLD, Date=there).conditions(LISTS)


def test_nothing_is_resumed_before_anything_came() -> None:
    assert Received().conditions(LISTS) == {}
    assert received(size=0, ETag='"1"').conditions(LISTS) == {}


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://lists.example/list.txt", True),
        ("https://lists.example/list.txt?signature=2", True),
        ("https://someone:secret@lists.example/list.txt", True),
        ("https://lists.example/other.txt", False),
        ("http://lists.example/list.txt", False),
        ("https://mirror.example/list.txt", False),
        ("https://lists.example:8443/list.txt", False),
    ],
)
def test_tag_holds_for_the_url_that_it_came_from(url: str, same: bool) -> None:
    found = received(url=LISTS.with_query(signature="1"), ETag='"1"')
    assert bool(found.conditions(URL(url))) is same


GOOD = {"Content_Range": "bytes 10-99/100", "ETag": '"1"', "Content_Length": "90"}


@pytest.mark.parametrize(
    "headers",
    [
        GOOD,
        GOOD | {"Content_Length": ""},
        GOOD | {"Content_Range": "Bytes 10-99/100"},
        GOOD | {"Content_Range": "bytes 10-49/100", "Content_Length": "40"},
        GOOD | {"Content_Encoding": "GZIP"},
    ],
)
def test_part_that_continues(headers: dict[str, str]) -> None:
    found = received(ETag='"1"', Content_Encoding="gzip")
    assert found.resume(headers_of(headers))
    assert found.size == 10


@pytest.mark.parametrize(
    "changed",
    [
        *({"Content_Range": text} for text in ("", "bytes 0-99/100", "bytes 11-99/100", "bytes 9-99/100")),
        *({"Content_Range": text} for text in ("bytes 10-99/101", "bytes 10-99/*", "bytes */100", "bytes 10-100/100")),
        *({"Content_Range": text} for text in ("bytes 10-9/100", "lines 10-99/100", "bytes=10-99/100", "bytes 10-99")),
        *({"Content_Range": text} for text in ("bytes -10-99/100", "bytes 1\u0660-99/100", "10-99/100")),
        *({"ETag": text} for text in ("", '"2"', 'W/"1"', "1")),
        *({"Content_Length": text} for text in ("89", "91", "100", "many")),
        {"Content_Encoding": "gzip"},
    ],
)
def test_part_that_does_not_continue(changed: dict[str, str]) -> None:
    found = received(ETag='"1"')
    assert not found.resume(headers_of(GOOD | changed))
    assert (found.size, found.total) == (10, 100)


def test_date_must_be_the_same_too() -> None:
    found = received(Last_Modified=OLD)
    good = {"Content_Range": "bytes 10-99/100"}
    assert not found.resume(headers_of(good))
    assert not found.resume(headers_of(good | {"Last_Modified": RECENT, "ETag": '"1"'}))
    assert found.resume(headers_of(good | {"Last_Modified": OLD}))


def test_total_that_was_not_known_is_learned_from_the_part() -> None:
    found = Received()
    found.start(LISTS, headers_of({"ETag": '"1"'}), NOW)
    found.add(b"x" * 10)
    assert found.resume(headers_of({"Content_Range": "bytes 10-19/30", "ETag": '"1"'}))
    assert (found.total, found.end) == (30, 20)
    assert not found.resume(headers_of({"Content_Range": "bytes 10-19/40", "ETag": '"1"'}))


def test_starting_over_leaves_nothing_of_the_old_version() -> None:
    found = received(ETag='"1"')
    found.start(LISTS, headers_of({"Content_Length": "3", "ETag": '"2"'}), NOW)
    found.add(b"new")
    assert (found.value(), found.total) == (b"new", 3)
    found.forget()
    assert (found.value(), found.total, found.end, found.conditions(LISTS)) == (b"", None, None, {})


texts = st.text(st.characters(max_codepoint=255), max_size=40)


@given(
    st.dictionaries(
        st.sampled_from(
            ["Content-Length", "ETag", "Last-Modified", "Date", "Accept-Ranges", "Content-Range", "Content-Encoding"]
        ),
        texts | st.just("bytes 0-1/2") | st.just('"1"') | st.just(OLD),
    )
)
def test_any_headers_are_understood_or_not_and_never_an_error(headers: dict[str, str]) -> None:
    found = Received()
    found.start(LISTS, CIMultiDict(headers), NOW)
    found.add(b"x")
    found.conditions(LISTS)
    goes_on = found.resume(CIMultiDict(headers))
    assert not goes_on or "Content-Range" in headers
