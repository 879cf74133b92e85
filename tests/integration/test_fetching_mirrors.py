"""One list at several locations, and archives: where the data comes from, and what is said when nobody has it."""

import asyncio
import gzip
import hashlib
import tarfile
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from blocklists import fetching
from blocklists.errors import FetchError, LocationError, NotAListError, RemoteError, TooLargeError
from blocklists.fetching import AllFailedError, Fetched, Limits, NotModified, fetch
from blocklists.unpacking import members
from tests.support.hostile import Asked, Reply, hostile
from tests.support.packing import tarred, zipped, zstd
from tests.support.publisher import LIST, NOWHERE, QUICK, Handler, answering, get, sending, serving

SINCE = "Tue, 24 Nov 2026 10:00:00 GMT"


def conditional(seen: list[dict[str, str]], tag: str = '"1"') -> Handler:
    """Answer as a server with one version of the list does, and record the conditions."""

    async def handler(request: web.Request) -> web.Response:
        names = ("If-None-Match", "If-Modified-Since")
        seen.append({name: request.headers[name] for name in names if name in request.headers})
        same = request.headers.get("If-None-Match") == tag
        return web.Response(status=304) if same else web.Response(body=LIST, headers={"ETag": tag})

    return handler


# Mirrors


async def test_mirror_is_left_alone_while_the_location_answers() -> None:
    mirror, sent = answering(200)
    async with serving(sending(LIST)) as first, serving(mirror) as second:
        fetched = await get(first, mirrors=[second])
    assert isinstance(fetched, Fetched)
    assert fetched.location == first
    assert sent == []


@pytest.mark.parametrize("status", [404, 503])
async def test_mirrors_are_tried_in_turn_each_with_all_its_tries(status: int) -> None:
    broken, sent = answering(status)
    async with (
        serving(broken) as first,
        serving(sending(b"", Content_Encoding="br")) as second,
        serving(sending(LIST)) as third,
        serving(answering(500)[0]) as fourth,
    ):
        fetched = await get(first, mirrors=[second, third, fourth])
    assert isinstance(fetched, Fetched)
    assert (fetched.data, fetched.location) == (LIST, third)
    assert len(sent) == (3 if status == 503 else 1)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<!DOCTYPE html><title>Domain for sale</title>", id="a web page"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(100), id="a picture"),
        pytest.param(gzip.compress(bytes(6000)), id="a bomb"),
        pytest.param(gzip.compress(LIST)[:-1], id="a damaged file"),
    ],
)
async def test_location_that_has_something_else_by_now_is_passed_over(body: bytes) -> None:
    limits = Limits(delays=(), content_bytes=5000)
    async with serving(sending(body)) as first, serving(sending(LIST)) as second:
        fetched = await get(first, limits, mirrors=[second])
    assert isinstance(fetched, Fetched)
    assert fetched.location == second


