"""A list's rows: staged, compared and streamed, on SQLite and on Postgres."""

import contextlib
from collections.abc import Iterable, Iterator

import pytest

from policy.rules import Action, Rule, Scope, Traits
from storage import entries, groups, sources
from storage.database import Database
from storage.entries import Difference
from storage.errors import InvalidError, NotFoundError
from tests.support.configuration import add_source

BLOCK = Traits()
ALLOW = Traits(Scope.SUBTREE, Action.ALLOW)
RICH = Traits(Scope.EXACT, Action.BLOCK, important=True, types=("A", "~AAAA"), unless=("x.example", "y.example"))


def rules(*names: str, traits: Traits = BLOCK) -> list[Rule]:
    return [Rule(name, traits) for name in names]


@pytest.fixture
def source_id(database: Database) -> int:
    with database.change("set-up") as change:
        return add_source(change, "a").id


def replace(database: Database, source_id: int, wanted: Iterable[Rule]) -> Difference:
    with database.change("refresh") as change:
        return entries.replace(change, source_id, wanted)


def stored(database: Database) -> set[tuple[str, int, Traits]]:
    with database.reading() as connection:
        known = entries.traits(connection)
        return {(key, source, known[number]) for key, source, number in entries.iterate(connection)}


def test_the_first_list_is_all_new(database: Database, source_id: int) -> None:
    wanted = [
        *rules("b.example", "a.example", "www.a.example", "b.example"),
        Rule("a.example", ALLOW),
        Rule("c.example", RICH),
        Rule("^ad[0-9]+\\.\\w+\t$", BLOCK, pattern=True),
    ]
    assert replace(database, source_id, wanted) == Difference(added=6, removed=0, unchanged=0)
    assert stored(database) == {
        ("example.a.", source_id, BLOCK),
        ("example.a.", source_id, ALLOW),
        ("example.a.www.", source_id, BLOCK),
        ("example.b.", source_id, BLOCK),
        ("example.c.", source_id, RICH),
        ("/^ad[0-9]+\\.\\w+\t$/", source_id, BLOCK),
    }
    with database.reading() as connection:
        assert entries.count(connection, source_id) == 6


def test_only_the_difference_is_made(database: Database, source_id: int) -> None:
    replace(database, source_id, rules("a.example", "b.example", "c.example"))
    wanted = [*rules("b.example", "d.example"), Rule("a.example", ALLOW)]
    assert replace(database, source_id, wanted) == Difference(added=2, removed=2, unchanged=1)
    assert stored(database) == {
        ("example.a.", source_id, ALLOW),
        ("example.b.", source_id, BLOCK),
        ("example.d.", source_id, BLOCK),
    }


def test_the_same_list_in_another_order_changes_nothing(database: Database, source_id: int) -> None:
    replace(database, source_id, rules("a.example", "b.example"))
    state = database.state()
    assert replace(database, source_id, rules("b.example", "a.example", "b.example")) == Difference(0, 0, 2)
    assert database.state() == state


@pytest.mark.parametrize("wanted", [rules("a.example", "b.example"), [], rules("b.example")])
def test_versions_rise_when_something_changed(database: Database, source_id: int, wanted: list[Rule]) -> None:
    replace(database, source_id, rules("a.example"))
    before = database.state()
    replace(database, source_id, wanted)
    assert database.state() == (before.policy_version + 1, before.entries_version + 1)


def test_an_empty_list_empties_the_source_and_no_other(database: Database, source_id: int) -> None:
    with database.change("set-up") as change:
        other = add_source(change, "b").id
    replace(database, source_id, rules("a.example"))
    replace(database, other, rules("a.example", "b.example"))
    assert replace(database, source_id, []) == Difference(added=0, removed=1, unchanged=0)
    assert {source for _, source, _ in stored(database)} == {other}


def test_traits_are_shared_between_sources(database: Database, source_id: int) -> None:
    with database.change("set-up") as change:
        other = add_source(change, "b").id
    replace(database, source_id, rules("a.example", traits=RICH))
    replace(database, other, [*rules("b.example", traits=Traits(*RICH)), *rules("c.example")])
    with database.reading() as connection:
        assert sorted(entries.traits(connection).values()) == sorted([RICH, BLOCK])


