"""What `sources inspect` shows of a list."""

import json

import pytest

from blocklists.errors import NotAListError
from blocklists.inspecting import inspect, summarise

LIST = rb"""! comment
||a.example^$important,dnstype=~A,denyallow=x.example|y.example
@@||b.example^
c.example
/^ads[0-9]\./$important
||com^
||d.example^$popup
"""


def test_inspect_shows_every_rule_and_every_rejected_line() -> None:
    shown = inspect("list.txt", LIST)
    assert json.loads(json.dumps(shown)) == {
        "location": "list.txt",
        "format": "adblock",
        "rules": [
            {
                "line": 2,
                "name": "a.example",
                "scope": "subtree",
                "action": "block",
                "important": True,
                "types": ["~A"],
                "except": ["x.example", "y.example"],
            },
            {
                "line": 3,
                "name": "b.example",
                "scope": "subtree",
                "action": "allow",
                "important": False,
                "types": None,
                "except": [],
            },
            {
                "line": 4,
                "name": "c.example",
                "scope": "exact",
                "action": "block",
                "important": False,
                "types": None,
                "except": [],
            },
            {
                "line": 5,
                "regex": r"^ads[0-9]\.",
                "action": "block",
                "important": True,
                "types": None,
                "except": [],
            },
        ],
        "rejected": [
            {"line": 6, "text": "||com^", "reason": "public_suffix"},
            {"line": 7, "text": "||d.example^$popup", "reason": "modifier"},
        ],
    }


def test_inspect_reads_as_it_is_told_to() -> None:
    shown = inspect("-", b"a.example\ncom\n", "domains", scope="exact", allow_public_suffix=True)
    assert shown["format"] == "domains"
    assert [(rule["name"], rule["scope"]) for rule in shown["rules"]] == [("a.example", "exact"), ("com", "exact")]
    assert shown["rejected"] == []


def test_inspect_shows_where_subdomains_alone_are_meant() -> None:
    [rule] = inspect("-", b"*.a.example CNAME .")["rules"]
    assert (rule["name"], rule["scope"]) == ("a.example", "subdomains")


def test_summary_counts_the_same() -> None:
    assert summarise("list.txt", LIST) == {
        "location": "list.txt",
        "format": "adblock",
        "rules": 4,
        "rejected": 2,
        "scopes": {"subtree": 2, "exact": 1, "regex": 1},
        "actions": {"block": 3, "allow": 1},
        "reasons": {"public_suffix": 1, "modifier": 1},
    }


def test_web_page_is_refused() -> None:
    with pytest.raises(NotAListError):
        inspect("list.txt", b"<!doctype html>")
