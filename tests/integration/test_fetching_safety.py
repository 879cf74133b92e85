"""Fetching lists: which addresses are connected to, which redirects are followed, which servers are trusted."""

import socket
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web

from blocklists import destinations
from blocklists.errors import LocationError, RemoteError
from blocklists.fetching import Fetched
from tests.support.certificates import Authority
from tests.support.publisher import LIST, answering, failure, get, sending, serving, speaking

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
    assert "the server can't be trusted (its certificate is for another address" in error.reason


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
