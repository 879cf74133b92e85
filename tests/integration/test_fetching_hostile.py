"""Publishers that mean harm, or are broken in ways that look like it: every one ends in one clear sentence, in time."""

import random
import socket
import ssl
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from itertools import repeat
from pathlib import Path

import pytest

from blocklists import destinations
from blocklists.errors import FetchError, LocationError, NotAListError, RemoteError, TooLargeError, UnreachableError
from blocklists.fetching import Fetched, Limits, fetch
from tests.support.certificates import Authority, Identity
from tests.support.hostile import HASTY, Asked, Reply, cut, head, hostile, part, whole
from tests.support.packing import tarred, zipped, zstd
from tests.support.publisher import LIST, NOWHERE, failure, get

OLD, NEW = b"old.example\n" * 3000, b"new.example\n" * 3000  # of one size, so that only their tags differ
ONCE = Limits(delays=(), connect_seconds=5, idle_seconds=5, total_seconds=20)

# Silence and dawdling


async def test_host_that_takes_no_connection_is_left() -> None:
    """Its queue is full: further calls are neither taken nor refused."""
    with socket.socket() as listening, ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            caller = waiting.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listening.getsockname())
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        error = await failure(url, Limits(connect_seconds=0.05, delays=(0,)))
    assert isinstance(error, UnreachableError)
    assert error.reason == "no connection within 0.05 seconds"


async def test_host_that_takes_a_connection_and_never_speaks_tls_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/"
        error = await failure(url, Limits(connect_seconds=0.05, delays=()))
    assert isinstance(error, UnreachableError)
    assert error.reason == "no connection within 0.05 seconds"


def drip(octets: bytes) -> Iterator[bytes]:
    yield from (octets[position : position + 1] for position in range(len(octets)))
    yield from repeat(b"x")


@pytest.mark.parametrize(
    "octets", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"]
)
async def test_server_that_drips_is_left_in_the_end(octets: bytes) -> None:
    """Never silent for long enough to be called silent."""
    async with hostile(lambda _: Reply(drip(octets), pause=0.005)) as server:
        error = await failure(f"{server.url}/", Limits(total_seconds=0.3, idle_seconds=5))
    assert isinstance(error, UnreachableError | RemoteError)
    if octets:
        assert error.reason == "it took over 0.3 seconds"


# No proper HTTP


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, id="a header without an end"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000 + b"\r\n", id="ten thousand headers"),
        pytest.param(b"HTTP/1.1 200 " + b"x" * 100_000, id="a status line without an end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", id="no header"),
        pytest.param(b"HTTP/1.1 999999 OK\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/9.9 200 OK\r\n\r\n" + LIST, id="no version"),
        pytest.param(b"\0" * 1000, id="zeros"),
        pytest.param(head(200, "Content-Length: -1") + LIST, id="a length below zero"),
        pytest.param(head(200, "Content-Length: 2", "Content-Length: 20") + LIST, id="two lengths"),
        pytest.param(head(200, "Content-Length: 0x14") + LIST, id="a length that is no number"),
        pytest.param(head(200, "Content-Length: " + "9" * 30) + LIST, id="a length beyond all numbers"),
        pytest.param(
            head(200, "Content-Length: 20", "Transfer-Encoding: chunked") + b"2\r\na.\r\n0\r\n\r\n",
            id="a length and chunks",
        ),
        pytest.param(head(200, "Transfer-Encoding: chunked") + b"-5\r\n" + LIST, id="a chunk of size below zero"),
        pytest.param(head(200, "Transfer-Encoding: chunked") + b"5\r\nabcdefgh\r\n0\r\n\r\n", id="a chunk too long"),
        pytest.param(head(200, "Transfer-Encoding: chunked") + b"f" * 40 + b"\r\n", id="a chunk beyond all numbers"),
        pytest.param(head(200, "Transfer-Encoding: chunked") + b"5;" + b"x" * 100_000, id="an extension without end"),
        pytest.param(head(101, "Upgrade: websocket"), id="another protocol"),
        pytest.param(head(100) * 3, id="nothing but a go-ahead"),
    ],
)
async def test_improper_answer_is_no_list(answer: bytes) -> None:
    async with hostile(lambda _: Reply([answer])) as server:
        error = await failure(f"{server.url}/", ONCE)
    assert isinstance(error, RemoteError | UnreachableError)


