"""The local control socket: how a command reaches the running service on the same state directory.

One JSON line each way: ``{"do": NAME}``, answered by the result or ``{"error": TEXT}``. File permissions guard it.
"""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from control.errors import ControlError

Handler = Callable[[], Awaitable[dict[str, Any]]]
ANSWER_SECONDS = 30.0
LONGEST_LINE = 16 << 20


class ControlSocket:
    """Answers commands."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to listen, readable to nobody else."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            # A socket's path is at most 107 octets, a state directory may be longer: name it from within.
            self._server = await asyncio.start_unix_server(self._serve, sock=_bound(self._path))
        finally:
            os.umask(before)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            handler = self._handlers.get(request.get("do"))
            answer = await handler() if handler else {"error": "no such request"}
        except ControlError as error:
            answer = {"error": str(error)}
        except (OSError, ValueError, AttributeError):
            answer = {"error": "no request that can be read"}
        try:
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError:
            pass  # the command didn't wait

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)


def _bound(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    _at(path, sock.bind)
    return sock


def _at(path: Path, use: Callable[[str], None]) -> None:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def ask(path: Path, request: str) -> dict[str, Any] | None:
    """Ask the running service; None when none runs. Raises `ControlError` with what it says went wrong."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER_SECONDS)
        try:
            _at(path, sock.connect)
            sock.sendall(json.dumps({"do": request}).encode() + b"\n")
            with sock.makefile("rb") as file:
                line = file.readline(LONGEST_LINE)
        except TimeoutError as error:
            raise ControlError(f"the running service did not answer within {ANSWER_SECONDS:g} s") from error
        except OSError:
            return None
    answer: dict[str, Any] = json.loads(line or b"null") or {"error": "the running service ended"}
    if "error" in answer:
        raise ControlError(answer["error"])
    return answer
