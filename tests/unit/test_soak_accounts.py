"""The soak's accounts: whatever clients and the log disagree about is found."""

from collections.abc import Callable

import pytest

from tests.benchmarks.accounts import NO_ANSWER, WRONG, Logged, Received, disagreements
from tests.benchmarks.footprint import Samples
from tests.benchmarks.load import Answers
from tests.benchmarks.queries import TYPES, Query, name_wire, wire
from tests.benchmarks.scenarios import COLD_KEY, cold_number, generated_names, school

RUN = 3
ONCE = f"h00000001.run{RUN}.rare.example"
CLIENT, OTHER = "127.55.121.177", "127.110.243.98"
"""The first two clients' addresses."""


def received(*, wrong: int = 0, late: int = 0, outcomes: bytes = bytes([0, 2, NO_ANSWER])) -> Received:
    """Return what clients had of three queries: the first of a name that is asked once."""
    names = [ONCE, "www.site00001.popular.example", "www.site00001.popular.example"]
    queries = [Query(client, wire(name_wire(name), TYPES["A"])) for client, name in zip((1, 1, 2), names, strict=True)]
    found = Received()
    found.add(RUN, queries, outcomes, Answers(3, 2, 1, late, 1.0, {0: 1, 2: 1}, 1, 1, 1, 1, wrong))
    return found


def logged(**changed: int) -> Logged:
    """Return what the log should have of them, with other counts where they are given."""
    counts = {"answered": 1, "failed": 1, "unanswered": 1, "once": 1, "gaps": 0} | changed
    found = Logged(gaps=counts["gaps"], cold={RUN: bytearray([0, counts["once"], 0])})
    found.records[CLIENT, "NOERROR"] = counts["answered"]
    found.records[CLIENT, "SERVFAIL"] = counts["failed"]
    found.records[OTHER, "NOERROR"] = counts["unanswered"]
    return found


@pytest.mark.parametrize("unanswered", [0, 1], ids=["was never read", "was logged"])
def test_what_had_no_answer_may_have_a_record_or_none(unanswered: int) -> None:
    assert list(disagreements(received(), logged(unanswered=unanswered))) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (lambda: (received(wrong=1), logged()), "1 answers were wrong"),
        (lambda: (received(), logged(answered=0, failed=2)), "1 answers have no record"),
        (lambda: (received(), logged(unanswered=2)), "1 records more than there were queries of their clients"),
        (lambda: (received(), logged(once=0)), "1 names that are asked once were answered and have no record"),
        (lambda: (received(), logged(once=2)), "1 names that are asked once have several records"),
        (lambda: (received(late=2), logged()), "1 answers came twice"),
        (lambda: (received(), logged(gaps=4)), "4 gaps are in the log"),
    ],
)
def test_what_disagrees_is_told(found: Callable[[], tuple[Received, Logged]], said: str) -> None:
    assert list(disagreements(*found())) == [said]


def test_a_wrong_answer_is_an_answer() -> None:
    assert received(outcomes=bytes([WRONG, 2, NO_ANSWER])).answered[CLIENT, "NOERROR"] == 1


def test_names_that_are_asked_once_are_known_again() -> None:
    queries = list(school(RUN, 2_000, generated_names()))

    numbers = [number for _, octets in queries if (number := cold_number(octets)) is not None]

    assert numbers == list(range(len(numbers)))
    assert 300 < len(numbers) < 500
    key = ".".join(reversed(ONCE.split("."))) + "."
    assert (match := COLD_KEY.fullmatch(key)) is not None
    assert (int(match[1]), int(match[2], 16)) == (RUN, 1)


def test_growth_is_what_the_last_quarter_has_more_than_the_second() -> None:
    flat = Samples([1 << 20] * 25 + [100 << 20] * 75, [10] * 25 + [500] * 75)
    leaking = Samples([(100 << 20) + (second << 20) for second in range(100)], list(range(0, 500, 5)))

    assert list(flat.growth()) == []
    assert [line.partition(" grew ")[0] for line in leaking.growth()] == ["its memory", "its descriptors"]
