"""Which upstream is asked, for how long, and when the next; the transports are played at their seam."""

import time

import dns.flags
import dns.message
import pytest

from resolver.upstream import FAILURES_TO_PENALTY, PENALTY_SECONDS
from tests.unit.resolver.bench import TWO_UPSTREAMS, Bench, Make, turn

A = "a.test. 300 A 192.0.2.7"
OTHER = "a.test. 300 A 192.0.2.8"


@pytest.fixture
def bench(make: Make) -> Bench:
    return make(document={"upstream": TWO_UPSTREAMS})


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the seconds by which the monotonic clock is ahead, to be set."""
    moved, real = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + moved[0])
    return moved


def asked(bench: Bench) -> list[tuple[str, str]]:
    return [(attempt.server.address.host[-2:], attempt.via) for attempt in bench.network.tries]


def answers(bench: Bench) -> list[str]:
    return [rdata.to_text() for sent in bench.sent for rrset in sent.message.answer for rdata in rrset]


async def test_who_is_silent_is_followed_by_the_next_and_each_is_asked_twice(bench: Bench, ahead: list[float]) -> None:
    bench.ask()
    for seconds in (1.1, 2.2, 3.3):
        ahead[0] = seconds
        bench.engine.forwarder._tick()
    assert asked(bench) == [("53", "udp"), ("54", "udp")] * 2
    ahead[0] = 4.4
    bench.engine.forwarder._tick()
    await turn()
    assert len(bench.sent) == 1
    assert bench.engine.forwarder.in_flight == 0


async def test_after_the_deadline_nobody_is_asked(make: Make, ahead: list[float]) -> None:
    bench = make(document={"upstream": TWO_UPSTREAMS | {"deadline_ms": 1500}})
    bench.ask()
    for seconds in (1.1, 2.2, 3.3):
        ahead[0] = seconds
        bench.engine.forwarder._tick()
    await turn()
    assert len(asked(bench)) == 2
    assert len(bench.sent) == 1


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED"])
async def test_a_failure_of_one_is_followed_by_the_next(bench: Bench, rcode: str) -> None:
    bench.ask()
    bench.network.last.answer(rcode=rcode)
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]
    assert bench.decision.upstream == "udp://192.0.2.54"


@pytest.mark.parametrize("rcode", ["NXDOMAIN", "FORMERR", "NOTIMP"])
async def test_any_other_code_is_an_answer(bench: Bench, rcode: str) -> None:
    bench.ask()
    bench.network.last.answer(rcode=rcode)
    await turn()
    assert len(bench.network.tries) == 1
    assert bench.decision.rcode == rcode


async def test_a_truncated_answer_is_asked_for_again_over_tcp(bench: Bench) -> None:
    """RFC 7766 section 5."""
    bench.ask()
    bench.network.last.answer(flags=dns.flags.TC)
    assert asked(bench) == [("53", "udp"), ("53", "stream")]
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]


async def test_when_tcp_brings_nothing_the_next_upstream_is_asked(bench: Bench) -> None:
    bench.ask()
    bench.network.last.answer(flags=dns.flags.TC)
    bench.network.last.lose()
    assert asked(bench)[-1] == ("54", "udp")
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]


async def test_a_late_truncated_answer_does_not_end_the_wait_for_the_whole_one(
    bench: Bench, ahead: list[float]
) -> None:
    """RFC 2181 section 9: what is truncated is neither passed on as whole nor cached."""
    bench.ask()
    for seconds in (1.1, 2.2):
        ahead[0] = seconds
        bench.engine.forwarder._tick()
    first, second, again = bench.network.tries
    assert again.server is first.server
    again.answer(flags=dns.flags.TC)
    first.answer(flags=dns.flags.TC)
    second.answer("a.test. 300 A 192.0.2.99", flags=dns.flags.TC)
    await turn()
    assert not bench.sent
    assert bench.network.last.via == "stream"
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]


async def test_what_a_stream_truncates_is_no_answer(make: Make) -> None:
    """There is no larger way to ask: it must not be taken for whole."""
    bench = make(document={"upstream": {"servers": ["tcp://192.0.2.53", "tcp://192.0.2.54"]}})
    bench.ask()
    bench.network.last.answer("a.test. 300 A 192.0.2.99", flags=dns.flags.TC)
    assert asked(bench) == [("53", "stream"), ("54", "stream")]
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]


async def test_a_loss_that_comes_late_costs_the_upstream_that_is_asked_now_nothing(
    bench: Bench, ahead: list[float]
) -> None:
    """As when a dead host's address can't be resolved for three seconds: ICMP comes when others are being asked."""
    bench.ask()
    ahead[0] = 1.1
    bench.engine.forwarder._tick()
    first, second = bench.network.tries
    for _ in range(5):
        first.lose()
    assert len(bench.network.tries) == 2
    assert not bench.sent
    second.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]


async def test_a_late_answer_is_still_good(bench: Bench, ahead: list[float]) -> None:
    bench.ask()
    ahead[0] = 1.1
    bench.engine.forwarder._tick()
    first, second = bench.network.tries
    first.answer(A)
    second.answer(OTHER)
    await turn()
    assert answers(bench) == ["192.0.2.7"]
    assert bench.decision.upstream == "udp://192.0.2.53"


async def test_who_was_silent_several_times_is_asked_last_for_a_while(bench: Bench, ahead: list[float]) -> None:
    for number in range(FAILURES_TO_PENALTY):
        bench.ask(f"n{number}.test")
        bench.network.last.lose()
        bench.network.last.answer(A)
        await turn()
    bench.ask("next.test")
    assert asked(bench)[-1] == ("54", "udp")
    bench.network.last.answer(A)
    await turn()
    ahead[0] = PENALTY_SECONDS + 1
    bench.ask("later.test")
    assert asked(bench)[-1] == ("53", "udp")
    bench.network.last.answer(A)
    await turn()
    bench.ask("last.test")
    assert asked(bench)[-1] == ("53", "udp")


async def test_an_answer_forgives(bench: Bench) -> None:
    for number in range(FAILURES_TO_PENALTY * 2):
        bench.ask(f"n{number}.test")
        if number % 2 == 0:
            bench.network.last.lose()
            assert asked(bench)[-1] == ("54", "udp")
        bench.network.last.answer(A)
        await turn()
    bench.ask("next.test")
    assert asked(bench)[-1] == ("53", "udp")


async def test_when_all_are_shunned_all_are_asked(bench: Bench) -> None:
    bench.network.unreachable = {"192.0.2.53", "192.0.2.54"}
    for number in range(FAILURES_TO_PENALTY):
        bench.ask(f"n{number}.test")
    bench.network.unreachable = set()
    bench.ask("next.test")
    assert asked(bench) == [("53", "udp")]


async def test_a_question_is_asked_anew_once_it_was_answered(bench: Bench) -> None:
    bench.ask()
    bench.network.last.answer("a.test. 0 A 192.0.2.7")
    await turn()
    bench.ask()
    assert len(bench.network.tries) == 2
