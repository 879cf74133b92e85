"""Fetching lists from real servers on loopback, and from files: what is sent, what is refused, what goes wrong."""

import asyncio
import gzip
import hashlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web

from blocklists import destinations
from blocklists.downloading import USER_AGENT
from blocklists.errors import (
    BlocklistError,
    BusyError,
    FetchError,
    LocationError,
    RemoteError,
    TooLargeError,
    UnreachableError,
)
from blocklists.fetching import Fetched, Limits, NotModified, fetch
from tests.support.certificates import Authority

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
        try:
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
            if hold:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client had enough
        finally:
            writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def get(url: str, limits: Limits = QUICK, **options: str) -> Fetched | NotModified:
    return await fetch(url, base=NOWHERE, allow_private=True, limits=limits, **options)


async def failure(url: str, limits: Limits = QUICK, *, allow_private: bool = True) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetch(url, base=NOWHERE, allow_private=allow_private, limits=limits)
    assert str(caught.value).startswith(f"{url} could not be fetched: ")
    assert "\n" not in str(caught.value)
    return caught.value


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


# What arrives


async def test_list_is_fetched_whole_with_what_tells_its_version() -> None:
    headers = {"ETag": '"1"', "Last_Modified": "Tue, 24 Nov 2026 10:00:00 GMT"}
    async with serving(sending(LIST, **headers)) as url:
        fetched = await get(f"{url}/list.txt")
    assert fetched == Fetched(LIST, '"1"', "Tue, 24 Nov 2026 10:00:00 GMT", hashlib.sha256(LIST).hexdigest())


async def test_request_says_who_asks() -> None:
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(body=LIST)

    async with serving(handler) as url:
        await get(f"{url}/a/list.txt?x=1")
    assert seen[0].headers["User-Agent"] == USER_AGENT
    assert USER_AGENT.startswith("hallmonitor/")
    assert seen[0].path_qs == "/a/list.txt?x=1"
    assert "If-None-Match" not in seen[0].headers


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(LIST), {}),
        (gzip.compress(LIST), {"Content_Encoding": "gzip"}),
        (gzip.compress(gzip.compress(LIST)), {"Content_Encoding": "gzip"}),
        (LIST, {"Content_Encoding": "identity"}),
        (LIST, {"Content_Type": "application/octet-stream"}),
    ],
)
async def test_packed_list_is_unpacked_however_the_server_calls_it(body: bytes, headers: dict[str, str]) -> None:
    async with serving(sending(body, **headers)) as url:
        fetched = await get(f"{url}/list")
    assert isinstance(fetched, Fetched)
    assert fetched.data == LIST
    assert fetched.content_hash == hashlib.sha256(LIST).hexdigest()


async def test_empty_list_is_for_others_to_judge() -> None:
    async with serving(sending(b"")) as url:
        fetched = await get(url)
    assert isinstance(fetched, Fetched)
    assert fetched.data == b""


async def test_list_that_did_not_change_is_not_sent_again() -> None:
    async def handler(request: web.Request) -> web.Response:
        same = request.headers.get("If-None-Match") == '"1"'
        assert request.headers.get("If-Modified-Since") == "Tue, 24 Nov 2026 10:00:00 GMT"
        return web.Response(status=304) if same else web.Response(body=LIST, headers={"ETag": '"2"'})

    since = "Tue, 24 Nov 2026 10:00:00 GMT"
    async with serving(handler) as url:
        assert await get(url, etag='"1"', last_modified=since) == NotModified()
        fetched = await get(url, etag='"0"', last_modified=since)
    assert isinstance(fetched, Fetched)
    assert fetched.etag == '"2"'


async def test_not_modified_is_no_answer_to_who_has_nothing() -> None:
    async with serving(answering(304)[0]) as url:
        error = await failure(f"{url}/")
    assert isinstance(error, RemoteError)
    assert error.reason == "the server answered 304 Not Modified"


# Redirects


