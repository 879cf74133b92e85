"""Bounded memory keeps what is used; answers come out of the cache as they went in; TTLs of finished replies fall."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.cache import AnswerCache, Kept, Memory
from resolver.replies import Answer

ANSWER = Answer(0, ad=True, answers=1, authorities=0, body=b"record", ttls=(2,), lifetime=60, targets=("b.example",))


def test_past_the_limit_what_was_stored_long_ago_goes() -> None:
    kept: Memory[int, int] = Memory(10)
    for number in range(100):
        kept.keep(number, number)
        assert len(kept) <= 10
        assert kept.get(number) == number
    assert [number for number in range(100) if kept.get(number) is not None][0] >= 90  # noqa: RUF015 - reads as it is meant


def test_what_is_used_stays() -> None:
    """A busy name must not go because many others were asked for once."""
    kept: Memory[str, int] = Memory(10)
    kept.keep("busy", 1)
    for number in range(1000):
        kept.keep(f"n{number}", number)
        if number % 3 == 0:
            assert kept.get("busy") == 1


@pytest.mark.parametrize(("entries", "octets"), [(0, 1000), (1000, 0)])
def test_a_limit_of_none_keeps_none(entries: int, octets: int) -> None:
    kept: Memory[str, int] = Memory(entries, octets, lambda _key, value: value)
    for _ in range(3):
        kept.keep("a", 1)
        assert kept.get("a") is None
        assert len(kept) == 0


@given(
    entries=st.integers(0, 20),
    octets=st.integers(0, 2000),
    stored=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 300))),
)
def test_it_never_holds_more_than_its_limits(entries: int, octets: int, stored: list[tuple[int, int]]) -> None:
    kept: Memory[int, int] = Memory(entries, octets, lambda _key, size: size)
    for key, size in stored:
        kept.keep(key, size)
        assert len(kept) <= entries
        assert sum(kept.young.values()) + sum(kept.old.values()) <= octets
        if entries >= 2 and size <= octets // 2:  # else there is no room for it at all
            assert kept.get(key) == size
        for key_used, _ in stored[:3]:  # what is used returns to the young ones, and is measured there as well
            kept.get(key_used)
            assert sum(kept.young.values()) + sum(kept.old.values()) <= octets


def test_an_entry_that_is_stored_again_counts_once() -> None:
    kept: Memory[str, int] = Memory(100, 1000, lambda _key, size: size)
    kept.keep("small", 1)
    for _ in range(1000):
        kept.keep("again", 400)
    assert kept.young == {"small": 1, "again": 400}


def test_what_is_forgotten_is_freed_so_many_at_a_time() -> None:
    kept: Memory[int, int] = Memory(10)
    for number in range(7):
        kept.keep(number, number)
    kept.forget()
    assert len(kept) == 0
    assert kept.get(6) is None
    assert [kept.free(3), kept.free(3), kept.free(3), kept.free(3)] == [3, 3, 1, 0]
    kept.keep(8, 8)
    assert kept.get(8) == 8


# Answers.

names = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=60)
answers = st.builds(
    Answer,
    rcode=st.integers(0, 15),
    ad=st.booleans(),
    answers=st.integers(0, 65535),
    authorities=st.integers(0, 65535),
    body=st.binary(max_size=300),
    ttls=st.lists(st.integers(0, 65535), max_size=40).map(lambda places: tuple(sorted(places))),
    lifetime=st.integers(0, 604_800),
    targets=st.lists(names, max_size=20).map(tuple),
    is_stripped=st.booleans(),
)


@given(answers, names, st.floats(0, 1e9))
def test_an_answer_comes_out_as_it_went_in(answer: Answer, upstream: str, received: float) -> None:
    cache = AnswerCache(10, 1 << 20)
    cache.keep(b"other", ANSWER, "udp://192.0.2.54", 0.0)
    cache.keep(b"key", answer, upstream, received)
    assert cache.get(b"key") == Kept(answer, upstream, received)
    assert cache.get(b"other") == Kept(ANSWER, "udp://192.0.2.54", 0.0)


def test_an_answer_kept_anew_takes_the_place_of_the_last() -> None:
    cache = AnswerCache(10, 1 << 20)
    cache.keep(b"key", ANSWER, "udp://192.0.2.53", 1.0)
    cache.keep(b"key", ANSWER._replace(lifetime=5), "udp://192.0.2.54", 2.0)
    assert cache.get(b"key") == Kept(ANSWER._replace(lifetime=5), "udp://192.0.2.54", 2.0)
    assert cache.get(b"none") is None


def test_an_answer_too_large_for_its_form_is_not_kept() -> None:
    cache = AnswerCache(10, 1 << 20)
    cache.keep(b"places", ANSWER._replace(ttls=(2, 65536)), "udp://192.0.2.53", 1.0)
    cache.keep(b"targets", ANSWER._replace(targets=("x" * 200,) * 400), "udp://192.0.2.53", 1.0)
    assert len(cache) == 0


def test_octets_are_counted_with_what_an_entry_takes() -> None:
    cache = AnswerCache(1_000_000, 100_000)
    for number in range(10_000):
        cache.keep(number.to_bytes(2, "big"), ANSWER._replace(body=bytes(1000)), "udp://192.0.2.53", 1.0)
        assert len(cache) <= 100
    assert len(cache) > 30
