"""What people are told about lists: how each is, how a refresh went, and what categories share."""

from collections import Counter
from typing import Any

import pytest

from blocklists.overlaps import Counts
from blocklists.refresh import Outcome
from commands.categories import overlaps
from commands.inspecting import _told
from commands.progress import amount, clock
from commands.refreshing import show_outcomes, totals, what_stays
from commands.sources import state_of
from commands.times import age
from storage.sources import Source

NOW = 1_795_521_600_000_000  # 2026-11-24T12:00:00Z
SECOND = 1_000_000
DAY = 86_400 * SECOND


def source(**fields: Any) -> Source:
    usual: dict[str, Any] = {
        "id": 1,
        "key": "a",
        "location": "/a",
        "mirrors": (),
        "format": "auto",
        "category": "games",
        "scope": None,
        "enabled": True,
        "allow_private": False,
        "allow_public_suffix": False,
        "interval_seconds": 86_400,
        "stale_seconds": 3 * 86_400,
        "starter": False,
        "licence": "",
        "homepage": "",
        "version": 3,
        "rules": 1_200,
        "last_success_at": NOW - 7_200 * SECOND,
    }
    return Source(**usual | fields)


@pytest.mark.parametrize(
    ("fields", "restored", "state"),
    [
        ({}, False, "ok"),
        ({}, True, "rolled back"),
        ({"last_error": "gone"}, True, "failing"),
        ({"last_error": "gone", "last_success_at": NOW - 4 * DAY}, False, "stale"),
        ({"last_success_at": NOW - 3 * DAY}, False, "ok"),
        ({"version": 0, "last_success_at": None}, False, "never loaded"),
        ({"version": 0, "last_success_at": None, "last_error": "gone"}, False, "never loaded"),
        ({"enabled": False, "last_error": "gone"}, False, "off"),
    ],
)
def test_state_is_what_should_be_seen_to_first(fields: dict[str, Any], restored: bool, state: str) -> None:
    assert state_of(source(**fields), NOW, restored=restored) == state


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 s ago"),
        (119, "119 s ago"),
        (120, "2 min ago"),
        (7_199, "119 min ago"),
        (7_200, "2 h ago"),
        (172_799, "47 h ago"),
        (172_800, "2 days ago"),
        (86_400 * 400, "400 days ago"),
    ],
)
def test_age(seconds: int, said: str) -> None:
    assert age(NOW - seconds * SECOND, NOW) == said


def test_what_never_was_has_no_age() -> None:
    assert age(None, NOW) == "never"


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (source(), "its last good version, 3, of 2 h ago with 1,200 rules, stays"),
        (
            source(rules=1, enabled=False),
            "its last good version, 3, of 2 h ago with 1 rule, is kept; the source is off",
        ),
        (source(version=0, last_success_at=None), "nothing of it was ever loaded"),
        (None, "it was removed"),
    ],
)
def test_what_stays_when_a_refresh_failed(kept: Source | None, said: str) -> None:
    assert what_stays(kept, NOW) == said


OUTCOMES = [
    Outcome("a", "games", "updated", 1_000, 600, 20, Counter(url=2, name=1)),
    Outcome("b", "games", "unchanged", 50, rejected=Counter(url=1_000)),
    Outcome("c\x1b[31m", "games", error="no such file", skipped={"ads": "\x07"}),
]


def test_totals() -> None:
    assert totals(OUTCOMES) == (
        "1 updated, 1 unchanged, 1 failed; 1,050 rules, 600 added, 20 removed; 1,003 lines rejected (1,002 url, 1 name)"
    )
    assert totals(OUTCOMES[:1]).startswith("1 updated; ")
    assert totals([Outcome("a", "games", "updated", rejected=Counter(url=1))]).endswith("; 1 line rejected (1 url)")


def test_summary_acts_on_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_outcomes(OUTCOMES, {"a": source()}, as_json=False)
    printed = capsys.readouterr().out
    assert printed.splitlines()[-2:] == ["c?[31m: left out ads: ?", "c?[31m: it was removed"]
    assert not set(printed) & {chr(code) for code in (*range(10), *range(11, 32), 127)}


def test_overlaps_name_the_largest() -> None:
    shared = Counter({("a", "b"): 5, ("a", "c"): 9, ("a", "d"): 5, ("a", "e"): 1, ("b", "c"): 100})
    found = Counts(Counter(a=30), Counter(a=10), shared, 200)
    told = overlaps("a", found)
    assert told == {"names": 30, "only_here": 10, "shared_with": {"c": 9, "b": 5, "d": 5}}
    assert list(told["shared_with"]) == ["c", "b", "d"]
    assert overlaps("z", found) == {"names": 0, "only_here": 0, "shared_with": {}}
    assert overlaps("a", None) == {"names": None, "only_here": None, "shared_with": None}


def test_comparison_in_words() -> None:
    compared = {
        "against": "house",
        "added": 1_000,
        "removed": 0,
        "unchanged": 2,
        "top_lookups": [{"name": f"n{n}.example", "lookups": 9_000 - n, "rule": "x"} for n in range(12)],
        "exceptions": [{"id": 7, "domain": "a.example", "action": "allow"}],
        "refused": "it shrank",
    }
    told = _told(compared)
    assert told["against"] == "house: 1,000 added, 0 removed, 2 unchanged"
    assert told["refused"] == "yes: it shrank"
    assert told["often asked for"].startswith("n0.example (9,000), n1.example (8,999), ")
    assert told["often asked for"].endswith(" and 2 more")
    assert told["exceptions"] == "7 (allow a.example)"
    unread = _told(compared | {"added": None, "removed": None, "unchanged": None, "top_lookups": [], "refused": None})
    assert (unread["against"], unread["refused"]) == ("house: nothing to compare", "no")
    assert "often asked for" not in unread


@pytest.mark.parametrize(
    ("number", "step", "said"),
    [(1_500_000, "fetching", "1.5 MB"), (20_000, "reading", "20,000 lines"), (1_234.6, "storing", "1,235 rules")],
)
def test_amount(number: float, step: str, said: str) -> None:
    assert amount(number, step) == said


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 59.9, 61, 3_600)] == ["0:00", "0:59", "1:01", "60:00"]
