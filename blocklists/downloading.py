"""Downloading over HTTP: several tries, each going on where the last one broke off, within limits.

Decides what each answer is good for. What tells versions apart is `resuming`'s, how long to wait `retrying`'s, the
way over the network `requesting`'s. Knows nothing of what is inside the download.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple

import aiohttp
from yarl import URL

from blocklists.errors import BusyError, RemoteError, TooLargeError, UnreachableError
from blocklists.limits import Limits
from blocklists.requesting import Answer, Requests
from blocklists.resuming import Received
from blocklists.retrying import AskedToWaitError, asked_to_wait, wait

Progress = Callable[[int, int | None], None]
"""Told how many octets have come, and of how many if that is known; some ten times a second. May begin anew."""

# What the content is packed with, its octets tell, whether the server calls that its encoding or not.
_ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "zstd"})
_CHUNK = 256 << 10
_MUCH = 1 << 20
"""Octets after which a try wasn't in vain."""
_PROGRESS_SECONDS = 0.1
_LONGEST_VALIDATOR = 1000  # octets of an ETag or a date that are worth keeping

_sleep, _chance = asyncio.sleep, random.random


class Downloaded(NamedTuple):
    """What a server sent."""

    data: bytes
    etag: str | None
    last_modified: str | None


class Unchanged(NamedTuple):
    """The server says that nothing changed since the list was last fetched."""


@dataclass(slots=True)
class Download:
    """One list to be downloaded, once; `shown` is its location without a password, for messages."""

    shown: str
    url: URL
    conditions: Mapping[str, str]
    """Headers that let the server answer that nothing changed."""
    allow_private: bool
    limits: Limits
    progress: Progress
    _received: Received = field(default_factory=Received, init=False)
    _next_progress: float = field(default=0.0, init=False)

    async def run(self) -> Downloaded | Unchanged:
        """Return what the server sends, after some tries if need be. Raises `FetchError`."""
        limits = self.limits
        try:
            async with (
                asyncio.timeout(limits.total_seconds),
                Requests.opened(self.shown, limits, allow_private=self.allow_private) as requests,
            ):
                return await self._tries(requests)
        except TimeoutError as error:
            raise UnreachableError(self.shown, f"it took over {limits.total_seconds:g} seconds") from error

    async def _tries(self, requests: Requests) -> Downloaded | Unchanged:
        delays = iter(self.limits.delays)
        while True:
            before = self._received.size
            try:
                return await self._try(requests)
            except (UnreachableError, BusyError) as error:
                if self._received.size - before >= _MUCH:
                    delays = iter(self.limits.delays)
                delay = next(delays, None)
                asked = error.seconds if isinstance(error, AskedToWaitError) else 0
                if delay is None or asked > self.limits.retry_after_seconds:
                    raise
            await _sleep(max(asked, wait(delay, _chance())))

    async def _try(self, requests: Requests) -> Downloaded | Unchanged:
        """Ask for what is missing, and if that can't be had, for all."""
        while True:
            async with requests.get(self.url, self._headers) as answer:
                if self._is_usable(answer):
                    return await self._read(answer)
            self._received.forget()  # so that the next request asks for no part, and its answer counts

    def _headers(self, url: URL) -> Mapping[str, str]:
        return self._received.conditions(url) or self.conditions

    def _is_usable(self, answer: Answer) -> bool:
        """Tell whether an answer counts: one to a request for a part may show that there is no such part."""
        if "Range" not in answer.sent:
            return True
        status = answer.response.status
        if status == HTTPStatus.PARTIAL_CONTENT:
            return self._received.resume(answer.response.headers)
        return status == HTTPStatus.OK or _is_busy(status)

    async def _read(self, answer: Answer) -> Downloaded | Unchanged:
        response = answer.response
        resumed = "Range" in answer.sent and response.status == HTTPStatus.PARTIAL_CONTENT
        if response.status == HTTPStatus.NOT_MODIFIED and answer.sent:
            return Unchanged()
        if response.status != HTTPStatus.OK and not resumed:
            raise self._refused(response)
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            raise RemoteError(self.shown, f"the server sent it as {encoding[:20]!a}, which it was not asked for")
        if not resumed:
            self._received.start(answer.url, response.headers, time.time())
        await self._take(response)
        return Downloaded(
            self._received.value(),
            _kept(response.headers.get("ETag")),
            _kept(response.headers.get("Last-Modified")),
        )

    async def _take(self, response: aiohttp.ClientResponse) -> None:
        """Read a body to its end, or as far as it comes."""
        received = self._received
        self._check_size(received.total or 0)
        self._report()
        async for chunk in response.content.iter_chunked(_CHUNK):
            self._check_size(received.size + len(chunk))
            received.add(chunk)
            if time.monotonic() >= self._next_progress:
                self._report()
        if received.end is not None and received.size > received.end:
            raise RemoteError(self.shown, "the server sent more than it said")
        if received.total is not None and received.size < received.total:
            raise UnreachableError(self.shown, "the connection broke off")
        self._report()

    def _check_size(self, size: int) -> None:
        if size > self.limits.download_bytes:
            raise TooLargeError(self.shown, f"it is larger than {self.limits.download_bytes:,} bytes")

    def _report(self) -> None:
        self._next_progress = time.monotonic() + _PROGRESS_SECONDS
        self.progress(self._received.size, self._received.total)

    def _refused(self, response: aiohttp.ClientResponse) -> RemoteError:
        reason = f"the server answered {_status(response.status)}"
        if not _is_busy(response.status):
            return RemoteError(self.shown, reason)
        seconds = asked_to_wait(response.headers, time.time())
        if seconds is None:
            return BusyError(self.shown, reason)
        if seconds > self.limits.retry_after_seconds:
            reason += f", and wants to be left alone for {seconds:,.0f} seconds"
        return AskedToWaitError(self.shown, reason, seconds)


def _is_busy(status: int) -> bool:
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _kept(validator: str | None) -> str | None:
    """Return an ETag or a date that can be sent again as it is."""
    if validator and len(validator) <= _LONGEST_VALIDATOR and validator.isascii() and validator.isprintable():
        return validator
    return None
