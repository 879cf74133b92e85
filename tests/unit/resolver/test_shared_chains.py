"""Chains of aliases and who waits for them: one for a question, within a time, and each lookup ends once."""

import dns.message
import dns.name
import dns.rcode
import pytest

from resolver.chains import CHAIN_LOAD
from resolver.rewriting import LONGEST_CHAIN
from resolver.transports import UDP
from resolver.upstreams.forwarder import MAX_WAITING
from tests.unit.resolver.bench import Bench, Clock, Make, turn
from tests.unit.resolver.messages import ede, rdata
from tests.unit.resolver.test_chains import OPEN, PUBLIC, SITE, WIKI, asked, led, zoned


def feed(bench: Bench, *names: str, times: int = 1, client: str | None = None) -> None:
    """Ask for names so many times, each time as another client unless one is given."""
    bench.counts = False
    for number in range(times):
        for name in names:
            peer = client or f"10.2.{number // 250}.{number % 250}"
            bench.feed(dns.message.make_query(name, "A").to_wire(), client=peer)
    bench.engine.flush()


def answer_links(bench: Bench, last: int = LONGEST_CHAIN - 1) -> None:
    """Answer what is asked for of n0.example and so on with an alias to the next, but for the last of them."""
    while True:
        attempt = bench.network.last
        number = int(attempt.exchange.name.split(".")[0][1:])
        if attempt.exchange.finished or number >= last:
            return
        attempt.answer(f"n{number}.example. 9 CNAME n{number + 1}.example.")


def left(bench: Bench) -> tuple[set[int], int, int, int]:
    """Return what waits: of clients, of exchanges, of chains and of their links."""
    clients = bench.engine.clients.by_transport[UDP].young.values()
    chains = bench.engine._stages._chains
    in_flight = {client.allowance.in_flight for client in clients}
    return in_flight, bench.engine.forwarder.in_flight, len(chains.under_way), len(chains.waiting)


NOTHING = ({0}, 0, 0, 0)


# Each lookup ends.


