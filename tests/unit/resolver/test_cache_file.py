"""Cached answers on disk: what was written is read, what is damaged or too old is not."""

import logging
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from resolver import cache_file
from resolver.cache import ENTRY_OCTETS, AnswerCache, Kept
from resolver.replies import Answer
from settings import Settings, from_document
from tests.unit.resolver.bench import Clock

DAY = 86_400
DIGEST = bytes(range(16))
ROOM = 1 << 20
FIRST, SECOND = "udp://192.0.2.53:53", "tls://192.0.2.54:853"


def answer(number: int = 0, lifetime: int = 300) -> Answer:
    return Answer(
        0, ad=True, answers=1, authorities=0, body=b"record %d" % number, ttls=(6,), lifetime=lifetime, targets=("b",)
    )


def filled(count: int = 3, *, lifetime: int = 300, upstreams: tuple[str, ...] = (FIRST, SECOND)) -> AnswerCache:
    cache = AnswerCache(1_000, ROOM)
    for number in range(count):
        cache.keep(b"key %d" % number, answer(number, lifetime), upstreams[number % len(upstreams)], time.monotonic())
    return cache


def write(path: Path, cache: AnswerCache) -> None:
    cache_file.write(path, cache, DIGEST)


def read(path: Path, longest_stale: int = DAY, entries: int = 1_000) -> AnswerCache:
    cache = AnswerCache(entries, ROOM)
    assert cache_file.read(path, cache, DIGEST, longest_stale) >= len(cache)
    return cache


def kept(cache: AnswerCache, number: int = 0) -> Kept:
    found = cache.get(b"key %d" % number)
    assert found is not None
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "worker-0.answers"


def test_what_was_written_is_read(path: Path, clock: Clock) -> None:
    cache = filled(100)
    write(path, cache)
    again = read(path)
    assert len(again) == 100
    for number in range(100):
        assert kept(again, number).answer == kept(cache, number).answer == answer(number)
        assert kept(again, number).upstream == (FIRST, SECOND)[number % 2]
        assert kept(again, number).received == pytest.approx(kept(cache, number).received, abs=1.0)


def test_both_generations_are_written_and_what_was_used_last_survives_a_smaller_cache(path: Path) -> None:
    cache = AnswerCache(100, ROOM)
    for number in range(90):
        cache.keep(b"key %d" % number, answer(number), FIRST, time.monotonic())
    assert cache.memory.old
    assert cache.memory.young
    write(path, cache)
    assert len(read(path)) == len(cache)
    smaller = read(path, entries=20)
    assert 0 < len(smaller) <= 20
    assert kept(smaller, 89).answer == answer(89)


def test_upstreams_are_known_by_name_whatever_number_they_have(path: Path) -> None:
    write(path, filled(upstreams=(FIRST, SECOND)))
    cache = AnswerCache(10, ROOM)
    cache.keep(b"mine", answer(9), SECOND, time.monotonic())
    assert cache_file.read(path, cache, DIGEST, DAY) == 3
    found = [kept(cache, number).upstream for number in range(3)]
    assert found == [FIRST, SECOND, FIRST]
    mine = cache.get(b"mine")
    assert mine is not None
    assert mine.upstream == SECOND


