"""The index finds what a reading of every rule would find; a damaged file is told from a whole one."""

import contextlib
import json
import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklists.compiler import compile_index
from policy.index import MAGIC, MOST_IN_A_SET, START, CorruptIndexError, Index
from policy.rules import Action, Rule, Scope, Traits
from tests.unit.policy.build import block, index_of, write_index

TYPES = ("A", "AAAA", "HTTPS")
names = st.lists(st.sampled_from(["a", "b", "ab", "a-b", "xn--a", "test"]), min_size=1, max_size=4).map(".".join)
all_traits = st.builds(
    Traits,
    st.sampled_from(list(Scope)),
    st.sampled_from(list(Action)),
    st.booleans(),
    st.sampled_from([(), ("A",), ("A", "AAAA"), ("~HTTPS",), ("~A", "~AAAA")]),
    st.lists(names, max_size=2).map(tuple),
)
expressions = st.sampled_from(["^a\\.", "b$", "ab", "(^|\\.)b\\.", "^[ab.]+$", "never"])
rules = st.one_of(
    st.builds(Rule, names, all_traits, st.just(False)),
    st.builds(
        lambda text, traits: Rule(text, traits._replace(scope=Scope.SUBTREE), pattern=True), expressions, all_traits
    ),
)


def naive(listed: set[tuple[int, Rule]], name: str) -> set[tuple[int, Rule]]:
    """Try every rule on a name, label by label."""
    found = set()
    labels = name.split(".")
    for source, rule in listed:
        if rule.pattern:
            covers = re.search(rule.name, name) is not None
        else:
            own = rule.name.split(".")
            at_apex, within = labels == own, labels[-len(own) :] == own
            covers = {
                Scope.EXACT: at_apex,
                Scope.SUBTREE: within,
                Scope.SUBDOMAINS: within and not at_apex,
            }[rule.traits.scope]
        if covers:
            found.add((source, rule))
    return found


