"""Refreshing sources into real databases: what is stored, what stays when something fails, and what a kill leaves."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from blocklists import refresh as refreshing
from blocklists.guards import Canaries
from blocklists.reading import read
from blocklists.refresh import AT_ONCE, Outcome, Step, Terms, refresh
from policy.names import name_of
from policy.rules import Rule
from storage import audit, categories, entries, loading, parts, sources
from storage.database import Database, read_state
from storage.errors import DatabaseDownError
from storage.sources import Source
from tests.support.configuration import add_source, list_rules

ROOT = Path(__file__).parents[2]
HTML = "<!DOCTYPE html><html><body>Log in to the network first</body></html>"


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    directory = tmp_path / "lists"
    directory.mkdir()
    return directory


def add(database: Database, key: str, location: object, **options: Any) -> Source:
    with database.change("test") as change:
        add_source(change, f"{key}-category", category="adult")
        return sources.add(change, key, str(location), category="adult", **options)


def source_of(database: Database, key: str) -> Source:
    with database.reading() as connection:
        return sources.get(connection, key)


def names(database: Database, key: str) -> set[str]:
    """Return the names that a source lists, in force or not."""
    wanted = source_of(database, key).id
    with database.reading() as connection:
        own = {part.id for part in parts.of_source(connection, wanted)}
        return {
            entry if entry.startswith("/") else name_of(entry)
            for entry, part, _ in entries.iterate(connection)
            if part in own
        }


async def run(database: Database, *keys: str, **options: Any) -> list[Outcome]:
    chosen = [source_of(database, key) for key in keys]
    return await refresh(database, chosen, Terms(Path("/nonexistent")), actor="test", **options)


async def run_one(database: Database, key: str, **options: Any) -> Outcome:
    [outcome] = await run(database, key, **options)
    return outcome


# What is stored.


async def test_brings_a_list_and_then_its_difference(database: Database, lists: Path) -> None:
    file = lists / "a.txt"
    add(database, "a", file)
    file.write_text("one.example\ntwo.example\n")
    first = await run_one(database, "a")
    assert (first.status, first.rules, first.added, first.removed, first.error) == ("updated", 2, 2, 0, "")
    before = database.state()
    file.write_text("two.example\nthree.example\nfour.example\n")
    second = await run_one(database, "a")
    assert (second.status, second.rules, second.added, second.removed) == ("updated", 3, 2, 1)
    assert names(database, "a") == {"two.example", "three.example", "four.example"}
    after = database.state()
    assert after.entries_version > before.entries_version


async def test_counts_what_is_rejected_by_reason(database: Database, lists: Path) -> None:
    file = lists / "a.txt"
    file.write_text("one.example\nhttp://b.example/\nhttp://c.example/\n192.0.2.1\nco.uk\n-.example\n")
    add(database, "a", file)
    outcome = await run_one(database, "a")
    assert outcome.rejected == {"url": 2, "address": 1, "public_suffix": 1, "name": 1}
    assert source_of(database, "a").rejected == 5


async def test_public_suffixes_are_taken_where_the_source_may(database: Database, lists: Path) -> None:
    file = lists / "a.txt"
    file.write_text("one.example\nco.uk\n")
    add(database, "careful", file)
    add(database, "daring", file, allow_public_suffix=True)
    await run(database, "careful", "daring")
    assert names(database, "careful") == {"one.example"}
    assert names(database, "daring") == {"one.example", "co.uk"}


async def test_same_content_is_told_by_its_hash_and_changes_no_version(database: Database, lists: Path) -> None:
    file = lists / "a.txt"
    file.write_text("one.example\nhttp://b.example/\n")
    add(database, "a", file)
    await run_one(database, "a")
    before, version = source_of(database, "a"), database.state()
    outcome = await run_one(database, "a")
    assert (outcome.status, outcome.rules, outcome.added, outcome.removed) == ("unchanged", 1, 0, 0)
    after = source_of(database, "a")
    assert database.state() == version
    assert (after.rules, after.rejected, after.content_hash) == (1, 1, before.content_hash)
    assert before.last_success_at is not None
    assert after.last_success_at is not None
    assert after.last_success_at > before.last_success_at


async def test_force_reads_again_what_did_not_change(sqlite_database: Database, lists: Path) -> None:
    """The way to a list that a newer version of the program reads better."""
    file = lists / "a.txt"
    file.write_text("one.example\ntwo.example\n")
    source = add(sqlite_database, "a", file)
    await run_one(sqlite_database, "a")
    seen = source_of(sqlite_database, "a").seen
    list_rules(sqlite_database, source.id, [Rule("one.example")], seen)
    assert (await run_one(sqlite_database, "a")).added == 0
    outcome = await run_one(sqlite_database, "a", force=True)
    assert (outcome.status, outcome.added) == ("updated", 1)


async def test_what_an_older_reader_read_is_read_again(
    sqlite_database: Database, lists: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same octets may come to mean more rules."""
    (lists / "a.txt").write_text("one.example\ntwo.example\n")
    source = add(sqlite_database, "a", lists / "a.txt")
    await run_one(sqlite_database, "a")
    list_rules(sqlite_database, source.id, [Rule("one.example")], source_of(sqlite_database, "a").seen)
    monkeypatch.setattr(refreshing, "READER", refreshing.READER + 1)
    assert (await run_one(sqlite_database, "a")).added == 1
    assert (await run_one(sqlite_database, "a")).status == "unchanged"


