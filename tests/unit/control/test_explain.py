"""What a client would get, told in words: the contract's object, and input that is none."""

from pathlib import Path

import pytest

from control.explain import explain
from policy.snapshot import Snapshot
from resolver.local import LocalNames
from setting_values import local_record
from tests.unit.policy import build

NO_NAMES = LocalNames([], ())


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    lists = [build.Listed("list", "adult", [build.block("bad.example")])]
    exceptions = [build.exception(4, "lifted.bad.example")]
    return build.policy(
        tmp_path,
        version=9,
        lists=lists,
        exceptions=exceptions,
        networks={"192.0.2.0/24": "staff", "2001:db8::/32": "staff"},
    )


def test_blocked_name_comes_with_all_reasons(snapshot: Snapshot) -> None:
    assert explain(snapshot, NO_NAMES, "WWW.Bad.Example.", "192.0.2.7", "aaaa") == {
        "name": "www.bad.example",
        "client": "192.0.2.7",
        "group": "staff",
        "verdict": "blocked",
        "category": "adult",
        "source": "list",
        "rule": "||bad.example^",
        "clause": "IV.a",
        "exception_id": None,
        "policy_version": 9,
    }


def test_nothing_known_is_null(snapshot: Snapshot) -> None:
    found = explain(snapshot, NO_NAMES, "good.example", "198.51.100.1", "A")
    assert (found["verdict"], found["group"]) == ("allowed", "students")
    assert {found[key] for key in ("category", "source", "rule", "clause", "exception_id")} == {None}


def test_exception_is_told_by_its_id(snapshot: Snapshot) -> None:
    found = explain(snapshot, NO_NAMES, "lifted.bad.example", "2001:db8::1", "TYPE65")
    assert (found["verdict"], found["exception_id"], found["group"]) == ("exception", 4, "staff")


def test_type_by_its_number_is_the_same_type(tmp_path: Path) -> None:
    """RFC 3597 section 5; a rule for HTTPS alone must not be passed by under the type's number."""
    snapshot = build.policy(
        tmp_path, lists=[build.Listed("list", "adult", [build.block("bad.example", types=("HTTPS",))])]
    )
    verdicts = {
        qtype: explain(snapshot, NO_NAMES, "bad.example", "192.0.2.1", qtype)["verdict"]
        for qtype in ("HTTPS", "TYPE65", "A")
    }
    assert verdicts == {"HTTPS": "blocked", "TYPE65": "blocked", "A": "allowed"}


@pytest.mark.parametrize(
    ("name", "client", "qtype"),
    [
        ("", "192.0.2.1", "A"),
        ("a..example", "192.0.2.1", "A"),
        ("a b.example", "192.0.2.1", "A"),
        ("a.example", "192.0.2", "A"),
        ("a.example", "", "A"),
        ("a.example", "192.0.2.0/24", "A"),
        ("a.example", "192.0.2.1", ""),
        ("a.example", "192.0.2.1", "NOSUCH"),
        ("a.example", "192.0.2.1", "TYPE"),
        ("a.example", "192.0.2.1", "TYPE65536"),
        ("a.example", "192.0.2.1", "TYPE٣"),
    ],
)
def test_input_that_is_none_is_refused(snapshot: Snapshot, name: str, client: str, qtype: str) -> None:
    with pytest.raises(ValueError):
        explain(snapshot, NO_NAMES, name, client, qtype)


def test_what_is_answered_from_here_is_told(snapshot: Snapshot) -> None:
    names = LocalNames([local_record("printer.bad.example A 10.1.2.3")], ("example.test",))
    told = {
        (name, qtype): explain(snapshot, names, name, "192.0.2.1", qtype)
        for name, qtype in (
            ("printer.bad.example", "A"),
            ("localhost", "TYPE65"),
            ("a.test", "A"),
            ("example.test", "A"),
        )
    }
    assert {key: (found["verdict"], found["rule"]) for key, found in told.items()} == {
        ("printer.bad.example", "A"): ("local", "printer.bad.example"),
        ("localhost", "TYPE65"): ("local", "localhost"),
        ("a.test", "A"): ("local", "test"),
        ("example.test", "A"): ("allowed", None),
    }


def test_lists_say_nothing_of_our_own_names(snapshot: Snapshot) -> None:
    names = LocalNames([local_record("portal.bad.example CNAME www.bad.example")], ("bad.example",))
    for name in ("dc.bad.example", "portal.bad.example"):
        assert explain(snapshot, names, name, "192.0.2.7", "A")["verdict"] == "allowed"


def test_an_administrators_exception_does(tmp_path: Path) -> None:
    snapshot = build.policy(tmp_path, exceptions=[build.exception(5, "bad.example", "block")])
    names = LocalNames([local_record("printer.bad.example A 10.1.2.3")], ("bad.example",))
    for name in ("dc.bad.example", "printer.bad.example"):
        found = explain(snapshot, names, name, "192.0.2.7", "A")
        assert (found["verdict"], found["exception_id"]) == ("blocked", 5)


@pytest.mark.parametrize(("category", "verdict"), [("schoolwork", "allowed"), ("adult", "blocked")])
def test_what_lets_an_alias_of_our_own_through_covers_where_it_leads(
    tmp_path: Path, category: str, verdict: str
) -> None:
    lists = [
        build.Listed("s", "gambling", [build.block("bad.example")]),
        build.Listed("t", category, [build.allow("portal.example")]),
    ]
    names = LocalNames([local_record("portal.example CNAME www.bad.example")], ())
    assert explain(build.policy(tmp_path, lists=lists), names, "portal.example", "192.0.2.7", "A")["verdict"] == verdict


def test_an_alias_of_our_own_is_judged_by_where_it_leads(snapshot: Snapshot) -> None:
    names = LocalNames([local_record("portal.example CNAME www.bad.example")], ())
    found = explain(snapshot, names, "portal.example", "192.0.2.7", "A")
    assert (found["verdict"], found["rule"]) == ("blocked", "||bad.example^ by way of www.bad.example")
