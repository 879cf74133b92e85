"""Bounded memory keeps the newest."""

from resolver.cache import Bounded


def test_past_the_limit_the_one_stored_longest_ago_goes() -> None:
    kept: Bounded[str, int] = Bounded(2)
    for number, key in enumerate("abc"):
        kept.keep(key, number)
    assert dict(kept) == {"b": 1, "c": 2}


def test_storing_again_makes_it_the_newest() -> None:
    """A busy name that is renewed every minute must not be the next to go."""
    kept: Bounded[str, int] = Bounded(2)
    for number, key in enumerate("abac"):
        kept.keep(key, number)
    assert dict(kept) == {"a": 2, "c": 3}


def test_a_limit_of_none_keeps_none() -> None:
    kept: Bounded[str, int] = Bounded(0)
    kept.keep("a", 1)
    assert not kept


def test_it_never_grows_past_its_limit() -> None:
    kept: Bounded[int, int] = Bounded(100)
    for number in range(1000):
        kept.keep(number % 150, number)
        assert len(kept) <= 100


def test_so_many_are_dropped_or_all() -> None:
    kept: Bounded[int, int] = Bounded(10)
    for number in range(5):
        kept.keep(number, number)
    assert [kept.drop(3), len(kept), kept.drop(3), len(kept), kept.drop(3)] == [3, 2, 2, 0, 0]
