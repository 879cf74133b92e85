"""Downloading over HTTP, within limits, from where it is allowed to.

Redirects are followed here rather than by the library, so that each hop is checked. What the library raises is
translated here, once. Knows nothing of what is inside the download.
"""

import asyncio
import io
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import NamedTuple

import aiohttp
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from blocklists.destinations import ForbiddenAddressError, PublicResolver, check, literal
from blocklists.errors import BusyError, LocationError, RemoteError, TooLargeError, UnreachableError

USER_AGENT = f"hallmonitor/{version('dns-hallmonitor')}"

_REDIRECTS = frozenset({301, 302, 303, 307, 308})  # RFC 9110 section 15.4
# What the content is packed with, its octets tell, whether the server calls that its encoding or not.
_ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "zstd"})
_CHUNK = 256 << 10


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fetch may take; sizes in octets."""

    download_bytes: int = 256 << 20
    content_bytes: int = 1 << 30
    total_seconds: float = 600
    connect_seconds: float = 10
    idle_seconds: float = 30
    redirects: int = 5
    delays: tuple[float, ...] = (1, 3)
    """Seconds to wait before each further try."""


class Downloaded(NamedTuple):
    """What a server sent."""

    data: bytes
    etag: str | None
    last_modified: str | None


class NotModified(NamedTuple):
    """The server says that nothing changed since the list was last fetched."""


@dataclass(frozen=True, slots=True)
class Download:
    """One list to be downloaded; `shown` is its location without a password, for messages."""

    shown: str
    url: URL
    conditions: dict[str, str]
    """Headers that let the server answer that nothing changed."""
    allow_private: bool
    limits: Limits

    async def run(self) -> Downloaded | NotModified:
        """Return what the server sends, after some tries if need be. Raises `FetchError`."""
        try:
            async with asyncio.timeout(self.limits.total_seconds), self._session() as session:
                return await self._tries(session)
        except TimeoutError as error:
            raise UnreachableError(self.shown, f"it took over {self.limits.total_seconds:g} seconds") from error

    async def _tries(self, session: aiohttp.ClientSession) -> Downloaded | NotModified:
        for delay in self.limits.delays:
            try:
                return await self._try(session)
            except (UnreachableError, BusyError):
                await asyncio.sleep(delay)
        return await self._try(session)

    async def _try(self, session: aiohttp.ClientSession) -> Downloaded | NotModified:
        url = self.url
        with self._translated():
            for _ in range(self.limits.redirects + 1):
                self._check(url)
                async with session.get(url, headers=self.conditions, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS:
                        return await self._read(response)
                    url = self._redirected(response)
        raise RemoteError(self.shown, f"the server redirects more than {self.limits.redirects} times")

    def _check(self, url: URL) -> None:
        """Check a host that is an address: the library asks no resolver about it."""
        address = literal(url.host or "")
        if address is not None and not self.allow_private:
            check(address, address)

    def _redirected(self, response: aiohttp.ClientResponse) -> URL:
        try:
            url = response.url.join(URL(response.headers["Location"]))
            host = url.host
        except (KeyError, ValueError) as error:
            raise RemoteError(self.shown, "the server redirects to no URL") from error
        if url.scheme not in {"http", "https"} or not host:
            raise RemoteError(self.shown, f"the server redirects to what is no http or https URL ({url.scheme}:)")
        if response.url.scheme == "https" and url.scheme == "http":
            raise RemoteError(self.shown, f"the server redirects from https to http ({host})")
        return url

    async def _read(self, response: aiohttp.ClientResponse) -> Downloaded | NotModified:
        status = response.status
        if status == HTTPStatus.NOT_MODIFIED and self.conditions:
            return NotModified()
        if status != HTTPStatus.OK:
            busy = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
            raise (BusyError if busy else RemoteError)(self.shown, f"the server answered {_status(status)}")
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            raise RemoteError(self.shown, f"the server sent it as {encoding[:20]}, which it was not asked for")
        body = io.BytesIO()
        if (response.content_length or 0) > self.limits.download_bytes:
            raise self._too_large()
        async for chunk in response.content.iter_chunked(_CHUNK):
            if body.tell() + len(chunk) > self.limits.download_bytes:
                raise self._too_large()
            body.write(chunk)
        return Downloaded(body.getvalue(), response.headers.get("ETag"), response.headers.get("Last-Modified"))

    def _too_large(self) -> TooLargeError:
        return TooLargeError(self.shown, f"it is larger than {self.limits.download_bytes:,} bytes")

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        limits = self.limits
        connector = aiohttp.TCPConnector(
            resolver=ThreadedResolver() if self.allow_private else PublicResolver(),
            use_dns_cache=False,
            ssl=ssl.create_default_context(),  # made anew, so that SSL_CERT_FILE counts
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=limits.connect_seconds, sock_read=limits.idle_seconds),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"},
            auto_decompress=False,  # what comes out is counted, in `unpacking`
        ) as session:
            yield session

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Say what went wrong in our words."""
        try:
            yield
        except ForbiddenAddressError as error:
            raise LocationError(self.shown, str(error)) from error
        except aiohttp.ConnectionTimeoutError as error:
            seconds = self.limits.connect_seconds
            raise UnreachableError(self.shown, f"no connection within {seconds:g} seconds") from error
        except aiohttp.SocketTimeoutError as error:
            raise UnreachableError(self.shown, f"nothing came for {self.limits.idle_seconds:g} seconds") from error
        except aiohttp.ClientConnectorDNSError as error:
            raise UnreachableError(self.shown, f"the name {error.host} does not resolve") from error
        except aiohttp.ClientSSLError as error:
            raise RemoteError(self.shown, f"the server can't be trusted ({_reason(error)})") from error
        except aiohttp.ClientConnectorError as error:
            where = f"{error.host}:{error.port}"
            raise UnreachableError(self.shown, f"no connection to {where} ({_reason(error)})") from error
        except (aiohttp.InvalidURL, UnicodeError) as error:  # the latter from the resolver
            raise LocationError(self.shown, "it is not a URL with a host") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise UnreachableError(self.shown, "the connection broke off") from error
        except aiohttp.ClientError as error:
            raise RemoteError(self.shown, f"the server's answer is not proper HTTP ({type(error).__name__})") from error


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _reason(error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    if isinstance(cause, ssl.SSLError):
        return str(cause.reason or cause)
    return os.strerror(cause.errno) if cause.errno else str(cause)
