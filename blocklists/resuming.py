"""Resuming a download that broke off, so that what comes of it is one version of the list and never a mix of two.

A further request asks for what is missing on the condition that the list is still the same, and what the server then
says of itself is not believed without its proof. Pure: reads headers, holds octets, asks nobody.
"""

import io
import re
from collections.abc import Mapping
from typing import NamedTuple

from yarl import URL

from blocklists.retrying import http_date

# RFC 9110 section 14.4. A total that the server doesn't know ("*") can't tell the end from another break.
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", re.ASCII | re.IGNORECASE)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')  # section 8.8.3
_LENGTH = re.compile(r"\d{1,15}", re.ASCII)
_CLOCKS_APART = 60
"""Seconds after which a list that changes again gets another date, however the server's clocks go."""


class _Version(NamedTuple):
    """The version of a list that a download began with."""

    url: URL
    """Where it came from in the end, without a query, which may be a signature that differs each time."""
    header: str
    """ETag or Last-Modified, whichever tells it from all other versions."""
    validator: str
    encoding: str


class Received:
    """What has come of a download so far, over however many requests."""

    def __init__(self) -> None:
        self._body = io.BytesIO()
        self._version: _Version | None = None
        self.total: int | None = None
        """How many octets there are, as far as the server says."""
        self.end: int | None = None
        """How many there should be once the present answer is at its end."""

    @property
    def size(self) -> int:
        """How many octets have come."""
        return self._body.tell()

    def forget(self) -> None:
        """Let go of everything."""
        self._body = io.BytesIO()
        self._version = None
        self.total = self.end = None

    def conditions(self, url: URL) -> dict[str, str]:
        """Return the headers that ask a URL for what is missing, none where all must come anew.

        RFC 9110 section 13.1.5: should the list have changed, the answer is the whole of it.
        """
        version = self._version
        if version is None or not self.size or version.url != _without_query(url):
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": version.validator}

    def start(self, url: URL, headers: Mapping[str, str], now: float) -> None:
        """Begin with the headers of a whole list; the time is in seconds since the epoch."""
        self.forget()
        length = headers.get("Content-Length", "").strip()
        self.total = self.end = int(length) if _LENGTH.fullmatch(length) else None
        found = _validator(headers, now)
        if found and headers.get("Accept-Ranges", "").strip().lower() != "none":
            self._version = _Version(_without_query(url), *found, _encoding(headers))

    def resume(self, headers: Mapping[str, str]) -> bool:
        """Go on with the headers of a 206; False, and nothing is done, where they aren't those of what is missing.

        RFC 9110 section 15.3.7 lets parts be put together only where a strong validator is the same.
        """
        version = self._version
        found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if version is None or found is None:
            return False
        first, last, total = map(int, found.groups())
        if (
            self.size == first <= last < total
            and self.total in {None, total}
            and headers.get("Content-Length", "").strip() in {"", str(last - first + 1)}
            and headers.get(version.header, "").strip() == version.validator
            and ("Content-Encoding" not in headers or _encoding(headers) == version.encoding)
        ):
            self.total, self.end = total, last + 1
            return True
        return False

    def add(self, chunk: bytes) -> None:
        """Take the next octets."""
        self._body.write(chunk)

    def value(self) -> bytes:
        """Return what has come."""
        return self._body.getvalue()


def _validator(headers: Mapping[str, str], now: float) -> tuple[str, str] | None:
    """Return the name and value of the header that tells one version from every other, None where there is none.

    RFC 9110 section 13.1.5 forbids a weak tag, and a date beside any tag; section 8.8.2.2 a date so recent that two
    versions may share it.
    """
    etag = headers.get("ETag", "").strip()
    if etag:
        return ("ETag", etag) if _STRONG_ETAG.fullmatch(etag) else None
    text = headers.get("Last-Modified", "").strip()
    modified, sent = http_date(text), http_date(headers.get("Date", ""))
    if modified is None or (now if sent is None else sent) - modified < _CLOCKS_APART:
        return None
    return "Last-Modified", text


def _encoding(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Encoding", "identity").strip().lower()


def _without_query(url: URL) -> URL:
    return url.with_user(None).with_query(None).with_fragment(None)
