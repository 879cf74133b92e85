"""A path to a name server over TCP that may die without a word, as when a firewall fails over or a NAT restarts."""

import asyncio
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK = 1 << 16
RESET = struct.pack("ii", 1, 0)  # socket(7), SO_LINGER: closing throws away what is unsent


class Relay:
    """Carries connections to a port on loopback, in the test's own loop."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.paths: list[asyncio.Event] = []
        """Each connection there was, oldest first; those that are set carry what is said."""
        self.is_down = False
        """Whether new connections carry nothing either: they are accepted, that is all."""
        self._target = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    def lose(self) -> None:
        """Let nothing pass any more on the connections that stand, neither octets nor their end."""
        for path in self.paths:
            path.clear()

    def heal(self) -> None:
        """Let everything pass, first of all what was held back."""
        self.is_down = False
        for path in self.paths:
            path.set()

    def reset(self) -> None:
        """End every connection with a RST."""
        for writer in self._writers:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        self._writers.clear()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted streams close in the loop's next turn

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        path = asyncio.Event()
        if not self.is_down:
            path.set()
        self.paths.append(path)
        there, writer_there = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, writer_there]
        try:
            await asyncio.gather(_carry(reader, writer_there, path), _carry(there, writer, path))
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            writer.transport.abort()
            writer_there.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: asyncio.Event) -> None:
    octets = b"-"
    while octets:
        octets = b""
        with suppress(OSError):  # a RST is an end as well
            octets = await reader.read(CHUNK)
        await path.wait()
        if octets:
            writer.write(octets)
        else:
            writer.close()
