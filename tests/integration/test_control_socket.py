"""The control socket: real connections, requests that can't be read, and services that fail."""

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from control import channel
from control.channel import ControlSocket, Handler, ask
from control.errors import ControlError, PublishError
from querylog.errors import StoreDownError
from storage.errors import DatabaseDownError


async def echo() -> dict[str, Any]:
    return {"version": 7, "text": "ä" * 100_000}


def failing(error: Exception) -> Handler:
    async def fail() -> dict[str, Any]:
        raise error

    return fail


@asynccontextmanager
async def listening(path: Path, **handlers: Handler) -> AsyncIterator[Path]:
    control = ControlSocket(path, handlers or {"echo": echo})
    await control.start()
    try:
        yield path
    finally:
        await control.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


async def asking(path: Path, request: str) -> dict[str, Any] | None:
    return await asyncio.to_thread(ask, path, request)


def mode_of(path: Path) -> int | None:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


async def sent(path: Path, octets: bytes) -> Any:
    """Return what the server says to these octets."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(octets)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return json.loads(answer)


async def test_answers_what_is_asked(path: Path) -> None:
    async with listening(path):
        assert await asking(path, "echo") == await echo()


async def test_is_the_owners_alone(path: Path) -> None:
    async with listening(path):
        assert mode_of(path) == 0o600


async def test_state_directory_may_have_any_length(tmp_path: Path) -> None:
    """A socket's own path is at most 107 octets (unix(7))."""
    deep = tmp_path / ("d" * 200)
    deep.mkdir()
    async with listening(deep / "control.sock") as path:
        assert await asking(path, "echo") is not None


async def test_takes_the_place_of_one_that_a_killed_service_left(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert await asking(path, "echo") is None
    async with listening(path):
        assert await asking(path, "echo") is not None


async def test_is_gone_when_it_is_closed(path: Path) -> None:
    async with listening(path):
        pass
    assert mode_of(path) is None
    assert await asking(path, "echo") is None


async def test_no_directory_is_no_service(tmp_path: Path) -> None:
    assert await asking(tmp_path / "nowhere" / "control.sock", "echo") is None


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\n",
        b"hello\n",
        b"null\n",
        b"[]\n",
        b'"do"\n',
        b"7\n",
        b"{}\n",
        b'{"do": 7}\n',
        b'{"do": []}\n',
        b'{"do": {"echo": 1}}\n',
        b'{"do": "nothing"}\n',
        b'{"do": "__init__"}\n',
        b'{"do": "echo"',
        b"\xff\xfe\n",
        b"[" * 50_000 + b"\n",
        b"x" * 200_000 + b"\n",
    ],
    ids=lambda octets: repr(octets[:12]),
)
async def test_request_that_is_none_is_told_so_and_costs_nobody_else(path: Path, octets: bytes) -> None:
    async with listening(path):
        try:
            assert await sent(path, octets) == {"error": "no such request"}
        except OSError:
            assert len(octets) > 1 << 16  # too long to be read: the server need not wait for the rest
        assert await asking(path, "echo") is not None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PublishError("no worker took it"), "no worker took it"),
        (DatabaseDownError("the database is down"), "the database is down"),
        (StoreDownError("the log is down"), "the log is down"),
        (ValueError("a bug"), "fail failed; the service's own log says why"),
        (OSError("a bug"), "fail failed; the service's own log says why"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_went_wrong_in_the_service_is_the_commands_error(path: Path, error: Exception, said: str) -> None:
    async with listening(path, fail=failing(error)):
        with pytest.raises(ControlError) as caught:
            await asking(path, "fail")
        assert str(caught.value) == said


async def test_command_that_does_not_wait_harms_nobody(path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> dict[str, Any]:
        begun.set()
        await go_on.wait()
        return await echo()

    async with listening(path, slow=slow, echo=echo):
        _, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b'{"do": "slow"}\n')
        await begun.wait()
        writer.close()
        await writer.wait_closed()
        go_on.set()
        assert await asking(path, "echo") is not None


def answering(path: Path, octets: bytes | None) -> Callable[[], None]:
    """Listen once, and answer with these octets; with None hold the line."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        with server, server.accept()[0] as connection:
            connection.recv(1000)
            if octets is None:
                connection.recv(1000)
            else:
                connection.sendall(octets)

    return serve


async def test_service_that_ends_without_an_answer_is_told(path: Path) -> None:
    serving = asyncio.create_task(asyncio.to_thread(answering(path, b"")))
    with pytest.raises(ControlError, match="the running service ended"):
        await asking(path, "publish")
    await serving


async def test_service_that_hangs_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "ANSWER_SECONDS", 0.1)
    serving = asyncio.create_task(asyncio.to_thread(answering(path, None)))
    with pytest.raises(ControlError, match=r"did not answer within 0\.1 s"):
        await asking(path, "publish")
    await serving