@pytest.mark.parametrize(
    ("beginning", "more"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-%d: x\r\n" % 1 * 1000),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 10_000),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 100),
        (head(200, "Transfer-Encoding: chunked"), b"1;" + b"x" * 10_000),
        (head(200, "Transfer-Encoding: chunked") + b"0\r\n", b"X: x\r\n" * 1000),
    ],
    ids=["headers", "a header", "hints", "a chunk's extension", "trailers"],
)
async def test_flood_takes_neither_memory_nor_for_ever(beginning: bytes, more: bytes) -> None:
    async with hostile(lambda _: Reply([beginning, *repeat(more, 4000)])) as server:
        tracemalloc.start()
        try:
            error = await failure(f"{server.url}/", Limits(total_seconds=1, delays=()))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert isinstance(error, RemoteError | UnreachableError)
    assert peak < 20 << 20


async def test_body_of_a_redirect_or_an_error_is_not_read() -> None:
    def script(asked: Asked) -> Reply:
        if asked.path == "/list":
            return Reply([head(302, "Location: /there", "Content-Length: 100000000")], hold=True)
        return Reply([head(404, "Content-Length: 100000000")], hold=True)

    async with hostile(script) as server:
        error = await failure(f"{server.url}/list")
    assert error.reason == "the server answered 404 Not Found"


async def test_redirects_in_a_circle_end() -> None:
    async with hostile(lambda _: Reply([head(301, "Location: /list", "Content-Length: 0")])) as server:
        error = await failure(f"{server.url}/list")
    assert error.reason == "the server redirects more than 5 times"
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "location",
    [
        *("", "http://", "//", "http:///x", "http://:80/", "javascript:alert(1)", "data:,a.example", "\x1b[2J://x"),
        *("gopher://127.0.0.1:6379/_FLUSHALL", "http://a..example/", "http://[::1", "http://127.0.0.1:99999/"),
    ],
)
async def test_redirect_to_no_place_is_refused(location: str) -> None:
    async with hostile(lambda _: Reply([head(302, f"Location: {location}", "Content-Length: 0")])) as server:
        error = await failure(f"{server.url}/list", ONCE)
    assert isinstance(error, RemoteError | LocationError | UnreachableError)
    assert str(error).isprintable()


async def test_noise_is_never_more_than_an_error() -> None:
    """Good answers in which octets went wrong: a list, or one of our errors."""
    chance = random.Random(7)
    good = [b"".join(whole(LIST, 'ETag: "1"')), head(200, "Transfer-Encoding: chunked") + b"14\r\n" + LIST]
    good += [head(302, "Location: /list", "Content-Length: 0"), head(503, "Content-Length: 0")]

    def script(_: Asked) -> Reply:
        octets = bytearray(chance.choice(good))
        for _count in range(chance.randrange(1, 8)):
            octets[chance.randrange(len(octets))] = chance.randrange(256)
        return Reply([bytes(octets)])

    async with hostile(script) as server:
        for _ in range(100):
            try:
                fetched = await get(f"{server.url}/list", HASTY)
            except (FetchError, NotAListError) as error:
                assert str(error).isprintable()  # noqa: PT017 - either is right
            else:
                assert isinstance(fetched, Fetched)


