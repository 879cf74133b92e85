"""What a lookup gets of what upstreams answer and of what is cached.

Answers are shared by all clients; what one may have of them is decided for each, whenever it gets one.
"""

import logging
import time
from collections.abc import Callable, Iterable

from policy.decide import Verdict, decide, decide_way
from resolver import answers, records, replies, rewriting, wire
from resolver.cache import AnswerCache, Kept, Memory
from resolver.chains import Chain, Chains, Owner
from resolver.local import LocalNames
from resolver.lookup import Lookup, Outcome
from resolver.replies import Answer
from resolver.rewriting import Terms
from resolver.sinkhole import sink
from resolver.upstreams.exchange import Exchange
from resolver.upstreams.forwarder import HELPFUL, Forwarder
from resolver.upstreams.server import Server
from resolver.wire import new
from settings import Settings

log = logging.getLogger(__name__)

FAILURES_REMEMBERED = 20_000
FOREVER = 1e9  # seconds: as long as the policy stands
STALE_TTL = 30  # seconds: RFC 8767 section 4
PRIVATE_ADDRESS = "private address"
"""What is logged as the rule where an answer had nothing else."""

Finish = Callable[[Lookup, Outcome], None]


class Outcomes:
    """Ends lookups that were forwarded, and tells how others end."""

    def __init__(
        self,
        settings: Settings,
        cache: AnswerCache,
        local: LocalNames,
        finish: Finish,
        batch_done: Callable[[], None],
    ) -> None:
        """Take where answers are kept, our own names, and who ends a lookup and a batch of them."""
        self._settings = settings
        self._cache = cache
        self._local = local
        self._finish = finish
        self._failures: Memory[bytes, tuple[float, int]] = Memory(FAILURES_REMEMBERED)
        """Questions that nobody could answer: until when that is believed, and the extended error."""
        zones = (*settings.filter.private_zones, *settings.upstream.zones)
        terms = Terms(settings.cache.min_ttl_seconds, settings.cache.max_ttl_seconds, zones)
        self.forwarder = Forwarder(
            settings.upstream,
            terms,
            self.answered,
            slow=self.taking_long,
            slow_seconds=settings.cache.stale_after_ms / 1000,
            batch_done=batch_done,
        )
        owner = Owner(self.chain_ended, self.give_stale, self.failure)
        self.chains = Chains(settings, self.forwarder, local, cache, terms, owner)

    def answered(self, exchange: Exchange, waiting: list[Lookup], server: Server | None, answer: Answer | None) -> None:
        """End every lookup that waited for an exchange."""
        if server is None or answer is None or answer.rcode not in HELPFUL:
            self._nobody_knew(exchange, waiting, server, answer)
            return
        if not answer.lifetime and _leads_on(answer, exchange):
            self._follow(exchange, waiting, server, answer)
            return
        plain = new(Outcome, (answer, "", None, server.name, False, 0.0, None, "", None))
        leads_on = bool(answer.targets) or answer.is_stripped
        for lookup in waiting:
            if leads_on:
                self._end(lookup, self._inspected, answer, server.name)
            else:
                lookup.client.allowance.in_flight -= 1
                self._finish(lookup, plain)
        if answer.lifetime:
            self._cache.keep(exchange.key, answer, server.name, time.monotonic())
        if self.chains.waiting:
            self.chains.answered(exchange.key, answer, server.name)

    def _follow(self, exchange: Exchange, waiting: list[Lookup], server: Server, answer: Answer) -> None:
        """Have aliases that came alone followed."""
        if waiting or exchange.key not in self.chains.waiting:  # else it is a link of others' chains, no more
            self.chains.begin(exchange, waiting, answer, server.name)
        self.chains.answered(exchange.key, answer, server.name)

    def chain_ended(self, chain: Chain) -> None:
        """End every lookup that waited for where aliases lead, and keep what came of it."""
        for lookup in chain.waiting:
            self._end(lookup, self.of_chain, chain)
        if chain.ede is not None:
            self._remember_failure(chain.key, chain.ede)
        elif chain.answer.lifetime:
            self._cache.keep(chain.key, chain.answer, chain.upstream, time.monotonic())

    def of_chain(self, lookup: Lookup, chain: Chain) -> Outcome:
        """Return what a lookup gets of a chain that is over."""
        if chain.ede is not None:
            return self.failed(lookup, chain.ede, chain.upstream)
        return self._inspected(lookup, chain.answer, chain.upstream, cached=chain.is_cached)

    def _nobody_knew(
        self, exchange: Exchange, waiting: list[Lookup], server: Server | None, answer: Answer | None
    ) -> None:
        """End what waited for an exchange that came to nothing."""
        ede = exchange.told if answer is not None else (exchange.ede, "")
        upstream = "" if server is None else server.name
        self._remember_failure(exchange.key, ede)
        for lookup in waiting:
            self._end(lookup, self.failed, ede, upstream)
        self.chains.failed(exchange.key, ede, upstream)

    def _remember_failure(self, key: bytes, ede: tuple[int, str]) -> None:
        """Remember for a while that nobody could answer a question (RFC 9520)."""
        self._failures.keep(key, (time.monotonic() + self._settings.cache.failure_seconds, ede[0]))

    def taking_long(self, exchange: Exchange) -> None:
        """Give those who wait what was known before (RFC 8767 section 5); the exchange goes on for the cache."""
        self.give_stale(exchange.waiting)
        self.chains.takes_long(exchange.key)

    def give_stale(self, waiting: list[Lookup]) -> None:
        """Give those who wait what was known before, and leave those for whom there is nothing such."""
        served = [lookup for lookup in waiting if lookup.stale is not None]
        waiting[:] = [lookup for lookup in waiting if lookup.stale is None]
        for lookup in served:
            self._end(lookup, self.failed, None)

    def _end(self, lookup: Lookup, outcome_of: Callable[..., Outcome], *arguments: object) -> None:
        """End a lookup that waited; a bug in finding its outcome costs this one, not those who wait besides."""
        lookup.client.allowance.in_flight -= 1
        try:
            outcome = outcome_of(lookup, *arguments)
        except Exception:
            log.exception("a lookup from %s failed: %s", lookup.peer, lookup.data[:64].hex())
            outcome = Outcome(replies.bare(wire.SERVFAIL), "failed")
        self._finish(lookup, outcome)

    def failed(self, lookup: Lookup, ede: tuple[int, str] | None, upstream: str = "") -> Outcome:
        """Return what a lookup gets that nobody could answer: what was known before, if anything."""
        kept = lookup.stale
        if kept is None:
            return Outcome(replies.bare(wire.SERVFAIL), "failed", ede, upstream)
        answer = kept.answer._replace(body=answers.with_ttl(kept.answer.body, kept.answer.ttls, STALE_TTL))
        code = wire.EDE_STALE_NXDOMAIN if answer.rcode == wire.NXDOMAIN else wire.EDE_STALE
        outcome = self._inspected(lookup, answer, kept.upstream, cached=True)
        return outcome if outcome.ede else outcome._replace(ede=(code, ""))

    def known(self, lookup: Lookup, kept: Kept, age: float, octets: bytes) -> Outcome:
        """Return the outcome of an answer that is cached, as old as it is."""
        whole, answer = int(age), kept.answer
        if whole:
            answer = answer._replace(body=answers.aged(answer.body, answer.ttls, whole))
        seconds = min(whole + 1, answer.lifetime) - age
        return self._inspected(lookup, answer, kept.upstream, cached=True, seconds=seconds, kept=octets)

    def _inspected(
        self,
        lookup: Lookup,
        answer: Answer,
        upstream: str,
        *,
        cached: bool = False,
        seconds: float = 0.0,
        kept: bytes | None = None,
    ) -> Outcome:
        """Return what a client gets of an upstream's answer: where it leads must be open to the client as well."""
        if answer.targets and lookup.verdict.verdict != "exception":
            lookup.verdict = self.decide_way(lookup, answer.targets, lookup.verdict)
            if lookup.verdict.is_blocked:
                return self.sunk(lookup)._replace(upstream=upstream, cached=cached, valid_seconds=seconds)
        if answer.is_stripped:
            ede = (wire.EDE_BLOCKED, PRIVATE_ADDRESS)
            answer, kept = self._with_nothing(answer), None
            return Outcome(answer, "blocked", ede, upstream, cached, seconds, kept, PRIVATE_ADDRESS)
        return new(Outcome, (answer, "", None, upstream, cached, seconds, kept, "", None))

    def _with_nothing(self, answer: Answer) -> Answer:
        """Return an answer that came to nothing with the SOA that lets clients remember it (RFC 2308 section 3)."""
        soa = records.soa(self._settings.filter.block_ttl_seconds)
        return answer._replace(body=answer.body + soa, authorities=answer.authorities + 1)

    def decide(self, lookup: Lookup) -> Verdict:
        """Decide a name by the policy under which the lookup began: a newer one has other groups and exceptions."""
        scope, query = lookup.client.scope, lookup.query
        return decide(scope.snapshot, scope.policy, query.name, query.type_name, lookup.received, self._local.is_ours)

    def decide_way(self, lookup: Lookup, targets: Iterable[str], known: Verdict | None = None) -> Verdict:
        """Decide where a name leads, likewise; given what is known of the name itself."""
        scope, query, is_ours = lookup.client.scope, lookup.query, self._local.is_ours
        names = (query.name, *targets)
        return decide_way(scope.snapshot, scope.policy, names, query.type_name, lookup.received, is_ours, known)

    def sunk(self, lookup: Lookup) -> Outcome:
        """Return the outcome of a verdict that blocks."""
        group = lookup.client.scope.policy.group
        answer = sink(group, lookup.query.qtype, self._settings.filter.block_ttl_seconds)
        return Outcome(answer, ede=(wire.EDE_BLOCKED, lookup.verdict.category or "exception"), valid_seconds=FOREVER)

    def failure(self, key: bytes, now: float) -> int:
        """Return the extended error of a question that nobody could answer a moment ago; 0: there was none."""
        if not self._failures.young and not self._failures.old:
            return 0
        until, ede = self._failures.get(key) or (0.0, 0)
        return ede if until > now else 0  # RFC 9520 section 3.2


def _leads_on(answer: Answer, exchange: Exchange) -> bool:
    """Tell whether an answer is aliases alone; a bug in telling costs where they lead, not those who wait."""
    try:
        return rewriting.leads_on(answer, exchange.question)
    except Exception:
        log.exception("an answer to %s can't be looked at: %s", exchange.name, answer.body[:512].hex())
        return False
