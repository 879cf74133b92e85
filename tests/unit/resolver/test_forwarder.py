"""Which upstream is asked, for how long, and when the next; the transports are played at their seam, time by hand."""

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from resolver.upstreams.exchange import PROBE_SECONDS
from tests.unit.resolver.bench import TWO_UPSTREAMS, Bench, Clock, Make, Try, turn
from tests.unit.resolver.forwarding import OTHER, A, answer, answers, asked, hosts, known
from tests.unit.resolver.messages import ede

FAILOVER = 0.25
THREE_UPSTREAMS = {"servers": ["udp://192.0.2.53", "udp://192.0.2.54", "udp://192.0.2.55"]}
MALFORMED = b"\0\0\x81\x80\0\1\0\1\0\0\0\0\1a\7example\0\0\1\0\1\xc0"


@pytest.fixture
async def bench(make: Make, clock: Clock) -> Bench:
    return await known(make(document={"upstream": TWO_UPSTREAMS}), clock)


# Who is asked, and when.


async def test_one_is_asked_while_it_answers_as_fast_as_ever(bench: Bench) -> None:
    for number in range(5):
        bench.ask(f"n{number}.example")
        answer(bench.network.last)
        await turn()
    assert hosts(bench) == ["53"] * 5
    assert len(bench.sent) == 5


async def test_who_takes_longer_than_ever_gets_company(bench: Bench, clock: Clock) -> None:
    """The first answers nineteen of twenty in 20 ms, or so it looks."""
    began = clock.ahead
    bench.ask()
    await clock.turn_to(began + 0.01)
    assert hosts(bench) == ["53"]
    await clock.turn_to(began + 0.05)
    assert hosts(bench) == ["53", "54"]
    first, second = bench.network.tries
    second.answer(OTHER)
    first.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.8"]
    assert bench.decision.upstream == "udp://192.0.2.54"


async def test_the_first_good_answer_wins_whoever_gives_it(bench: Bench, clock: Clock) -> None:
    bench.ask()
    await clock.turn_to(clock.ahead + 0.05)
    first, second = bench.network.tries
    first.answer(A)
    second.answer(OTHER)
    await turn()
    assert answers(bench) == ["192.0.2.7"]
    assert bench.decision.upstream == "udp://192.0.2.53"


async def test_who_is_slow_gets_company_within_the_setting(make: Make, clock: Clock) -> None:
    """However slow it always was."""
    bench = await known(make(document={"upstream": TWO_UPSTREAMS}), clock, (900, 950))
    began = clock.ahead
    bench.ask()
    await clock.turn_to(began + FAILOVER - 0.02)
    assert hosts(bench) == ["53"]
    await clock.turn_to(began + FAILOVER + 0.02)
    assert hosts(bench) == ["53", "54"]


async def test_the_faster_is_asked_first(make: Make, clock: Clock) -> None:
    bench = await known(make(document={"upstream": THREE_UPSTREAMS}), clock, (80, 40, 20))
    bench.ask()
    for _ in range(3):
        await clock.turn_to(clock.ahead + 0.2)
    assert hosts(bench)[:3] == ["55", "54", "53"]


async def test_the_others_are_asked_now_and_then_to_know_how_they_do(bench: Bench, clock: Clock) -> None:
    await clock.turn_to(clock.ahead + PROBE_SECONDS + 1)
    bench.ask()
    assert hosts(bench) == ["53", "54"]
    bench.network.tries[0].answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]
    bench.ask("b.example")
    assert hosts(bench) == ["53", "54", "53"]


async def test_each_is_asked_twice_and_that_is_all(bench: Bench, clock: Clock) -> None:
    bench.ask(use_edns=0)
    began = clock.ahead
    for step in range(1, 30):
        await clock.turn_to(began + step * 0.3)
    assert hosts(bench) == ["53", "54"] * 2
    assert [ede(sent.message) for sent in bench.sent] == [(22, "")]
    assert bench.engine.forwarder.in_flight == 0