def test_more_rules_than_a_batch(database: Database, source_id: int) -> None:
    names = [f"n{number}.example" for number in range(25_000)]
    assert replace(database, source_id, (Rule(name) for name in reversed(names))).added == 25_000
    shifted = (Rule(f"n{number}.example") for number in range(5_000, 30_000))
    assert replace(database, source_id, shifted) == Difference(added=5_000, removed=5_000, unchanged=20_000)
    with database.reading() as connection:
        keys = sorted(key for key, _, _ in entries.iterate(connection))
    assert keys == sorted(f"example.n{number}." for number in range(5_000, 30_000))


def test_disabled_sources_are_in_the_stream_too(database: Database, source_id: int) -> None:
    replace(database, source_id, rules("a.example"))
    before = stored(database)
    with database.change("desk") as change:
        sources.disable(change, "a")
    assert before
    assert stored(database) == before


def test_removing_a_source_removes_its_rows_and_spares_the_index(database: Database, source_id: int) -> None:
    replace(database, source_id, rules("a.example", "b.example"))
    before = database.state()
    with database.change("desk") as change:
        sources.remove(change, "a")
    assert database.state() == (before.policy_version + 1, before.entries_version)
    with database.reading() as connection:
        assert entries.count(connection, source_id) == 0


def test_what_lists_a_name_or_a_parent_of_it(database: Database, source_id: int) -> None:
    with database.change("set-up") as change:
        other = add_source(change, "b", enabled=False).id
    replace(database, source_id, [*rules("a.example", "xa.example"), Rule("www.a.example", ALLOW)])
    replace(database, other, [Rule("example", RICH), *rules("deep.www.a.example")])
    with database.reading() as connection:
        assert entries.holding(connection, "www.a.example") == [
            entries.Listing(source_id, "www.a.example", ALLOW),
            entries.Listing(source_id, "a.example", BLOCK),
            entries.Listing(other, "example", RICH),
        ]
        assert entries.holding(connection, "b.test") == []


class TestFailures:
    def broken(self) -> Iterator[Rule]:
        yield Rule("b.example")
        raise InvalidError("rules", "the list ends in the middle")

    def test_a_list_that_breaks_off_changes_nothing(self, database: Database, source_id: int) -> None:
        replace(database, source_id, rules("a.example"))
        state = database.state()
        with pytest.raises(InvalidError, match="ends in the middle"):
            replace(database, source_id, self.broken())
        assert database.state() == state
        assert stored(database) == {("example.a.", source_id, BLOCK)}
        assert replace(database, source_id, rules("c.example")).added == 1

    def test_a_change_that_fails_behind_a_list_takes_it_back(self, database: Database, source_id: int) -> None:
        for _ in range(2):
            with contextlib.suppress(NotFoundError), database.change("refresh") as change:
                entries.replace(change, source_id, rules("a.example"))
                sources.get(change.connection, "nothing")
        assert stored(database) == set()
        assert replace(database, source_id, rules("c.example")).added == 1

    def test_half_a_change_is_never_committed(self, database: Database, source_id: int) -> None:
        """Who swallows the failure of a list still can't store what else was in its change."""
        with pytest.raises(Exception, match=r"invalid|aborted"):
            self.swallow_a_failure(database, source_id)
        with database.reading() as connection:
            assert groups.list_all(connection) == []

    def swallow_a_failure(self, database: Database, source_id: int) -> None:
        with database.change("refresh") as change:
            groups.add(change, "staff")
            with contextlib.suppress(InvalidError):
                entries.replace(change, source_id, self.broken())
            groups.add(change, "guests")

    def test_two_lists_in_one_change(self, database: Database, source_id: int) -> None:
        with database.change("refresh") as change:
            other = add_source(change, "b").id
            entries.replace(change, source_id, rules("a.example"))
            entries.replace(change, other, rules("b.example", traits=RICH))
        assert stored(database) == {("example.a.", source_id, BLOCK), ("example.b.", other, RICH)}


def test_others_change_the_configuration_while_a_list_is_taken_in(database: Database, source_id: int) -> None:
    def slow() -> Iterator[Rule]:
        yield Rule("a.example")
        with database.change("desk") as change:
            groups.add(change, "staff")
        yield Rule("b.example")

    assert replace(database, source_id, slow()).added == 2
    with database.reading() as connection:
        assert [group.name for group in groups.list_all(connection)] == ["staff"]
