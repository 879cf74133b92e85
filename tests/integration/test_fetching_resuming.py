"""Downloads that break off: what is asked for again, after how long, and that no list is ever a mix of two versions."""

import gzip
import itertools
from collections.abc import Callable, Iterable
from email.utils import formatdate
from pathlib import Path
from typing import Any, cast

import pytest

from blocklists import downloading
from blocklists.errors import BusyError, RemoteError, TooLargeError, UnreachableError
from blocklists.fetching import Fetched, Limits, fetch
from tests.support.certificates import Authority
from tests.support.hostile import HASTY, Asked, Hostile, Reply, Script, cut, head, hostile, part, whole
from tests.support.publisher import NOWHERE

OLD = b"".join(b"old%d.example\n" % number for number in range(3000))
NEW = b"".join(b"new%d.example\n" % number for number in range(4000))
TAG, OTHER_TAG = 'ETag: "1"', 'ETag: "2"'
DATE = "Last-Modified: Tue, 24 Nov 2020 10:00:00 GMT"
HALF = len(OLD) // 2


async def get(server: Hostile, limits: Limits = HASTY, path: str = "/list", **options: Any) -> Fetched:
    fetched = await fetch(server.url + path, base=NOWHERE, allow_private=True, limits=limits, **options)
    assert isinstance(fetched, Fetched)
    return fetched


def broken_off(answer: Iterable[bytes], size: int) -> Reply:
    """Send the first octets of an answer's body, and hang up a moment later: what came by then is not lost with it."""
    return Reply(cut(answer, size), pause=0.02)


def breaking(further: Script, *lines: str) -> Script:
    """Break off the first answer in the middle; the further ones are as the script says."""
    return lambda asked: broken_off(whole(OLD, *lines), HALF) if asked.number == 0 else further(asked)


def starts(server: Hostile) -> list[int]:
    return [asked.start for asked in server.asked]


# Going on


@pytest.mark.parametrize("validator", [TAG, DATE])
async def test_only_what_is_missing_is_sent_again(validator: str) -> None:
    script = breaking(lambda asked: Reply(part(OLD, asked.start, validator)), validator)
    async with hostile(script) as server:
        fetched = await get(server)
    assert fetched.data == OLD
    assert len(server.asked) == 2
    assert 0 < server.asked[1].start <= HALF
    assert server.asked[1].headers["if-range"] == validator.partition(": ")[2]
    assert validator.partition(": ")[2] in {fetched.etag, fetched.last_modified}


async def test_each_break_goes_on_from_the_last() -> None:
    def script(asked: Asked) -> Reply:
        answer = part(OLD, asked.start, TAG) if "range" in asked.headers else whole(OLD, TAG)
        return broken_off(answer, 10_000) if asked.number < 2 else Reply(answer)

    async with hostile(script) as server:
        assert (await get(server)).data == OLD
    first, second, third = starts(server)
    assert first == 0 < second < third


async def test_server_that_falls_silent_midway_is_resumed() -> None:
    def script(asked: Asked) -> Reply:
        if asked.start == 0:
            return Reply(cut(whole(OLD, TAG), HALF), hold=True)
        return Reply(part(OLD, asked.start, TAG))

    async with hostile(script) as server:
        assert (await get(server, Limits(idle_seconds=0.2, delays=(0, 0, 0)))).data == OLD
    assert 0 < starts(server)[-1] <= HALF


async def test_part_of_the_part_is_taken_and_the_rest_asked_for() -> None:
    """RFC 9110 section 15.3.7: a server may send less than was asked for."""

    def script(asked: Asked) -> Reply:
        if asked.number == 1:
            last = asked.start + 99
            lines = ("Content-Length: 100", f"Content-Range: bytes {asked.start}-{last}/{len(OLD)}", TAG)
            return Reply([head(206, *lines), OLD[asked.start : last + 1]])
        return Reply(part(OLD, asked.start, TAG))

    async with hostile(breaking(script, TAG)) as server:
        assert (await get(server)).data == OLD
    assert starts(server)[2] == starts(server)[1] + 100


async def test_list_whose_size_was_not_announced_is_resumed() -> None:
    chunked = head(200, "Transfer-Encoding: chunked", TAG) + b"%x\r\n" % len(OLD) + OLD[:HALF]

    def script(asked: Asked) -> Reply:
        return Reply(part(OLD, asked.start, TAG)) if asked.number else Reply([chunked], pause=0.02)

    async with hostile(script) as server:
        assert (await get(server)).data == OLD
    assert 0 < server.asked[1].start <= HALF