async def test_redirects_are_followed() -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/list":
            return web.Response(body=LIST)
        left = int(request.path[1:])
        where = f"/{left - 1}" if left > 1 else f"http://{request.host}/list"
        return web.Response(status=[301, 302, 303, 307, 308][left % 5], headers={"Location": where})

    async with serving(handler) as url:
        fetched = await get(f"{url}/5")
        assert isinstance(fetched, Fetched)
        assert fetched.data == LIST
        error = await failure(f"{url}/6")
    assert isinstance(error, RemoteError)
    assert error.reason == "the server redirects more than 5 times"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "the server redirects to no URL"),
        ({"Location": "file:///etc/hostname"}, "the server redirects to what is no http or https URL (file:)"),
        ({"Location": "ftp://lists.example/"}, "the server redirects to what is no http or https URL (ftp:)"),
        ({"Location": "http://[::1"}, "the server redirects to no URL"),
    ],
)
async def test_redirect_to_something_else_is_refused(headers: dict[str, str], reason: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=302, headers=headers)

    async with serving(handler) as url:
        error = await failure(f"{url}/")
    assert isinstance(error, RemoteError)
    assert error.reason == reason


# Where it may go


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
async def test_private_address_is_refused_before_anything_is_sent(host: str) -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=LIST)

    async with serving(handler) as url:
        error = await failure(f"http://{host}:{url.rpartition(':')[2]}/", allow_private=False)
    assert isinstance(error, LocationError)
    assert "is not on the public internet; allow private addresses for it if that is meant" in error.reason
    assert asked == []


@pytest.mark.parametrize("host", ["127.0.0.9", "localhost", "169.254.169.254", "[fd00:ec2::254]", "10.1.2.3"])
async def test_redirect_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """The first hop must pass for public, so the test's own address is taken from the table of those that aren't."""
    networks = [network for network in destinations._SPECIAL_IPV4 if network != ip_network("127.0.0.0/8")]
    monkeypatch.setattr(destinations, "_SPECIAL_IPV4", (*networks, ip_network("127.0.0.8/29")))
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.10", 80))]
    )
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": f"http://{host}:{request.url.port}/secret"})

    async with serving(handler) as url:
        error = await failure(f"{url}/list", allow_private=False)
    assert isinstance(error, LocationError)
    assert "is not on the public internet" in error.reason
    assert host in error.reason or f"[{error.reason.split()[0]}]" == host
    assert asked == ["/list"]


