"""From a database to a policy on disk: what is written when, what damage is found, and what a kill leaves behind."""

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from blocklists.compiling import compile_from
from control import publisher as publishing
from control.errors import PublishError
from control.publisher import Publisher
from policy import snapshot as snapshots
from policy.index import Index
from storage import exceptions, sources
from storage.database import Database
from tests.support.policies import fill, set_up, verdict

ROOT = Path(__file__).parents[2]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "policy"
    made.mkdir()
    return made


def make(database: Database, directory: Path, *, url: str = "", default_group: str = "students") -> Publisher:
    return Publisher(database, url or database.name, directory, default_group)


@pytest.fixture
def publisher(sqlite_database: Database, directory: Path) -> Publisher:
    """Give a publisher of a database that lists one name."""
    set_up(sqlite_database, "bad.example")
    return make(sqlite_database, directory)


def touch(database: Database, reason: str = "a lesson") -> None:
    """Change the policy, and no entry."""
    with database.change("test") as change:
        exceptions.add(change, domain="good.example", action="allow", reason=reason)


def relist(database: Database, *names: str) -> None:
    """Change the entries."""
    with database.reading() as connection:
        [source] = sources.list_all(connection)
    fill(database, source, names)


def files(directory: Path) -> dict[str, int]:
    """Return the files by name, each with its inode, which a file that is written anew hasn't got."""
    return {path.name: path.lstat().st_ino for path in directory.iterdir()}


def index_of(directory: Path) -> Path:
    return directory / str(json.loads((directory / "current").read_text())["index"])


# What is written, and when.


def test_publishes_what_the_database_holds(database: Database, database_url: str, directory: Path) -> None:
    set_up(database, "bad.example")
    publisher = make(database, directory, url=database_url)
    published = publisher.publish()
    snapshot = publisher.snapshot()
    assert published.version == snapshot.version == database.state().policy_version
    assert verdict(snapshot, "www.bad.example") == "blocked"
    assert verdict(snapshot, "good.example") == "allowed"
    assert publisher.last() == published


def test_document_and_index_are_whole_files_beside_a_relative_link(publisher: Publisher, directory: Path) -> None:
    published = publisher.publish()
    assert (directory / "current").readlink() == Path(published.path.name)  # the directory may be moved
    assert set(files(directory)) == {"current", "lock", published.path.name, index_of(directory).name}


def test_does_nothing_when_nothing_changed(publisher: Publisher, directory: Path) -> None:
    first = publisher.publish()
    before = files(directory)
    assert publisher.publish() == first
    assert files(directory) == before


