"""A command's session, with a service that runs and without one."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from control import compiling
from control.channel import ControlSocket
from control.errors import ControlError, StateError
from control.session import Session
from settings import from_document
from storage import exceptions, sources, tokens
from tests.support.policies import fill, verdict

BLOCKED = "pokerstars.com"  # the starter lists' own example


def open_session(directory: Path, told: list[str] | None = None) -> Session:
    settings = from_document({"state": {"directory": str(directory / "var")}}, directory)
    return Session(settings, (told if told is not None else []).append)


def let_through(session: Session, then: Exception | None = None) -> None:
    with session.change() as change:
        exceptions.add(change, domain=BLOCKED, action="allow", reason="a lesson")
        if then is not None:
            raise then


def test_first_use_sets_up_and_tells_the_token_once(tmp_path: Path) -> None:
    told: list[str] = []
    first = open_session(tmp_path, told)
    [text] = told
    secret = text.rpartition(" ")[2]
    with first.database.reading() as connection:
        found = tokens.authenticate(connection, secret)
    assert found is not None
    assert found.role == "admin"
    first.close()
    open_session(tmp_path, told).close()
    assert told == [text]


def test_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "var").touch()
    with pytest.raises(StateError, match=r"state\.directory"):
        open_session(tmp_path)


def test_without_a_service_it_publishes_itself(begun: Path) -> None:
    session = open_session(begun)
    assert verdict(session.snapshot(), BLOCKED) == "blocked"
    let_through(session)
    published = json.loads((session.state.policy / "current").read_text())
    assert published["version"] == session.database.state().policy_version
    assert verdict(session.snapshot(), BLOCKED) == "exception"
    status = session.status()
    assert (status["serving"], status["workers"]) == (False, [])
    assert status["lists"]["rules"] > 100
    session.close()


def test_without_a_service_a_damaged_index_is_mended_by_whoever_looks(begun: Path) -> None:
    session = open_session(begun)
    session.publish()
    [index] = session.state.policy.glob("index-*")
    index.write_bytes(b"")
    assert verdict(session.snapshot(), BLOCKED) == "blocked"
    session.close()


def relist(session: Session, *names: str) -> None:
    """Store what a source lists, as a refresh that is killed before it publishes."""
    with session.database.reading() as connection:
        found = sources.list_all(connection)
        source = next(source for source in found if source.enabled and source.category == "adult")
    fill(session.database, source, names)


def test_entries_are_in_force_once_they_are_waited_for(begun: Path) -> None:
    """Other changes go by the index on disk, however old: nobody waits for what they didn't ask for."""
    session = open_session(begun)
    session.publish()
    relist(session, "new.example")
    let_through(session)
    assert verdict(session.snapshot(), BLOCKED) == "exception"
    assert verdict(session.snapshot(), "new.example") == "allowed"
    behind = session.status()["index"]["entries_version"]
    version = session.publish(wait_for_index=True)
    assert version == session.database.state().policy_version
    assert verdict(session.snapshot(), "new.example") == "blocked"
    index = session.status()["index"]
    assert behind < index["entries_version"] == session.database.state().entries_version
    assert (index["compiling"], index["error"]) == (False, None)
    assert index["names"] == session.snapshot().index.names
    assert index["octets"] > 0
    session.close()


def test_index_that_cannot_be_compiled_is_told_and_the_last_stays(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    session = open_session(begun)
    session.publish()
    relist(session, "new.example")
    monkeypatch.setattr(compiling, "compile_from", full)
    with pytest.raises(ControlError, match=r"^the index could not be compiled: No space left on device$"):
        session.publish(wait_for_index=True)
    assert verdict(session.snapshot(), BLOCKED) == "blocked"
    session.close()


def test_change_that_fails_is_neither_stored_nor_published(begun: Path) -> None:
    session = open_session(begun)
    version = session.publish()
    with pytest.raises(ZeroDivisionError):
        let_through(session, then=ZeroDivisionError())
    assert session.database.state().policy_version == version
    assert verdict(session.snapshot(), BLOCKED) == "blocked"
    session.close()


async def test_with_a_service_it_asks_for_all(begun: Path) -> None:
    session = await asyncio.to_thread(open_session, begun)
    asked: list[str] = []

    async def publish() -> dict[str, Any]:
        asked.append("publish")
        return {"policy_version": session.database.state().policy_version}

    async def publish_entries() -> dict[str, Any]:
        asked.append("publish_entries")
        return {"policy_version": 7}

    async def status() -> dict[str, Any]:
        asked.append("status")
        return {"serving": True}

    async def flush() -> dict[str, Any]:
        asked.append("flush")
        return {"flushed": True}

    handlers = {"publish": publish, "publish_entries": publish_entries, "status": status, "flush": flush}
    control = ControlSocket(session.state.control_socket, handlers)
    await control.start()
    try:
        await asyncio.to_thread(let_through, session)
        assert await asyncio.to_thread(lambda: session.publish(wait_for_index=True)) == 7
        assert not list(session.state.policy.iterdir())  # what is on disk is the service's to write
        assert await asyncio.to_thread(session.status) == {"serving": True}
        await asyncio.to_thread(session.flush_log)
    finally:
        await control.close()
    assert asked == ["publish", "publish_entries", "status", "flush"]
    session.close()


async def test_change_that_a_service_could_not_publish_is_stored_and_told(begun: Path) -> None:
    session = await asyncio.to_thread(open_session, begun)

    async def publish() -> dict[str, Any]:
        raise ControlError("not every worker could take the policy within 5 s")

    control = ControlSocket(session.state.control_socket, {"publish": publish})
    await control.start()
    before = session.database.state().policy_version
    try:
        with pytest.raises(ControlError, match="not every worker"):
            await asyncio.to_thread(let_through, session)
    finally:
        await control.close()
    assert session.database.state().policy_version == before + 1
    session.close()