async def test_two_versions_are_never_mixed_whatever_a_server_says_of_its_parts() -> None:
    """A server may say anything but that the new list is the old one."""
    chance = random.Random(5)
    tags = ((), (), ('ETag: "2"',), ('ETag: W/"1"',), ("ETag: 1",), ("Last-Modified: Tue, 24 Nov 2020 10:00:00 GMT",))

    def script(asked: Asked) -> Reply:
        if asked.number % 3 == 0:
            return Reply(cut(whole(OLD, 'ETag: "1"'), len(OLD) // 2))
        if "range" not in asked.headers:
            return Reply(whole(NEW, 'ETag: "2"'))
        start = asked.start + chance.choice((0, 0, 0, -1, 1))
        last, total = (chance.choice((len(NEW), len(NEW), len(NEW) + 1, start)) for _ in range(2))
        lines = (f"Content-Range: bytes {start}-{last - 1}/{total}", *chance.choice(tags))
        return Reply([head(chance.choice((200, 206, 206, 206, 416)), *lines) + NEW[start:]])

    async with hostile(script) as server:
        for _ in range(60):
            try:
                fetched = await get(f"{server.url}/list", HASTY)
            except FetchError:
                continue
            assert isinstance(fetched, Fetched)
            assert b"old" not in fetched.data


# Bombs


SMALL = Limits(download_bytes=100_000, content_bytes=100_000, delays=())
ZEROS = bytes(8 << 20)


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(zstd(ZEROS), id="zstd"),
        pytest.param(zstd(zstd(ZEROS)), id="zstd in zstd"),
        pytest.param(zipped({"list.txt": ZEROS}), id="zip"),
        pytest.param(zipped({f"{number}": bytes(90_000) for number in range(9)}), id="zip of several"),
        pytest.param(zstd(tarred({"list.txt": ZEROS})), id="tar.zst"),
        pytest.param(zstd(tarred({f"{number}": b"" for number in range(500)})), id="tar.zst of nothing but names"),
    ],
)
async def test_bomb_is_refused(body: bytes, archive: bool) -> None:
    async with hostile(lambda _: Reply(whole(body))) as server:
        with pytest.raises(TooLargeError, match="it unpacks to more than 100,000 bytes"):
            await get(f"{server.url}/list", SMALL, archive=archive)


@pytest.mark.parametrize("encoding", ["gzip, gzip", "deflate", "compress", "br", "\x1b[2J", "x" * 1000])
async def test_encoding_that_was_not_asked_for_is_refused(encoding: str) -> None:
    async with hostile(lambda _: Reply(whole(LIST, f"Content-Encoding: {encoding}"))) as server:
        error = await failure(f"{server.url}/list", ONCE)
    assert isinstance(error, RemoteError)
    assert str(error).isprintable()
    assert len(str(error)) < 200


# Where it may go


@pytest.fixture
def half_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let loopback pass for public below 127.0.0.8, so that a test can have a public server."""
    networks = [network for network in destinations._SPECIAL_IPV4 if network != ip_network("127.0.0.0/8")]
    monkeypatch.setattr(destinations, "_SPECIAL_IPV4", (*networks, ip_network("127.0.0.8/29")))


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: tuple[str, ...]) -> list[str]:
    """Resolve every name to one answer after the other; give the names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object) -> list[object]:
        asked.append(host)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in answers[min(len(asked), len(answers)) - 1]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.usefixtures("half_public")
async def test_name_with_a_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hostile(lambda _: Reply(whole(LIST))) as server:
        resolving(monkeypatch, ("127.0.0.1", "127.0.0.9"))
        error = await failure(server.url.replace("127.0.0.1", "lists.example") + "/", allow_private=False)
    assert isinstance(error, LocationError)
    assert "lists.example (127.0.0.9) is not on the public internet" in error.reason
    assert server.asked == []