async def test_packed_list_is_resumed_in_its_packing() -> None:
    packed = gzip.compress(OLD)
    lines = (TAG, "Content-Encoding: gzip")

    def script(asked: Asked) -> Reply:
        return Reply(part(packed, asked.start, *lines)) if asked.number else broken_off(whole(packed, *lines), 1000)

    async with hostile(script) as server:
        assert (await get(server)).data == OLD
    assert 0 < server.asked[1].start <= 1000


async def test_resuming_goes_through_redirects_whose_signatures_change() -> None:
    def script(asked: Asked) -> Reply:
        if asked.path == "/list":
            return Reply([head(302, f"Location: /stored?signature={asked.number}", "Content-Length: 0")])
        return Reply(part(OLD, asked.start, TAG)) if asked.number > 1 else broken_off(whole(OLD, TAG), HALF)

    async with hostile(script) as server:
        assert (await get(server)).data == OLD
    assert [asked.path for asked in server.asked] == ["/list", "/stored?signature=0", "/list", "/stored?signature=2"]
    assert "range" not in server.asked[2].headers
    assert server.asked[3].start > 0


async def test_conditions_of_the_last_fetch_are_not_those_of_a_part() -> None:
    script = breaking(lambda asked: Reply(part(OLD, asked.start, TAG)), TAG)
    async with hostile(script) as server:
        await get(server, etag='"0"', last_modified="Tue, 24 Nov 2020 10:00:00 GMT")
    assert "if-none-match" in server.asked[0].headers
    assert not {"if-none-match", "if-modified-since"} & set(server.asked[1].headers)


# Starting over


def wrong(content_range: str, *lines: str) -> Callable[[Asked], Reply]:
    return lambda asked: Reply([head(206, f"Content-Range: {content_range}", *lines), NEW[asked.start :]])


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(lambda asked: Reply(part(NEW, asked.start, OTHER_TAG)), id="a part of another version"),
        pytest.param(lambda asked: Reply(part(NEW[: len(OLD)], asked.start)), id="a part of no version"),
        pytest.param(lambda asked: Reply(part(NEW, asked.start, TAG)), id="a part of another size"),
        pytest.param(lambda asked: Reply(part(OLD, 0, TAG)), id="from the beginning"),
        pytest.param(lambda asked: Reply(part(OLD, asked.start + 1, TAG)), id="with a gap"),
        pytest.param(lambda asked: Reply(part(OLD, asked.start - 1, TAG)), id="with an overlap"),
        pytest.param(wrong("bytes */100", TAG), id="no range"),
        pytest.param(wrong("rubbish", TAG), id="rubbish"),
        pytest.param(lambda asked: Reply([head(206, TAG), NEW]), id="no range at all"),
        pytest.param(lambda asked: Reply([head(206, TAG, "Content-Type: multipart/byteranges")]), id="many ranges"),
        pytest.param(lambda asked: Reply([head(416, "Content-Length: 0")]), id="416"),
        pytest.param(lambda asked: Reply([head(400, "Content-Length: 0")]), id="400"),
        pytest.param(lambda asked: Reply([head(304, TAG)]), id="304"),
        pytest.param(lambda asked: Reply([head(412, "Content-Length: 0")]), id="412"),
    ],
)
async def test_part_that_does_not_fit_makes_the_list_come_anew(second: Script) -> None:
    def script(asked: Asked) -> Reply:
        return second(asked) if asked.number == 1 else Reply(whole(NEW, OTHER_TAG))

    async with hostile(breaking(script, TAG)) as server:
        fetched = await get(server, Limits(delays=(0,)))  # starting over costs no try
    assert fetched.data == NEW
    assert fetched.etag == '"2"'
    assert ["range" in asked.headers for asked in server.asked] == [False, True, False]


async def test_list_that_changed_is_sent_whole() -> None:
    """What If-Range is for: 200 where the list is another one by now."""
    async with hostile(breaking(lambda _: Reply(whole(NEW, OTHER_TAG)), TAG)) as server:
        fetched = await get(server)
    assert (fetched.data, fetched.etag) == (NEW, '"2"')
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((), id="no validator"),
        pytest.param(('ETag: W/"1"',), id="a weak tag"),
        pytest.param(('ETag: W/"1"', DATE), id="a date beside a weak tag"),
        pytest.param((TAG, "Accept-Ranges: none"), id="ranges refused"),
    ],
)
async def test_no_part_is_asked_for_where_versions_can_not_be_told_apart(lines: tuple[str, ...]) -> None:
    async with hostile(breaking(lambda _: Reply(whole(NEW, *lines)), *lines)) as server:
        assert (await get(server)).data == NEW
    assert starts(server) == [0, 0]


