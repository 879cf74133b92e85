"""Fetching lists from real servers on loopback, and from files: what arrives, and what goes wrong."""

import asyncio
import gzip
import hashlib
import os
import socket
from pathlib import Path

import pytest
from aiohttp import web

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
from blocklists.requesting import USER_AGENT
from tests.support.publisher import LIST, NOWHERE, answering, failure, get, sending, serving, speaking

# What arrives


async def test_list_is_fetched_whole_with_what_tells_its_version() -> None:
    headers = {"ETag": '"1"', "Last_Modified": "Tue, 24 Nov 2026 10:00:00 GMT"}
    async with serving(sending(LIST, **headers)) as url:
        location = f"{url}/list.txt"
        fetched = await get(location)
    since = "Tue, 24 Nov 2026 10:00:00 GMT"
    assert fetched == Fetched(LIST, '"1"', since, hashlib.sha256(LIST).hexdigest(), location)


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
    ids=["a gzip file", "gzip", "a gzip file in gzip", "identity", "some octets"],  # gzip's octets hold the time
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
        assert await get(url, etag='"1"', last_modified=since) == NotModified(url)
        fetched = await get(url, etag='"0"', last_modified=since)
    assert isinstance(fetched, Fetched)
    assert fetched.etag == '"2"'


async def test_not_modified_is_no_answer_to_who_has_nothing() -> None:
    async with serving(answering(304)[0]) as url:
        error = await failure(f"{url}/")
    assert isinstance(error, RemoteError)
    assert error.reason == "the server answered 304 Not Modified"


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
    assert error.reason == "it is cut short"


async def test_encoding_that_was_not_asked_for_is_refused() -> None:
    async with serving(sending(LIST, Content_Encoding="br")) as url:
        error = await failure(f"{url}/")
    assert isinstance(error, RemoteError)
    assert error.reason == "the server sent it as 'br', which it was not asked for"


# Files


async def test_relative_path_starts_at_the_base(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.gz").write_bytes(gzip.compress(LIST))
    for location, base in {
        "lists/a.gz": tmp_path,
        "./lists/a.gz": tmp_path,
        str(tmp_path / "lists" / "a.gz"): NOWHERE,
    }.items():
        expected = Fetched(LIST, None, None, hashlib.sha256(LIST).hexdigest(), location)
        assert await fetch(location, base=base) == expected


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
