"""A command's session, with a service that runs and without one."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from control.channel import ControlSocket
from control.errors import ControlError, StateError
from control.session import Session
from settings import from_document
from storage import exceptions, tokens
from tests.support.policies import verdict

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


def test_without_a_service_it_publishes_itself(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    assert verdict(session.snapshot(), BLOCKED) == "blocked"
    let_through(session)
    published = json.loads((session.state.policy / "current").read_text())
    assert published["version"] == session.database.state().policy_version
    assert verdict(session.snapshot(), BLOCKED) == "exception"
    status = session.status()
    assert (status["serving"], status["workers"]) == (False, [])
    assert status["lists"]["rules"] > 100
    session.close()


def test_without_a_service_a_damaged_index_is_mended_by_whoever_looks(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    session.publish()
    [index] = session.state.policy.glob("index-*")
    index.write_bytes(b"")
    assert verdict(session.snapshot(), BLOCKED) == "blocked"
    session.close()


def test_change_that_fails_is_neither_stored_nor_published(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    version = session.publish()
    with pytest.raises(ZeroDivisionError):
        let_through(session, then=ZeroDivisionError())
    assert session.database.state().policy_version == version
    assert verdict(session.snapshot(), BLOCKED) == "blocked"
    session.close()


async def test_with_a_service_it_asks_for_all(tmp_path: Path) -> None:
    session = await asyncio.to_thread(open_session, tmp_path)
    asked: list[str] = []

    async def publish() -> dict[str, Any]:
        asked.append("publish")
        return {"policy_version": session.database.state().policy_version}

    async def status() -> dict[str, Any]:
        asked.append("status")
        return {"serving": True}

    async def flush() -> dict[str, Any]:
        asked.append("flush")
        return {"flushed": True}

    control = ControlSocket(session.state.control_socket, {"publish": publish, "status": status, "flush": flush})
    await control.start()
    try:
        await asyncio.to_thread(let_through, session)
        assert not list(session.state.policy.iterdir())  # what is on disk is the service's to write
        assert await asyncio.to_thread(session.status) == {"serving": True}
        await asyncio.to_thread(session.flush_log)
    finally:
        await control.close()
    assert asked == ["publish", "status", "flush"]
    session.close()


async def test_change_that_a_service_could_not_publish_is_stored_and_told(tmp_path: Path) -> None:
    session = await asyncio.to_thread(open_session, tmp_path)

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
