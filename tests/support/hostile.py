"""A publisher of lists on loopback that says to each request what the test wants, octet by octet, HTTP or not."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from blocklists.fetching import Limits
from tests.support.connections import handling

HASTY = Limits(delays=(0, 0), connect_seconds=5, idle_seconds=5, total_seconds=20)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    number: int
    """From 0."""
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""

    @property
    def start(self) -> int:
        """Where the range that is asked for begins."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


@dataclass(frozen=True, slots=True)
class Reply:
    """Octets to send, and then: hang up, or hold on and say no more."""

    parts: Iterable[bytes] = ()
    hold: bool = False
    pause: float = 0.0
    """Seconds between the parts."""


Script = Callable[[Asked], Reply]


@dataclass(slots=True)
class Hostile:
    """A running server."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)


@asynccontextmanager
async def hostile(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Hostile]:
    """Serve by a script, one request a connection."""
    running = Hostile()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = _asked(len(running.asked), await reader.readuntil(b"\r\n\r\n"))
        running.asked.append(asked)
        await _say(script(asked), reader, writer)

    async with handling(serve, tls) as port:
        running.url = f"http{'s' if tls else ''}://127.0.0.1:{port}"
        yield running


async def _say(reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for part in reply.parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(reply.pause)
    if reply.hold:
        await reader.read()


def head(status: int, *lines: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status} X", *lines, "Connection: close", "", "")).encode("latin-1")


def whole(body: bytes, *lines: str) -> Iterator[bytes]:
    yield head(200, f"Content-Length: {len(body)}", *lines) + body


def part(body: bytes, start: int, *lines: str) -> Iterator[bytes]:
    """Give what a server that does it right sends from an offset to the end."""
    content_range = f"Content-Range: bytes {start}-{len(body) - 1}/{len(body)}"
    yield head(206, f"Content-Length: {len(body) - start}", content_range, *lines) + body[start:]


def cut(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Give the first octets of an answer's body."""
    octets = b"".join(parts)
    yield octets[: octets.index(b"\r\n\r\n") + 4 + size]


def _asked(number: int, octets: bytes) -> Asked:
    request, *lines = octets.decode().rstrip().split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    return Asked(number, request.split()[1], {name.lower(): value for name, _, value in pairs})