@pytest.mark.parametrize("where", ["find", "is_ours"])
async def test_a_bug_on_the_way_ends_the_lookups_that_wait(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    bench = zoned(make)
    bench.ask("a.example")
    bench.ask("a.example", client="10.0.0.2")

    def failing(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(bench.engine._stages.local, where, failing)
    if where == "is_ours":  # asked once it is all there
        monkeypatch.setattr("policy.decide.decide", failing)
    bench.network.last.answer(OPEN)
    if where == "is_ours":
        bench.network.last.answer(SITE)
    await turn()
    assert [sent.message.rcode() for sent in bench.sent] == [dns.rcode.SERVFAIL] * 2
    assert [record.decision.verdict for record in bench.records] == ["failed"] * 2
    assert left(bench) == NOTHING
    assert "RuntimeError: a bug" in caplog.text


async def test_a_bug_in_asking_does_too(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = zoned(make, "portal.example CNAME site.example")

    def failing(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(bench.engine.forwarder, "ask", failing)
    bench.ask("portal.example")
    await turn()
    assert [record.decision.verdict for record in bench.records] == ["failed"]
    assert left(bench) == NOTHING


@pytest.mark.parametrize(
    "records",
    [
        ["*.wild.example A 10.1.2.3"],
        ["*.wild.example CNAME x.example", "x.example A 10.1.2.3"],
        ["*.wild.example CNAME site.example"],
    ],
)
@pytest.mark.parametrize("label", ["\\128", "\\200\\000", "\\001" * 20])
async def test_names_of_any_octets_lead_on(make: Make, records: list[str], label: str) -> None:
    """What others choose is no bug of ours."""
    bench = zoned(make, *records)
    bench.ask(f"{label}.wild.example", "AAAA")
    bench.ask("a.example", "AAAA")
    bench.network.last.answer(f"a.example. 9 CNAME {label}.wild.example.")
    for attempt in [attempt for attempt in bench.network.tries if not attempt.exchange.finished]:
        attempt.answer("site.example. 60 AAAA 2001:db9::1")
    await turn()
    assert [sent.message.rcode() for sent in bench.sent] == [dns.rcode.NOERROR] * 2
    assert left(bench) == NOTHING


async def test_no_upstream_can_be_reached(make: Make) -> None:
    bench = zoned(make, "portal.example CNAME site.example")
    bench.ask("a.example")
    bench.network.unreachable.add("192.0.2.60")
    bench.network.last.answer("a.example. 9 CNAME dc.ad.example.")
    await turn()
    bench.network.unreachable.add("192.0.2.53")
    bench.ask("portal.example")
    await turn()
    assert [sent.message.rcode() for sent in bench.sent] == [dns.rcode.SERVFAIL] * 2
    assert left(bench) == NOTHING


async def test_no_more_can_be_asked(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = zoned(make, "portal.example CNAME site.example")
    monkeypatch.setattr("resolver.upstreams.forwarder.MAX_IN_FLIGHT", 0)
    bench.ask("portal.example")
    await turn()
    assert [sent.message.rcode() for sent in bench.sent] == [dns.rcode.SERVFAIL]
    assert left(bench) == NOTHING


async def test_an_alias_to_aliases_of_ours_in_a_circle_is_a_failure(make: Make) -> None:
    bench = zoned(make, "*.loop.example CNAME again.loop.example")
    reply = await led(bench, "a.example", ("a.example. 9 CNAME x.loop.example.",), use_edns=0)
    assert (reply.rcode(), ede(reply)) == (dns.rcode.SERVFAIL, (23, "aliases in a circle"))
    assert left(bench) == NOTHING


# Those who ask for the same share a chain.


async def test_who_asks_for_a_name_that_is_being_followed_waits_as_well(make: Make) -> None:
    bench = zoned(make)
    feed(bench, "n0.example")
    answer_links(bench)
    feed(bench, "n0.example", times=300)
    assert len(bench.network.tries) == LONGEST_CHAIN
    bench.network.last.answer("n15.example. 9 A 192.0.2.7")
    await turn()
    assert len(bench.sent) == 301
    assert left(bench) == NOTHING
    assert rdata(bench.sent[-1].message)[0] == "192.0.2.7"


async def test_so_does_who_asks_for_an_alias_of_ours(make: Make) -> None:
    bench = zoned(make, "portal.example CNAME site.example")
    feed(bench, "portal.example", times=MAX_WAITING + 10)
    refused = len(bench.sent)
    assert 0 < refused <= 10 + CHAIN_LOAD
    assert len(bench.network.tries) == 1
    bench.network.last.answer(SITE)
    await turn()
    assert len(bench.sent) == MAX_WAITING + 10
    assert {sent.message.rcode() for sent in bench.sent[refused:]} == {dns.rcode.NOERROR}
    assert left(bench) == NOTHING


async def test_aliases_that_wait_for_one_target_are_few_enough_too(make: Make) -> None:
    """A wildcard of ours has any number of names."""
    bench = zoned(make, "*.wild.example CNAME site.example")
    feed(bench, *(f"n{number}.wild.example" for number in range(MAX_WAITING)), client="127.0.0.1")
    (link,) = bench.engine._stages._chains.waiting.values()
    assert MAX_WAITING <= link.load < MAX_WAITING + 2 * CHAIN_LOAD
    bench.network.last.answer(SITE)
    await turn()
    assert len(bench.sent) == MAX_WAITING
    assert not bench.engine._stages._chains.waiting


@pytest.mark.parametrize("name", ["wiki.ad.example", "portal.example"])
async def test_a_name_is_renewed_once(make: Make, clock: Clock, name: str) -> None:
    bench = zoned(make, "portal.example CNAME wiki.ad.example")
    await led(bench, name, (WIKI,), ("site.example. 100 A 192.0.2.7",))
    await clock.turn_to(95)
    asked_before = len(bench.network.tries)
    for number in range(50):
        query = dns.message.make_query(name, "A", use_edns=0, payload=600 + number)
        bench.feed(query.to_wire())
        if not bench.network.last.exchange.finished and bench.network.last.exchange.name == "wiki.ad.example":
            bench.network.last.answer(WIKI)
    bench.engine.flush()
    assert len(bench.network.tries) == asked_before + 2
    assert len(bench.engine._stages._chains.under_way) == 1
    bench.network.last.answer("site.example. 100 A 192.0.2.8")
    assert left(bench) == NOTHING
    await clock.turn_to(101)
    assert "192.0.2.8" in rdata(bench.reply_to(name))


async def test_names_that_lead_to_each_other_fail(make: Make) -> None:
    """Neither waits for the other."""
    bench = zoned(make)
    bench.ask("n0.example")
    bench.network.last.answer("n0.example. 9 CNAME n1.example.")
    bench.ask("n1.example")
    bench.network.last.answer("n1.example. 9 CNAME n0.example.")
    bench.network.last.answer("n0.example. 9 CNAME n1.example.")
    await turn()
    assert [sent.message.rcode() for sent in bench.sent] == [dns.rcode.SERVFAIL] * 2
    assert left(bench) == NOTHING


# Time.


async def slowly(bench: Bench, clock: Clock, each: float, links: int) -> None:
    """Answer each link after so many seconds, which are looked at in quarters, until a reply is sent."""
    for number in range(links):
        end = clock.ahead + each
        while clock.ahead < end and not bench.sent:
            await clock.turn_to(min(end, clock.ahead + 0.25))
        if bench.sent:
            return
        open_ones = [attempt for attempt in bench.network.tries if not attempt.exchange.finished]
        open_ones[-1].answer(f"n{number}.example. 9 CNAME n{number + 1}.example.")


@pytest.mark.parametrize("name", ["n0.example", "portal.example"])
async def test_a_chain_takes_no_longer_than_an_exchange(make: Make, clock: Clock, name: str) -> None:
    bench = zoned(make, "portal.example CNAME n0.example")
    bench.ask(name, use_edns=0)
    await slowly(bench, clock, 1.6, links=LONGEST_CHAIN)
    assert 4 <= clock.ahead <= 4.25
    (sent,) = bench.sent
    assert (sent.message.rcode(), ede(sent.message)) == (dns.rcode.SERVFAIL, (22, ""))
    tries = bench.network.tries
    await turn()
    for attempt in [attempt for attempt in tries if not attempt.exchange.finished]:  # what still comes goes nowhere
        attempt.answer(f"{attempt.exchange.name}. 9 CNAME n9.example.")
    assert (len(bench.sent), left(bench)) == (1, NOTHING)


@pytest.mark.parametrize("name", ["n0.example", "portal.example"])
async def test_what_was_known_is_given_when_the_links_together_take_long(make: Make, clock: Clock, name: str) -> None:
    bench = zoned(make, "portal.example CNAME n0.example")
    links = [(f"n{number}.example. 9 CNAME n{number + 1}.example.",) for number in range(5)]
    await led(bench, name, *links, ("n5.example. 9 A 192.0.2.1",))
    bench.sent.clear()
    await clock.turn_to(100)
    bench.ask(name)
    await slowly(bench, clock, 1, links=5)
    assert 101.8 <= clock.ahead <= 102.05
    assert "192.0.2.1" in rdata(bench.sent[-1].message)
    assert "192.0.2.1" in rdata(bench.reply_to(name, client="10.0.0.2"))  # at once: it is known to take long


# What the log says.


async def test_an_alias_of_ours_to_what_is_cached_is_cached(make: Make) -> None:
    """Nobody was asked, so nothing waits: not even a client waits that may have nothing more in flight."""
    bench = zoned(make, "portal.example CNAME site.example")
    await bench.resolved(SITE, name="site.example")
    (client,) = bench.engine.clients.by_transport[UDP].young.values()
    client.allowance.in_flight = 300
    assert rdata(bench.reply_to("portal.example")) == ["192.0.2.7", "site.example."]
    assert (bench.decision.cached, bench.decision.upstream) == (True, PUBLIC)
    assert client.allowance.in_flight == 300


async def test_one_to_what_has_to_be_asked_for_is_not(make: Make) -> None:
    bench = zoned(make, "portal.example CNAME a.example")
    await bench.resolved(SITE, name="site.example")
    bench.sent.clear()
    await led(bench, "portal.example", (OPEN,))
    assert (bench.decision.cached, bench.decision.upstream) == (False, PUBLIC)


# What was taken out.


LONG = [f"n{number}.example. 9 CNAME n{number + 1}.example." for number in range(15)]


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (["b.example. 9 CNAME a.example.", "a.example. 9 A 10.1.1.1"], "aliases in a circle"),
        (["b.example. 9 CNAME n0.example.", *LONG, "n15.example. 9 A 10.1.1.1"], "too many aliases"),
    ],
)
async def test_a_chain_to_a_private_address_has_bounds_as_well(make: Make, target: list[str], problem: str) -> None:
    bench = zoned(make)
    reply = await led(bench, "a.example", ("a.example. 9 CNAME b.example.",), tuple(target), use_edns=0)
    assert (reply.rcode(), ede(reply)) == (dns.rcode.SERVFAIL, (23, problem))
    assert asked(bench) == [(PUBLIC, "a.example"), (PUBLIC, "b.example")]