async def test_at_the_deadline_it_is_over(make: Make, clock: Clock) -> None:
    """However long it may take until somebody else is asked."""
    document = {"upstream": TWO_UPSTREAMS | {"deadline_ms": 1500, "failover_ms": 1000}}
    bench = await known(make(document=document), clock)
    began = clock.ahead
    bench.ask()
    await clock.turn_to(began + 1.2)
    await clock.turn_to(began + 1.49)
    assert not bench.sent
    asked_before = len(bench.network.tries)
    await clock.turn_to(began + 1.52)
    assert len(bench.sent) == 1
    bench.network.last.answer(A)  # too late
    await clock.turn_to(began + 3)
    assert len(bench.sent) == 1
    assert len(bench.network.tries) == asked_before


# What one says that another may know better.


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"])
async def test_a_failure_of_one_is_followed_by_the_next_at_once(bench: Bench, rcode: str) -> None:
    bench.ask()
    bench.network.last.answer(rcode=rcode)
    assert hosts(bench) == ["53", "54"]
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]
    assert bench.decision.upstream == "udp://192.0.2.54"


async def test_a_failure_ends_no_wait_for_the_other(bench: Bench, clock: Clock) -> None:
    bench.ask()
    await clock.turn_to(clock.ahead + 0.05)
    first, second = bench.network.tries
    second.answer(rcode="SERVFAIL")
    await turn()
    assert not bench.sent
    first.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]


@pytest.mark.parametrize("rcode", ["NXDOMAIN", "YXDOMAIN"])
async def test_what_a_name_has_not_is_an_answer(bench: Bench, rcode: str) -> None:
    bench.ask()
    bench.network.last.answer(rcode=rcode)
    await turn()
    assert hosts(bench) == ["53"]
    assert bench.decision.rcode == rcode


async def test_an_answer_that_cant_be_read_is_followed_by_the_next(bench: Bench) -> None:
    bench.ask()
    bench.network.last.reply(MALFORMED)
    assert hosts(bench) == ["53", "54"]
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]


async def test_what_the_last_one_said_is_told_when_nobody_knew(bench: Bench) -> None:
    bench.ask(use_edns=0)
    for rcode in ("SERVFAIL", "SERVFAIL", "SERVFAIL", "REFUSED"):
        bench.network.last.answer(rcode=rcode)
    await turn()
    assert hosts(bench) == ["53", "54"] * 2
    assert ede(bench.sent[-1].message) == (22, "the upstream said REFUSED")


@pytest.mark.parametrize(
    ("rcode", "told"),
    [("NOTAUTH", (22, "the upstream said NOTAUTH")), ("BADVERS", (22, "the upstream said BADVERS"))],
)
async def test_any_other_code_is_none(bench: Bench, rcode: str, told: tuple[int, str]) -> None:
    """BADVERS and those beyond have their upper bits in the OPT record (RFC 6891 section 6.1.3)."""
    bench.ask(use_edns=0)
    for _ in range(4):
        attempt = bench.network.last
        response = dns.message.make_response(attempt.query, recursion_available=True)
        response.set_rcode(dns.rcode.from_text(rcode))
        attempt.reply(response)
        await turn()
    assert bench.sent[-1].message.rcode() == dns.rcode.SERVFAIL
    assert ede(bench.sent[-1].message) == told


async def test_an_upstreams_own_extended_error_is_passed_on(bench: Bench) -> None:
    """RFC 8914 section 4.7: what a validating upstream knows of the failure, the client should know."""
    bench.ask(use_edns=0)
    for _ in range(4):
        attempt = bench.network.last
        response = dns.message.make_response(attempt.query, recursion_available=True)
        response.set_rcode(dns.rcode.SERVFAIL)
        response.use_edns(
            0,
            options=[
                dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"x" * 8),
                dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS, "no signature"),
            ],
        )
        attempt.reply(response)
        await turn()
    assert ede(bench.sent[-1].message) == (6, "the upstream said SERVFAIL")


# Servers that know no EDNS.


def without_opt(attempt: Try, rcode: str) -> None:
    """Answer as a server does that has never heard of OPT records."""
    response = dns.message.make_response(attempt.query, recursion_available=True)
    response.use_edns(False)
    response.set_rcode(dns.rcode.from_text(rcode))
    attempt.reply(response)


def plainly(bench: Bench) -> list[bool]:
    """Tell of each try, before it is answered, whether it went without EDNS, and with no flag that came later."""
    return [attempt.query.edns < 0 and attempt.query.flags == dns.flags.RD for attempt in bench.network.tries]