async def test_date_as_fresh_as_the_answer_tells_no_versions_apart() -> None:
    lines = (f"Last-Modified: {formatdate(usegmt=True)}",)
    async with hostile(breaking(lambda _: Reply(whole(NEW, *lines)), *lines)) as server:
        assert (await get(server)).data == NEW
    assert starts(server) == [0, 0]


async def test_part_from_another_host_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tags are its own."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    context = authority.issue("mirror.example", "127.0.0.1").server_context()
    async with hostile(lambda _: Reply(whole(NEW, TAG)), context) as mirror:

        def script(asked: Asked) -> Reply:
            if asked.path == "/list" and asked.number > 1:
                return Reply([head(302, f"Location: {mirror.url}/stored", "Content-Length: 0")])
            if asked.path == "/list":
                return Reply([head(302, "Location: /stored", "Content-Length: 0")])
            return Reply(cut(whole(OLD, TAG), HALF))

        async with hostile(script) as server:
            assert (await get(server)).data == NEW
    assert starts(mirror) == [0]


async def test_list_that_changes_at_every_request_is_never_a_mix() -> None:
    """Each answer is of another version and breaks off, whether it is whole or a part."""
    versions = [bytes([65 + number]) * 20_000 for number in range(8)]

    def script(asked: Asked) -> Reply:
        number = min(asked.number, len(versions) - 1)
        body, tag = versions[number], f'ETag: "{number}"'
        answer = part(body, asked.start, tag) if "range" in asked.headers else whole(body, tag)
        return Reply(answer if asked.number >= len(versions) - 1 else cut(answer, 9_000))

    async with hostile(script) as server:
        fetched = await get(server, Limits(delays=(0,) * 8))
    assert fetched.data == versions[-1]


# Lies about length


async def test_less_than_was_announced_is_never_the_list() -> None:
    async with hostile(lambda _: Reply(cut(whole(OLD), HALF))) as server:
        with pytest.raises(UnreachableError, match="the connection broke off"):
            await get(server)
    assert len(server.asked) == 3


async def test_part_that_ends_early_is_never_the_end() -> None:
    def script(asked: Asked) -> Reply:
        lines = (f"Content-Range: bytes {asked.start}-{len(OLD) - 1}/{len(OLD)}", TAG)
        return Reply([head(206, *lines)])  # and nothing follows, to the end of the connection

    async with hostile(breaking(script, TAG)) as server:
        with pytest.raises(UnreachableError, match="the connection broke off"):
            await get(server)


async def test_part_that_goes_on_too_long_is_refused() -> None:
    def script(asked: Asked) -> Reply:
        lines = (f"Content-Range: bytes {asked.start}-{len(OLD) - 1}/{len(OLD)}", TAG)
        return Reply([head(206, *lines), OLD[asked.start :], b"more.example\n"])

    async with hostile(breaking(script, TAG)) as server:
        with pytest.raises(RemoteError, match="the server sent more than it said"):
            await get(server)


async def test_size_over_the_limit_is_refused_before_anything_is_read() -> None:
    limits = Limits(download_bytes=1000)
    async with hostile(lambda _: Reply([head(200, "Content-Length: 1001")], hold=True)) as server:
        with pytest.raises(TooLargeError, match="it is larger than 1,000 bytes"):
            await get(server, limits)
    assert len(server.asked) == 1


async def test_part_can_not_grow_over_the_limit() -> None:
    body = OLD[:1000]
    chunked = head(200, "Transfer-Encoding: chunked", TAG) + b"1000\r\n" + body[:900]

    def script(asked: Asked) -> Reply:
        return Reply(part(OLD, asked.start, TAG) if asked.number else [chunked])

    async with hostile(script) as server:
        with pytest.raises(TooLargeError, match="it is larger than 1,000 bytes"):
            await get(server, Limits(download_bytes=1000, delays=(0,)))


