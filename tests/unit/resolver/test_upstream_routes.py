"""Whom a question goes to: not first to who failed or was silent of late, and to a zone's own servers alone."""

import pytest

from resolver.upstreams.server import FAILURES_TO_PENALTY, PENALTY_SECONDS
from tests.unit.resolver.bench import TWO_UPSTREAMS, Bench, Clock, Make, turn
from tests.unit.resolver.forwarding import answer, hosts, known


@pytest.fixture
async def bench(make: Make, clock: Clock) -> Bench:
    return await known(make(document={"upstream": TWO_UPSTREAMS}), clock)


# Who is asked last.


async def lose_first(bench: Bench, clock: Clock, times: int) -> None:
    """Have the network refuse the first upstream so many times."""
    for number in range(times):
        bench.ask(f"lost{number}-{clock.ahead}.example")
        bench.network.last.lose()
        answer(bench.network.last)
        await clock.turn_to(clock.ahead + 0.15)  # the order holds for 100 ms


async def test_who_failed_several_times_is_asked_last_for_a_while(bench: Bench, clock: Clock) -> None:
    await lose_first(bench, clock, FAILURES_TO_PENALTY - 1)
    assert hosts(bench) == ["53", "54"] * (FAILURES_TO_PENALTY - 1)
    await lose_first(bench, clock, 1)
    bench.network.tries.clear()
    bench.ask("next.example")
    assert hosts(bench) == ["54"]
    answer(bench.network.last)
    await clock.turn_to(clock.ahead + PENALTY_SECONDS)
    bench.ask("later.example")
    assert hosts(bench)[1] == "53"


async def test_an_answer_forgives(bench: Bench, clock: Clock) -> None:
    for _ in range(FAILURES_TO_PENALTY):
        await lose_first(bench, clock, FAILURES_TO_PENALTY - 1)
        bench.network.tries.clear()
        bench.ask(f"n{clock.ahead}.example")
        assert hosts(bench) == ["53"]
        answer(bench.network.last)
        await clock.turn_to(clock.ahead + 0.15)


async def test_who_is_silent_is_asked_last_though_others_answer(bench: Bench, clock: Clock) -> None:
    """Each time the other is asked besides and answers: the first must not keep everybody waiting for long."""
    for number in range(20):
        bench.network.tries.clear()
        bench.ask(f"n{number}.example")
        if hosts(bench) == ["54"]:
            return
        await clock.turn_to(clock.ahead + 0.06)
        assert hosts(bench) == ["53", "54"]
        await clock.turn_to(clock.ahead + 0.03)  # no faster than the first was
        answer(bench.network.last)
        await clock.turn_to(clock.ahead + 0.15)
    pytest.fail("the silent upstream is still asked first")


async def test_late_answers_clear_who_was_thought_silent(bench: Bench, clock: Clock) -> None:
    """It is slow today, and alive: what comes after another's answer counts."""
    for number in range(20):
        bench.ask(f"n{number}.example")
        await clock.turn_to(clock.ahead + 0.06)
        assert hosts(bench) == ["53", "54"]
        first, second = bench.network.tries
        answer(second)
        answer(first)
        await clock.turn_to(clock.ahead + 0.15)
        bench.network.tries.clear()
        status = {one["upstream"]: one for one in bench.engine.forwarder.status()}
        assert status["udp://192.0.2.53"]["trusted"]
        if status["udp://192.0.2.53"]["latency_ms"] > status["udp://192.0.2.54"]["latency_ms"]:
            return
    pytest.fail("that it is slower was never noticed")


async def test_when_all_are_shunned_all_are_asked(bench: Bench, clock: Clock) -> None:
    bench.network.unreachable = {"192.0.2.53", "192.0.2.54"}
    for number in range(FAILURES_TO_PENALTY):
        assert bench.ask(f"n{number}.example") is not None or not bench.network.tries
    await turn()
    bench.network.unreachable = set()
    await clock.turn_to(clock.ahead + 0.15)
    bench.ask("next.example")
    assert hosts(bench) == ["53"]


# Routes.

ROUTED = TWO_UPSTREAMS | {
    "zones": {
        "ad.example": ["udp://192.0.2.60"],
        "deep.ad.example": ["udp://192.0.2.61"],
        "2.0.192.in-addr.arpa": ["udp://192.0.2.62"],
    }
}


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("a.example", "53"),
        ("ad.example", "60"),
        ("x.y.AD.example", "60"),
        ("notad.example", "53"),
        ("deep.ad.example", "61"),
        ("a.deep.ad.example", "61"),
        ("1.2.0.192.in-addr.arpa", "62"),
    ],
)
async def test_the_longest_zone_that_a_name_is_in_says_who_is_asked(
    make: Make, clock: Clock, name: str, host: str
) -> None:
    bench = await known(make(document={"upstream": ROUTED}), clock)
    assert bench.ask(name) is None
    assert hosts(bench) == [host]


@pytest.mark.parametrize(
    ("name", "host"),
    [("ad.example", "53"), ("deep.ad.example", "60"), ("x.ad.example", "60"), ("a.deep.ad.example", "61")],
)
async def test_ds_is_asked_for_on_the_parents_side(make: Make, clock: Clock, name: str, host: str) -> None:
    """RFC 4035 section 3.1.4.1."""
    bench = await known(make(document={"upstream": ROUTED}), clock)
    assert bench.ask(name, "DS") is None
    assert hosts(bench) == [host]


async def test_ds_below_a_special_name_never_leaves(make: Make) -> None:
    """A zone that is served below one that isn't: there it is, and not signed."""
    bench = make(document={"upstream": ROUTED | {"zones": {"corp.local": ["udp://192.0.2.60"]}}})
    reply = bench.reply_to("corp.local", "DS")
    assert (reply.rcode(), reply.answer, len(reply.authority)) == (0, [], 1)
    assert bench.ask("corp.local", "SOA") is None
    assert hosts(bench) == ["60"]


async def test_nobody_else_is_asked_for_a_zone(make: Make, clock: Clock) -> None:
    """What is inside the district must not leave it when its servers are gone."""
    bench = await known(make(document={"upstream": ROUTED}), clock)
    bench.ask("dc.ad.example")
    began = clock.ahead
    for step in range(1, 30):
        await clock.turn_to(began + step * 0.3)
    assert hosts(bench) == ["60", "60"]
    assert len(bench.sent) == 1


async def test_a_zones_silent_servers_keep_nobody_else_waiting(
    make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolver.upstreams.forwarder.MAX_ON_A_ROUTE", 3)
    bench = await known(make(document={"upstream": ROUTED}), clock)
    assert [bench.ask(f"n{number}.ad.example") for number in range(3)] == [None] * 3
    assert bench.ask("n3.ad.example") is not None
    assert bench.decision.verdict == "failed"
    assert bench.ask("a.example") is None
    assert bench.ask("n1.ad.example") is None  # shares the exchange that is under way
    bench.network.tries[0].answer("n0.ad.example. 300 A 192.0.2.7")
    await turn()
    assert bench.ask("n4.ad.example") is None
