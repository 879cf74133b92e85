"""When nobody answers: failures are remembered, what was known before is told, and busy names are asked for early."""

import random
from typing import Any

import dns.edns
import dns.message
import dns.rcode
import pytest

from tests.unit.policy.build import Listed, block
from tests.unit.resolver.bench import TWO_UPSTREAMS, Bench, Clock, Make, turn
from tests.unit.resolver.messages import ede, rdata

A = "a.example. 100 A 192.0.2.7"
SOA = "example. 100 SOA ns.example. host.example. 1 2 3 4 100"
STALE = {"cache": {"stale_seconds": 1000, "failure_seconds": 5}}


@pytest.fixture
async def bench(make: Make, clock: Clock) -> Bench:
    """Give an engine that knew a.example, for 100 seconds, 150 seconds ago."""
    made = make(document=STALE)
    await made.resolved(A)
    clock.ahead = 150.0
    return made


async def failed(bench: Bench, **options: Any) -> dns.message.Message:
    """Ask, have every try refused by the network, and return the reply."""
    assert bench.ask(**{"use_edns": 0} | options) is None
    while bench.engine.forwarder.in_flight:
        bench.network.last.lose()
    await turn()
    return bench.sent[-1].message


# Failures (RFC 9520).


async def test_a_failure_is_remembered(make: Make, clock: Clock) -> None:
    """Section 3.2: for at least a second and at most five minutes nobody is asked again."""
    bench = make(document=STALE)
    first = await failed(bench)
    asked = len(bench.network.tries)
    for clock.ahead in (0.0, 1.0, 4.9):
        reply = bench.reply_to(use_edns=0)
        assert (reply.rcode(), ede(reply)) == (dns.rcode.SERVFAIL, ede(first))
        assert bench.decision.verdict == "failed"
    assert len(bench.network.tries) == asked
    clock.ahead = 5.1
    assert bench.ask() is None
    assert len(bench.network.tries) == asked + 1


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED"])
async def test_what_upstreams_fail_at_is_remembered_too(make: Make, clock: Clock, rcode: str) -> None:
    bench = make(document=STALE)
    assert bench.ask() is None
    for _ in range(2):
        bench.network.last.answer(rcode=rcode)
    await turn()
    assert ede(bench.reply_to(use_edns=0)) == (22, "")
    assert len(bench.network.tries) == 2


@pytest.mark.parametrize(
    "other", [{"rdtype": "AAAA"}, {"name": "b.example"}, {"want_dnssec": True}, {"flags": 0x0110}], ids=str
)
async def test_a_failure_says_nothing_of_other_questions(make: Make, other: dict[str, Any]) -> None:
    bench = make()
    await failed(bench)
    assert bench.ask(**{"use_edns": 0} | other) is None


async def test_how_long_is_a_setting(make: Make, clock: Clock) -> None:
    bench = make(document={"cache": {"failure_seconds": 60}})
    await failed(bench)
    clock.ahead = 59.0
    assert bench.ask() is not None
    clock.ahead = 61.0
    assert bench.ask() is None


# Stale answers (RFC 8767).


async def test_after_a_failure_what_was_known_is_told(bench: Bench, clock: Clock) -> None:
    """Section 4: with a TTL of 30 seconds. RFC 8914 section 4.4: and EDE 3."""
    reply = await failed(bench)
    assert (rdata(reply), reply.answer[0].ttl, ede(reply)) == (["192.0.2.7"], 30, (3, ""))
    assert (bench.decision.verdict, bench.decision.rcode, bench.decision.cached) == ("allowed", "NOERROR", True)
    assert bench.decision.upstream == "udp://192.0.2.53"
    asked = len(bench.network.tries)
    again = bench.reply_to(use_edns=0)  # at once, from the failure that is remembered
    assert (rdata(again), again.answer[0].ttl, ede(again)) == (["192.0.2.7"], 30, (3, ""))
    assert bench.reply_to(use_edns=False).edns == -1
    assert len(bench.network.tries) == asked


async def test_a_failure_that_is_told_is_followed_by_what_was_known(bench: Bench) -> None:
    assert bench.ask(use_edns=0) is None
    for _ in range(2):
        bench.network.last.answer(rcode="SERVFAIL")
    await turn()
    assert (rdata(bench.sent[-1].message), ede(bench.sent[-1].message)) == (["192.0.2.7"], (3, ""))