@pytest.mark.usefixtures("half_public")
async def test_address_that_was_checked_is_the_one_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding between check and connection: the name is asked for once, and then no more."""
    async with hostile(lambda _: Reply(whole(LIST))) as server:
        asked = resolving(monkeypatch, ("127.0.0.1",), ("127.0.0.9",))
        fetched = await fetch(server.url.replace("127.0.0.1", "lists.example"), base=NOWHERE, limits=ONCE)
    assert isinstance(fetched, Fetched)
    assert asked == ["lists.example"]


@pytest.mark.usefixtures("half_public")
async def test_name_that_moves_between_a_break_and_its_resumption_is_checked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hostile(lambda _: Reply(cut(whole(OLD, 'ETag: "1"'), 1000))) as server:
        resolving(monkeypatch, ("127.0.0.1",), ("127.0.0.9",))
        error = await failure(server.url.replace("127.0.0.1", "lists.example") + "/", allow_private=False)
    assert isinstance(error, LocationError)
    assert len(server.asked) == 1


@pytest.mark.usefixtures("half_public")
@pytest.mark.parametrize("name", ["metadata.example", "localhost.example", "router.example"])
async def test_redirect_to_a_name_with_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    address = {"metadata.example": "169.254.169.254", "localhost.example": "127.0.0.9", "router.example": "192.168.0.1"}
    async with hostile(lambda _: Reply([head(302, f"Location: http://{name}/", "Content-Length: 0")])) as server:
        resolving(monkeypatch, ("127.0.0.1",), (address[name],))
        error = await failure(server.url.replace("127.0.0.1", "lists.example") + "/", allow_private=False)
    assert isinstance(error, LocationError)
    assert f"{name} ({address[name]}) is not on the public internet" in error.reason


async def test_password_follows_to_the_same_server_and_to_no_other() -> None:
    async with hostile(lambda _: Reply(whole(LIST))) as other:

        def script(asked: Asked) -> Reply:
            where = {"/list": "/there", "/there": f"{server.url}/here", "/here": f"{other.url}/list"}[asked.path]
            return Reply([head(302, f"Location: {where}", "Content-Length: 0")])

        async with hostile(script) as server:
            await get(server.url.replace("//", "//someone:secret@") + "/list")
    assert [asked.headers.get("authorization") for asked in server.asked] == ["Basic c29tZW9uZTpzZWNyZXQ="] * 3
    assert "authorization" not in other.asked[0].headers


# TLS


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    return authority


async def distrusted(context: ssl.SSLContext) -> str:
    async with hostile(lambda _: Reply(whole(LIST)), context) as server:
        error = await failure(f"{server.url}/", HASTY)
    assert isinstance(error, RemoteError)
    assert server.asked == []
    return error.reason


async def test_expired_certificate(authority: Authority) -> None:
    context = authority.issue("lists.example", "127.0.0.1", days=-1).server_context()
    assert await distrusted(context) == "the server can't be trusted (its certificate has expired)"


async def test_self_signed_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Authority(tmp_path)
    context = Identity("own", own.certificate, own._key).server_context()
    assert await distrusted(context) == "the server can't be trusted (its certificate is self-signed)"


async def test_certificate_of_an_unknown_authority(tmp_path: Path) -> None:
    context = Authority(tmp_path).issue("lists.example", "127.0.0.1").server_context()
    reason = "its certificate comes from an authority that is not trusted here"
    assert await distrusted(context) == f"the server can't be trusted ({reason})"


async def test_certificate_for_another_address(authority: Authority) -> None:
    context = authority.issue("lists.example", "192.0.2.1").server_context()
    assert await distrusted(context) == "the server can't be trusted (its certificate is for another address)"


async def test_certificate_for_another_name(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    context = authority.issue("other.example").server_context()
    async with hostile(lambda _: Reply(whole(LIST)), context) as server:
        resolving(monkeypatch, ("127.0.0.1",))
        error = await failure(server.url.replace("127.0.0.1", "lists.example") + "/", HASTY)
    assert error.reason == "the server can't be trusted (its certificate is for another host name)"


async def test_old_tls_is_refused(authority: Authority) -> None:
    context = authority.issue("lists.example", "127.0.0.1").server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with hostile(lambda _: Reply(whole(LIST)), context) as server:
        error = await failure(f"{server.url}/", ONCE)
    assert isinstance(error, RemoteError | UnreachableError)  # some servers say why, some hang up
    assert "()" not in error.reason
    assert server.asked == []


async def test_download_over_tls_is_resumed(authority: Authority) -> None:
    context = authority.issue("lists.example", "127.0.0.1").server_context()

    def script(asked: Asked) -> Reply:
        if asked.number:
            return Reply(part(OLD, asked.start, 'ETag: "1"'))
        return Reply(
            cut(whole(OLD, 'ETag: "1"'), 20_000), pause=0.02
        )  # what came before it hangs up isn't lost with it

    async with hostile(script, context) as server:
        fetched = await get(f"{server.url}/list")
    assert isinstance(fetched, Fetched)
    assert fetched.data == OLD
    assert server.asked[1].start > 0