@pytest.mark.parametrize("rcode", ["FORMERR", "NOTIMP"])
@pytest.mark.parametrize("scheme", ["udp", "tcp"])
@pytest.mark.parametrize("do", [False, True])
async def test_who_knows_no_edns_is_asked_without_and_that_is_remembered(
    make: Make, clock: Clock, rcode: str, scheme: str, do: bool
) -> None:
    """RFC 6891 sections 6.2.2 and 7. With DO as well: an answer without signatures is more than none."""
    bench = make(document={"upstream": {"servers": [f"{scheme}://192.0.2.53"]}})
    assert bench.ask(use_edns=0, want_dnssec=do) is None
    without_opt(bench.network.last, rcode)
    assert plainly(bench) == [True, True]  # what the server gets from now on, also where a try is sent once more
    assert len({attempt.via for attempt in bench.network.tries}) == 1
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]
    assert bench.sent[-1].message.edns == 0
    bench.network.tries.clear()
    for ahead, plain in [(1, True), (3590, True), (3610, False)]:
        await clock.turn_to(ahead)
        assert bench.ask(f"n{ahead}.example") is None
        assert plainly(bench)[-1] == plain
        bench.network.last.answer(A)
        await turn()


async def test_it_is_asked_once_more_and_no_oftener(bench: Bench) -> None:
    """And then the next."""
    bench.ask()
    for _ in range(2):
        without_opt(bench.network.last, "FORMERR")
    assert hosts(bench) == ["53", "53", "54"]
    assert plainly(bench) == [True, True, False]
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]
    bench.ask("b.example")
    assert plainly(bench)[-1] is False, "it didn't help: so it wasn't for that"


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "NXDOMAIN"])
async def test_any_other_code_without_opt_says_nothing_of_edns(bench: Bench, rcode: str) -> None:
    bench.ask()
    without_opt(bench.network.last, rcode)
    assert hosts(bench) == (["53"] if rcode == "NXDOMAIN" else ["53", "54"])


async def test_a_plain_answer_that_is_cut_is_asked_for_plainly_over_tcp(make: Make) -> None:
    bench = make()
    bench.ask(use_edns=0)
    without_opt(bench.network.last, "FORMERR")
    bench.network.last.answer(flags=dns.flags.TC)
    assert [via for _, via in asked(bench)] == ["udp", "udp", "stream"]
    assert plainly(bench)[-1]
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]


async def test_that_one_knows_no_edns_is_no_matter_of_the_others(make: Make, clock: Clock) -> None:
    bench = make(document={"upstream": TWO_UPSTREAMS})
    bench.ask()
    without_opt(bench.network.tries[0], "NOTIMP")
    bench.network.last.answer(A)
    await turn()
    bench.ask("b.example")
    await clock.turn_to(clock.ahead + 0.05)
    assert hosts(bench)[-2:] == ["53", "54"]
    assert plainly(bench)[-2:] == [True, False]


SOA = "example. 60 SOA ns.example. host.example. 1 2 3 4 60"


@pytest.mark.parametrize(
    ("records", "authority", "rcode", "is_proof"),
    [
        ([A], [], "NOERROR", True),
        ([], [SOA], "NOERROR", True),
        ([], [SOA], "NXDOMAIN", True),
        ([], [], "NOERROR", False),
        ([], [], "NXDOMAIN", False),
    ],
)
async def test_that_it_helped_to_ask_plainly_is_seen_from_records(
    make: Make, records: list[str], authority: list[str], rcode: str, is_proof: bool
) -> None:
    """What comes with nothing may be what any server says that has nothing, or has been told to say it."""
    bench = make()
    bench.ask()
    without_opt(bench.network.last, "FORMERR")
    bench.network.last.answer(*records, authority=authority, rcode=rcode)
    await turn()
    assert len(bench.sent) == 1
    bench.ask("b.example")
    assert plainly(bench)[-1] is is_proof


async def test_an_answer_with_opt_is_no_proof_that_it_helped(make: Make, clock: Clock) -> None:
    """It is to the try before that."""
    bench = make()
    bench.ask()
    await clock.turn_to(0.3)
    first, second = bench.network.tries
    response = dns.message.make_response(first.query)
    response.answer.append(dns.rrset.from_text("a.example.", 300, "IN", "A", "192.0.2.7"))
    assert response.edns == 0
    without_opt(second, "FORMERR")
    first.reply(response)
    await turn()
    assert answers(bench) == ["192.0.2.7"]
    bench.ask("b.example")
    assert plainly(bench)[-1] is False


