"""A list's rows: staged, compared and streamed, on SQLite and on Postgres."""

from collections.abc import Iterator

import pytest

from policy.rules import Action, Rule, Scope, Traits
from storage import entries, groups, parts, sources
from storage.database import Database
from storage.errors import InvalidError
from storage.loading import Difference, clear_away
from tests.support.configuration import add_source, list_rules

BLOCK = Traits()
ALLOW = Traits(Scope.SUBTREE, Action.ALLOW)
RICH = Traits(Scope.EXACT, Action.BLOCK, important=True, types=("A", "~AAAA"), unless=("x.example", "y.example"))


def rules(*names: str, traits: Traits = BLOCK) -> list[Rule]:
    return [Rule(name, traits) for name in names]


@pytest.fixture
def source_id(database: Database) -> int:
    with database.change("set-up") as change:
        return add_source(change, "a").id


def stored(database: Database) -> set[tuple[str, int, Traits]]:
    with database.reading() as connection:
        known = entries.traits(connection)
        source_of = {part.id: part.source_id for part in parts.list_all(connection)}
        return {(key, source_of[part], known[number]) for key, part, number in entries.iterate(connection)}


def rows(database: Database) -> int:
    """Return how many rows the table has, in force or not."""
    with database.reading() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM entries").scalar_one())


def test_the_first_list_is_all_new(database: Database, source_id: int) -> None:
    wanted = [
        *rules("b.example", "a.example", "www.a.example", "b.example"),
        Rule("a.example", ALLOW),
        Rule("c.example", RICH),
        Rule("^ad[0-9]+\\.\\w+\t$", BLOCK, pattern=True),
    ]
    assert list_rules(database, source_id, wanted) == Difference(added=6, removed=0, unchanged=0)
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
    list_rules(database, source_id, rules("a.example", "b.example", "c.example"))
    wanted = [*rules("b.example", "d.example"), Rule("a.example", ALLOW)]
    assert list_rules(database, source_id, wanted) == Difference(added=2, removed=2, unchanged=1)
    assert stored(database) == {
        ("example.a.", source_id, ALLOW),
        ("example.b.", source_id, BLOCK),
        ("example.d.", source_id, BLOCK),
    }


def test_the_same_list_in_another_order_changes_nothing(database: Database, source_id: int) -> None:
    list_rules(database, source_id, rules("a.example", "b.example"))
    state = database.state()
    assert list_rules(database, source_id, rules("b.example", "a.example", "b.example")) == Difference(0, 0, 2)
    assert database.state() == state


@pytest.mark.parametrize("wanted", [rules("a.example", "b.example"), [], rules("b.example")])
def test_versions_rise_when_something_changed(database: Database, source_id: int, wanted: list[Rule]) -> None:
    list_rules(database, source_id, rules("a.example"))
    before = database.state()
    list_rules(database, source_id, wanted)
    assert database.state().entries_version == before.entries_version + 1


def test_an_empty_list_empties_the_source_and_no_other(database: Database, source_id: int) -> None:
    with database.change("set-up") as change:
        other = add_source(change, "b").id
    list_rules(database, source_id, rules("a.example"))
    list_rules(database, other, rules("a.example", "b.example"))
    assert list_rules(database, source_id, []) == Difference(added=0, removed=1, unchanged=0)
    assert {source for _, source, _ in stored(database)} == {other}


def test_traits_are_shared_between_sources(database: Database, source_id: int) -> None:
    with database.change("set-up") as change:
        other = add_source(change, "b").id
    list_rules(database, source_id, rules("a.example", traits=RICH))
    list_rules(database, other, [*rules("b.example", traits=Traits(*RICH)), *rules("c.example")])
    with database.reading() as connection:
        assert sorted(entries.traits(connection).values()) == sorted([RICH, BLOCK])


def test_more_rules_than_a_batch(database: Database, source_id: int) -> None:
    names = [f"n{number}.example" for number in range(25_000)]
    assert list_rules(database, source_id, (Rule(name) for name in reversed(names))).added == 25_000
    shifted = (Rule(f"n{number}.example") for number in range(5_000, 30_000))
    assert list_rules(database, source_id, shifted) == Difference(added=5_000, removed=5_000, unchanged=20_000)
    with database.reading() as connection:
        keys = sorted(key for key, _, _ in entries.iterate(connection))
    assert keys == sorted(f"example.n{number}." for number in range(5_000, 30_000))


def test_disabled_sources_are_in_the_stream_too(database: Database, source_id: int) -> None:
    list_rules(database, source_id, rules("a.example"))
    before = stored(database)
    with database.change("desk") as change:
        sources.disable(change, "a")
    assert before
    assert stored(database) == before


def test_removing_a_source_removes_its_rows_and_spares_the_index(database: Database, source_id: int) -> None:
    list_rules(database, source_id, rules("a.example", "b.example"))
    before = database.state()
    with database.change("desk") as change:
        sources.remove(change, "a")
    assert database.state() == (before.policy_version + 1, before.entries_version)
    assert stored(database) == set()
    clear_away(database)
    assert rows(database) == 0


def test_what_lists_a_name_or_a_parent_of_it(database: Database, source_id: int) -> None:
    with database.change("set-up") as change:
        other = add_source(change, "b", enabled=False).id
    list_rules(database, source_id, [*rules("a.example", "xa.example"), Rule("www.a.example", ALLOW)])
    list_rules(database, other, [Rule("example", RICH), *rules("deep.www.a.example")])
    with database.reading() as connection:
        held = [(found.source_id, found.rule, found.since) for found in entries.holding(connection, "www.a.example")]
        assert held == [
            (source_id, Rule("www.a.example", ALLOW), 1),
            (source_id, Rule("a.example", BLOCK), 1),
            (other, Rule("example", RICH), 1),
        ]
        assert entries.holding(connection, "b.test") == []


class TestFailures:
    def broken(self) -> Iterator[Rule]:
        yield Rule("b.example")
        raise InvalidError("rules", "the list ends in the middle")

    def test_a_list_that_breaks_off_changes_nothing(self, database: Database, source_id: int) -> None:
        list_rules(database, source_id, rules("a.example"))
        state = database.state()
        with pytest.raises(InvalidError, match="ends in the middle"):
            list_rules(database, source_id, self.broken())
        assert database.state() == state
        assert stored(database) == {("example.a.", source_id, BLOCK)}
        assert list_rules(database, source_id, rules("c.example")).added == 1


def test_others_change_the_configuration_while_a_list_is_taken_in(database: Database, source_id: int) -> None:
    def slow() -> Iterator[Rule]:
        yield Rule("a.example")
        with database.change("desk") as change:
            groups.add(change, "staff")
        yield Rule("b.example")

    assert list_rules(database, source_id, slow()).added == 2
    with database.reading() as connection:
        assert [group.name for group in groups.list_all(connection)] == ["staff"]