async def test_that_a_name_was_not_there_is_told_with_a_code_of_its_own(make: Make, clock: Clock) -> None:
    """RFC 8914 section 4.20."""
    bench = make(document=STALE)
    await bench.resolved(authority=[SOA], rcode="NXDOMAIN")
    clock.ahead = 150.0
    reply = await failed(bench)
    assert (reply.rcode(), reply.authority[0].ttl, ede(reply)) == (dns.rcode.NXDOMAIN, 30, (19, ""))


async def test_who_waits_for_long_is_told_what_was_known(bench: Bench, clock: Clock) -> None:
    """Section 5: after 1.8 seconds. The question goes on, and its answer is kept."""
    assert bench.ask(use_edns=0) is None
    for clock.ahead in (150.5, 151.0, 151.5, 151.75):
        await clock.turn_to(clock.ahead)
    assert len(bench.sent) == 1
    await clock.turn_to(152.1)
    assert len(bench.sent) == 2
    reply = bench.sent[-1].message
    assert (rdata(reply), reply.answer[0].ttl, ede(reply)) == (["192.0.2.7"], 30, (3, ""))
    bench.network.tries[1].answer("a.example. 100 A 192.0.2.8")
    await turn()
    assert len(bench.sent) == len(bench.records) == 2
    assert rdata(bench.reply_to()) == ["192.0.2.8"]
    assert bench.reply_to().answer[0].ttl == 100


async def test_who_asks_later_does_not_wait_as_long_again(bench: Bench, clock: Clock) -> None:
    assert bench.ask() is None
    for step in range(1, 22):
        await clock.turn_to(150 + step * 0.1)
    assert len(bench.sent) == 2
    assert rdata(bench.sent[-1].message) == ["192.0.2.7"]
    reply = bench.reply_to(use_edns=0)
    assert (rdata(reply), ede(reply)) == (["192.0.2.7"], (3, ""))
    assert len({attempt.exchange for attempt in bench.network.tries}) == 2


async def test_who_knew_nothing_waits_on(bench: Bench, clock: Clock) -> None:
    """Of two who wait for the same, by different ways of asking, each has its own."""
    assert bench.ask("new.example") is None
    for step in range(1, 20):
        await clock.turn_to(150 + step * 0.2)
    assert len(bench.sent) == 1
    await clock.turn_to(154.5)
    assert bench.sent[-1].message.rcode() == dns.rcode.SERVFAIL


async def test_the_moment_is_a_setting(make: Make, clock: Clock) -> None:
    bench = make(document={"cache": {"stale_after_ms": 300}})
    await bench.resolved(A)
    clock.ahead = 150.0
    assert bench.ask() is None
    for step in range(1, 7):
        await clock.turn_to(150 + step * 0.1)
    assert rdata(bench.sent[-1].message) == ["192.0.2.7"]
    assert len(bench.sent) == 2


@pytest.mark.parametrize(("age", "told"), [(1099.0, True), (1101.0, False)])
async def test_what_is_too_old_is_not_told(bench: Bench, clock: Clock, age: float, told: bool) -> None:
    clock.ahead = age
    reply = await failed(bench)
    assert (reply.rcode() == dns.rcode.NOERROR) == told


async def test_it_may_be_switched_off(make: Make, clock: Clock) -> None:
    bench = make(document={"cache": {"stale_seconds": 0}})
    await bench.resolved(A)
    clock.ahead = 100.5
    assert (await failed(bench)).rcode() == dns.rcode.SERVFAIL


async def test_when_upstreams_are_back_the_answer_is_new(bench: Bench, clock: Clock) -> None:
    await failed(bench)
    clock.ahead += 5.5
    reply = await bench.resolved("a.example. 100 A 192.0.2.8", use_edns=0)
    assert (rdata(reply), reply.answer[0].ttl, ede(reply)) == (["192.0.2.8"], 100, None)


