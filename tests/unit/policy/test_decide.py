"""Who wins (docs/operators-guide.md, groups and networks): each line a policy, a lookup, and what decides it."""

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import snapshot as snapshots
from policy.decide import Verdict, decide
from policy.names import is_within
from policy.rules import Action, Rule, Scope, Traits
from policy.snapshot import Snapshot
from tests.unit.policy.build import NOW, Listed, allow, block, exception, group, policy, publish


def verdict_on(
    snapshot: Snapshot, name: str, qtype: str = "A", *, client: str = "192.0.2.1", now: int = NOW
) -> Verdict:
    return decide(snapshot, snapshot.scope_of(ip_address(client)), name, qtype, now)


def lists(**rules: list[Rule]) -> list[Listed]:
    """Return one source a keyword; its category is what stands before the first underscore."""
    return [Listed(key, key.partition("_")[0], listed) for key, listed in rules.items()]


@pytest.mark.parametrize(
    ("listed", "name", "blocked"),
    [
        # An allow rule inside a list acts within its own category.
        (lists(adult=[block("a.test")]), "www.a.test", True),
        (lists(adult=[block("a.test"), allow("www.a.test")]), "www.a.test", False),
        (lists(adult=[block("a.test"), allow("www.a.test")]), "x.a.test", True),
        (lists(adult=[block("a.test")], adult_2=[allow("a.test")]), "a.test", False),
        (lists(adult=[block("a.test")], advertising=[allow("a.test")]), "a.test", True),
        (lists(advertising=[block("a.test"), allow("a.test")], adult=[block("a.test")]), "a.test", True),
        # ... also a wider one, or a narrower one's parent: nothing but allow or block counts there.
        (lists(adult=[block("www.a.test", Scope.EXACT), allow("test")]), "www.a.test", False),
        # A source of an allow-type category acts on all.
        (lists(adult=[block("a.test")], gambling=[block("a.test")], schoolwork=[block("a.test")]), "a.test", False),
        (lists(adult=[block("a.test")], schoolwork=[allow("a.test")]), "a.test", False),
        (lists(adult=[block("a.test")], schoolwork=[block("b.a.test")]), "a.test", True),
        # Important beats allow rules of lists ...
        (lists(adult=[block("a.test", important=True), allow("a.test")]), "a.test", True),
        (lists(adult=[block("a.test", important=True)], schoolwork=[block("a.test")]), "a.test", True),
        (lists(adult=[block("a.test"), block("b.a.test", important=True), allow("a.test")]), "c.b.a.test", True),
        # ... and only one that is important itself lifts it.
        (lists(adult=[block("a.test", important=True), allow("a.test", important=True)]), "a.test", False),
        # Scopes.
        (lists(adult=[block("a.test", Scope.EXACT)]), "a.test", True),
        (lists(adult=[block("a.test", Scope.EXACT)]), "www.a.test", False),
        (lists(adult=[block("a.test", Scope.SUBDOMAINS)]), "a.test", False),
        (lists(adult=[block("a.test", Scope.SUBDOMAINS)]), "www.a.test", True),
        (lists(adult=[block("a.test")]), "xa.test", False),
        (lists(adult=[block("a.test")]), "a.test.example", False),
        (lists(adult=[block("^ads?[0-9]*\\.", pattern=True)]), "ad7.news.test", True),
        (lists(adult=[block("^ads?[0-9]*\\.", pattern=True)]), "bad7.news.test", False),
        (lists(adult=[block("a.test"), allow("^www\\.", pattern=True)]), "www.a.test", False),
        # Denyallow lets subtrees through, and says nothing of other rules.
        (lists(adult=[block("a.test", unless=("ok.a.test",))]), "x.ok.a.test", False),
        (lists(adult=[block("a.test", unless=("ok.a.test",))]), "xok.a.test", True),
        (lists(adult=[block("a.test", unless=("ok.a.test",)), block("x.ok.a.test")]), "x.ok.a.test", True),
        # No rule.
        (lists(), "a.test", False),
        (lists(adult=[block("a.test")]), ".", False),
    ],
)
def test_lists(tmp_path: Path, listed: list[Listed], name: str, blocked: bool) -> None:
    verdict = verdict_on(policy(tmp_path, lists=listed), name)
    assert verdict.is_blocked == blocked
    assert verdict.verdict == ("blocked" if blocked else "allowed")


