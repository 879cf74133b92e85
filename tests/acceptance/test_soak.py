"""A short soak (`make soak` runs a long one): a school's load, a new policy, a dead worker and dead upstreams."""

import os
from pathlib import Path

import pytest

from tests.benchmarks.programs import can_compile
from tests.benchmarks.soak import Plan, soak
from tests.benchmarks.troubles import FLAP, KILL, RELOAD

QUERIES = 30_000
PER_SECOND = 1_200.0
"""So few that a worker's socket has room for those that come while it stands still for a moment."""


@pytest.mark.skipif(
    not can_compile() and os.environ.get("CI") != "true", reason="there is no C compiler for the load's client"
)
def test_every_answer_is_right_and_has_its_record_whatever_happens(tmp_path: Path) -> None:
    plan = Plan(
        queries=QUERIES,
        per_second=PER_SECOND,
        round=QUERIES // 2,
        troubles=[RELOAD, FLAP, KILL, FLAP, FLAP],
        pause=0.2,
        warms=False,
    )

    result = soak(tmp_path, plan)

    assert result.failures == []
    # That it was one: all was asked, and nearly all of it answered in spite of the troubles.
    assert result.troubles.done == {RELOAD: 1, FLAP: 3, KILL: 1}
    assert result.received.sent.total() == QUERIES
    assert result.received.answered.total() >= 0.98 * QUERIES
    assert any(rcode == "SERVFAIL" for _, rcode in result.received.answered), "while both upstreams were away"
    assert sum(map(sum, result.received.cold.values())) >= 0.15 * QUERIES