async def test_what_was_known_opens_nothing_that_is_blocked_by_now(make: Make, clock: Clock) -> None:
    bench = make(document=STALE)
    await bench.resolved("a.example. 100 CNAME www.bad.example.", "www.bad.example. 100 A 192.0.2.7")
    other = make(lists=[Listed("one", "adult", [block("bad.example")])], version=2)
    bench.engine.adopt(other.engine.snapshot)
    clock.ahead = 150.0
    reply = await failed(bench)
    assert (rdata(reply), ede(reply)) == (["0.0.0.0"], (15, "adult"))


# Asked for early.


async def test_in_the_last_tenth_of_its_life_it_is_asked_for_again_once(make: Make, clock: Clock) -> None:
    bench = make(document={"upstream": TWO_UPSTREAMS})
    await bench.resolved(A)
    bench.network.tries.clear()
    clock.ahead = 89.5
    bench.reply_to()
    assert not bench.network.tries
    for clock.ahead in (90.5, 90.6, 91.7):
        assert rdata(bench.reply_to()) == ["192.0.2.7"]
        assert bench.reply_to(use_edns=0).answer[0].ttl == 100 - int(clock.ahead)
    assert len({attempt.exchange for attempt in bench.network.tries}) == 1
    assert bench.decision.cached
    bench.network.last.answer("a.example. 100 A 192.0.2.8")
    await turn()
    assert len(bench.sent) == len(bench.records)  # nobody gets an answer to what nobody asked
    clock.ahead = 93.0
    reply = bench.reply_to()
    assert (rdata(reply), reply.answer[0].ttl) == (["192.0.2.8"], 99)
    clock.ahead = 150.0
    assert bench.reply_to() is not None


async def test_what_failed_is_not_asked_for_early_again_and_again(make: Make, clock: Clock) -> None:
    """RFC 9520 section 3.2 holds for these questions too."""
    bench = make()
    await bench.resolved(A)
    for step in range(16):
        clock.ahead = 91 + step * 0.3
        assert rdata(bench.reply_to()) == ["192.0.2.7"]
        while bench.engine.forwarder.in_flight:
            bench.network.last.lose()
        await turn()
    assert len(bench.network.tries) == 1 + 2


async def test_what_lives_shortly_is_asked_for_when_somebody_wants_it(make: Make, clock: Clock) -> None:
    bench = make()
    await bench.resolved("a.example. 9 A 192.0.2.7")
    clock.ahead = 8.9
    bench.reply_to()
    assert len(bench.network.tries) == 1


async def test_who_asks_while_it_is_asked_for_early_shares_the_question(make: Make, clock: Clock) -> None:
    bench = make()
    await bench.resolved(A)
    clock.ahead = 99.5
    bench.reply_to()
    clock.ahead = 100.5
    assert bench.ask() is None
    assert len({attempt.exchange for attempt in bench.network.tries}) == 2
    bench.network.last.answer("a.example. 100 A 192.0.2.8")
    await turn()
    assert rdata(bench.sent[-1].message) == ["192.0.2.8"]


# TTLs of what is told again.


@pytest.mark.parametrize("seed", range(5))
async def test_no_ttl_is_higher_than_what_is_left(make: Make, clock: Clock, seed: int) -> None:
    """However a question is asked and whatever remembered it, the TTL is what is left, to the second, and falls."""
    bench = make()
    await bench.resolved(A, "a.example. 40 AAAA 2001:db8::1", "a.example. 100 A 192.0.2.8")
    chosen = random.Random(seed)
    ways: list[tuple[bool | int, list[dns.edns.Option] | None]] = [
        (False, None),
        (0, None),
        (0, [dns.edns.ECSOption("192.0.2.1")]),
    ]
    asked = [
        dns.message.make_query(name, "A", use_edns=edns, want_dnssec=False, options=options, id=1).to_wire()
        for name in ("a.example", "A.eXample")
        for edns, options in ways
    ]
    last = 100
    while clock.ahead < 86:
        clock.ahead += chosen.choice([0.0, 0.1, 0.4, 0.9, 1.0, 3.3])
        reply = dns.message.from_wire(bench.ask_octets(chosen.choice(asked)) or b"")
        (found,) = reply.answer
        assert found.ttl == 100 - int(clock.ahead)
        assert found.ttl <= last
        last = found.ttl
        assert len(found) == 2
    assert len(bench.network.tries) == 1