@pytest.mark.parametrize(
    ("types", "blocked"),
    [
        ((), {"A", "AAAA", "HTTPS", "TYPE65280"}),
        (("A",), {"A"}),
        (("A", "AAAA"), {"A", "AAAA"}),
        (("~A",), {"AAAA", "HTTPS", "TYPE65280"}),
        (("~A", "~HTTPS"), {"AAAA", "TYPE65280"}),
        (("TYPE65280",), {"TYPE65280"}),
    ],
)
def test_a_rule_for_types_holds_for_those_alone(tmp_path: Path, types: tuple[str, ...], blocked: set[str]) -> None:
    snapshot = policy(tmp_path, lists=lists(adult=[block("a.test", types=types)]))
    asked = ("A", "AAAA", "HTTPS", "TYPE65280")
    assert {qtype for qtype in asked if verdict_on(snapshot, "a.test", qtype).is_blocked} == blocked


def test_an_important_block_for_another_type_lifts_no_allow_rule(tmp_path: Path) -> None:
    listed = lists(adult=[block("a.test"), block("a.test", important=True, types=("AAAA",)), allow("a.test")])
    snapshot = policy(tmp_path, lists=listed)
    assert not verdict_on(snapshot, "a.test", "A").is_blocked
    assert verdict_on(snapshot, "a.test", "AAAA").is_blocked


# Categories by group.


def test_a_group_is_held_to_the_categories_that_it_blocks(tmp_path: Path) -> None:
    listed = lists(adult=[block("x.test")], gambling=[block("bet.test")])
    snapshot = policy(tmp_path, lists=listed, networks={"10.0.0.0/8": "staff"})
    assert verdict_on(snapshot, "bet.test").category == "gambling"
    assert verdict_on(snapshot, "bet.test", client="10.0.0.1") == Verdict("allowed")
    assert verdict_on(snapshot, "x.test", client="10.0.0.1").category == "adult"


@pytest.mark.parametrize("order", [["adult", "gambling"], ["gambling", "adult"]])
def test_the_most_severe_category_is_named(tmp_path: Path, order: list[str]) -> None:
    listed = lists(gambling=[block("a.test", important=True)], adult=[block("test")])
    snapshot = policy(tmp_path, lists=listed, groups=[group("students", order)])
    assert verdict_on(snapshot, "a.test").category == order[0]


def test_a_category_that_is_lifted_leaves_the_next_to_decide(tmp_path: Path) -> None:
    listed = lists(adult=[block("a.test"), allow("a.test")], gambling=[block("a.test")])
    snapshot = policy(tmp_path, lists=listed)
    assert verdict_on(snapshot, "a.test").category == "gambling"


# What decided it.


def test_a_block_names_all_that_decided_it(tmp_path: Path) -> None:
    snapshot = policy(tmp_path, lists=lists(adult_ut1=[block("a.test", important=True)]))
    assert verdict_on(snapshot, "www.a.test") == Verdict("blocked", "adult", "adult_ut1", "||a.test^$important", "IV.a")


def test_an_allow_rule_that_lifted_a_block_is_named(tmp_path: Path) -> None:
    snapshot = policy(tmp_path, lists=lists(adult=[block("a.test")], adult_ok=[allow("www.a.test")]))
    assert verdict_on(snapshot, "www.a.test") == Verdict("allowed", "adult", "adult_ok", "@@||www.a.test^", "IV.a")


def test_an_allow_rule_that_lifted_nothing_is_not_named(tmp_path: Path) -> None:
    snapshot = policy(tmp_path, lists=lists(adult=[allow("www.a.test")], schoolwork=[block("a.test")]))
    assert verdict_on(snapshot, "www.a.test") == Verdict("allowed")


@pytest.mark.parametrize(
    ("rules", "rule"),
    [
        ([block("test"), block("a.test"), block("www.a.test", Scope.EXACT)], "www.a.test"),
        ([block("test", important=True), block("www.a.test")], "||test^$important"),
        ([block("^www\\..*\\.test$", pattern=True), block("test")], "||test^"),
        ([block("^www\\.", pattern=True)], "/^www\\./"),
    ],
)
def test_the_strongest_rule_is_named(tmp_path: Path, rules: list[Rule], rule: str) -> None:
    assert verdict_on(policy(tmp_path, lists=lists(adult=rules)), "www.a.test").rule == rule


# Exceptions stand above all lists.


