"""What `sources inspect` shows of a list."""

import json

import pytest

from blocklists.errors import NotAListError
from blocklists.inspecting import inspect, inspect_archive, summarise, summarise_archive

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


def archive() -> list[tuple[str, bytes]]:
    """Return the members of an archive: a category of ours, one of nobody's, and one that is skipped."""
    return [
        ("blacklists/drogue/domains", b"a.example\n192.0.2.1\n"),
        ("blacklists/drogue/urls", b"b.example/x\n"),
        ("blacklists/novelty/domains", b"c.example\n"),
        ("blacklists/strict_redirector/domains", b"d.example\n"),
    ]


def test_inspect_shows_of_an_archive_which_file_and_category_a_rule_is_of() -> None:
    rule = {"line": 1, "scope": "subtree", "action": "block", "important": False, "types": None, "except": []}
    drogue = {"file": "drogue/domains", "category": "drugs"}
    assert json.loads(json.dumps(inspect_archive("ut1.tar.gz", archive))) == {
        "location": "ut1.tar.gz",
        "format": "ut1",
        "rules": [
            rule | {"name": "a.example"} | drogue,
            rule | {"name": "c.example", "file": "novelty/domains", "category": None},
        ],
        "rejected": [
            {"line": 2, "text": "192.0.2.1", "reason": "address"} | drogue,
            {"line": 1, "text": "b.example/x", "reason": "path", "file": "drogue/urls", "category": "drugs"},
        ],
        "skipped": [{"directory": "strict_redirector", "reason": "the same names as redirector"}],
    }


def test_summary_of_an_archive_counts_by_directory() -> None:
    assert summarise_archive("ut1.tar.gz", archive, scope="exact") == {
        "location": "ut1.tar.gz",
        "format": "ut1",
        "rules": 2,
        "rejected": 2,
        "scopes": {"exact": 2},
        "actions": {"block": 2},
        "reasons": {"address": 1, "path": 1},
        "directories": [
            {
                "directory": "drogue",
                "category": "drugs",
                "skipped": None,
                "rules": 1,
                "rejected": 2,
                "reasons": {"address": 1, "path": 1},
            },
            {
                "directory": "novelty",
                "category": None,
                "skipped": None,
                "rules": 1,
                "rejected": 0,
                "reasons": {},
            },
            {
                "directory": "strict_redirector",
                "category": None,
                "skipped": "the same names as redirector",
                "rules": 0,
                "rejected": 0,
                "reasons": {},
            },
        ],
    }
