"""Fetching: a list from a URL or a file, or from a mirror of it, unpacked, within limits.

Every failure of a location is a `FetchError` with one sentence that names it and the reason, or a `NotAListError`
when what is there is plainly something else: a web page, a picture. Knows nothing of formats beyond that, nor of
sources or the database.
"""

import asyncio
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from yarl import URL

from blocklists.content import refuse_binary
from blocklists.downloading import Download, Progress, Unchanged
from blocklists.errors import FetchError, LocationError, NotAListError, RemoteError, TooLargeError
from blocklists.formats.detection import refuse_page
from blocklists.limits import Limits
from blocklists.unpacking import UnpackedTooLargeError, UnpackError, is_archive, members, unpack

__all__ = ["AllFailedError", "Fetched", "Limits", "NotModified", "Progress", "content_hash_of", "fetch"]

_USER = re.compile(r"//[^/?#]*@")


class Fetched(NamedTuple):
    """A list as it was fetched."""

    data: bytes
    """Unpacked; or, where an archive was asked for, the archive as it came, whose files `unpacking.members` gives."""
    etag: str | None
    last_modified: str | None
    content_hash: str
    """SHA-256, in hexadecimal, of the data; of an archive, of its files and their names, however they are packed."""
    location: str = ""
    """Where it came from, the location or a mirror, without a password."""
    archive: bool = False
    """Whether the data is an archive."""

    def __repr__(self) -> str:
        # asyncio shows a task's result when it installs a signal handler, which took 4 octets of memory for each.
        return f"{type(self).__name__}({len(self.data):,} octets from {self.location!r})"


class NotModified(NamedTuple):
    """The server says that nothing changed since the list was last fetched."""

    location: str = ""
    """Which one says so, without a password."""


class AllFailedError(FetchError):
    """Neither the location nor any mirror had the list."""

    def __init__(self, failures: Sequence[tuple[str, str]]) -> None:
        """Say where and why, from first to last."""
        self.failures = tuple(failures)
        (location, reason), *others = self.failures
        mirrors = "".join(f"; nor from its mirror {mirror}: {why}" for mirror, why in others)
        super().__init__(location, reason + mirrors)


async def fetch(  # noqa: PLR0913 - what a caller may say of a list, each by its name
    location: str,
    *,
    base: Path,
    mirrors: Iterable[str] = (),
    allow_private: bool = False,
    etag: str | None = None,
    last_modified: str | None = None,
    validated_location: str | None = None,
    archive: bool = False,
    limits: Limits = Limits(),  # noqa: B008 - immutable
    progress: Progress = lambda _done, _total: None,
) -> Fetched | NotModified:
    """Fetch a list from an http or https URL, or from a file; a relative path starts at `base`.

    The mirrors are tried one after the other when the location fails, each with all its tries and time. The etag and
    last_modified are those of the last fetch, which was from `validated_location` (None: from the location): with them
    that one may answer `NotModified`. With `archive` a zip or tar is left in one piece. Raises `FetchError`,
    `AllFailedError` when there are mirrors, and `NotAListError` when there is none and the location has no list.
    """
    validators = {"If-None-Match": etag, "If-Modified-Since": last_modified}
    conditions = {header: value for header, value in validators.items() if value}
    validated = _shown(validated_location or location)
    failures: list[tuple[str, str]] = []
    locations = list(dict.fromkeys((location, *mirrors)))
    for each in locations:
        shown = _shown(each)
        one = _Location(each, shown, conditions if shown == validated else {}, allow_private, archive, limits, progress)
        try:
            return await one.fetch(base)
        except (FetchError, NotAListError) as error:
            if len(locations) == 1:
                raise
            failures.append((shown, error.reason if isinstance(error, FetchError) else f"it is {error}"))
    raise AllFailedError(failures)


def content_hash_of(data: bytes) -> str:
    """Return what tells a list's content from another's."""
    return hashlib.sha256(data).hexdigest()


class _Location(NamedTuple):
    """One place where a list may be had."""

    location: str
    shown: str
    conditions: dict[str, str]
    allow_private: bool
    archive: bool
    limits: Limits
    progress: Progress

    async def fetch(self, base: Path) -> Fetched | NotModified:
        if "://" not in self.location:
            packed = await asyncio.to_thread(self._read_file, base)
            self.progress(len(packed), len(packed))
            return await asyncio.to_thread(self._fetched, packed, None, None)
        url = self._url()
        answer = await Download(self.shown, url, self.conditions, self.allow_private, self.limits, self.progress).run()
        if isinstance(answer, Unchanged):
            return NotModified(self.shown)
        return await asyncio.to_thread(self._fetched, answer.data, answer.etag, answer.last_modified)

    def _url(self) -> URL:
        try:
            url = URL(self.location)
            host = url.host
        except ValueError as error:
            raise LocationError(self.shown, "it is not a URL") from error  # whose text may hold the password
        if url.scheme not in {"http", "https"}:
            raise LocationError(self.shown, "only http and https URLs and files can be fetched")
        if not host:
            raise LocationError(self.shown, "the URL names no host")
        return url

    def _read_file(self, base: Path) -> bytes:
        limit = self.limits.download_bytes
        try:
            path = base / self.location
            if not path.is_file():  # nor a pipe, which might never end
                raise LocationError(self.shown, "it is not a file" if path.exists() else "there is no such file")
            with path.open("rb") as file:
                data = file.read(limit + 1)
        except (OSError, ValueError) as error:
            raise LocationError(self.shown, getattr(error, "strerror", None) or str(error)) from error
        if len(data) > limit:
            raise TooLargeError(self.shown, f"it is larger than {limit:,} bytes")
        return data

    def _fetched(self, packed: bytes, etag: str | None, last_modified: str | None) -> Fetched:
        limit = self.limits.content_bytes
        try:
            if self.archive and is_archive(packed, limit):
                content_hash = _hash_of_members(packed, limit)
                return Fetched(packed, etag, last_modified, content_hash, self.shown, archive=True)
            data = unpack(packed, limit)
        except UnpackedTooLargeError as error:
            raise TooLargeError(self.shown, str(error)) from error
        except UnpackError as error:
            raise RemoteError(self.shown, str(error)) from error
        if len(data) > limit:
            raise TooLargeError(self.shown, f"it is larger than {limit:,} bytes")
        refuse_page(data)
        refuse_binary(data)
        return Fetched(data, etag, last_modified, content_hash_of(data), self.shown)


def _hash_of_members(packed: bytes, limit: int) -> str:
    """Go through a whole archive, which shows that it is undamaged, and return what tells its files from others."""
    digests = []
    for name, content in members(packed, limit):
        digests.append(hashlib.sha256(name.encode() + b"\0").digest() + hashlib.sha256(content).digest())
        del content  # before the next one comes
    return content_hash_of(b"".join(sorted(digests)))


def _shown(location: str) -> str:
    """Return a location as it may be shown: a URL without its password."""
    if "://" not in location:
        return location
    try:
        url = URL(location)
        return str(url.with_user(None)) if url.user or url.password else location
    except ValueError:
        return _USER.sub("//", location)
