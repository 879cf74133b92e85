"""Fetching: a list from a URL or a file, unpacked, within limits.

Every failure is a `FetchError` with one sentence that names the location and the reason. Knows nothing of formats,
sources or the database.
"""

import asyncio
import hashlib
from pathlib import Path
from typing import NamedTuple

from yarl import URL

from blocklists.downloading import Download, Limits, NotModified
from blocklists.errors import LocationError, RemoteError, TooLargeError
from blocklists.unpacking import UnpackedTooLargeError, UnpackError, unpack

__all__ = ["Fetched", "Limits", "NotModified", "content_hash_of", "fetch"]


class Fetched(NamedTuple):
    """A list as it was fetched."""

    data: bytes
    """Unpacked."""
    etag: str | None
    last_modified: str | None
    content_hash: str
    """SHA-256 of the data, in hexadecimal."""


async def fetch(
    location: str,
    *,
    base: Path,
    allow_private: bool = False,
    etag: str | None = None,
    last_modified: str | None = None,
    limits: Limits = Limits(),  # noqa: B008 - immutable
) -> Fetched | NotModified:
    """Fetch a list from an http or https URL, or from a file; a relative path starts at `base`.

    The etag and last_modified are those of the last fetch: with them the answer may be `NotModified`. Raises
    `FetchError`.
    """
    if "://" not in location:
        packed = await asyncio.to_thread(_read_file, location, base, limits)
        return await asyncio.to_thread(_unpacked, location, packed, limits)
    shown, url = _url(location)
    conditions = {"If-None-Match": etag, "If-Modified-Since": last_modified}
    given = {header: value for header, value in conditions.items() if value}
    answer = await Download(shown, url, given, allow_private, limits).run()
    if isinstance(answer, NotModified):
        return answer
    fetched = await asyncio.to_thread(_unpacked, shown, answer.data, limits)
    return fetched._replace(etag=answer.etag, last_modified=answer.last_modified)


def content_hash_of(data: bytes) -> str:
    """Return what tells a list's content from another's."""
    return hashlib.sha256(data).hexdigest()


def _unpacked(location: str, packed: bytes, limits: Limits) -> Fetched:
    try:
        data = unpack(packed, limits.content_bytes)
    except UnpackedTooLargeError as error:
        raise TooLargeError(location, str(error)) from error
    except UnpackError as error:
        raise RemoteError(location, str(error)) from error
    if len(data) > limits.content_bytes:
        raise TooLargeError(location, f"it is larger than {limits.content_bytes:,} bytes")
    return Fetched(data, None, None, content_hash_of(data))


def _read_file(location: str, base: Path, limits: Limits) -> bytes:
    try:
        path = base / location
        if not path.is_file():  # nor a pipe, which might never end
            raise LocationError(location, "it is not a file" if path.exists() else "there is no such file")
        with path.open("rb") as file:
            data = file.read(limits.download_bytes + 1)
    except (OSError, ValueError) as error:
        raise LocationError(location, getattr(error, "strerror", None) or str(error)) from error
    if len(data) > limits.download_bytes:
        raise TooLargeError(location, f"it is larger than {limits.download_bytes:,} bytes")
    return data


def _url(location: str) -> tuple[str, URL]:
    """Return a URL as it may be shown, without its password, and as it is fetched."""
    try:
        url = URL(location)
        host, shown = url.host, str(url.with_user(None)) if url.user else location
    except ValueError as error:
        raise LocationError(location, f"it is not a URL ({error})") from error
    if url.scheme not in {"http", "https"}:
        raise LocationError(shown, "only http and https URLs and files can be fetched")
    if not host:
        raise LocationError(shown, "the URL names no host")
    return shown, url
