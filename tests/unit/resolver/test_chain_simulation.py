"""Aliases under everything at once: random questions, answers, losses, bugs and hours of the day, by a seed.

What is held, at each step and in the end: every lookup ends once, with one record and one reply, within the time of one
exchange; what waits is counted; for one question there is one chain; and nothing is left over.
"""

import pkgutil
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import dns.message
import pytest

from resolver.chains import CHAIN_LOAD, Chains
from resolver.clients import Allowance
from resolver.rewriting import LONGEST_CHAIN
from resolver.transports import UDP
from tests.unit.policy.build import Listed, block, exception
from tests.unit.resolver.bench import Bench, Clock, Make, Try, turn
from tests.unit.resolver.test_chains import zoned

STEPS = 250
DEADLINE = 4.0  # seconds: the setting's default
TICK = 0.02  # seconds by which an exchange may end later
CLIENTS = ["10.0.0.1", "10.1.0.2", "10.0.0.3", "127.0.0.1"]
RECORDS = [
    "portal.example CNAME n0.example",
    "own.example CNAME portal.example",
    "*.wild.example CNAME n3.example",
    "n9.example A 10.0.0.3",
]
NAMES = [
    *(f"n{number}.example" for number in range(10)),
    *("portal.example", "own.example", "a.wild.example", "b.wild.example", "\\128.wild.example"),
    *("n8.ad.example", "n3.ad.example", "x.localhost", "gone.test"),
]
SOA = "30 SOA a. b. 1 2 3 4 30"


@dataclass
class Simulation:
    """One engine, and all that was asked of it."""

    bench: Bench
    clock: Clock
    random: random.Random
    asked: dict[int, tuple[str, float]] = field(default_factory=dict)
    """Who asked and when, by the query's ID."""
    allowances: dict[int, Allowance] = field(default_factory=dict)
    """All that there were, by their identity."""

    @property
    def chains(self) -> Chains:
        return self.bench.engine._stages._chains

    @property
    def answered(self) -> list[int]:
        return [int.from_bytes(sent.reply[:2], "big") for sent in self.bench.sent]

    def ask(self) -> None:
        choice = self.random.choice
        query = dns.message.make_query(choice(NAMES), choice(["A", "AAAA", "HTTPS"]), want_dnssec=choice([True, False]))
        query.id = len(self.asked)
        client = choice(CLIENTS)
        self.asked[query.id] = client, self.clock.now
        self.bench.feed(query.to_wire(), client)
        self.bench.engine.flush()

    def answer(self) -> None:
        tries = [attempt for attempt in self.bench.network.tries if not attempt.exchange.finished]
        if tries:
            self.random.choice([self._lead_on, self._lead_on, self._answer, self._deny, self._fail])(
                self.random.choice(tries)
            )

    def _lead_on(self, attempt: Try) -> None:
        ttl, target = self.random.choice([0, 3, 30]), self.random.choice(NAMES)
        attempt.answer(f"{attempt.exchange.name}. {ttl} CNAME {target}.")

    def _answer(self, attempt: Try) -> None:
        ttl, rdtype = self.random.choice([0, 3, 30]), attempt.query.question[0].rdtype
        data = {1: ["A 10.0.0.1", "A 192.0.2.1"], 28: ["AAAA fd00::1"], 65: ["HTTPS 1 n5.example."]}[rdtype]
        attempt.answer(f"{attempt.exchange.name}. {ttl} {self.random.choice(data)}")

    def _deny(self, attempt: Try) -> None:
        authority = [f"{attempt.exchange.name}. {SOA}"] * self.random.randrange(2)
        attempt.answer(authority=authority, rcode=self.random.choice(["NXDOMAIN", "NOERROR"]))

    def _fail(self, attempt: Try) -> None:
        if self.random.random() < 0.5:
            attempt.lose()
        else:
            attempt.answer(rcode=self.random.choice(["SERVFAIL", "REFUSED", "FORMERR"]))

    def _cut_off(self, host: str) -> None:
        """Have the network refuse a server, or no longer; what was sent to it before is answered or not."""
        self.bench.network.unreachable ^= {host}

    async def step(self) -> None:
        act = self.random.random()
        if act < 0.45:
            self.ask()
        elif act < 0.85:
            self.answer()
        elif act < 0.95:
            await self.clock.turn_to(self.clock.ahead + self.random.choice([0.05, 0.5, 2, 5]))
        elif act < 0.97:
            self.bench.engine.adopt(self.bench.engine.snapshot)
        else:
            self._cut_off(self.random.choice(["192.0.2.53", "192.0.2.60"]))
        await turn()
        self.check()

    def check(self) -> None:
        """Hold what holds at each step."""
        answered = self.answered
        assert len(set(answered)) == len(answered)
        left = self.asked.keys() - set(answered)
        oldest = min((self.asked[number][1] for number in left), default=self.clock.now)
        assert self.clock.now - oldest <= DEADLINE + TICK
        waiting = Counter(self.asked[number][0] for number in left)
        for peer, client in self.bench.engine.clients.by_transport[UDP].young.items():
            self.allowances[id(client.allowance)] = client.allowance
            # Exempt clients are given a new allowance with each policy.
            assert client.allowance.in_flight == waiting[peer] or client.allowance.is_exempt
        links = self.chains.waiting
        under_way = [chain for link in links.values() for chain in link.chains]
        assert sorted(chain.key for chain in under_way) == sorted(self.chains.under_way)
        for key, link in links.items():
            assert link.load == sum(CHAIN_LOAD + len(chain.waiting) for chain in link.chains)
            assert key in self.bench.engine.forwarder._in_flight

    async def end(self) -> None:
        """Give up what is under way, and hold what holds then."""
        self.bench.engine.forwarder.give_up()
        await turn()
        self.check()
        assert sorted(self.answered) == sorted(self.asked)
        assert len(self.bench.records) == len(self.asked)
        assert {allowance.in_flight for allowance in self.allowances.values()} <= {0}
        assert not self.chains.under_way
        assert not self.chains.waiting
        forwarder = self.bench.engine.forwarder
        assert not forwarder.in_flight
        assert [route.in_flight for route in (forwarder._default, *forwarder._zones.values())] == [0, 0]
        exchanges = {id(attempt.exchange) for attempt in self.bench.network.tries}
        assert len(exchanges) <= (LONGEST_CHAIN + 1) * len(self.asked)


