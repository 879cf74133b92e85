"""A server on loopback in the test's own loop, whose connections end with it: one that is left fails a later test."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
"""What is done with a connection, which is closed behind it. The client may have had enough before."""


@asynccontextmanager
async def handling(handle: Handle, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve; yields the port. What a handler raises that is wrong is raised at the end."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):  # the last: it is over
            try:
                await handle(reader, writer)
            finally:
                writer.close()
                await writer.wait_closed()

    server = await asyncio.start_server(handled, "127.0.0.1", 0, ssl=tls)
    async with server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await asyncio.sleep(0)  # whoever was accepted just now is handled from here on
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            for writer in writers:
                writer.transport.abort()
            await asyncio.sleep(0)  # which the loop's next turn does
    for end in ends:
        if isinstance(end, Exception):
            raise end