async def test_who_was_seen_to_know_edns_is_asked_with_it_whatever_it_passes_on(make: Make, clock: Clock) -> None:
    """As a forwarder does with what a hostile name's server says: other names must not lose DO, AD and CD for that."""
    bench = make()
    bench.ask("sound.example")
    answer(bench.network.last)
    for number, (ahead, plain) in enumerate([(1, False), (3590, False), (3610, True)]):
        await clock.turn_to(ahead)
        bench.ask(f"hostile{number}.example")
        without_opt(bench.network.last, "FORMERR")
        answer(bench.network.last)
        await turn()
        assert len(bench.sent) == 2 + 2 * number
        bench.ask(f"n{number}.example")
        assert plainly(bench)[-1] is plain
        without_opt(bench.network.last, "NXDOMAIN")
        await turn()


async def test_who_answers_with_opt_after_all_is_asked_with_it_again(make: Make) -> None:
    bench = make()
    bench.ask("before.example")
    before = bench.network.last
    bench.ask("hostile.example")
    without_opt(bench.network.last, "FORMERR")
    answer(bench.network.last)
    await turn()
    bench.ask("b.example")
    assert plainly(bench)[-1] is True
    answer(before)
    await turn()
    bench.ask("c.example")
    assert plainly(bench)[-1] is False


def lame(attempt: Try, says: str) -> None:
    """Answer with neither a record of the name nor an SOA."""
    records = {"unrelated": ("other.example. 300 A 192.0.2.9",)}.get(says, ())
    attempt.answer(*records, authority=(". 300 NS a.root.example.",) if says == "referral" else ())


@pytest.mark.parametrize("says", ["nothing", "referral", "unrelated"])
async def test_who_says_nothing_at_all_is_followed_by_the_next(bench: Bench, says: str) -> None:
    bench.ask()
    lame(bench.network.last, says)
    assert hosts(bench) == ["53", "54"]
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]
    assert bench.decision.upstream == "udp://192.0.2.54"


@pytest.mark.parametrize("first", ["NOERROR", "SERVFAIL"])
@pytest.mark.parametrize("second", ["NOERROR", "SERVFAIL"])
async def test_that_there_is_nothing_is_what_clients_get_when_nobody_does_better(
    bench: Bench, first: str, second: str
) -> None:
    """A failure is no better. It isn't kept: who knows more may be there next time."""
    if first == second == "SERVFAIL":
        return
    bench.ask()
    bench.network.last.answer(rcode=first)
    bench.network.last.answer(rcode=second)
    await turn()
    assert hosts(bench) == ["53", "54"]
    (sent,) = bench.sent
    assert (sent.message.rcode(), sent.message.answer) == (dns.rcode.NOERROR, [])
    assert bench.decision.verdict == "allowed"
    assert bench.ask() is None


async def test_of_a_single_upstream_it_is_passed_on_at_once(make: Make) -> None:
    bench = make()
    reply = await bench.resolved()
    assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])
    assert len(bench.network.tries) == 1


async def test_who_is_silent_besides_is_not_waited_for_till_the_end(bench: Bench, clock: Clock) -> None:
    began = clock.ahead
    bench.ask()
    await clock.turn_to(began + 0.05)
    lame(bench.network.last, "nothing")
    await turn()
    assert not bench.sent
    await clock.turn_to(began + 0.05 + FAILOVER + 0.02)
    assert [sent.message.rcode() for sent in bench.sent] == [dns.rcode.NOERROR]
    assert hosts(bench) == ["53", "54"]


async def test_an_soa_alone_is_an_answer(bench: Bench) -> None:
    bench.ask()
    bench.network.last.answer(authority=["example. 60 SOA ns.example. host.example. 1 2 3 4 60"])
    await turn()
    assert hosts(bench) == ["53"]
    assert len(bench.sent) == 1


# Truncated answers.


async def test_a_truncated_answer_is_asked_for_again_over_tcp(bench: Bench) -> None:
    """RFC 7766 section 5."""
    bench.ask()
    bench.network.last.answer("a.example. 300 A 192.0.2.99", flags=dns.flags.TC)
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