@pytest.mark.parametrize(
    ("made", "listed", "expected"),
    [
        (
            exception(7, "a.test"),
            lists(adult=[block("www.a.test", important=True)]),
            Verdict("exception", rule="@@||a.test^", exception_id=7),
        ),
        (
            exception(7, "www.a.test", match="exact"),
            lists(adult=[block("a.test")]),
            Verdict("exception", rule="@@www.a.test", exception_id=7),
        ),
        (
            exception(7, "a.test", "block"),
            lists(schoolwork=[block("www.a.test", important=True)]),
            Verdict("blocked", rule="||a.test^", exception_id=7),
        ),
        (
            exception(7, "www.a.test", "block", match="exact"),
            lists(),
            Verdict("blocked", rule="www.a.test", exception_id=7),
        ),
    ],
)
def test_a_live_exception_decides_before_any_list(
    tmp_path: Path, made: dict[str, Any], listed: list[Listed], expected: Verdict
) -> None:
    snapshot = policy(tmp_path, lists=listed, exceptions=[made])
    assert verdict_on(snapshot, "www.a.test") == expected
    assert verdict_on(snapshot, "www.a.test", "TYPE65280") == expected


def test_an_expired_exception_leaves_the_lists_to_decide(tmp_path: Path) -> None:
    listed = lists(adult=[block("a.test")])
    snapshot = policy(tmp_path, lists=listed, exceptions=[exception(7, "a.test", expires_at=NOW)])
    assert verdict_on(snapshot, "a.test", now=NOW - 1).exception_id == 7
    assert verdict_on(snapshot, "a.test", now=NOW).category == "adult"


# The rule of section 5, written once more.

few_names = st.sampled_from(["test", "a.test", "b.a.test", "c.b.a.test", "b.test"])
few_rules = st.builds(
    Rule,
    few_names,
    st.builds(
        Traits,
        st.sampled_from(list(Scope)),
        st.sampled_from(list(Action)),
        st.booleans(),
        st.sampled_from([(), ("A",), ("~A",)]),
        st.sampled_from([(), ("b.a.test",)]),
    ),
    pattern=st.just(False),
)


def holds(rule: Rule, name: str, qtype: str) -> bool:
    scope, _, _, types, unless = rule.traits
    below = name != rule.name and name.endswith("." + rule.name)
    covers = {Scope.EXACT: name == rule.name, Scope.SUBTREE: name == rule.name or below, Scope.SUBDOMAINS: below}
    of_type = {(): True, ("A",): qtype == "A", ("~A",): qtype != "A"}
    return covers[scope] and of_type[types] and not any(is_within(name, subtree) for subtree in unless)


def expected_category(listed: list[Listed], name: str, qtype: str) -> str:
    """Go by the words: the first category, by severity, that blocks and that nothing allows."""
    holding = [(source.category, rule) for source in listed for rule in source.rules if holds(rule, name, qtype)]
    for category in ("adult", "gambling"):
        blocks = [r for c, r in holding if c == category and r.traits.action is Action.BLOCK]
        allows = [r for c, r in holding if c == "schoolwork" or (c == category and r.traits.action is Action.ALLOW)]
        if any(r.traits.important for r in blocks):
            allows = [r for r in allows if r.traits.important]
        if blocks and not allows:
            return category
    return ""


@settings(max_examples=150)
@given(data=st.data())
def test_decisions_agree_with_the_words(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    listed = [
        Listed(key, category, data.draw(st.lists(few_rules, max_size=3)))
        for key, category in [("s1", "adult"), ("s2", "adult"), ("s3", "gambling"), ("s4", "schoolwork")]
    ]
    snapshot = policy(
        tmp_path_factory.mktemp("policy"), lists=listed, groups=[group("students", ["adult", "gambling"])]
    )
    for name in ("test", "a.test", "b.a.test", "c.b.a.test", "b.test", "other.example"):
        for qtype in ("A", "AAAA"):
            verdict = verdict_on(snapshot, name, qtype)
            assert (verdict.category if verdict.is_blocked else "") == expected_category(listed, name, qtype)


def test_a_source_that_the_snapshot_does_not_know_counts_for_nothing(tmp_path: Path) -> None:
    """The index holds disabled sources too, and for a while removed ones."""
    path = publish(tmp_path, lists=lists(adult=[block("a.test")], gambling=[block("a.test"), allow("b.a.test")]))
    assert verdict_on(snapshots.read(path), "a.test").category == "adult"
    document = json.loads(path.read_text())
    document["sources"] = [source for source in document["sources"] if source["key"] != "adult"]
    path.write_text(json.dumps(document))
    assert verdict_on(snapshots.read(path), "a.test").category == "gambling"
    document["sources"] = []
    path.write_text(json.dumps(document))
    assert verdict_on(snapshots.read(path), "a.test") == Verdict("allowed")