def test_keeps_the_index_while_the_entries_stay(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    publisher.publish()
    index, inode = index_of(directory), index_of(directory).stat().st_ino
    touch(sqlite_database)
    publisher.publish()
    assert (index_of(directory), index_of(directory).stat().st_ino) == (index, inode)
    assert verdict(publisher.snapshot(), "good.example") == "exception"


def test_compiles_the_index_anew_when_the_entries_changed(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    publisher.publish()
    index = index_of(directory)
    relist(sqlite_database, "worse.example")
    publisher.publish()
    assert index_of(directory) != index
    assert verdict(publisher.snapshot(), "bad.example") == "allowed"
    assert verdict(publisher.snapshot(), "worse.example") == "blocked"


def test_another_default_group_is_published_without_a_change_of_the_database(
    publisher: Publisher, directory: Path
) -> None:
    publisher.publish()
    publisher.default_group = "guests"
    publisher.publish()
    assert publisher.snapshot().default_group == "guests"


def test_default_group_that_is_not_there_is_named_and_publishes_nothing(publisher: Publisher, directory: Path) -> None:
    publisher.publish()
    current = (directory / "current").readlink()
    publisher.default_group = "pupils"
    with pytest.raises(PublishError, match=r"filter\.default_group: there is no group 'pupils'"):
        publisher.publish()
    assert (directory / "current").readlink() == current


def test_another_databases_policy_is_not_taken_for_ours(
    sqlite_database: Database, publisher: Publisher, directory: Path, tmp_path: Path
) -> None:
    """Both count their versions from 1, so that equal numbers say nothing."""
    publisher.publish()
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    other.migrate()
    set_up(other, "other.example")
    assert other.state() == sqlite_database.state()
    theirs = make(other, directory)
    theirs.publish()
    assert verdict(theirs.snapshot(), "other.example") == "blocked"
    assert verdict(theirs.snapshot(), "bad.example") == "allowed"
    other.close()


def test_forgotten_policy_is_not_taken_over(publisher: Publisher, directory: Path) -> None:
    """Where a database was made anew under the same name, its versions may be those of the policy on disk."""
    publisher.publish()
    inode = index_of(directory).stat().st_ino
    publisher.forget()
    assert publisher.last() is None
    publisher.publish()
    assert index_of(directory).stat().st_ino != inode


def test_no_policy_yet_is_an_error_of_ours(publisher: Publisher) -> None:
    assert publisher.last() is None
    with pytest.raises(PublishError, match="there is no policy on disk yet"):
        publisher.snapshot()


# Compiling apart.


def test_large_index_is_compiled_in_a_process_of_its_own(
    database: Database, database_url: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(database, "bad.example", "worse.example")
    monkeypatch.setattr(publishing, "SMALL", 1)
    monkeypatch.setattr(publishing, "compile_from", None)  # it would fail here
    publisher = make(database, directory, url=database_url)
    publisher.publish()
    assert Index.open(index_of(directory), verify=True).names == 2
    assert verdict(publisher.snapshot(), "bad.example") == "blocked"


def test_compiler_that_fails_says_why_and_leaves_the_last_policy(
    sqlite_database: Database, publisher: Publisher, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publisher.publish()
    relist(sqlite_database, "worse.example")
    monkeypatch.setattr(publishing, "SMALL", 0)
    astray = make(sqlite_database, directory, url=f"sqlite:///{tmp_path}/no/such.db")
    with pytest.raises(PublishError, match=r"the index could not be compiled: .*can't be used"):
        astray.publish()
    assert astray.last() == first


# Damage.


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def remove(path: Path) -> None:
    path.unlink()


def flip_a_bit(path: Path) -> None:
    octets = bytearray(path.read_bytes())
    octets[-1] ^= 1
    path.write_bytes(octets)


@pytest.mark.parametrize("damage", [cut, empty, overwrite, remove])
def test_damaged_index_is_compiled_again_though_nothing_changed(
    publisher: Publisher, directory: Path, damage: object
) -> None:
    """A command without a service finds it too: it publishes before it looks."""
    publisher.publish()
    assert callable(damage)
    damage(index_of(directory))
    publisher.publish()
    Index.open(index_of(directory), verify=True)
    assert verdict(publisher.snapshot(), "bad.example") == "blocked"


@pytest.mark.parametrize("damage", [cut, empty, overwrite, remove, flip_a_bit])
def test_index_is_read_whole_before_workers_are_started_by_it(
    publisher: Publisher, directory: Path, damage: object
) -> None:
    publisher.publish()
    assert callable(damage)
    damage(index_of(directory))
    assert publisher.last() is None
    publisher.publish()
    Index.open(index_of(directory), verify=True)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"version": 1}', "\udcff"])
def test_damaged_document_is_written_again(publisher: Publisher, directory: Path, text: str) -> None:
    published = publisher.publish()
    published.path.write_bytes(text.encode(errors="surrogateescape"))
    assert publisher.last() is None
    assert publisher.publish() == published
    assert verdict(publisher.snapshot(), "bad.example") == "blocked"


def test_damaged_older_document_keeps_nobody_from_publishing(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    publisher.publish().path.write_text("not JSON")
    touch(sqlite_database)
    publisher.publish()
    assert verdict(publisher.snapshot(), "bad.example") == "blocked"


@pytest.mark.parametrize("place", ["missing", "file"])
def test_directory_that_cannot_be_written_is_told(sqlite_database: Database, tmp_path: Path, place: str) -> None:
    set_up(sqlite_database, "bad.example")
    if place == "file":
        (tmp_path / "file").touch()
    with pytest.raises(PublishError, match="the policy can't be written: "):
        make(sqlite_database, tmp_path / place).publish()


def test_index_that_cannot_be_written_is_told(publisher: Publisher, directory: Path) -> None:
    """A directory in its place stands for a full disk."""
    (directory / "index-2").mkdir()
    with pytest.raises(PublishError, match="the index can't be written: "):
        publisher.publish()


# Tidying.


def test_keeps_the_last_documents_and_what_they_name(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    """A worker may be about to read the one before."""
    paths = []
    for number in range(5):
        relist(sqlite_database, f"n{number}.example")
        paths.append(publisher.publish().path)
    kept = paths[-publishing.KEPT_DOCUMENTS :]
    assert sorted(directory.glob("policy-*")) == sorted(kept)
    named = {json.loads(path.read_text())["index"] for path in kept}
    assert {path.name for path in directory.glob("index-*")} == named
    assert len(named) == publishing.KEPT_DOCUMENTS
    for path in kept:
        snapshots.read(path)


def test_the_document_in_force_stays_when_the_clock_was_set_back(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    for _ in range(publishing.KEPT_DOCUMENTS):
        touch(sqlite_database)
        later = 4_000_000_000
        os.utime(publisher.publish().path, (later, later))
    touch(sqlite_database)
    published = publisher.publish()
    assert published.path.exists()
    assert publisher.snapshot().version == published.version


def test_what_a_killed_process_left_unfinished_is_removed(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    for name in (".index-7.4321", ".policy-7.json.4321", ".current-4321", "index-9999"):
        (directory / name).write_bytes(b"half")
    published = publisher.publish()
    assert set(files(directory)) == {"current", "lock", published.path.name, index_of(directory).name}


# Several at once, and ends at any moment.


def test_two_processes_publish_one_after_the_other(
    sqlite_database: Database, publisher: Publisher, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the quicker one removes, as named by nobody, the index that the slower one is about to name."""
    compiling, go_on = threading.Event(), threading.Event()
    slow = make(sqlite_database, directory)

    def held_up(*arguments: object) -> object:
        if threading.current_thread().name == "slow":
            compiling.set()
            go_on.wait()
        return compile_from(*arguments)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(publishing, "compile_from", held_up)
    first = threading.Thread(target=slow.publish, name="slow")
    first.start()
    compiling.wait()
    relist(sqlite_database, "worse.example")
    second = threading.Thread(target=publisher.publish)
    second.start()
    second.join(0.3)  # if it doesn't wait it is done by then
    go_on.set()
    first.join()
    second.join()
    snapshot = publisher.snapshot()
    assert snapshot.version == sqlite_database.state().policy_version
    assert verdict(snapshot, "worse.example") == "blocked"


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
    version = database.state().policy_version
    fill(database, source, [f"n{number}-{version}.example" for number in range(2000)])
    publisher.publish()
"""


def test_killed_at_any_moment_leaves_a_whole_policy_in_force(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    published = publisher.publish()
    moments = random.Random(7)
    command = [sys.executable, "-c", PUBLISHES_FOR_EVER, sqlite_database.name, str(directory)]
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout is not None
            process.stdout.readline()
            threading.Event().wait(moments.uniform(0.02, 0.3))
            process.kill()
        found = publisher.last()
        assert found is not None
        assert found.version >= published.version
        document = json.loads(found.path.read_text())
        # The index is the one of that very version.
        snapshot = snapshots.read(found.path)
        if document["version"] != published.version:
            assert snapshot.index.names == 2000
            assert verdict(snapshot, f"n1-{document['version'] - 1}.example") == "blocked"
    publisher.publish()
    assert publisher.snapshot().version == sqlite_database.state().policy_version
    assert not list(directory.glob(".*"))