# Waiting


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace waiting by a record of how long it would have taken; chance falls in the middle."""
    recorded: list[float] = []

    async def sleep(seconds: float) -> None:
        recorded.append(seconds)

    monkeypatch.setattr(downloading, "_sleep", sleep)
    monkeypatch.setattr(downloading, "_chance", lambda: 0.5)
    return recorded


async def test_each_wait_is_longer_than_the_last(waits: list[float]) -> None:
    async with hostile(lambda _: Reply([head(503, "Content-Length: 0")])) as server:
        with pytest.raises(BusyError):
            await get(server, Limits())
    assert waits == [1, 3, 9]
    assert len(server.asked) == 4


@pytest.mark.parametrize("status", [429, 503])
async def test_server_is_left_alone_for_as_long_as_it_wants(waits: list[float], status: int) -> None:
    def script(asked: Asked) -> Reply:
        answer = head(status, "Retry-After: 100", "Content-Length: 0")
        return Reply(whole(OLD) if asked.number == 2 else [answer])

    async with hostile(script) as server:
        assert (await get(server, Limits())).data == OLD
    assert waits == [100, 100]


async def test_wish_for_less_than_our_own_wait_changes_nothing(waits: list[float]) -> None:
    past = formatdate(0, usegmt=True)
    for wish in ("0", past, "rubbish"):
        reply = Reply([head(503, f"Retry-After: {wish}", "Content-Length: 0")])
        async with hostile(cast("Script", lambda _, reply=reply: reply)) as server:
            with pytest.raises(BusyError, match="the server answered 503 Service Unavailable"):
                await get(server, Limits())
    assert waits == [1, 3, 9] * 3


async def test_server_that_wants_to_be_left_alone_for_long_is_not_asked_again(waits: list[float]) -> None:
    async with hostile(lambda _: Reply([head(429, "Retry-After: 7200", "Content-Length: 0")])) as server:
        with pytest.raises(BusyError) as caught:
            await get(server, Limits())
    assert caught.value.reason == (
        "the server answered 429 Too Many Requests, and wants to be left alone for 7,200 seconds"
    )
    assert waits == []
    assert len(server.asked) == 1


async def test_what_came_is_kept_while_the_server_is_busy() -> None:
    def script(asked: Asked) -> Reply:
        return Reply([head(503, "Content-Length: 0")] if asked.number == 1 else part(OLD, asked.start, TAG))

    async with hostile(breaking(script, TAG)) as server:
        assert (await get(server)).data == OLD
    assert server.asked[1].start == server.asked[2].start > 0


async def test_try_that_brought_much_begins_the_waits_anew(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "_MUCH", 5_000)

    def script(asked: Asked) -> Reply:
        answer = part(OLD, asked.start, TAG) if "range" in asked.headers else whole(OLD, TAG)
        return broken_off(answer, 6_000)

    async with hostile(script) as server:
        assert (await get(server, Limits(idle_seconds=5))).data == OLD
    assert len(server.asked) == -(-len(OLD) // 6_000) > len(Limits().delays) + 1
    assert waits == [1] * (len(server.asked) - 1)


# Progress


async def test_progress_is_told_from_nothing_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "_PROGRESS_SECONDS", 0)
    told: list[tuple[int, int | None]] = []
    script = breaking(lambda asked: Reply(part(OLD, asked.start, TAG)), TAG)
    async with hostile(script) as server:
        await get(server, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, len(OLD))
    assert told[-1] == (len(OLD), len(OLD))
    assert {total for _, total in told} == {len(OLD)}
    assert all(before <= after for (before, _), (after, _) in itertools.pairwise(told))
    assert len(told) > 3


async def test_progress_is_not_told_at_every_octet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "_PROGRESS_SECONDS", 3600)
    told: list[int] = []
    body = b"x" * 2_000
    parts = [head(200, f"Content-Length: {len(body)}"), *(body[start : start + 10] for start in range(0, 2_000, 10))]
    async with hostile(lambda _: Reply(parts)) as server:
        await get(server, progress=lambda done, _: told.append(done))
    assert told == [0, 2_000]


async def test_progress_without_a_size(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    chunked = head(200, "Transfer-Encoding: chunked") + b"5\r\na.b\n\n\r\n0\r\n\r\n"
    async with hostile(lambda _: Reply([chunked])) as server:
        await get(server, progress=lambda done, total: told.append((done, total)))
    assert list(dict.fromkeys(told)) == [(0, None), (5, None)]
    (tmp_path / "list").write_bytes(OLD)
    await fetch("list", base=tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(OLD), len(OLD))