# From servers.


@asynccontextmanager
async def serving(text: str, etag: str = '"1"') -> AsyncIterator[tuple[str, list[int]]]:
    """Serve one list that knows its etag; give its URL and the statuses of its answers."""
    statuses: list[int] = []

    async def handle(request: web.Request) -> web.Response:
        known = request.headers.get("If-None-Match") == etag
        statuses.append(304 if known else 200)
        return web.Response(status=304) if known else web.Response(text=text, headers={"ETag": etag})

    application = web.Application()
    application.router.add_get("/{name}", handle)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/list.txt", statuses
    finally:
        await runner.cleanup()


async def test_server_that_says_nothing_changed_is_believed(database: Database) -> None:
    async with serving("one.example\n") as (url, statuses):
        add(database, "a", url, allow_private=True)
        assert (await run_one(database, "a")).status == "updated"
        first = source_of(database, "a")
        outcome = await run_one(database, "a")
        assert (outcome.status, outcome.rules) == ("unchanged", 1)
        assert statuses == [200, 304]
        second = source_of(database, "a")
        assert (second.etag, second.content_hash, second.rules) == (first.etag, first.content_hash, 1)
        await run_one(database, "a", force=True)
        assert statuses == [200, 304, 200]


async def test_private_address_is_not_fetched_from_unless_allowed(sqlite_database: Database) -> None:
    async with serving("one.example\n") as (url, statuses):
        add(sqlite_database, "a", url)
        outcome = await run_one(sqlite_database, "a")
        assert outcome.status == "failed"
        assert not statuses


async def test_a_mirror_serves_when_the_location_fails_and_is_asked_whether_anything_changed(
    database: Database, lists: Path
) -> None:
    async with serving("one.example\n") as (url, statuses):
        add(database, "a", str(lists / "missing.txt"), mirrors=[url], allow_private=True)
        assert (await run_one(database, "a")).status == "updated"
        assert source_of(database, "a").fetched_from == url
        assert (await run_one(database, "a")).status == "unchanged"
        assert statuses == [200, 304]


# Archives of many categories.


