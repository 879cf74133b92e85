"""The local control socket: how a command reaches the running service on the same state directory.

One JSON line each way: ``{"do": NAME}``, answered by the result or ``{"error": TEXT}``. File permissions guard it.
"""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from control.errors import ControlError
from querylog.errors import QuerylogError
from storage.errors import StorageError

log = logging.getLogger(__name__)

Handler = Callable[[], Awaitable[dict[str, Any]]]
ANSWER_SECONDS = 30.0
LONGEST_LINE = 16 << 20
SOCKET_MODE = 0o600


class ControlSocket:
    """Answers commands."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to listen, readable to nobody else."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, sock=_bound(self._path))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = await self._answer(await _request(reader))
        try:
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError:
            pass  # the command didn't wait

    async def _answer(self, request: str) -> dict[str, Any]:
        handler = self._handlers.get(request)
        if handler is None:
            return {"error": "no such request"}
        try:
            return await handler()
        except (ControlError, StorageError, QuerylogError) as error:
            return {"error": str(error)}
        except Exception:
            log.exception("%s failed", request)
            return {"error": f"{request} failed; the service's own log says why"}

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)


async def _request(reader: asyncio.StreamReader) -> str:
    """Return what is asked for; empty when that can't be read."""
    try:
        return str(json.loads(await reader.readline())["do"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""


def _bound(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _at(path, sock.bind)
        path.chmod(SOCKET_MODE)  # nobody can connect before it listens
    except OSError:
        sock.close()
        raise
    return sock


def _at(path: Path, use: Callable[[str], None]) -> None:
    # A socket's path is at most 107 octets, a state directory may be longer: name it from within.
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def ask(path: Path, request: str, seconds: float | None = None) -> dict[str, Any] | None:
    """Ask the running service; None when none runs. Raises `ControlError` with what it says went wrong.

    Waits for so long where the answer may take more than `ANSWER_SECONDS`.
    """
    seconds = seconds or ANSWER_SECONDS
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(seconds)
        try:
            _at(path, sock.connect)
            sock.sendall(json.dumps({"do": request}).encode() + b"\n")
            with sock.makefile("rb") as file:
                line = file.readline(LONGEST_LINE)
        except TimeoutError as error:
            raise ControlError(f"the running service did not answer within {seconds:g} s") from error
        except (FileNotFoundError, ConnectionError):
            return None
        except OSError as error:
            raise ControlError(f"the running service can't be asked: {path}: {error.strerror or error}") from error
    answer: dict[str, Any] = json.loads(line or b"null") or {"error": "the running service ended"}
    if "error" in answer:
        raise ControlError(answer["error"])
    return answer
