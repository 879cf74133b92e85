"""What a list would change against what its source holds; nothing of it is stored. On both databases."""

from collections.abc import Iterator

import pytest

from policy.rules import Rule, Scope, Traits
from storage import entries, parts
from storage.comparing import compare
from storage.database import Database
from storage.errors import NotFoundError
from storage.loading import Difference, loading
from tests.support.configuration import SEEN, add_source, list_rules

NEW_TRAITS = Traits(Scope.SUBDOMAINS, important=True)


@pytest.fixture
def source_id(database: Database) -> int:
    with database.change("set-up") as change:
        number = add_source(change, "a").id
    list_rules(database, number, [Rule("a.example"), Rule("b.example")])
    return number


def content(database: Database) -> list[object]:
    """Return all that a comparison could have changed."""
    with database.reading() as connection:
        rows = sorted(entries.iterate(connection))
        return [rows, entries.traits(connection), parts.list_all(connection), database.state()]


@pytest.mark.parametrize(
    ("rules", "difference"),
    [
        ([Rule("a.example"), Rule("b.example")], Difference(0, 0, 2)),
        ([Rule("b.example"), Rule("b.example"), Rule("c.example")], Difference(1, 1, 1)),
        ([Rule("a.example", NEW_TRAITS), Rule("a.example")], Difference(1, 1, 1)),
        ([Rule("^a", pattern=True)], Difference(1, 2, 0)),
        ([], Difference(0, 2, 0)),
    ],
)
def test_a_plain_list(database: Database, source_id: int, rules: list[Rule], difference: Difference) -> None:
    before = content(database)
    assert compare(database, source_id, [("", rules)]) == difference
    assert content(database) == before


def test_directories_that_are_new(database: Database, source_id: int) -> None:
    before = content(database)
    listing = [("", [Rule("a.example")]), ("x", [Rule("a.example")]), ("y", [Rule("a.example")])]
    assert compare(database, source_id, listing) == Difference(2, 1, 1)
    assert content(database) == before


def test_what_a_killed_load_left_is_not_taken_for_the_list(database: Database, source_id: int) -> None:
    def ends_too_early() -> None:
        with loading(database, source_id) as load:
            load.take([Rule("c.example")])
            load.compare()
            load.write()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ends_too_early()
    assert compare(database, source_id, [("", [Rule("a.example"), Rule("c.example")])]) == Difference(1, 1, 1)
    assert list_rules(database, source_id, [Rule("a.example")], SEEN) == Difference(0, 1, 1)


def test_rules_that_cannot_be_read_leave_nothing_behind(database: Database, source_id: int) -> None:
    def failing() -> Iterator[Rule]:
        yield Rule("c.example")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compare(database, source_id, [("", failing())])
    assert compare(database, source_id, [("", [Rule("a.example"), Rule("b.example")])]) == Difference(0, 0, 2)


def test_a_source_that_is_not_there(database: Database) -> None:
    with pytest.raises(NotFoundError):
        compare(database, 999, [])
