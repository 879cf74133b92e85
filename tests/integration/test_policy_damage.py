"""A policy on disk that is damaged: seen, mended from the database, and until then the last good one serves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from control.errors import NoIndexError, PublishError
from control.publisher import Publisher
from policy.index import Index
from storage.database import Database
from tests.support.policies import set_up, verdict
from tests.support.publishing import make, relist, touch, whole


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


Damage = Callable[[Path], None]
DAMAGES = [cut, empty, overwrite, remove, flip_a_bit]


@pytest.mark.parametrize("anew", [False, True], ids=["running", "started"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_index_is_seen_and_compiled_again_though_nothing_changed(
    sqlite_database: Database, publisher: Publisher, directory: Path, damage: Damage, anew: bool
) -> None:
    published = whole(publisher)
    assert publisher.is_intact()
    damage(published.index)
    publisher = make(sqlite_database, directory) if anew else publisher
    assert not publisher.is_intact()
    assert publisher.last() is None
    with pytest.raises(NoIndexError):
        publisher.publish()
    mended = whole(publisher)
    assert publisher.is_intact()
    assert mended.version > published.version
    Index.open(mended.index)
    assert verdict(publisher.snapshot(), "bad.example") == "blocked"


@pytest.mark.parametrize("damage", DAMAGES)
def test_last_good_index_serves_until_a_damaged_one_is_compiled_again(
    sqlite_database: Database, publisher: Publisher, damage: Damage
) -> None:
    good = whole(publisher)
    relist(sqlite_database, "worse.example")
    newest = whole(publisher)
    damage(newest.index)
    assert publisher.last() == good
    touch(sqlite_database)
    meanwhile = publisher.publish()
    assert (meanwhile.index, meanwhile.entries_version) == (good.index, good.entries_version)
    assert verdict(publisher.snapshot(), "bad.example") == "blocked"
    assert verdict(publisher.snapshot(), "good.example") == "exception"
    mended = whole(publisher)
    assert mended.entries_version == newest.entries_version
    assert good.version < newest.version < meanwhile.version < mended.version
    assert verdict(publisher.snapshot(), "worse.example") == "blocked"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"version": 1}', "\udcff", "[" * 100_000])
def test_damaged_document_is_written_again_with_the_index_that_is_there(
    sqlite_database: Database, publisher: Publisher, text: str
) -> None:
    first = whole(publisher)
    touch(sqlite_database)
    second = publisher.publish()
    second.path.write_bytes(text.encode(errors="surrogateescape"))
    assert not publisher.is_intact()
    assert publisher.last() == first
    published = publisher.publish()
    assert published.version > second.version
    assert published.index == first.index
    assert publisher.snapshot().version == published.version
    assert publisher.is_intact()


def test_current_that_leads_nowhere_is_set_right(publisher: Publisher, directory: Path) -> None:
    published = whole(publisher)
    (directory / "current").unlink()
    (directory / "current").symlink_to("policy-99.json")
    assert not publisher.is_intact()
    assert publisher.last() == published
    assert publisher.publish().version == published.version + 1
    assert verdict(publisher.snapshot(), "bad.example") == "blocked"


def test_current_that_is_gone_is_made_again_with_the_index_that_was_in_force(
    publisher: Publisher, directory: Path
) -> None:
    published = whole(publisher)
    (directory / "current").unlink()
    assert not publisher.is_intact()
    again = publisher.publish()
    assert (again.version, again.index) == (published.version + 1, published.index)
    assert publisher.last() == again


def test_current_that_was_copied_as_a_file_holds_as_well(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    """As tools that copy a directory may leave it."""
    published = whole(publisher)
    (directory / "current").unlink()
    (directory / "current").write_bytes(published.path.read_bytes())
    again = make(sqlite_database, directory)
    assert again.publish().version == published.version
    touch(sqlite_database)
    assert again.publish().version == published.version + 1
    assert (directory / "current").is_symlink()


def test_damaged_older_document_keeps_nobody_from_publishing(
    sqlite_database: Database, publisher: Publisher, directory: Path
) -> None:
    first = whole(publisher)
    touch(sqlite_database)
    publisher.publish()
    first.path.write_text("not JSON")
    touch(sqlite_database)
    publisher.publish()
    assert verdict(publisher.snapshot(), "bad.example") == "blocked"


@pytest.mark.parametrize("place", ["missing", "file"])
def test_directory_that_cannot_be_written_is_told(sqlite_database: Database, tmp_path: Path, place: str) -> None:
    set_up(sqlite_database, "bad.example")
    if place == "file":
        (tmp_path / "file").touch()
    publisher = make(sqlite_database, tmp_path / place)
    with pytest.raises(PublishError, match="the policy can't be written: "):
        publisher.publish()
    with pytest.raises(PublishError, match="the index can't be written: "):
        publisher.compile()