async def test_name_that_moves_to_a_private_address_is_checked_at_each_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: the first answer passes, the second is loopback."""
    networks = [network for network in destinations._SPECIAL_IPV4 if network != ip_network("127.0.0.0/8")]
    monkeypatch.setattr(destinations, "_SPECIAL_IPV4", (*networks, ip_network("127.0.0.8/29")))
    answers = iter(["127.0.0.1", "127.0.0.9"])
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda _, port, *__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))],
    )
    handler, sent = answering(503)
    async with serving(handler) as url:
        error = await failure(f"http://lists.example:{url.rpartition(':')[2]}/", allow_private=False)
    assert isinstance(error, LocationError)
    assert "lists.example (127.0.0.9) is not on the public internet" in error.reason
    assert sent == [503]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("ftp://lists.example/list", "only http and https URLs and files can be fetched"),
        ("file:///etc/hostname", "only http and https URLs and files can be fetched"),
        ("gopher://127.0.0.1:1/", "only http and https URLs and files can be fetched"),
        ("http:///list", "the URL names no host"),
    ],
)
async def test_other_schemes_are_refused(location: str, reason: str) -> None:
    error = await failure(location)
    assert isinstance(error, LocationError)
    assert error.reason == reason


@pytest.mark.parametrize(
    "location",
    ["http://[::1/", "http://a..example/", "http://lists.example:99999/", "http://127.1/", "http://2130706433/"],
)
async def test_malformed_url_is_refused(location: str) -> None:
    assert isinstance(await failure(location), LocationError)


async def test_password_of_a_url_is_sent_and_never_shown() -> None:
    seen: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=403)

    async with serving(handler) as url:
        with pytest.raises(RemoteError) as caught:
            await get(url.replace("//", "//someone:secret@") + "/list")
    assert seen == ["Basic c29tZW9uZTpzZWNyZXQ="]
    assert str(caught.value) == f"{url}/list could not be fetched: the server answered 403 Forbidden"


# TLS


async def test_certificate_must_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("lists.example", "127.0.0.1")
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + LIST
    async with speaking(answer, tls=identity.server_context()) as host:
        error = await failure(f"https://{host}/")
        assert isinstance(error, RemoteError)
        assert "the server can't be trusted" in error.reason
        assert "certificate" in error.reason
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        fetched = await get(f"https://{host}/")
    assert isinstance(fetched, Fetched)
    assert fetched.data == LIST


async def test_certificate_must_be_for_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    identity = authority.issue("other.example", "192.0.2.1")
    async with speaking(b"", tls=identity.server_context()) as host:
        error = await failure(f"https://{host}/")
    assert isinstance(error, RemoteError)
    assert "the server can't be trusted (IP address mismatch" in error.reason


async def test_redirect_from_https_to_http_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    context = authority.issue("lists.example", "127.0.0.1").server_context()
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"
    async with speaking(answer, tls=context) as host:
        error = await failure(f"https://{host}/")
    assert error.reason == "the server redirects from https to http (127.0.0.1)"


async def test_plain_server_is_no_tls_server() -> None:
    async with serving(sending(LIST)) as url:
        error = await failure(url.replace("http:", "https:") + "/")
    assert isinstance(error, RemoteError)
    assert "the server can't be trusted" in error.reason


# Servers in trouble


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_busy_server_is_asked_again(status: int) -> None:
    handler, sent = answering(status, status, 200)
    async with serving(handler) as url:
        fetched = await get(url)
    assert isinstance(fetched, Fetched)
    assert sent == [status, status, 200]


async def test_busy_server_is_given_up_after_the_last_try() -> None:
    handler, sent = answering(503)
    async with serving(handler) as url:
        error = await failure(f"{url}/")
    assert isinstance(error, BusyError)
    assert error.reason == "the server answered 503 Service Unavailable"
    assert len(sent) == 3


@pytest.mark.parametrize("status", [204, 206, 400, 403, 404, 410, 451, 499])
async def test_other_answers_are_final(status: int) -> None:
    handler, sent = answering(status)
    async with serving(handler) as url:
        error = await failure(f"{url}/")
    assert isinstance(error, RemoteError)
    assert error.reason.startswith(f"the server answered {status}")
    assert len(sent) == 1


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        error = await failure(f"http://{host}/")
    assert isinstance(error, UnreachableError)
    assert error.reason == f"no connection to {host} (Connection refused)"


async def test_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def getaddrinfo(host: str, *_: object) -> list[object]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    error = await failure("https://lists.example/list.txt", allow_private=False)
    assert isinstance(error, UnreachableError)
    assert error.reason == "the name lists.example does not resolve"
    assert asked == ["lists.example"] * 3


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="nothing at all"),
        pytest.param([b"HTTP/1.1 200 OK\r\nContent-Le"], id="half a head"),
        pytest.param([b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", LIST], id="less than it said"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n", LIST], id="chunks without an end"
        ),
    ],
)
async def test_server_that_hangs_up_early_sent_no_list(parts: list[bytes]) -> None:
    async with speaking(*parts) as host:
        error = await failure(f"http://{host}/")
    assert isinstance(error, UnreachableError)
    assert error.reason == "the connection broke off"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.0\r\n\r\n",
        b"\x16\x03\x01\x00\xff",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
async def test_server_that_speaks_no_http(answer: bytes) -> None:
    async with speaking(answer) as host:
        error = await failure(f"http://{host}/")
    assert isinstance(error, (RemoteError, UnreachableError))


async def test_more_than_was_announced_is_never_taken_for_the_list() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n"
    async with speaking(head + LIST) as host:
        error = await failure(f"http://{host}/")
    assert isinstance(error, RemoteError)
    assert error.reason.startswith("the server's answer is not proper HTTP")


@pytest.mark.parametrize(
    "parts", [[], [b"HTTP/1.1 200 OK\r\nContent-"], [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", LIST]]
)
async def test_server_that_falls_silent_is_left(parts: list[bytes]) -> None:
    async with speaking(*parts, hold=True) as host:
        error = await failure(f"http://{host}/", Limits(idle_seconds=0.05, delays=()))
    assert isinstance(error, UnreachableError)
    assert error.reason == "nothing came for 0.05 seconds"


async def test_server_that_goes_on_for_ever_is_left() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"a.example\n")
            await asyncio.sleep(0.01)

    async with serving(handler) as url:
        error = await failure(f"{url}/", Limits(total_seconds=0.2, delays=()))
    assert isinstance(error, UnreachableError)
    assert error.reason == "it took over 0.2 seconds"


# Limits of size


SMALL = Limits(download_bytes=1000, content_bytes=5000, delays=())


async def test_list_larger_than_the_limit_is_not_downloaded() -> None:
    async with serving(sending(bytes(1001))) as url:
        error = await failure(f"{url}/", SMALL)
    assert isinstance(error, TooLargeError)
    assert error.reason == "it is larger than 1,000 bytes"


async def test_list_of_unknown_size_is_cut_off_at_the_limit() -> None:
    sent: list[int] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100_000):
            await response.write(b"x" * 1000)
            sent.append(1000)
        return response

    async with serving(handler) as url:
        error = await failure(f"{url}/", SMALL)
    assert isinstance(error, TooLargeError)
    assert sum(sent) < 50_000_000  # what the kernel's buffers took, of a hundred million


async def test_list_as_large_as_the_limit_is_taken() -> None:
    async with serving(sending(b"x" * 1000)) as url:
        fetched = await get(url, SMALL)
    assert isinstance(fetched, Fetched)
    assert len(fetched.data) == 1000


@pytest.mark.parametrize("headers", [{}, {"Content_Encoding": "gzip"}])
async def test_bomb_is_refused(headers: dict[str, str]) -> None:
    async with serving(sending(gzip.compress(bytes(5001)), **headers)) as url:
        error = await failure(f"{url}/", SMALL)
    assert isinstance(error, TooLargeError)
    assert error.reason == "it unpacks to more than 5,000 bytes"


async def test_damaged_archive_is_refused() -> None:
    async with serving(sending(gzip.compress(LIST)[:-4])) as url:
        error = await failure(f"{url}/", SMALL)
    assert isinstance(error, RemoteError)
    assert error.reason.startswith("it is damaged (")


async def test_encoding_that_was_not_asked_for_is_refused() -> None:
    async with serving(sending(LIST, Content_Encoding="br")) as url:
        error = await failure(f"{url}/")
    assert isinstance(error, RemoteError)
    assert error.reason == "the server sent it as br, which it was not asked for"


# Files


async def test_relative_path_starts_at_the_base(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.gz").write_bytes(gzip.compress(LIST))
    expected = Fetched(LIST, None, None, hashlib.sha256(LIST).hexdigest())
    assert await fetch("lists/a.gz", base=tmp_path) == expected
    assert await fetch("./lists/a.gz", base=tmp_path) == expected
    assert await fetch(str(tmp_path / "lists" / "a.gz"), base=NOWHERE) == expected


async def test_file_is_read_again_whatever_is_known_of_it(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(LIST)
    assert isinstance(await fetch("list", base=tmp_path, etag='"1"', last_modified="x"), Fetched)


async def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for location, reason in {
        "missing": "there is no such file",
        "directory": "it is not a file",
        "pipe": "it is not a file",
        "": "it is not a file",
        "/dev/zero": "it is not a file",
        "x" * 300: "File name too long",
    }.items():
        with pytest.raises(LocationError) as caught:
            await fetch(location, base=tmp_path)
        assert caught.value.reason == reason
    with pytest.raises(LocationError):
        await fetch("a\0b", base=tmp_path)


async def test_file_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(bytes(1001))
    with pytest.raises(TooLargeError, match="list could not be fetched: it is larger than 1,000 bytes"):
        await fetch("list", base=tmp_path, limits=SMALL)
    (tmp_path / "bomb").write_bytes(gzip.compress(bytes(5001)))
    with pytest.raises(TooLargeError, match="it unpacks to more than 5,000 bytes"):
        await fetch("bomb", base=tmp_path, limits=SMALL)


def test_every_failure_is_one_of_the_package() -> None:
    for error in (LocationError, UnreachableError, RemoteError, BusyError, TooLargeError):
        assert issubclass(error, FetchError)
    assert issubclass(FetchError, BlocklistError)
