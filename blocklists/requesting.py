"""One request over HTTP, and where it leads: redirects followed, each hop checked, TLS verified, times limited.

Redirects are followed here rather than by the library, so that none leads where it mustn't. What the library raises
is translated here, once. Knows nothing of tries, of conditions, or of what the body is.
"""

import asyncio
import errno
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import NamedTuple

import aiohttp
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from blocklists.destinations import ForbiddenAddressError, PublicResolver, check, literal
from blocklists.errors import LocationError, RemoteError, UnreachableError
from blocklists.limits import Limits

USER_AGENT = f"hallmonitor/{version('dns-hallmonitor')}"

_REDIRECTS = frozenset({301, 302, 303, 307, 308})  # RFC 9110 section 15.4
# The codes of OpenSSL's verification (x509_vfy.h) that administrators meet, in words that say what to do about it.
_CERTIFICATES = {
    9: "its certificate is not valid yet: is the clock here right?",
    10: "its certificate has expired",
    18: "its certificate is self-signed",
    19: "its certificate comes from an authority that is not trusted here",
    20: "its certificate comes from an authority that is not trusted here",
    62: "its certificate is for another host name",
    64: "its certificate is for another address",
}

HeadersFor = Callable[[URL], Mapping[str, str]]
"""Gives the headers to send to a URL."""


class Answer(NamedTuple):
    """What a server answers, once no redirect is left."""

    url: URL
    sent: Mapping[str, str]
    """The headers that were sent to this URL."""
    response: aiohttp.ClientResponse


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests for one list; `shown` is its location without a password, for messages."""

    shown: str
    allow_private: bool
    limits: Limits
    _session: aiohttp.ClientSession

    @classmethod
    @asynccontextmanager
    async def opened(cls, shown: str, limits: Limits, *, allow_private: bool) -> AsyncIterator["Requests"]:
        """Hold connections open meanwhile."""
        connector = aiohttp.TCPConnector(
            resolver=ThreadedResolver() if allow_private else PublicResolver(),
            use_dns_cache=False,
            ssl=await asyncio.to_thread(ssl.create_default_context),  # made anew, so that SSL_CERT_FILE counts
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=limits.connect_seconds, sock_read=limits.idle_seconds),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"},
            auto_decompress=False,  # what comes out is counted, in `unpacking`
        ) as session:
            yield cls(shown, allow_private, limits, session)

    @asynccontextmanager
    async def get(self, url: URL, headers_for: HeadersFor) -> AsyncIterator[Answer]:
        """Give the answer to a GET, its body to be read meanwhile. Raises `FetchError`, also for that reading."""
        with self._translated():
            for _ in range(self.limits.redirects + 1):
                self._check(url)
                sent = headers_for(url)
                async with self._session.get(url, headers=sent, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS:
                        yield Answer(url, sent, response)
                        return
                    url = self._redirected(url, response)
        raise RemoteError(self.shown, f"the server redirects more than {self.limits.redirects} times")

    def _check(self, url: URL) -> None:
        """Check a host that is an address: the library asks no resolver about it."""
        address = literal(url.host or "")
        if address is not None and not self.allow_private:
            check(address, address)

    def _redirected(self, start: URL, response: aiohttp.ClientResponse) -> URL:
        try:
            url = start.join(URL(response.headers["Location"]))
            host = url.host
        except (KeyError, ValueError) as error:
            raise RemoteError(self.shown, "the server redirects to no URL") from error
        if url.scheme not in {"http", "https"} or not host:
            raise RemoteError(self.shown, f"the server redirects to what is no http or https URL ({url.scheme}:)")
        if start.scheme == "https" and url.scheme == "http":
            raise RemoteError(self.shown, f"the server redirects from https to http ({host})")
        if start.user and not url.user and url.origin() == start.origin():
            return url.with_user(start.user).with_password(start.password)  # what opened the first opens the next
        return url

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
            raise RemoteError(self.shown, f"the server can't be trusted ({_distrust(error)})") from error
        except aiohttp.ClientConnectorError as error:
            where = f"{error.host}:{error.port}"
            raise UnreachableError(self.shown, f"no connection to {where} ({_reason(error)})") from error
        except (aiohttp.InvalidURL, UnicodeError) as error:  # the latter from the resolver
            raise LocationError(self.shown, "it is not a URL with a host") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise UnreachableError(self.shown, "the connection broke off") from error
        except aiohttp.ClientError as error:
            raise RemoteError(self.shown, f"the server's answer is not proper HTTP ({type(error).__name__})") from error


def _distrust(error: aiohttp.ClientSSLError) -> str:
    cause = error.os_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _CERTIFICATES.get(cause.verify_code, cause.verify_message)
    return str(getattr(cause, "reason", None) or cause)


def _reason(error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    if isinstance(cause, ConnectionResetError):  # which asyncio raises without its number
        return os.strerror(errno.ECONNRESET)
    return os.strerror(cause.errno) if cause.errno else str(cause)