@settings(max_examples=150, deadline=None)
@given(st.sets(st.tuples(st.integers(1, 3), rules), max_size=12), st.lists(names, min_size=1, max_size=12))
def test_the_index_finds_what_a_reading_of_every_rule_finds(listed: set[tuple[int, Rule]], asked: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        index = index_of(Path(directory) / "names.index", listed)
        for name in [*asked, *(rule.name for _, rule in listed if not rule.pattern)]:
            found = [(match.source, match.rule) for match in index.match(name)]
            assert len(found) == len(set(found))
            assert set(found) == naive(listed, name)


def test_parents_rules_come_first(tmp_path: Path) -> None:
    listed = [(1, block("c.b.a.test")), (1, block("test")), (2, block("a.test")), (1, block("b.a.test"))]
    found = [match.rule.name for match in index_of(tmp_path / "i", listed).match("c.b.a.test")]
    assert found == ["test", "a.test", "b.a.test", "c.b.a.test"]


def test_an_index_of_nothing_finds_nothing(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", [])
    assert index.names == 0
    assert index.match("a.test") == []
    assert index.match(".") == []


def test_a_name_that_several_sources_list_is_kept_once_with_all_of_them(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", [(source, block("a.test")) for source in (3, 1, 2)])
    assert index.names == 1
    assert [match.source for match in index.match("a.test")] == [1, 2, 3]


@pytest.mark.parametrize("name", [".", "a\\046test", "a\\000.test", "a\\.test", "test.", "A.TEST", "é.test"])
def test_only_the_name_itself_is_found(tmp_path: Path, name: str) -> None:
    assert index_of(tmp_path / "i", [(1, block("a.test", Scope.EXACT))]).match(name) == []


def test_more_listings_than_two_octets_hold(tmp_path: Path) -> None:
    """Each name under its own source: no two listings are alike."""
    count = (1 << 16) + 5
    entries = sorted((f"test.n{number:05d}.", number, 1) for number in range(count))
    compile_index(tmp_path / "i", entries, {1: Traits()})
    index = Index.open(tmp_path / "i", verify=True)
    for number in (0, 1, 65534, 65535, 65536, count - 1):
        assert [match.source for match in index.match(f"n{number:05d}.test")] == [number]


def test_compiling_tells_what_it_wrote_and_leaves_nothing_else(tmp_path: Path) -> None:
    entries = [("/^ad/", 1, 1), ("test.a.", 1, 1), ("test.a.", 2, 1), ("test.b.", 1, 1)]
    done = compile_index(tmp_path / "i", entries, {1: Traits(), 2: Traits(Scope.EXACT)})
    assert (done.names, done.patterns) == (2, 1)
    assert done.octets == (tmp_path / "i").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["i"]


def test_a_failed_compilation_keeps_the_old_index(tmp_path: Path) -> None:
    write_index(tmp_path / "i", [(1, block("old.test"))])
    before = (tmp_path / "i").read_bytes()

    def broken() -> Iterator[tuple[str, int, int]]:
        yield "test.new.", 1, 1
        raise OSError("the database is gone")

    with pytest.raises(OSError, match="gone"):
        compile_index(tmp_path / "i", broken(), {1: Traits()})
    assert (tmp_path / "i").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["i"]


def test_expressions_know_no_case_and_names_have_none(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", [(1, block("^AD[0-9]", pattern=True))])
    assert [match.rule.name for match in index.match("ad7.test")] == ["^AD[0-9]"]


def test_more_expressions_than_one_set_takes(tmp_path: Path) -> None:
    """Each is found under its own number, wherever the sets are cut."""
    count = 2 * MOST_IN_A_SET + 3
    listed = [(number % 7, block(f"^n{number:04d}\\.", pattern=True)) for number in range(count)]
    index = index_of(tmp_path / "i", listed)
    for number in (0, 1, MOST_IN_A_SET - 1, MOST_IN_A_SET, MOST_IN_A_SET + 1, count // 2, count - 1):
        (match,) = index.match(f"n{number:04d}.test")
        assert (match.rule.name, match.source) == (f"^n{number:04d}\\.", number % 7)


# Damaged files.


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    listed = [(n % 3 + 1, block(f"n{n}.test", list(Scope)[n % 3])) for n in range(40)]
    write_index(tmp_path / "whole", [*listed, (1, block("^ad[0-9]+\\.", pattern=True))])
    return (tmp_path / "whole").read_bytes()


def test_every_flipped_octet_is_found_when_the_file_is_verified(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "damaged"
    seeded = random.Random(20)
    places = {*range(80), *seeded.sample(range(len(whole)), 200), len(whole) - 1}
    for place in sorted(places):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ seeded.randrange(1, 256)]) + whole[place + 1 :])
        with pytest.raises(CorruptIndexError):
            Index.open(path, verify=True)


@pytest.mark.parametrize("verify", [True, False])
def test_a_file_cut_anywhere_is_no_index(tmp_path: Path, whole: bytes, verify: bool) -> None:
    path = tmp_path / "cut"
    seeded = random.Random(21)
    lengths = {*range(80), *seeded.sample(range(len(whole)), 120), *range(len(whole) - 20, len(whole))}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptIndexError):
            Index.open(path, verify=verify)


def test_a_file_with_more_behind_it_is_no_index(tmp_path: Path, whole: bytes) -> None:
    for verify in (True, False):
        (tmp_path / "longer").write_bytes(whole + b"\0")
        with pytest.raises(CorruptIndexError):
            Index.open(tmp_path / "longer", verify=verify)


def test_a_damaged_head_never_raises_anything_else(tmp_path: Path, whole: bytes) -> None:
    """Unverified, as a worker opens it: a changed head is refused, or happens to say something sound."""
    path = tmp_path / "damaged"
    seeded = random.Random(22)
    length = START.unpack_from(whole)[2]
    for _ in range(1500):
        damaged = bytearray(whole)
        for _ in range(seeded.randrange(1, 3)):
            damaged[seeded.randrange(START.size + length)] = seeded.choice(b'0123456789[]{},:"x-e.(\0\xff')
        path.write_bytes(damaged)
        with contextlib.suppress(CorruptIndexError):
            Index.open(path)


@pytest.mark.parametrize(
    "change",
    [
        {"names": "40"},
        {"names": None},
        {"width": "2"},
        {"width": 0},
        {"trie_length": "8"},
        {"trie_length": -8},
        {"traits": 3},
        {"traits": [["no scope", "block", False, [], []]]},
        {"listings": [[[1, 99]]]},
        {"patterns": [["((", 1, 0]]},
        {"patterns": [["a", 1, 99]]},
        {"patterns": [[7, 1, 0]]},
    ],
    ids=str,
)
def test_a_head_that_makes_no_sense_is_refused(tmp_path: Path, whole: bytes, change: dict[str, object]) -> None:
    length = START.unpack_from(whole)[2]
    head = json.loads(whole[START.size : START.size + length]) | change
    text = json.dumps(head).encode()
    body = whole[START.size + length + -(START.size + length) % 8 :]
    (tmp_path / "odd").write_bytes(START.pack(MAGIC, 0, len(text)) + text + bytes(-(START.size + len(text)) % 8) + body)
    with pytest.raises(CorruptIndexError):
        Index.open(tmp_path / "odd")


@pytest.mark.parametrize(
    "octets",
    [b"", b"HMI1", bytes(12), bytes(4096), b"<!DOCTYPE html>" * 20, START.pack(MAGIC, 0, 1 << 31) + b"{}"],
    ids=["nothing", "magic alone", "12 zeros", "zeros", "a web page", "a head longer than the file"],
)
@pytest.mark.parametrize("verify", [True, False])
def test_what_is_no_index_is_refused(tmp_path: Path, octets: bytes, verify: bool) -> None:
    (tmp_path / "other").write_bytes(octets)
    with pytest.raises(CorruptIndexError):
        Index.open(tmp_path / "other", verify=verify)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_octets_behind_the_magic_are_refused(octets: bytes) -> None:
    with pytest.raises(CorruptIndexError):
        Index(memoryview(MAGIC + octets))


def test_a_missing_file_is_the_operating_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Index.open(tmp_path / "none")


def test_expressions_too_many_for_one_set_are_all_found(tmp_path: Path) -> None:
    expressions = [rf"(ad|banner){number}-[a-z]{{1,30}}\.example$" for number in range(600)]
    index = index_of(tmp_path / "index", [(1, block(text, pattern=True)) for text in expressions])
    for number in (0, 255, 256, 599):
        assert [match.rule.name for match in index.match(f"banner{number}-x.example")] == [expressions[number]]
    assert index.match("banner600-x.example") == []


def test_expressions_ignore_case(tmp_path: Path) -> None:
    index = index_of(tmp_path / "index", [(1, block("^ADS\\.", pattern=True))])
    assert len(index.match("ads.example")) == 1