def write_archive(path: Path, files: Mapping[str, str]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"blacklists/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


def filed(database: Database) -> dict[str, str | None]:
    """Return the category of each name that is listed."""
    with database.reading() as connection:
        categories_of = {part.id: part.category for part in parts.list_all(connection)}
        return {name_of(key): categories_of[part] for key, part, _ in entries.iterate(connection)}


@pytest.mark.parametrize("written", ["auto", "ut1"])
async def test_each_directory_of_an_archive_has_its_category(database: Database, lists: Path, written: str) -> None:
    file = lists / "all.tar.gz"
    with database.change("test") as change:
        for key in ("adult", "games", "drugs", "local"):
            categories.ensure(change, key)
        source = sources.add(change, "ut1", str(file), category="local", format=written)
    terms = Terms(lists)
    write_archive(
        file,
        {
            "adult/domains": "one.example\n192.0.2.1\n",
            "adult/urls": "two.example/page\n",
            "games/domains": "play.example\n",
            "ours/domains": "ours.example\n",
            "dating/domains": "date.example\n",  # of a category that this database hasn't got
        },
    )
    [outcome] = await refresh(database, [source], terms, actor="test")
    assert (outcome.status, outcome.rules, outcome.rejected) == ("updated", 3, {"address": 1, "path": 1})
    assert outcome.skipped == {"dating": "there is no category 'dating'"}
    assert filed(database) == {"one.example": "adult", "play.example": "games", "ours.example": None}
    write_archive(file, {"adult/domains": "one.example\n", "drogue/domains": "play.example\n"})
    [outcome] = await refresh(database, [source_of(database, "ut1")], terms, actor="test")
    assert (outcome.added, outcome.removed) == (1, 2)
    assert filed(database) == {"one.example": "adult", "play.example": "drugs"}


@pytest.mark.parametrize(
    ("own", "taken", "left_out"), [("adult", "one.example", "child"), ("learning", "kids.example", "adult")]
)
async def test_an_archive_serves_what_its_own_category_is_for(
    database: Database, lists: Path, own: str, taken: str, left_out: str
) -> None:
    """Who adds one to block doesn't mean to open, everywhere, what another of its directories names."""
    file = lists / "all.tar.gz"
    with database.change("test") as change:
        categories.ensure(change, "adult")
        categories.ensure(change, "education", kind="allow")
        categories.ensure(change, "learning", kind="allow")
        source = sources.add(change, "ut1", str(file), category=own, format="ut1")
    write_archive(file, {"adult/domains": "one.example\n", "child/domains": "kids.example\n"})
    [outcome] = await refresh(database, [source], Terms(lists), actor="test")
    assert filed(database).keys() == {taken}
    assert outcome.skipped.keys() == {left_out}


async def test_an_archive_that_is_cut_short_changes_nothing(database: Database, lists: Path) -> None:
    file = lists / "all.tar.gz"
    add(database, "a", file, format="ut1")
    write_archive(file, {"adult/domains": "one.example\n", "games/domains": "play.example\n" * 5000})
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    outcome = await run_one(database, "a")
    assert outcome.status == "failed"
    assert filed(database) == {}


# What fails.


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HTML, "an HTML page, not a list"),
        ("", "no rule in it (it is empty)"),
        ("# nothing\n\n", "no rule in it (it is empty)"),
        ("http://b.example/\n192.0.2.1\n", "no rule in it (1 url, 1 address)"),
        (None, "no such file"),
    ],
    ids=["html", "empty", "comments", "rejected", "gone"],
)
async def test_bad_list_keeps_the_last_good_version(
    database: Database, lists: Path, text: str | None, reason: str
) -> None:
    file = lists / "a.txt"
    file.write_text("one.example\n")
    add(database, "a", file)
    await run_one(database, "a")
    good, version = source_of(database, "a"), database.state()
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    outcome = await run_one(database, "a")
    assert (outcome.status, outcome.rules, outcome.added, outcome.removed) == ("failed", 0, 0, 0)
    assert reason in outcome.error
    bad = source_of(database, "a")
    assert bad.last_error == outcome.error
    assert (bad.rules, bad.content_hash, bad.last_success_at) == (good.rules, good.content_hash, good.last_success_at)
    assert names(database, "a") == {"one.example"}
    assert database.state() == version
    file.write_text("one.example\n")  # the very content from before: its error goes all the same
    assert (await run_one(database, "a")).status == "unchanged"
    assert source_of(database, "a").last_error == ""


async def test_a_list_that_shrank_by_more_than_half_waits_for_a_person(database: Database, lists: Path) -> None:
    file = lists / "a.txt"
    file.write_text("".join(f"n{number}.example\n" for number in range(30)))
    add(database, "a", file)
    await run_one(database, "a")
    file.write_text("".join(f"n{number}.example\n" for number in range(14)))
    refused = await run_one(database, "a")
    assert (refused.status, refused.rules) == ("failed", 0)
    assert "shrank by more than half, from 30 to 14 rules" in refused.error
    assert len(names(database, "a")) == source_of(database, "a").rules == 30
    assert (await run_one(database, "a")).status == "failed"  # until somebody says that it is right
    assert (await run_one(database, "a", force=True)).removed == 16


