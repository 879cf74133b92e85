"""Compiling from the database, in this process and as a job."""

import json
from pathlib import Path

import pytest

from blocklists.compiling import compile_from, work
from policy.index import Index
from policy.rules import Action, Rule, Scope, Traits
from storage import sources
from storage.database import Database
from storage.errors import DatabaseDownError
from tests.support.configuration import add_source, list_rules

RULES = [
    Rule("a.example", Traits(Scope.SUBTREE, Action.BLOCK)),
    Rule("a.example", Traits(Scope.EXACT, Action.ALLOW, important=True)),
    Rule("b.example", Traits(Scope.EXACT, Action.BLOCK, types=("A",), unless=("c.b.example",))),
    Rule("^ads[0-9]", Traits(Scope.EXACT, Action.BLOCK), pattern=True),
]


@pytest.fixture
def filled(sqlite_database: Database) -> Database:
    for key in ("one", "two"):
        with sqlite_database.change("test") as change:
            source = add_source(change, key)
        list_rules(sqlite_database, source.id, RULES if key == "one" else RULES[:1])
    return sqlite_database


def test_index_holds_every_rule_with_its_traits_and_source(filled: Database, tmp_path: Path) -> None:
    with filled.reading() as connection:
        compiled = compile_from(connection, tmp_path / "index")
        ids = {source.key: source.id for source in sources.list_all(connection)}
    assert (compiled.names, compiled.patterns) == (2, 1)
    assert compiled.octets == (tmp_path / "index").stat().st_size
    index = Index.open(tmp_path / "index")
    assert set(index.match("a.example")) == {
        (RULES[0], ids["one"]),
        (RULES[1], ids["one"]),
        (RULES[0], ids["two"]),
    }
    assert index.match("b.example") == [(RULES[2], ids["one"])]
    assert index.match("ads7.example") == [(RULES[3], ids["one"])]


def test_disabled_source_is_compiled_too_so_that_enabling_it_takes_none(filled: Database, tmp_path: Path) -> None:
    with filled.change("test") as change:
        sources.disable(change, "two")
    with filled.reading() as connection:
        compile_from(connection, tmp_path / "index")
    assert len(Index.open(tmp_path / "index").match("x.a.example")) == 2


def test_nothing_listed_is_an_index_too(sqlite_database: Database, tmp_path: Path) -> None:
    with sqlite_database.reading() as connection:
        assert compile_from(connection, tmp_path / "index").names == 0
    assert Index.open(tmp_path / "index").match("a.example") == []


def test_job_writes_what_compiling_here_writes(filled: Database, tmp_path: Path) -> None:
    with filled.reading() as connection:
        compile_from(connection, tmp_path / "here")
    job = {"database": filled.name, "path": str(tmp_path / "there")}
    assert work(json.dumps(job)) == filled.state().entries_version
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


def test_job_without_a_database_fails_and_leaves_no_file(tmp_path: Path) -> None:
    job = {"database": f"sqlite:///{tmp_path}/no/such.db", "path": str(tmp_path / "index")}
    with pytest.raises(DatabaseDownError):
        work(json.dumps(job))
    assert list(tmp_path.iterdir()) == []


def test_index_that_cannot_be_written_leaves_the_old_one(filled: Database, tmp_path: Path) -> None:
    place = tmp_path / "index"
    place.mkdir()
    with filled.reading() as connection, pytest.raises(OSError):
        compile_from(connection, place)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