def simulation(make: Make, clock: Clock, seed: int) -> Simulation:
    bench = zoned(
        make,
        *RECORDS,
        networks={"10.1.0.0/16": "staff"},
        lists=[Listed("s", "gambling", [block("n5.example")])],
        exceptions=[exception(5, "n6.example", "block"), exception(6, "n7.example")],
        filter={"private_zones": ["n3.example"]},
        limits={"queries_per_second": 0},
    )
    bench.counts = False
    return Simulation(bench, clock, random.Random(seed))


@pytest.mark.parametrize("seed", range(20))
async def test_every_lookup_ends_once(make: Make, clock: Clock, seed: int) -> None:
    run = simulation(make, clock, seed)
    for _ in range(STEPS):
        await run.step()
    await run.end()


@pytest.mark.parametrize("seed", range(10))
async def test_also_with_no_room(make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr("resolver.chains.MAX_WAITING", CHAIN_LOAD + 2)
    monkeypatch.setattr("resolver.upstreams.forwarder.MAX_WAITING", 2)
    monkeypatch.setattr("resolver.upstreams.forwarder.MAX_IN_FLIGHT", 6)
    run = simulation(make, clock, seed)
    for _ in range(STEPS):
        await run.step()
    await run.end()


BUGS = [
    "resolver.rewriting.behind",
    "resolver.rewriting.leads_on",
    "resolver.local.LocalNames.is_ours",
    "resolver.outcomes.Outcomes.failure",
    "resolver.cache.AnswerCache.get",
    "resolver.chains.answers.read_answer",
    "policy.decide.decide",
]


@pytest.mark.parametrize("place", BUGS)
@pytest.mark.parametrize("seed", range(2))
async def test_also_with_bugs(make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch, place: str, seed: int) -> None:
    """One call in ten of something that chains use fails."""
    original, chance = pkgutil.resolve_name(place), random.Random(seed)

    def unsound(*arguments: Any, **options: Any) -> object:
        if chance.random() < 0.1:
            raise RuntimeError("a bug")
        return original(*arguments, **options)

    monkeypatch.setattr(place, unsound)
    run = simulation(make, clock, seed)
    for _ in range(STEPS):
        await run.step()
    await run.end()
