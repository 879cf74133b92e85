"""From a database to a policy on disk: what is written when, and what a kill leaves behind."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from blocklists.compiling import compile_from
from control import compiling
from control import publisher as publishing
from control.errors import NoIndexError, PublishError
from control.publisher import Published, Publisher
from control.state import locked
from policy import snapshot as snapshots
from storage import groups
from storage.database import Database
from tests.support.policies import set_up, verdict
from tests.support.publishing import grow_old, make, relist, touch, whole

ROOT = Path(__file__).parents[2]


def files(directory: Path) -> dict[str, int]:
    """Return the files by name, each with its inode, which a file that is written anew hasn't got."""
    return {path.name: path.lstat().st_ino for path in directory.iterdir()}


def names_of(published: Iterable[Published]) -> set[str]:
    """Return the files that belong to these policies, and those that are always there."""
    named = {path.name for each in published for path in (each.path, each.index)}
    return {"current", publishing.LOCK, publishing.WORKPLACE_LOCK, *named}


# What is written, and when.


def test_publishes_what_the_database_holds(database: Database, database_url: str, directory: Path) -> None:
    set_up(database, "bad.example")
    publisher = make(database, directory, url=database_url)
    published = whole(publisher)
    snapshot = publisher.snapshot()
    assert published.version == snapshot.version == database.state().policy_version
    assert published.entries_version == database.state().entries_version
    assert verdict(snapshot, "www.bad.example") == "blocked"
    assert verdict(snapshot, "good.example") == "allowed"
    assert publisher.last() == published


def test_document_and_index_are_whole_files_beside_a_relative_link(publisher: Publisher, directory: Path) -> None:
    published = whole(publisher)
    assert (directory / "current").readlink() == Path(published.path.name)  # the directory may be moved
    assert set(files(directory)) == names_of([published])


def test_does_nothing_when_nothing_changed(sqlite_database: Database, publisher: Publisher, directory: Path) -> None:
    first = whole(publisher)
    before = files(directory), sqlite_database.state()
    assert whole(publisher) == first
    assert whole(make(sqlite_database, directory)) == first  # nor in another process
    assert (files(directory), sqlite_database.state()) == before


def test_without_an_index_nothing_is_published(publisher: Publisher, directory: Path) -> None:
    with pytest.raises(NoIndexError):
        publisher.publish()
    assert publisher.last() is None
    assert not (directory / "current").exists()


