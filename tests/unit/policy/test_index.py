"""What the index holds and in which order it tells it; compiling writes all of it or nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from blocklists.compiler import compile_index
from policy.index import MOST_IN_A_SET, Index
from policy.rules import Scope, Traits
from tests.unit.policy.build import block, index_of, write_index


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
    index = Index.open(tmp_path / "i")
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


def test_expressions_too_many_for_one_set_are_all_found(tmp_path: Path) -> None:
    expressions = [rf"(ad|banner){number}-[a-z]{{1,30}}\.example$" for number in range(600)]
    index = index_of(tmp_path / "index", [(1, block(text, pattern=True)) for text in expressions])
    for number in (0, 255, 256, 599):
        assert [match.rule.name for match in index.match(f"banner{number}-x.example")] == [expressions[number]]
    assert index.match("banner600-x.example") == []


def test_expressions_ignore_case(tmp_path: Path) -> None:
    index = index_of(tmp_path / "index", [(1, block("^ADS\\.", pattern=True))])
    assert len(index.match("ads.example")) == 1
