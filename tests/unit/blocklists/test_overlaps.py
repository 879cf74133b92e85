"""What categories list, alone and with others: as set arithmetic over the rules has it."""

import tempfile
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from blocklists.overlaps import Counts, counts
from policy.rules import Action, Rule, Scope, Traits
from tests.unit.policy.build import allow, block, index_of

CATEGORY_OF = {1: "adult", 2: "adult", 3: "gambling", 4: "malware"}


def counted(directory: Path, rules: Iterable[tuple[int, Rule]]) -> Counts:
    return counts(index_of(directory / "index", rules), CATEGORY_OF)


def test_names_are_counted_once_a_category_and_once_a_pair(tmp_path: Path) -> None:
    rules = [
        *((source, block("everywhere.test")) for source in (1, 2, 3, 4)),
        *((source, block("adult-alone.test", Scope.EXACT)) for source in (1, 2)),
        (3, block("two.test")),
        (4, block("two.test", Scope.SUBDOMAINS)),
        (3, block("gambling.test")),
    ]
    found = counted(tmp_path, rules)
    assert found.names == {"adult": 2, "gambling": 3, "malware": 2}
    assert found.only == {"adult": 1, "gambling": 1}
    assert found.shared == {("adult", "gambling"): 1, ("adult", "malware"): 1, ("gambling", "malware"): 2}
    assert found.total == 4


def test_a_name_under_several_rules_of_a_source_is_one_name(tmp_path: Path) -> None:
    found = counted(tmp_path, [(1, block("a.test")), (1, block("a.test", Scope.EXACT, types=("A",)))])
    assert found == ({"adult": 1}, {"adult": 1}, {}, 1)


def test_what_a_list_lets_through_and_expressions_are_not_listed_names(tmp_path: Path) -> None:
    found = counted(tmp_path, [(1, allow("a.test")), (1, block("b", pattern=True)), (3, block("a.test"))])
    assert found == ({"gambling": 1}, {"gambling": 1}, {}, 1)


def test_a_source_without_a_category_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    found = counted(tmp_path, [(9, block("a.test")), (9, block("b.test")), (1, block("b.test"))])
    assert found == ({"adult": 1}, {"adult": 1}, {}, 1)


def test_an_index_of_nothing_counts_nothing(tmp_path: Path) -> None:
    assert counted(tmp_path, []) == ({}, {}, {}, 0)


rules_of_lists = st.tuples(
    st.integers(1, 5),
    st.builds(
        Rule,
        st.sampled_from("abcdef").map("{}.test".format),
        st.tuples(st.sampled_from(list(Scope)), st.sampled_from(list(Action))).map(lambda pair: Traits(*pair)),
        st.just(False),
    ),
)


@settings(max_examples=100)
@given(st.sets(rules_of_lists, max_size=30))
def test_counts_are_those_of_set_arithmetic(rules: set[tuple[int, Rule]]) -> None:
    sets: dict[str, set[str]] = {}
    for source, rule in rules:
        if source in CATEGORY_OF and rule.traits.action is Action.BLOCK:
            sets.setdefault(CATEGORY_OF[source], set()).add(rule.name)
    with tempfile.TemporaryDirectory() as directory:
        found = counted(Path(directory), rules)
    others = {key: set().union(*(names for other, names in sets.items() if other != key)) for key in sets}
    pairs = {(a, b): len(sets[a] & sets[b]) for a, b in combinations(sorted(sets), 2)}
    assert found.names == {key: len(names) for key, names in sets.items()}
    assert dict(found.only) == {key: len(sets[key] - others[key]) for key in sets if sets[key] - others[key]}
    assert dict(found.shared) == {pair: count for pair, count in pairs.items() if count}
    assert found.total == len(set().union(*sets.values()))
