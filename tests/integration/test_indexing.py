"""Indexing in the background: who waits for what, and how often it is tried again. Over a real publisher."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from control import indexing, watch
from control.errors import NoIndexError, PublishError
from control.indexing import Indexing
from control.publisher import Publisher
from storage import sources
from storage.database import Database
from storage.errors import DatabaseDownError
from tests.support.compiling import HeldUp, never_ends
from tests.support.policies import fill, set_up, verdict
from tests.support.processes import eventually


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldUp]:
    with HeldUp.compiling(monkeypatch) as held:
        yield held


@pytest.fixture
def publisher(sqlite_database: Database, tmp_path: Path) -> Publisher:
    set_up(sqlite_database, "bad.example")
    directory = tmp_path / "policy"
    directory.mkdir()
    return Publisher(sqlite_database, sqlite_database.name, directory, "students")


def relist(database: Database, *names: str) -> None:
    with database.reading() as connection:
        [source] = sources.list_all(connection)
    fill(database, source, names)


async def test_whoever_waits_gets_what_was_stored_before(publisher: Publisher) -> None:
    work = Indexing(publisher)
    assert work.status() == {"compiling": False, "error": None}
    await work.catch_up()
    assert verdict(publisher.snapshot(), "bad.example") == "blocked"


async def test_what_was_in_work_already_is_not_taken_for_it(
    sqlite_database: Database, publisher: Publisher, held: HeldUp
) -> None:
    """It may have begun before that was stored."""
    work = Indexing(publisher)
    work.keep_up()
    await held.until_begun()
    assert work.status()["compiling"] is True
    await asyncio.to_thread(relist, sqlite_database, "worse.example")
    waiting = asyncio.create_task(work.catch_up())
    held.go_on.release()
    await held.until_begun()
    assert verdict(publisher.snapshot(), "worse.example") == "allowed"
    assert not waiting.done()
    held.go_on.release()
    await waiting
    assert verdict(publisher.snapshot(), "worse.example") == "blocked"


async def test_many_wait_for_one(publisher: Publisher, held: HeldUp) -> None:
    work = Indexing(publisher)
    waiting = [asyncio.create_task(work.catch_up()) for _ in range(5)]
    await held.until_begun()
    work.keep_up()
    waiting[0].cancel()  # one that waits no longer costs the others nothing
    held.go_on.release()
    await asyncio.gather(*waiting[1:])
    assert held.begins == 1
    await asyncio.wait(waiting)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "the index could not be compiled: No space left on device"),
        (ZeroDivisionError("a bug"), "the index could not be compiled: ZeroDivisionError: a bug"),
    ],
    ids=["disk", "bug"],
)
async def test_failure_is_told_to_who_waits_and_kept_for_who_asks(
    publisher: Publisher, held: HeldUp, error: Exception, said: str
) -> None:
    work = Indexing(publisher)
    held.error = error
    held.go_on.release()
    with pytest.raises(PublishError) as caught:
        await work.catch_up()
    assert str(caught.value) == said
    assert work.status() == {"compiling": False, "error": said}
    held.error = None
    held.go_on.release()
    await work.catch_up()  # who waits has it tried at once
    assert work.status() == {"compiling": False, "error": None}


async def test_after_a_failure_it_rests_longer_each_time(
    publisher: Publisher, held: HeldUp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(indexing, "FIRST_PAUSE_SECONDS", 60.0)
    work = Indexing(publisher)
    held.error = OSError(28, "No space left on device")
    for _ in range(5):
        held.go_on.release()
        with pytest.raises(PublishError):
            await work.catch_up()
        for _ in range(10):
            work.keep_up()  # as the watch does four times a second
            await asyncio.sleep(0)
    assert held.begins == 5
    rests = [record.args[1] for record in caplog.records if isinstance(record.args, tuple)]
    assert rests == [60, 120, 240, 300, 300]
    held.error = None
    held.go_on.release()
    await work.catch_up()
    assert "the index is up with the lists again" in caplog.text


async def test_a_failure_is_forgotten_once_there_is_nothing_to_compile(
    sqlite_database: Database, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that was away while somebody waited for the index, say."""
    monkeypatch.setattr(watch, "WATCH_SECONDS", 0.01)
    work = Indexing(publisher)
    await work.catch_up()
    service: Any = SimpleNamespace(published=publisher.publish())
    state: Any = None
    with monkeypatch.context() as away:
        away.setattr(publisher, "compile", failing := Mock(side_effect=DatabaseDownError("it is away")))
        with pytest.raises(PublishError):
            await work.catch_up()
    assert failing.called
    assert work.status()["error"] == "it is away"
    following = asyncio.create_task(watch.Watch(service, sqlite_database, publisher, work, state).follow_database())
    await asyncio.to_thread(eventually, lambda: work.status()["error"] is None)
    following.cancel()
    await asyncio.wait([following])


async def test_a_damaged_index_is_spoken_of_once(
    publisher: Publisher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await Indexing(publisher).catch_up()
    for _ in range(2):
        publisher.publish().index.write_bytes(b"no index" * 100)
        for _ in range(5):
            with pytest.raises(NoIndexError):
                publisher.publish()
        await Indexing(publisher).catch_up()
    said = "the index on disk can't be used (the file is no index): it will be compiled again"
    assert caplog.messages == [said, said]


async def test_rest_that_is_over_ends(publisher: Publisher, held: HeldUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "FIRST_PAUSE_SECONDS", 0.0)
    work = Indexing(publisher)
    held.error = OSError(28, "No space left on device")
    held.go_on.release(100)
    with pytest.raises(PublishError):
        await work.catch_up()
    work.keep_up()
    await held.until_begun()
    await held.until_begun()
    await work.stop()


async def test_stop_gives_up_and_calls_it_no_failure(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    never_ends(monkeypatch, tmp_path)
    work = Indexing(publisher)
    work.keep_up()
    await asyncio.to_thread(eventually, lambda: publisher._compiler._process)
    await work.stop()
    assert work.status()["compiling"] is False
    assert publisher.last() is None
    assert caplog.text == ""