async def test_mirror_may_be_a_file_and_a_file_may_have_mirrors(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(LIST)
    async with serving(answering(404)[0]) as broken, serving(sending(LIST)) as url:
        fetched = await fetch(broken, base=tmp_path, mirrors=["list"], allow_private=True)
        assert isinstance(fetched, Fetched)
        assert fetched.location == "list"
        fetched = await fetch("missing", base=tmp_path, mirrors=[url], allow_private=True)
        assert isinstance(fetched, Fetched)
        assert fetched.location == url


async def test_conditions_are_only_for_the_location_that_they_came_from() -> None:
    seen: list[dict[str, str]] = []
    conditions = {"If-None-Match": '"1"', "If-Modified-Since": SINCE}
    options: dict[str, Any] = {"etag": '"1"', "last_modified": SINCE}
    async with serving(answering(404)[0]) as broken, serving(conditional(seen)) as good:
        assert isinstance(await get(broken, mirrors=[good], **options), Fetched)
        assert seen == [{}]
        assert await get(broken, mirrors=[good], validated_location=good, **options) == NotModified(good)
        assert seen == [{}, conditions]
        assert isinstance(await get(good, mirrors=[broken], validated_location=broken, **options), Fetched)
        assert seen == [{}, conditions, {}]
        assert await get(good, mirrors=[broken], **options) == NotModified(good)
        assert await get(good, mirrors=[broken], validated_location="", **options) == NotModified(good)


async def test_password_is_no_part_of_where_it_came_from() -> None:
    async with serving(conditional([])) as url:
        location = url.replace("//", "//someone:secret@")
        fetched = await get(location)
        assert isinstance(fetched, Fetched)
        assert fetched.location == url
        for validated in (fetched.location, location):
            assert await get(location, etag='"1"', validated_location=validated) == NotModified(url)


async def test_private_mirror_is_refused_like_any_private_location() -> None:
    mirror, sent = answering(200)
    async with serving(mirror) as url:
        with pytest.raises(AllFailedError, match="not on the public internet"):
            await fetch("missing", base=NOWHERE, mirrors=[url], limits=QUICK)
    assert sent == []


async def test_when_all_fail_one_sentence_names_each() -> None:
    async with serving(answering(404)[0]) as first, serving(sending(b"<html>Gone</html>")) as second:
        locations = [first.replace("//", "//someone:secret@"), second, "missing", "ftp://lists.example/"]
        with pytest.raises(FetchError) as caught:
            await get(locations[0], mirrors=locations[1:])
    assert isinstance(caught.value, AllFailedError)
    assert str(caught.value) == (
        f"{first} could not be fetched: the server answered 404 Not Found"
        f"; nor from its mirror {second}: it is an HTML page, not a list"
        "; nor from its mirror missing: there is no such file"
        "; nor from its mirror ftp://lists.example/: only http and https URLs and files can be fetched"
    )
    assert [location for location, _ in caught.value.failures] == [first, *locations[1:]]


async def test_mirror_that_is_the_location_is_not_asked_twice() -> None:
    handler, sent = answering(404)
    async with serving(handler) as url:
        with pytest.raises(RemoteError) as caught:
            await get(url, mirrors=[url, url])
    assert not isinstance(caught.value, AllFailedError)
    assert sent == [404]


async def test_cancelling_asks_no_mirror() -> None:
    mirror, sent = answering(200)
    was_asked = asyncio.Event()

    def silent(_: Asked) -> Reply:
        was_asked.set()
        return Reply(hold=True)

    async with hostile(silent) as first, serving(mirror) as second:
        fetching_it = asyncio.create_task(get(first.url, mirrors=[second]))
        await was_asked.wait()
        fetching_it.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching_it
    assert sent == []


def test_list_is_not_shown_whole() -> None:
    assert len(repr(Fetched(bytes(1 << 20), None, None, "0" * 64, "https://lists.example/"))) < 100


# What is no list


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("list.png", b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image, not a list"),
        ("list.gz", bytes(range(256)), "neither text nor packed in gzip, zstd, zip or tar, so not a list"),
        ("packed.gz", gzip.compress(b"\x7fELF" + bytes(100)), "a program, not a list"),
        ("page", b"\n<html>", "an HTML page, not a list"),
        ("page.gz", gzip.compress(b"<!doctype html>"), "an HTML page, not a list"),
    ],
)
async def test_what_is_no_text_is_no_list(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NotAListError) as caught:
        await fetch(name, base=tmp_path)
    assert str(caught.value) == reason


@pytest.mark.parametrize("name", ["list.gz", "list.zst", "list.zip", "list.tar.gz"])
async def test_name_of_a_packing_does_not_make_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(LIST)
    fetched = await fetch(name, base=tmp_path)
    assert isinstance(fetched, Fetched)
    assert fetched.data == LIST


# Archives left in one piece

