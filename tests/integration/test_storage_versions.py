"""Versions of a source's list: written ahead, brought into force at once, brought back, and asked about later."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from policy.rules import Rule
from storage import audit, entries, exceptions, parts, sources, versions
from storage import loading as loading_module
from storage.database import Database, now
from storage.errors import ConflictError, NotFoundError
from storage.loading import Difference, clear_away, forget_before, loading, rollback
from storage.sources import Source
from tests.support.configuration import SEEN, add_source, list_rules

ROOT = Path(__file__).parents[2]


@pytest.fixture
def source_id(database: Database) -> int:
    with database.change("set-up") as change:
        return add_source(change, "a").id


def rules(*names: str) -> list[Rule]:
    return [Rule(name) for name in names]


def source_of(database: Database, key: str = "a") -> Source:
    with database.reading() as connection:
        return sources.get(connection, key)


def listed(database: Database) -> set[str]:
    with database.reading() as connection:
        return {entries.rule_of(key, Rule("x").traits).name for key, _, _ in entries.iterate(connection)}


def rows(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM entries").scalar_one())


def test_each_difference_is_a_version(database: Database, source_id: int) -> None:
    list_rules(database, source_id, rules("a.example", "b.example"))
    list_rules(database, source_id, rules("a.example", "b.example"))
    list_rules(database, source_id, rules("b.example", "c.example", "d.example"))
    with database.reading() as connection:
        new, old = versions.of_source(connection, source_id)
    assert (old.number, old.rules, old.added, old.removed, old.actor) == (1, 2, 2, 0, "refresh")
    assert (new.number, new.rules, new.added, new.removed, new.restored) == (2, 3, 2, 1, None)
    assert (source_of(database).version, source_of(database).rules) == (2, 3)


def test_what_is_written_ahead_is_seen_by_nobody(database: Database, source_id: int) -> None:
    list_rules(database, source_id, rules("a.example", "b.example"))
    state = database.state()
    with loading(database, source_id) as load:
        load.take(rules("b.example", "c.example"))
        assert load.compare() == Difference(1, 1, 1)
        load.write()
        assert listed(database) == {"a.example", "b.example"}
        with database.reading() as connection:
            assert [found.rule.name for found in entries.holding(connection, "a.example")] == ["a.example"]
            assert entries.holding(connection, "c.example") == []
            assert entries.count(connection, source_id) == 2
        assert database.state() == state
        load.finish("refresh", SEEN, rejected=0)
    assert listed(database) == {"b.example", "c.example"}
    assert database.state().entries_version == state.entries_version + 1


def test_what_never_finished_is_swept_away(database: Database, source_id: int) -> None:
    list_rules(database, source_id, rules("a.example", "b.example"))
    with contextlib.suppress(ZeroDivisionError), loading(database, source_id) as load:
        load.take(rules("b.example", "c.example"))
        load.compare()
        load.write()
        raise ZeroDivisionError
    assert source_of(database).writing_ahead
    assert rows(database) == 3
    assert list_rules(database, source_id, rules("a.example", "d.example")) == Difference(1, 1, 1)
    assert listed(database) == {"a.example", "d.example"}
    assert not source_of(database).writing_ahead
    assert rows(database) == 3


def test_what_never_finished_is_swept_away_though_the_list_was_found_unchanged_meanwhile(
    database: Database, source_id: int
) -> None:
    list_rules(database, source_id, rules("a.example", "b.example"))
    with contextlib.suppress(ZeroDivisionError), loading(database, source_id) as load:
        load.take(rules("b.example", "c.example"))
        load.compare()
        load.write()
        raise ZeroDivisionError
    with database.change("refresh") as change:
        sources.record_success(change, source_id, SEEN, rejected=0)
    assert list_rules(database, source_id, rules("b.example", "c.example")) == Difference(1, 1, 1)
    assert listed(database) == {"b.example", "c.example"}
    assert source_of(database).rules == 2


def test_a_name_may_come_go_and_come_again(database: Database, source_id: int) -> None:
    for names in (["a.example"], ["b.example"], ["a.example"], ["b.example", "a.example"]):
        list_rules(database, source_id, rules(*names))
        assert listed(database) == set(names)


class TestHistory:
    def test_was_this_name_listed_then(self, database: Database, source_id: int) -> None:
        before = now()
        list_rules(database, source_id, rules("a.example"))
        first = now()
        list_rules(database, source_id, rules("b.example"))

        def held(name: str, at: int | None = None) -> list[tuple[str, int]]:
            with database.reading() as connection:
                return [(found.rule.name, found.since) for found in entries.holding(connection, name, at=at)]

        assert held("www.a.example") == []
        assert held("www.a.example", first) == [("a.example", 1)]
        assert held("www.a.example", before) == []
        assert held("b.example") == [("b.example", 2)]
        assert held("b.example", first) == []

    def test_is_forgotten_when_it_is_old(
        self, database: Database, source_id: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(loading_module, "FORGETTING_PAUSE", 0)
        for number in range(4):
            list_rules(database, source_id, rules(f"n{number}.example", "always.example"))
        with database.reading() as connection:
            times = {version.number: version.at for version in versions.of_source(connection, source_id)}
        forget_before(database, source_id, times[3])
        with database.reading() as connection:
            assert [version.number for version in versions.of_source(connection, source_id)] == [4, 3]
            assert entries.holding(connection, "n2.example", at=times[3])
            assert not entries.holding(connection, "n1.example", at=times[3])
        assert listed(database) == {"n3.example", "always.example"}
        assert rows(database) == 3
        forget_before(database, source_id, now() + 1)
        assert rows(database) == 2

    def test_nothing_is_forgotten_before_its_time(self, database: Database, source_id: int) -> None:
        list_rules(database, source_id, rules("a.example"))
        list_rules(database, source_id, rules("b.example"))
        forget_before(database, source_id, now())
        assert rows(database) == 2


class TestRollback:
    def test_brings_back_the_version_before(self, database: Database, source_id: int) -> None:
        list_rules(database, source_id, rules("a.example", "b.example"))
        list_rules(database, source_id, rules("b.example", "wrong.example"))
        after = rollback(database, "a", "desk")
        assert listed(database) == {"a.example", "b.example"}
        assert (after.version, after.rules) == (3, 2)
        with database.reading() as connection:
            newest = versions.of_source(connection, source_id)[0]
            event = audit.list_page(connection).items[0]
        assert (newest.restored, newest.added, newest.removed, newest.actor) == (1, 1, 1, "desk")
        assert (event.action, event.target) == ("source.rollback", "a")

    def test_again_goes_back_further(self, database: Database, source_id: int) -> None:
        for names in ("a", "b", "c"):
            list_rules(database, source_id, rules(f"{names}.example"))
        rollback(database, "a", "desk")
        assert listed(database) == {"b.example"}
        rollback(database, "a", "desk")
        assert listed(database) == {"a.example"}
        with pytest.raises(ConflictError, match="no earlier version"):
            rollback(database, "a", "desk")
        rollback(database, "a", "desk", to=3)
        assert listed(database) == {"c.example"}

    def test_goes_back_from_what_was_brought_forward(self, database: Database, source_id: int) -> None:
        for names in ("a", "b"):
            list_rules(database, source_id, rules(f"{names}.example"))
        rollback(database, "a", "desk")
        rollback(database, "a", "desk", to=2)
        rollback(database, "a", "desk")  # version 2 is in force again, and before it was version 1
        assert listed(database) == {"a.example"}
        rollback(database, "a", "desk", to=4)
        rollback(database, "a", "desk")  # brought back is what itself was brought back
        assert listed(database) == {"a.example"}

    def test_knows_the_list_that_it_keeps_out(self, database: Database, source_id: int) -> None:
        good, bad = rules("a.example", "b.example"), rules("b.example", "wrong.example")

        def keeps_out(*staged: Rule) -> bool:
            with loading(database, source_id) as load:
                load.take(staged)
                load.compare()
                return load.was_rolled_back()

        list_rules(database, source_id, good)
        list_rules(database, source_id, bad)
        assert not keeps_out(*bad)
        rollback(database, "a", "desk")
        assert keeps_out(*bad)
        assert keeps_out(*bad, *bad)
        assert not keeps_out(*good)
        assert not keeps_out(*bad, Rule("more.example"))
        assert not keeps_out(Rule("b.example"))
        list_rules(database, source_id, bad)
        assert not keeps_out(*bad)

    def test_keeps_what_was_seen_so_that_the_bad_list_stays_out(self, database: Database, source_id: int) -> None:
        list_rules(database, source_id, rules("a.example"))
        bad = SEEN._replace(content_hash="bad")
        list_rules(database, source_id, rules("wrong.example"), bad)
        assert rollback(database, "a", "desk").seen == bad

    def test_to_what_is_not_there(self, database: Database, source_id: int) -> None:
        with pytest.raises(ConflictError, match="no earlier version"):
            rollback(database, "a", "desk")
        list_rules(database, source_id, rules("a.example"))
        with pytest.raises(ConflictError, match="version 1 of 'a' is in force"):
            rollback(database, "a", "desk", to=1)
        with pytest.raises(NotFoundError, match="no version of 'a' 7"):
            rollback(database, "a", "desk", to=7)
        with pytest.raises(NotFoundError):
            rollback(database, "nothing", "desk")


class TestParts:
    def test_each_has_a_category_of_its_own(self, database: Database, source_id: int) -> None:
        with database.change("set-up") as change:
            add_source(change, "b", category="games")
        with loading(database, source_id) as load:
            load.take(rules("a.example"), part="adult", category="adult")
            load.take(rules("a.example", "g.example"), part="jeux", category="games")
            assert load.compare() == Difference(3, 0, 0)
            load.write()
            load.finish("refresh", SEEN, rejected=0)
        with database.reading() as connection:
            of_archive = {part.name: part for part in parts.of_source(connection, source_id)}
            assert sources.count_by_category(connection)["games"] == 2
            held = [found.part_id for found in entries.holding(connection, "a.example")]
        assert {name: (part.category, part.rules) for name, part in of_archive.items()} == {
            "": (None, 0),
            "adult": ("adult", 1),
            "jeux": ("games", 2),
        }
        assert sorted(held) == sorted(part.id for name, part in of_archive.items() if name)

    def test_another_category_is_a_change_of_policy_alone(self, database: Database, source_id: int) -> None:
        with database.change("set-up") as change:
            add_source(change, "b", category="games")
        list_rules(database, source_id, rules("x.example"))
        for category in ("adult", "games"):
            before = database.state()
            with loading(database, source_id) as load:
                load.take(rules("a.example"), part="jeux", category=category)
                load.compare()
                load.write()
                load.finish("refresh", SEEN, rejected=0)
        assert database.state().policy_version == before.policy_version + 1
        assert database.state().entries_version == before.entries_version


def test_removed_sources_are_cleared_away(database: Database, source_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading_module, "FIRST_BATCH", 10)
    with database.change("set-up") as change:
        other = add_source(change, "b").id
    list_rules(database, source_id, rules(*(f"n{number}.example" for number in range(95))))
    list_rules(database, other, rules("b.example"))
    with database.change("desk") as change:
        sources.remove(change, "a")
    assert listed(database) == {"b.example"}
    clear_away(database)
    assert rows(database) == 1
    clear_away(database)  # finds nothing
    with database.reading() as connection:
        assert [part.source_id for part in parts.list_all(connection)] == [other]


def test_removed_while_it_is_loaded(database: Database, source_id: int) -> None:
    with loading(database, source_id) as load:
        load.take(rules("a.example"))
        load.compare()
        load.write()
        with database.change("desk") as change:
            sources.remove(change, "a")
        with pytest.raises(NotFoundError):
            load.finish("refresh", SEEN, rejected=0)
    clear_away(database)
    assert rows(database) == 0


def test_two_nodes_begin_what_is_due_once(database: Database, source_id: int) -> None:
    seen_by_both = source_of(database)
    assert seen_by_both.id == source_id
    assert [sources.claim(database, seen_by_both, at) for at in (5, 6)] == [True, False]
    assert sources.claim(database, source_of(database), 7)


def test_another_load_waits_for_its_turn(database: Database, source_id: int) -> None:
    began = threading.Event()
    done: list[str] = []

    def second() -> None:
        began.set()
        list_rules(database, source_id, rules("b.example"))
        done.append("second")

    with loading(database, source_id) as load:
        thread = threading.Thread(target=second)
        thread.start()
        began.wait()
        load.take(rules("a.example"))
        load.compare()
        load.write()
        load.finish("refresh", SEEN, rejected=0)
        done.append("first")
    thread.join()
    assert done == ["first", "second"]
    assert listed(database) == {"b.example"}


def test_administrators_change_things_between_its_transactions(database: Database, source_id: int) -> None:
    """However large the list is: nobody waits for longer than one batch takes."""
    with loading(database, source_id) as load:
        load.take(rules(*(f"n{number}.example" for number in range(60_000))))
        load.compare()
        writing = threading.Thread(target=load.write)
        writing.start()
        changes = 0
        while writing.is_alive():
            with database.change("desk") as change:
                exceptions.add(change, domain="good.example", action="allow", reason="a lesson")
            changes += 1
            time.sleep(0.001)
        writing.join()
        load.finish("refresh", SEEN, rejected=0)
    assert changes > 1
    assert source_of(database).rules == 60_000


LOADS = """
import sys
from policy.rules import Rule
from storage import sources
from storage.database import Database
from tests.support.configuration import list_rules
database = Database(sys.argv[1])
with database.reading() as connection:
    number = sources.get(connection, "a").id
print("ready", flush=True)
turn = int(sys.argv[2])
while True:
    list_rules(database, number, [Rule(f"n{k}.t{turn % 3}.example") for k in range(3_000)])
    turn += 1
"""


def test_killed_at_any_moment_the_list_is_one_version_or_the_other(
    database: Database, database_url: str, source_id: int
) -> None:
    list_rules(database, source_id, [Rule(f"n{k}.t0.example") for k in range(3_000)])
    for turn in range(1, 13):
        command = [sys.executable, "-c", LOADS, database_url, str(turn)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            threading.Event().wait(0.02 * turn)
            os.kill(process.pid, signal.SIGKILL)
        found = listed(database)
        tails = {name.split(".", 1)[1] for name in found}
        assert (len(found), len(tails)) == (3_000, 1)
        with database.reading() as connection:  # one moment: a server may be about to commit what it was told last
            source = sources.get(connection, "a")
            newest = versions.of_source(connection, source_id)[0]
        assert (source.version, source.rules) == (newest.number, 3_000)