def test_the_time_between_counts(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock begins anew with the machine, the wall clock goes on."""
    write(path, filled())
    written = time.time()
    monkeypatch.setattr(time, "time", lambda: written + 100)
    clock.now = 7.0
    again = read(path)
    assert clock.now - kept(again).received == pytest.approx(100, abs=1)


@pytest.mark.parametrize(("later", "there"), [(300 + DAY - 10, 3), (300 + DAY + 10, 0)])
def test_what_is_too_old_to_be_given_stale_is_left_out(
    path: Path, monkeypatch: pytest.MonkeyPatch, later: float, there: int
) -> None:
    write(path, filled())
    written = time.time()
    monkeypatch.setattr(time, "time", lambda: written + later)
    assert len(read(path)) == there


def test_a_wall_clock_that_was_set_back_makes_nothing_younger(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = filled()
    clock.ahead = 200
    write(path, cache)
    written = time.time()
    monkeypatch.setattr(time, "time", lambda: written - 10 * DAY)
    assert clock.now - kept(read(path)).received == pytest.approx(200, abs=1)


def test_nobody_else_may_read_it_and_nothing_unfinished_is_left(path: Path) -> None:
    write(path, filled())
    assert path.stat().st_mode & 0o077 == 0
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_not_there_says_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(read(path)) == 0
    assert caplog.records == []


@pytest.mark.parametrize(
    "data",
    [b"", b"HMA2", b"HMA1" + bytes(100), bytes(1000), b"HMA2\0\0\0\0", b'{"not": "ours"}'],
    ids=["empty", "no more than a magic", "another version", "zeros", "no body", "another file"],
)
def test_a_file_that_is_none_is_told_once_and_left(path: Path, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(data)
    assert len(read(path)) == 0
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), how=st.sampled_from(["cut", "flipped", "lengthened"]))
def test_a_damaged_file_is_told_once_and_nothing_of_it_is_used(
    path: Path, caplog: pytest.LogCaptureFixture, seed: int, how: str
) -> None:
    caplog.clear()
    write(path, filled(20))
    data, chance = bytearray(path.read_bytes()), random.Random(seed)
    place = chance.randrange(len(data))
    if how == "cut":
        del data[place:]
    elif how == "flipped":
        data[place] ^= 1 << chance.randrange(8)
    else:
        data += chance.randbytes(1 + chance.randrange(40))
    path.write_bytes(data)
    assert len(read(path)) == 0
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_directory_in_its_place_is_told_and_left(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir(parents=True)
    assert len(read(path)) == 0
    write(path, filled())
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert list(path.parent.iterdir()) == [path], "nothing unfinished is left"


def test_a_full_disk_leaves_the_last_file(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, filled(3))

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("resolver.cache_file.os.open", full)
        write(path, filled(50))
    assert "No space left on device" in caplog.text
    assert len(read(path)) == 3


def test_entries_are_counted_as_they_were(path: Path) -> None:
    """Octets that were read count as those that were kept: a cache from a file is as bounded."""
    write(path, filled(200))
    cache = AnswerCache(1_000, 100 * (ENTRY_OCTETS + 50))
    cache_file.read(path, cache, DIGEST, DAY)
    assert 0 < len(cache) < 150


# Settings.


def configured(**document: Any) -> Settings:
    return from_document({"upstream": {"servers": [FIRST]}} | document, Path("/nowhere"), looks_at_files=False)


@pytest.mark.parametrize(
    "document",
    [
        {"upstream": {"servers": [SECOND]}},
        {"upstream": {"servers": [FIRST], "zones": {"school.example": [FIRST]}}},
        {"filter": {"private_zones": ["vendor.example"]}},
        {"cache": {"min_ttl_seconds": 30}},
        {"cache": {"max_ttl_seconds": 60}},
    ],
)
def test_answers_under_settings_by_which_they_might_be_others_are_not_used(
    path: Path, caplog: pytest.LogCaptureFixture, document: dict[str, Any]
) -> None:
    """As when a zone may no longer have private addresses."""
    cache_file.write(path, filled(), cache_file.digest_of(configured(**document)))
    cache = AnswerCache(10, ROOM)
    with caplog.at_level(logging.INFO):
        assert cache_file.read(path, cache, cache_file.digest_of(configured()), DAY) == 0
    assert len(cache) == 0
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_whom_certificates_are_trusted_of_decides_what_an_answer_may_be() -> None:
    usual = configured()
    other = replace(usual, upstream=replace(usual.upstream, ca_file="/other.pem"))
    assert cache_file.digest_of(usual) != cache_file.digest_of(other)


def test_settings_that_change_no_answer_leave_the_answers() -> None:
    changed = configured(cache={"entries": 7}, limits={"burst": 7}, filter={"block_ttl_seconds": 7})
    assert cache_file.digest_of(configured()) == cache_file.digest_of(changed)


# What goes on meanwhile.


def test_it_is_written_in_slices_while_the_cache_is_in_use(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is there from beginning to end is left out; and what comes may be of a new upstream."""
    monkeypatch.setattr(cache_file, "SLICE", 10)
    cache = filled(300, upstreams=(FIRST,))
    parts = cache_file._parts(cache, DIGEST)
    written = [next(parts) for _ in range(5)]
    cache.keep(b"key 299", answer(299), SECOND, time.monotonic())
    cache.memory.young.pop(b"key 298")
    cache.keep(b"late", answer(), SECOND, time.monotonic())
    written += parts
    assert max(map(len, written)) < 10 * 100
    path.parent.mkdir()
    path.write_bytes(b"".join(written) + crc32(b"".join(written)).to_bytes(4, "little"))
    again = read(path)
    assert {number for number in range(300) if again.get(b"key %d" % number) is None} == {298}
    assert kept(again, 299).upstream == SECOND


def test_a_start_waits_only_so_long_for_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, filled(100))
    monkeypatch.setattr(cache_file, "SLICE", 10)
    monkeypatch.setattr(cache_file, "READ_SECONDS", -1.0)
    assert len(read(path)) == 10
    assert "there was time for no more than 10 of the answers" in caplog.text