FILES = {"blacklists/adult/domains": b"a.example\n", "blacklists/games/domains": b"b.example\n"}


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(gzip.compress(tarred(FILES)), id="tar.gz"),
        pytest.param(zstd(tarred(FILES)), id="tar.zst"),
        pytest.param(zipped(FILES), id="zip"),
        pytest.param(tarred(FILES), id="tar"),
    ],
)
async def test_archive_is_left_in_one_piece(packed: bytes) -> None:
    async with serving(sending(packed, ETag='"1"')) as url:
        fetched = await get(url, archive=True)
    assert isinstance(fetched, Fetched)
    assert fetched.archive
    assert (fetched.data, fetched.etag, fetched.location) == (packed, '"1"', url)
    assert dict(members(fetched.data, 1 << 20)) == FILES


async def test_hash_of_an_archive_is_that_of_its_files(tmp_path: Path) -> None:
    """A publisher packs the same files anew each night, in another order or at another time."""

    async def hash_of(packed: bytes) -> str:
        (tmp_path / "archive").write_bytes(packed)
        fetched = await fetch("archive", base=tmp_path, archive=True)
        assert isinstance(fetched, Fetched)
        return fetched.content_hash

    once = await hash_of(gzip.compress(tarred(FILES), mtime=1))
    assert once == await hash_of(gzip.compress(tarred(FILES), mtime=2))
    assert once == await hash_of(tarred(dict(reversed(FILES.items())), tarfile.GNU_FORMAT))
    assert once == await hash_of(zipped(FILES))
    renamed = {"blacklists/adult/domains": b"b.example\n", "blacklists/games/domains": b"a.example\n"}
    changed = {"blacklists/adult/domains": b"a.example\n", "blacklists/games/domains": b"c.example\n"}
    moved = {"blacklists/adult/domain": b"sa.example\n", "blacklists/games/domains": b"b.example\n"}
    assert len({once, *[await hash_of(tarred(files)) for files in (renamed, changed, moved)]}) == 4


async def test_list_that_is_no_archive_is_unpacked_as_ever() -> None:
    async with serving(sending(gzip.compress(LIST))) as url:
        fetched = await get(url, archive=True)
    assert isinstance(fetched, Fetched)
    assert not fetched.archive
    assert (fetched.data, fetched.content_hash) == (LIST, hashlib.sha256(LIST).hexdigest())


async def test_archive_is_joined_where_nobody_asked_for_it(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(zipped(FILES))
    fetched = await fetch("archive", base=tmp_path)
    assert isinstance(fetched, Fetched)
    assert not fetched.archive
    assert fetched.data == b"a.example\n\nb.example\n"


@pytest.mark.parametrize(
    ("packed", "error"),
    [
        (gzip.compress(tarred(FILES))[:-1], RemoteError),
        (gzip.compress(tarred({"a": bytes(6000)})), TooLargeError),
        (zipped({str(number): bytes(1500) for number in range(4)}), TooLargeError),
        (tarred(FILES)[:2048], RemoteError),
    ],
)
async def test_damaged_archive_is_refused_as_a_whole(tmp_path: Path, packed: bytes, error: type[FetchError]) -> None:
    """Before any of its files is given to anybody."""
    (tmp_path / "archive").write_bytes(packed)
    with pytest.raises(error):
        await fetch("archive", base=tmp_path, archive=True, limits=Limits(content_bytes=5000))


def test_malformed_url_shows_no_password() -> None:
    assert fetching._shown("http://someone:secret@[::1/") == "http://[::1/"
    assert fetching._shown("http://a:b@c.example/d@e") == "http://c.example/d@e"


async def test_malformed_url_is_told_without_its_password() -> None:
    for location in ("http://someone:secret@[::1/", "http://someone:secret@a\u2100b.example/"):
        with pytest.raises(LocationError) as caught:
            await fetch(location, base=NOWHERE, limits=QUICK)
        assert "secret" not in str(caught.value)