async def test_a_bug_where_tcp_is_asked_costs_that_try(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> bool:
        raise ZeroDivisionError

    bench.ask()
    first = bench.network.last
    monkeypatch.setattr(first.server.over_tcp, "send", broken)
    first.answer(flags=dns.flags.TC)
    assert f"{first.server.name} can't be asked" in caplog.text
    assert asked(bench)[-1] == ("54", "udp")
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]


async def test_late_truncated_answers_do_not_end_the_wait_for_the_whole_one(bench: Bench, clock: Clock) -> None:
    """RFC 2181 section 9: what is truncated is neither passed on as whole nor cached."""
    bench.ask()
    began = clock.ahead
    for step in (0.3, 0.6):
        await clock.turn_to(began + step)
    first, second, again = bench.network.tries
    assert again.server is first.server
    again.answer(flags=dns.flags.TC)
    first.answer(flags=dns.flags.TC)
    second.answer("a.example. 300 A 192.0.2.99", flags=dns.flags.TC)
    await turn()
    assert not bench.sent
    assert bench.network.last.via == "stream"
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]


async def test_what_a_stream_truncates_is_no_answer(make: Make, clock: Clock) -> None:
    """There is no larger way to ask: it must not be taken for whole."""
    document = {"upstream": {"servers": ["tcp://192.0.2.53", "tcp://192.0.2.54"]}}
    bench = await known(make(document=document), clock)
    bench.ask()
    bench.network.last.answer("a.example. 300 A 192.0.2.99", flags=dns.flags.TC)
    assert asked(bench) == [("53", "stream"), ("54", "stream")]
    bench.network.last.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]


# Losses, and what comes late.


async def test_a_loss_is_followed_by_the_next_at_once(bench: Bench) -> None:
    bench.ask()
    bench.network.last.lose()
    assert hosts(bench) == ["53", "54"]


async def test_a_loss_that_comes_late_costs_the_upstream_that_is_asked_now_nothing(bench: Bench, clock: Clock) -> None:
    """As when a dead host's address can't be resolved for three seconds: ICMP comes when others are being asked."""
    bench.ask()
    await clock.turn_to(clock.ahead + 0.05)
    first, second = bench.network.tries
    for _ in range(5):
        first.lose()
    assert len(bench.network.tries) == 2
    assert not bench.sent
    second.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]


async def test_an_answer_after_the_try_is_over_is_still_good(bench: Bench, clock: Clock) -> None:
    bench.ask()
    await clock.turn_to(clock.ahead + 1.2)
    first = bench.network.tries[0]
    first.answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]
    assert bench.decision.upstream == "udp://192.0.2.53"


async def test_until_the_deadline_whoever_was_asked_may_answer(bench: Bench, clock: Clock) -> None:
    """As an upstream does that has far to go itself. That nobody is left to ask ends nothing."""
    bench.ask()
    began = clock.ahead
    for step in range(1, 39):
        await clock.turn_to(began + step * 0.1)
    assert hosts(bench) == ["53", "54"] * 2
    assert not bench.sent
    bench.network.tries[0].answer(A)
    await turn()
    assert answers(bench) == ["192.0.2.7"]


async def test_a_failure_is_told_before_the_deadline_when_the_others_are_silent(bench: Bench, clock: Clock) -> None:
    bench.ask()
    began = clock.ahead
    for step in range(1, 11):
        await clock.turn_to(began + step * 0.1)
    bench.network.tries[1].answer(rcode="SERVFAIL")
    for step in range(11, 15):
        await clock.turn_to(began + step * 0.1)
    assert len(bench.sent) == 1


async def test_a_question_is_asked_anew_once_it_was_answered(bench: Bench) -> None:
    bench.ask()
    bench.network.last.answer("a.example. 0 A 192.0.2.7")
    await turn()
    bench.ask()
    assert len(bench.network.tries) == 2


async def test_what_is_in_flight_when_a_worker_ends_is_answered_and_logged(bench: Bench) -> None:
    assert bench.ask() is None
    assert bench.ask("b.example") is None
    before = len(bench.records)
    bench.engine.forwarder.give_up()
    await turn()
    assert bench.engine.forwarder.in_flight == 0
    assert [record.decision.rcode for record in bench.records[before:]] == ["SERVFAIL", "SERVFAIL"]
    assert bench.sent[-1].message.rcode() == dns.rcode.SERVFAIL
