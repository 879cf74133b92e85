"""A publisher of lists on loopback: a real HTTP server, or one that says what the test wants, proper HTTP or not."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from blocklists.errors import FetchError
from blocklists.fetching import Fetched, Limits, NotModified, fetch
from tests.support.connections import handling

LIST = b"a.example\nb.example\n"
QUICK = Limits(delays=(0, 0), connect_seconds=5, idle_seconds=5, total_seconds=20)
NOWHERE = Path("/nonexistent")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Serve every path by one handler; give the URL of the root."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def speaking(*parts: bytes, hold: bool = False, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve the same octets to whoever connects, then hang up, or hold on and say no more."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
        if hold:
            await reader.read()

    async with handling(speak, tls) as port:
        yield f"127.0.0.1:{port}"


def sending(body: bytes, **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return handler


def answering(*statuses: int) -> tuple[Handler, list[int]]:
    """Answer with one status after the other, the last for ever; also give the list of those sent."""
    sent: list[int] = []

    async def handler(_: web.Request) -> web.Response:
        sent.append(statuses[min(len(sent), len(statuses) - 1)])
        response = web.Response(status=sent[-1], body=LIST if sent[-1] == 200 else b"")
        response.force_close()
        return response

    return handler, sent


async def get(url: str, limits: Limits = QUICK, **options: Any) -> Fetched | NotModified:
    return await fetch(url, base=NOWHERE, allow_private=True, limits=limits, **options)


async def failure(url: str, limits: Limits = QUICK, *, allow_private: bool = True) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetch(url, base=NOWHERE, allow_private=allow_private, limits=limits)
    assert str(caught.value).startswith(f"{url} could not be fetched: ")
    assert "\n" not in str(caught.value)
    return caught.value