async def test_a_list_that_was_rolled_back_stays_out_when_only_its_date_changes(
    database: Database, lists: Path
) -> None:
    file = lists / "a.txt"
    add(database, "a", file)
    file.write_text("# Monday\none.example\n")
    await run_one(database, "a")
    file.write_text("# Tuesday\none.example\nwrong.example\n")
    await run_one(database, "a")
    loading.rollback(database, "a", "desk")
    file.write_text("# Wednesday\none.example\nwrong.example\n")
    outcome = await run_one(database, "a")
    assert (outcome.status, outcome.rules, outcome.error) == ("unchanged", 1, "")
    assert names(database, "a") == {"one.example"}
    assert (await run_one(database, "a", force=True)).status == "updated"
    assert names(database, "a") == {"one.example", "wrong.example"}


async def test_a_list_that_would_block_a_canary_is_refused_even_by_force(database: Database, lists: Path) -> None:
    file = lists / "a.txt"
    file.write_text("one.example\n")
    source = add(database, "a", file)
    terms = Terms(lists, Canaries(["www.district.example"]))
    await refresh(database, [source], terms, actor="test")
    file.write_text("one.example\ndistrict.example\n")
    for force in (False, True):
        [outcome] = await refresh(database, [source_of(database, "a")], terms, actor="test", force=force)
        assert "would block www.district.example by ||district.example^" in outcome.error
    assert names(database, "a") == {"one.example"}


async def test_a_list_that_allows_may_name_canaries(database: Database, lists: Path) -> None:
    (lists / "a.txt").write_text("district.example\n")
    with database.change("test") as change:
        categories.ensure(change, "learning", kind="allow")
        source = sources.add(change, "a", str(lists / "a.txt"), category="learning")
    terms = Terms(lists, Canaries(["www.district.example"]))
    [outcome] = await refresh(database, [source], terms, actor="test")
    assert (outcome.status, outcome.rules) == ("updated", 1)


async def test_one_that_fails_keeps_no_other_from_its_refresh(database: Database, lists: Path) -> None:
    for key in "abc":
        (lists / key).write_text(f"{key}.example\n")
        add(database, key, lists / key)
    (lists / "b").unlink()
    outcomes = await run(database, "a", "b", "c")
    assert [outcome.source for outcome in outcomes] == ["a", "b", "c"]
    assert [outcome.status for outcome in outcomes] == ["updated", "failed", "updated"]
    assert names(database, "a") == {"a.example"}
    assert names(database, "c") == {"c.example"}