def test_change_of_configuration_is_published_with_the_index_in_force(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    """However old it is: nobody waits for another."""
    before = whole(publisher)
    relist(sqlite_database, "worse.example")
    touch(sqlite_database)
    published = publisher.publish()
    assert (published.index, published.entries_version) == (before.index, before.entries_version)
    assert published.version == sqlite_database.state().policy_version
    assert verdict(publisher.snapshot(), "good.example") == "exception"
    assert verdict(publisher.snapshot(), "bad.example") == "blocked"
    assert verdict(publisher.snapshot(), "worse.example") == "allowed"


def test_entries_that_were_stored_raise_the_policy_version_once_they_are_in_force(
    sqlite_database: Database, publisher: Publisher
) -> None:
    before = whole(publisher)
    relist(sqlite_database, "worse.example")
    assert sqlite_database.state() == (before.version, before.entries_version + 1)
    assert publisher.publish() == before
    publisher.compile()
    assert sqlite_database.state() == (before.version + 1, before.entries_version + 1)
    published = publisher.publish()
    assert published.version == before.version + 1
    assert published.entries_version == before.entries_version + 1
    assert verdict(publisher.snapshot(), "bad.example") == "allowed"
    assert verdict(publisher.snapshot(), "worse.example") == "blocked"


def test_entries_that_change_while_an_index_is_compiled_come_with_the_next(
    sqlite_database: Database, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(publisher)
    relist(sqlite_database, "worse.example")

    def meanwhile(*arguments: object) -> object:
        monkeypatch.setattr(compiling, "compile_from", compile_from)
        compiled = compile_from(*arguments)  # type: ignore[arg-type] # passed on
        relist(sqlite_database, "worst.example")
        touch(sqlite_database)
        return compiled

    monkeypatch.setattr(compiling, "compile_from", meanwhile)
    first = whole(publisher)
    assert first.entries_version == sqlite_database.state().entries_version - 1
    assert [verdict(publisher.snapshot(), f"{name}.example") for name in ("worse", "worst")] == ["blocked", "allowed"]
    assert verdict(publisher.snapshot(), "good.example") == "exception"
    second = whole(publisher)
    assert second.entries_version == sqlite_database.state().entries_version
    assert [verdict(publisher.snapshot(), f"{name}.example") for name in ("worse", "worst")] == ["allowed", "blocked"]


def test_a_version_stands_for_one_document(sqlite_database: Database, publisher: Publisher, directory: Path) -> None:
    """Whatever else comes into force than what the database says has a version of its own."""
    first = whole(publisher)
    publisher.default_group = "guests"
    second = publisher.publish()
    assert publisher.snapshot().default_group == "guests"
    second.index.unlink()
    third = whole(publisher)
    assert first.version < second.version < third.version == sqlite_database.state().policy_version
    assert [json.loads(found.path.read_text())["version"] for found in (first, second, third)] == [
        first.version,
        second.version,
        third.version,
    ]


def test_default_group_that_is_not_there_is_named_and_publishes_nothing(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    whole(publisher)
    before = (directory / "current").readlink(), sqlite_database.state()
    publisher.default_group = "pupils"
    with pytest.raises(PublishError, match=r"filter\.default_group: there is no group 'pupils'"):
        publisher.publish()
    assert ((directory / "current").readlink(), sqlite_database.state()) == before


def test_another_databases_policy_is_not_taken_for_ours(
    sqlite_database: Database, publisher: Publisher, directory: Path, tmp_path: Path
) -> None:
    """Both count their versions from 1, so that equal numbers say nothing."""
    ours = whole(publisher)
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    other.migrate()
    set_up(other, "other.example")
    theirs = make(other, directory)
    with pytest.raises(NoIndexError):
        theirs.publish()
    assert theirs.last() == ours  # until then it is better than none
    published = whole(theirs)
    assert (published.version, published.entries_version) == (ours.version, ours.entries_version)
    assert verdict(theirs.snapshot(), "other.example") == "blocked"
    assert verdict(theirs.snapshot(), "bad.example") == "allowed"
    other.close()


def test_forgotten_policy_is_not_taken_over(publisher: Publisher) -> None:
    """Where a database was made anew under the same name, its versions may be those of the policy on disk."""
    before = whole(publisher)
    publisher.forget()
    assert publisher.last() is None
    with pytest.raises(NoIndexError):
        publisher.publish()
    assert snapshots.read(before.path).version == before.version  # for a worker that was told to start by it
    assert whole(publisher).index != before.index


def test_database_that_went_back_to_an_earlier_day_is_followed(
    sqlite_database: Database, publisher: Publisher, directory: Path, tmp_path: Path
) -> None:
    """A copy that is put back counts its versions from where they were."""
    early = whole(publisher)
    with (
        closing(sqlite3.connect(sqlite_database.name.removeprefix("sqlite:///"))) as source,
        closing(sqlite3.connect(tmp_path / "copy.db")) as target,
    ):
        source.backup(target)
    copy = Database(f"sqlite:///{tmp_path / 'copy.db'}")
    relist(sqlite_database, "worse.example")
    late = whole(publisher)
    copy.name = sqlite_database.name
    restored = make(copy, directory, url=f"sqlite:///{tmp_path / 'copy.db'}")
    assert restored.publish().index == late.index
    published = whole(restored)
    assert published.entries_version == early.entries_version < late.entries_version
    assert verdict(restored.snapshot(), "worse.example") == "allowed"
    copy.close()


def test_no_policy_yet_is_an_error_of_ours(publisher: Publisher) -> None:
    assert publisher.last() is None
    with pytest.raises(PublishError, match="there is no policy on disk yet"):
        publisher.snapshot()


# Tidying.


def test_keeps_the_last_documents_and_what_they_name(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    published = []
    for number in range(5):
        grow_old(directory)
        relist(sqlite_database, f"n{number}.example")
        published.append(whole(publisher))
    kept = published[-publishing.KEPT_DOCUMENTS :]
    assert set(files(directory)) == names_of(kept)
    for each in kept:
        snapshots.read(each.path)


def test_keeps_what_a_worker_may_still_start_by(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    """Many exceptions may be added while it starts."""
    told = whole(publisher)
    relist(sqlite_database, "worse.example")
    published = [told, whole(publisher)]
    for _ in range(2 * publishing.KEPT_DOCUMENTS):
        touch(sqlite_database)
        published.append(publisher.publish())
    assert snapshots.read(told.path).version == told.version
    assert set(files(directory)) == names_of(published)


def test_the_document_in_force_stays_when_the_clock_was_set_back(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    for _ in range(publishing.KEPT_DOCUMENTS):
        touch(sqlite_database)
        later = 4_000_000_000
        os.utime(whole(publisher).path, (later, later))
    touch(sqlite_database)
    published = publisher.publish()
    assert published.path.exists()
    assert publisher.snapshot().version == published.version
    assert len(list(directory.glob("policy-*"))) == publishing.KEPT_DOCUMENTS


def test_what_a_killed_process_left_unfinished_is_removed(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    (directory / publishing.WORKPLACE).mkdir()
    for name in (".policy-4321", ".current-4321", "index-9999", "compiling/.index.4321", "compiling/index"):
        (directory / name).write_bytes(b"half")
    published = whole(publisher)
    assert set(files(directory)) == names_of([published])


def test_index_that_is_being_compiled_is_nobody_elses_to_remove(
    sqlite_database: Database, publisher: Publisher, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(publisher)
    relist(sqlite_database, "worse.example")
    quick = make(sqlite_database, directory)

    def meanwhile(*arguments: object) -> object:
        (directory / publishing.WORKPLACE / ".index.4321").write_bytes(b"half")
        compiled = compile_from(*arguments)  # type: ignore[arg-type] # passed on
        before = files(directory / publishing.WORKPLACE)
        for _ in range(2 * publishing.KEPT_DOCUMENTS):
            touch(sqlite_database)
            grow_old(directory)
            quick.publish()
        assert files(directory / publishing.WORKPLACE) == before
        return compiled

    monkeypatch.setattr(compiling, "compile_from", meanwhile)
    whole(publisher)
    assert verdict(publisher.snapshot(), "worse.example") == "blocked"


# Several at once, and ends at any moment.


def test_two_processes_compile_one_after_the_other_and_the_second_finds_it_done(
    sqlite_database: Database, publisher: Publisher, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    begins: list[str] = []

    def held_up(*arguments: object) -> object:
        begins.append(threading.current_thread().name)
        begun.set()
        go_on.wait(10)
        return compile_from(*arguments)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(compiling, "compile_from", held_up)
    first = threading.Thread(target=make(sqlite_database, directory).compile, name="first")
    second = threading.Thread(target=publisher.compile, name="second")
    first.start()
    begun.wait(10)
    second.start()
    second.join(3 * publishing.LOOK_SECONDS)  # if it doesn't wait it is done by then
    go_on.set()
    first.join()
    second.join()
    assert begins == ["first"]
    assert publisher.publish().version == sqlite_database.state().policy_version


def test_publisher_that_stops_waits_for_no_other(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    with locked(directory / publishing.WORKPLACE_LOCK):
        threading.Timer(0.2, publisher.stop).start()
        with pytest.raises(PublishError, match="the service stops"):
            publisher.compile()


def test_nodes_compile_each_for_itself_and_settle(database: Database, database_url: str, tmp_path: Path) -> None:
    """Each raises the version once for its own index; what others raised is published, and raises nothing."""
    set_up(database, "bad.example")
    nodes = []
    for number in range(3):
        directory = tmp_path / f"node-{number}"
        directory.mkdir()
        other = database if number == 0 else Database(database_url)
        nodes.append(make(other, directory, url=database_url, default_group=["students", "guests", "staff"][number]))
    for node in nodes:
        whole(node)
    before = database.state()
    relist(database, "worse.example")
    for _ in range(3):  # as each would by its watch
        for node in nodes:
            whole(node)
    assert database.state() == (before.policy_version + len(nodes), before.entries_version + 1)
    assert {node.publish().version for node in nodes} == {database.state().policy_version}
    assert {verdict(node.snapshot(), "worse.example") for node in nodes} == {"blocked"}
    for node in nodes[1:]:
        node._database.close()


def test_group_that_a_node_lacks_stops_that_node_alone(
    sqlite_database: Database, publisher: Publisher, tmp_path: Path
) -> None:
    whole(publisher)
    (tmp_path / "other").mkdir()
    other = make(sqlite_database, tmp_path / "other", default_group="visitors")
    with pytest.raises(PublishError, match="no group 'visitors'"):
        other.compile()
    with sqlite_database.change("test") as change:
        groups.add(change, "visitors")
    assert whole(other).version == publisher.publish().version


PUBLISHES_FOR_EVER = """
import sys
from pathlib import Path
from control.publisher import Publisher
from storage.database import Database
from tests.support.policies import fill, Source
from storage import sources
database = Database(sys.argv[1])
publisher = Publisher(database, sys.argv[1], Path(sys.argv[2]), "students")
with database.reading() as connection:
    [source] = sources.list_all(connection)
print("ready", flush=True)
while True:
    number = database.state().entries_version + 1
    fill(database, source, [f"n{n}-{number}.example" for n in range(2000)])
    publisher.compile()
"""


def test_killed_at_any_moment_leaves_a_whole_policy_in_force(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    first = whole(publisher)
    moments = random.Random(7)
    command = [sys.executable, "-c", PUBLISHES_FOR_EVER, sqlite_database.name, str(directory)]
    for _ in range(5):
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(moments.uniform(0.02, 0.4))
            process.kill()
        found = publisher.last()
        assert found is not None
        assert found.version >= first.version
        # The index is the one of those very entries.
        snapshot = snapshots.read(found.path)
        if found.entries_version != first.entries_version:
            assert snapshot.index.names == 2000
            assert verdict(snapshot, f"n1-{found.entries_version}.example") == "blocked"
    published = whole(publisher)
    assert published.version == sqlite_database.state().policy_version
    assert published.entries_version == sqlite_database.state().entries_version
    grow_old(directory)
    touch(sqlite_database)
    publisher.publish()
    assert not list(directory.glob(".*"))
    assert not (directory / publishing.WORKPLACE).exists()
