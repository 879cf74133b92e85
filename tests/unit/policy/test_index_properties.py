"""The index agrees with a reading of every rule, label by label, on names of every shape."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from policy.index import Index, covers
from policy.names import MAX_NAME
from policy.rules import Action, Rule, Scope, Traits
from tests.unit.policy.build import block, index_of

Listed = set[tuple[int, Rule]]

# Some begin or end as others do: a name's key must not be taken for the beginning of another's.
LABELS = ["a", "b", "ab", "ba", "a-b", "a_b", "1", "xn--a", "co", "com", "example", "test"]


def exactly(length: int, ending: str) -> str:
    """Return a name of so many octets as text, in labels as long as they go, with this ending."""
    name = ending
    while (left := length - len(name)) > 1:
        name = "l" * min(63, left - 1 if left != 65 else 62) + "." + name
    return name


short = st.lists(st.sampled_from(LABELS), min_size=1, max_size=5).map(".".join)
deep = st.tuples(st.integers(6, 126), short).map(lambda pair: "a." * (pair[0] - pair[1].count(".")) + pair[1])
long = st.tuples(st.sampled_from([MAX_NAME - 1, MAX_NAME]), short).map(lambda pair: exactly(*pair))
names = st.one_of(short, short, short, deep, long)

traits = st.builds(
    Traits,
    st.sampled_from(list(Scope)),
    st.sampled_from(list(Action)),
    st.booleans(),
    st.sampled_from([(), ("A",), ("A", "AAAA"), ("~HTTPS",), ("~A", "~AAAA")]),
    st.lists(short, max_size=2).map(tuple),
)
# In the part of the language that Python's own engine reads the same way; lists know no case.
expressions = st.sampled_from(
    [
        r"^a\.",
        r"b$",
        r"ab",
        r"(^|\.)b\.",
        r"^[ab.]+$",
        r"^AB?[0-9-]*\.",
        r"(a|b)\.(co|com)$",
        r"l{60,63}\.",
        r".",
        r"never",
    ]
)
rules = st.one_of(
    st.builds(Rule, names, traits, st.just(False)),
    st.builds(Rule, names, traits, st.just(False)),
    st.builds(Rule, expressions, traits.map(lambda t: t._replace(scope=Scope.SUBTREE)), st.just(True)),
)
listed_rules = st.sets(st.tuples(st.integers(1, 4), rules), max_size=15)

NEAR: list[Callable[[str], str]] = [
    lambda name: name,
    lambda name: f"a.{name}",
    lambda name: f"a{name}",
    lambda name: f"{name}.test",
    lambda name: f"{name}a",
    lambda name: name.partition(".")[2],
    lambda name: name.rpartition(".")[0],
    lambda name: name[1:],
    lambda name: name[:-1],
    lambda name: ".".join(reversed(name.split("."))),
    lambda name: name.replace(".", "-", 1),
]
"""From a listed name to those that a careless comparison would take for it."""


def covers_naively(rule: Rule, name: str) -> bool:
    """Compare label by label from the right."""
    if rule.pattern:
        return re.search(rule.name, name, re.IGNORECASE) is not None
    own, asked = rule.name.split(".")[::-1], name.split(".")[::-1]
    begins = len(asked) >= len(own) and all(one == other for one, other in zip(own, asked, strict=False))
    return (
        begins
        and {
            Scope.EXACT: len(asked) == len(own),
            Scope.SUBTREE: True,
            Scope.SUBDOMAINS: len(asked) > len(own),
        }[rule.traits.scope]
    )


def near(listed: Listed, asked: list[str]) -> set[str]:
    """Return what to ask: the names given, and some around each that is listed."""
    found = {change(rule.name) for _, rule in listed if not rule.pattern for change in NEAR}
    return {name for name in {*found, *asked} if 0 < len(name) <= MAX_NAME}


def check(index: Index, listed: Listed, asked: list[str]) -> None:
    for name in near(listed, asked):
        found = [(match.source, match.rule) for match in index.match(name)]
        assert len(found) == len(set(found)), name
        assert set(found) == {(source, rule) for source, rule in listed if covers_naively(rule, name)}, name


@settings(max_examples=200)
@given(listed_rules, st.lists(names, min_size=1, max_size=8))
@example({(1, block("b.example")), (2, block("ab.example"))}, ["ab.example", "b.example", "cab.example"])
@example({(1, block("example", Scope.SUBDOMAINS)), (1, block("example", Scope.EXACT))}, ["example", "a.example"])
@example({(1, block("com")), (1, block("co"))}, ["com", "co", "a.com", "com.co", "c", "o"])
@example({(1, block(exactly(MAX_NAME, "test"))), (2, block("test"))}, [exactly(MAX_NAME, "test")])
def test_the_index_finds_the_rules_that_cover_a_name_and_no_others(listed: Listed, asked: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        check(index_of(Path(directory) / "index", listed), listed, asked)


@settings(max_examples=50)
@given(st.sets(st.tuples(st.integers(1, 400), short.map(block)), min_size=30, max_size=200))
def test_many_sources_share_listings(listed: Listed) -> None:
    with tempfile.TemporaryDirectory() as directory:
        check(index_of(Path(directory) / "index", listed), listed, [])


@settings(max_examples=50)
@given(listed_rules)
def test_each_name_is_in_one_listing_that_has_all_its_rules(listed: Listed) -> None:
    with tempfile.TemporaryDirectory() as directory:
        index = index_of(Path(directory) / "index", listed)
        of: dict[str, set[tuple[int, Traits]]] = {}
        for source, rule in listed:
            if not rule.pattern:
                of.setdefault(rule.name, set()).add((source, rule.traits))
        found = {frozenset(listing): count for listing, count in index.listings()}
    assert index.names == len(of)
    assert found == {
        wanted: [frozenset(all_) for all_ in of.values()].count(wanted) for wanted in map(frozenset, of.values())
    }


@settings(max_examples=200)
@given(rules, names)
def test_one_rule_covers_what_the_index_finds_unless_it_spares_it(rule: Rule, name: str) -> None:
    spared = any(name == subtree or name.endswith(f".{subtree}") for subtree in rule.traits.unless)
    assert covers(rule, name) == (covers_naively(rule, name) and not spared)