async def test_a_bug_in_one_source_costs_that_source(
    sqlite_database: Database, lists: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for key in "ab":
        (lists / key).write_text(f"{key}.example\n")
        add(sqlite_database, key, lists / key)

    def stumbling(data: bytes, **options: Any) -> Any:
        if b"a.example" in data:
            raise ZeroDivisionError("a bug")
        return read(data, **options)

    monkeypatch.setattr(refreshing, "read", stumbling)
    first, second = await run(sqlite_database, "a", "b")
    assert (first.status, second.status) == ("failed", "updated")
    assert "ZeroDivisionError: a bug" in source_of(sqlite_database, "a").last_error
    assert "ZeroDivisionError" in caplog.text  # with its traceback


@pytest.mark.parametrize("text", ["one.example\n", HTML], ids=["good", "bad"])
async def test_source_that_was_removed_meanwhile_leaves_nothing(database: Database, lists: Path, text: str) -> None:
    file = lists / "a.txt"
    file.write_text(text)
    source = add(database, "a", file)
    with database.change("test") as change:
        sources.remove(change, "a")
    version = database.state()
    [outcome] = await refresh(database, [source], Terms(lists), actor="test")
    assert outcome.status == "failed"
    assert text == HTML or outcome.error == "it was removed meanwhile"
    with database.reading() as connection:
        assert entries.count(connection, source.id) == 0
    assert database.state() == version


async def test_database_that_goes_down_is_told_for_each_source(
    sqlite_database: Database, lists: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is raised, so that no source's work goes on unwatched."""
    for key in "ab":
        (lists / key).write_text(f"{key}.example\n")
        add(sqlite_database, key, lists / key)
    chosen = [source_of(sqlite_database, key) for key in "ab"]

    def down(*_: object, **__: object) -> Any:
        raise DatabaseDownError("the database is down")

    monkeypatch.setattr(sqlite_database, "change", down)
    monkeypatch.setattr(sqlite_database, "note", down)
    outcomes = await refresh(sqlite_database, chosen, Terms(lists), actor="test")
    assert [outcome.error for outcome in outcomes] == ["the database is down"] * 2


async def test_audit_tells_of_a_refresh_that_brought_something(database: Database, lists: Path) -> None:
    (lists / "a").write_text("one.example\n")
    add(database, "a", lists / "a")
    await run_one(database, "a")
    await run_one(database, "a")
    with database.reading() as connection:
        events = [event for event in audit.list_page(connection).items if event.action == "source.refresh"]
    [event] = events
    assert (event.actor, event.target) == ("test", "a")
    assert event.after == {"version": 1, "rules": 1, "rejected": 0, "added": 1, "removed": 0}


# Several at once.


class Steps:
    """What is done to which source, as it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.in_work: set[str] = set()
        self.most = 0
        self.storing = 0

    def __call__(self, told: Step) -> None:
        source, step, done, total = told
        if done:
            assert total is None or done <= total
            return
        self.told.append((source, step))
        if step in {"updated", "unchanged", "failed"}:
            self.in_work.remove(source)
        else:
            self.in_work.add(source)
        self.most = max(self.most, len(self.in_work))


async def test_some_are_in_work_side_by_side_and_no_more(sqlite_database: Database) -> None:
    """Whatever is fetched and not yet stored is a whole list in memory."""
    waiting = asyncio.Event()
    arrived = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal arrived
        arrived += 1
        if arrived == AT_ONCE:
            waiting.set()
        await waiting.wait()  # nobody is answered before as many as may be have asked
        return web.Response(text=f"{request.match_info['name']}.example\n")

    application = web.Application()
    application.router.add_get("/{name}", handle)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    keys = [f"list{number}" for number in range(3 * AT_ONCE)]
    for key in keys:
        add(sqlite_database, key, f"http://127.0.0.1:{runner.addresses[0][1]}/{key}", allow_private=True)
    steps = Steps()
    outcomes = await run(sqlite_database, *keys, progress=steps)
    await runner.cleanup()
    assert {outcome.status for outcome in outcomes} == {"updated"}
    assert steps.most == AT_ONCE


async def test_progress_tells_each_step_in_its_order(sqlite_database: Database, lists: Path) -> None:
    (lists / "a").write_text("one.example\n")
    add(sqlite_database, "a", lists / "a")
    add(sqlite_database, "b", lists / "missing")
    steps = Steps()
    await run(sqlite_database, "a", "b", progress=steps)
    assert [step for source, step in steps.told if source == "a"] == ["fetching", "comparing", "storing", "updated"]
    assert [step for source, step in steps.told if source == "b"] == ["fetching", "failed"]


# Killed in the middle.

REFRESHES = """
import asyncio, sys
from pathlib import Path
from blocklists.refresh import Terms, refresh
from storage import sources
from storage.database import Database
database = Database(sys.argv[1])
with database.reading() as connection:
    chosen = [sources.get(connection, "a")]
tell = lambda step: print(step.name, flush=True)
asyncio.run(refresh(database, chosen, Terms(Path("/")), actor="test", progress=tell))
"""


def wait_for_step(process: subprocess.Popen[str], step: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == step:
            return
    raise AssertionError(f"it never came to {step}")


@pytest.mark.parametrize("later", [0.0, 0.3])
def test_killed_while_storing_leaves_the_old_version_whole(
    database: Database, database_url: str, lists: Path, later: float
) -> None:
    """Somewhere between staging and the commit; where it was quicker, the new version is whole."""
    file = lists / "a.txt"
    old: Sequence[str] = [f"n{number}.example" for number in range(10_000)]
    new: Sequence[str] = [f"n{number}.example" for number in range(5_000, 60_000)]
    file.write_text("\n".join(old))
    add(database, "a", file)
    asyncio.run(run_one(database, "a"))
    before, version = source_of(database, "a"), database.state()
    file.write_text("\n".join(new))
    command = [sys.executable, "-c", REFRESHES, database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        wait_for_step(process, "storing")
        threading.Event().wait(later)
        os.kill(process.pid, signal.SIGKILL)
    with database.reading() as connection:  # one moment
        found = {name_of(entry) for entry, _, _ in entries.iterate(connection)}
        if read_state(connection) == version:
            assert found == set(old)
            assert replace(sources.get(connection, "a"), writing_ahead=False) == before
        else:
            assert found == set(new)
            assert sources.get(connection, "a").rules == len(new)
    outcome = asyncio.run(run_one(database, "a"))  # nothing of the dead one is in the way
    assert outcome.error == ""
    assert names(database, "a") == set(new)
