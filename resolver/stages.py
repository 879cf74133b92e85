"""The stages that a query goes through, in the order of `Stages.outcome_of`, until one of them has an outcome.

Each stands where it does for a reason, with which its docstring begins. Knows the policy, the cache and the upstreams,
and neither sockets nor the journal.
"""

import time
from collections.abc import Callable

from policy.decide import ALLOWED
from resolver import records, replies, wire
from resolver.cache import AnswerCache, Finished, Memory
from resolver.clients import Limiter
from resolver.local import LocalNames, designations
from resolver.lookup import Lookup, Outcome
from resolver.outcomes import FOREVER, Finish, Outcomes
from resolver.transports import UDP
from resolver.upstreams.exchange import KEY_BITS
from resolver.wire import MalformedQueryError
from settings import Settings

_TRANSFERS = frozenset({wire.TYPE_AXFR, wire.TYPE_IXFR})
_NO_DATA_TYPES = frozenset(range(128, wire.TYPE_ANY))
"""Q and meta types (RFC 6895 section 3.1), all but ANY: no name has records of them. Transfers are among them."""
LOCAL_SECONDS = 60.0
PREFETCHED = 0.9
"""A name that is asked for when so much of its answer's life is over is asked for again at once."""
PREFETCHED_SECONDS = 10
"""Answers that live shorter are asked for again when somebody wants them."""


class Stages:
    """What decides about a query."""

    def __init__(
        self,
        settings: Settings,
        limiter: Limiter,
        cache: AnswerCache,
        finished: Memory[bytes, Finished],
        finish: Finish,
        batch_done: Callable[[], None],
    ) -> None:
        """Take who ends a lookup that was forwarded, and who is told that all that arrived was handed on."""
        self._limiter = limiter
        self.turned_away = 0
        """Queries that were not served."""
        self._settings = settings
        self._finished = finished
        self._cache = cache
        server = settings.server
        ours = designations(server.name, server.tls_listen, server.https_listen) if server.name else ()
        self.local = LocalNames(settings.local.records, settings.upstream.zones, ours)
        self._outcomes = outcomes = Outcomes(settings, cache, self.local, finish, batch_done)
        self.forwarder = outcomes.forwarder
        self._chains = outcomes.chains

    def outcome_of(self, lookup: Lookup) -> Outcome | None:
        """Take a lookup through the stages; None: it ends when an upstream answers."""
        return (
            self.read(lookup)
            or self.turn_away(lookup)
            or self.repeat(lookup)
            or self.refuse_unsupported(lookup)
            or self.answer_locally(lookup)
            or self.sink(lookup)
            or self.answer_shortly(lookup)
            or self.answer_from_cache(lookup)
            or self.forward(lookup)
        )

    def read(self, lookup: Lookup) -> Outcome | None:
        """First: what can't be read can't be judged."""
        try:
            lookup.query = wire.read_query(lookup.data)
        except MalformedQueryError:
            lookup.query = wire.read_malformed(lookup.data)
            opcode = lookup.data[2] >> 3 & wire.OPCODE_MASK
            # RFC 1035 section 4.1.1: a kind of request that isn't known isn't malformed.
            if opcode:
                return self.turn_away(lookup) or Outcome(replies.bare(wire.NOTIMP), "refused")
            return self.turn_away(lookup) or Outcome(replies.bare(wire.FORMERR), "malformed")
        return None

    def turn_away(self, lookup: Lookup) -> Outcome | None:
        """Before anything is done for the client: only networks that are served get answers, within their limits."""
        allowance = lookup.client.allowance
        is_served = lookup.client.scope.is_served
        if is_served and (allowance.tokens >= 1 or self._limiter.refill(allowance, time.monotonic())):
            allowance.tokens -= 1
            return None
        self.turned_away += 1
        # Who may not have been meant gets no more than was sent: so no reason with what can't be read.
        ede = (wire.EDE_PROHIBITED, "") if lookup.query.plain else None
        refusal = replies.bare(wire.REFUSED)
        if not is_served:
            dropped = self._settings.server.unserved == "drop" and lookup.transport == UDP
            return Outcome(None if dropped else refusal, "refused", ede, rule="server.allow_from")
        # Over UDP the address may be forged: an answer would be sent to whoever really has it.
        answer = None if lookup.transport == UDP else refusal
        return Outcome(answer, "refused", ede, rule="limits.queries_per_second")

    def repeat(self, lookup: Lookup) -> Outcome | None:
        """Before anything costs more: what was answered a moment ago, perhaps in other letters or with options."""
        key = lookup.client.tag + lookup.query.plain
        finished = self._finished.get(key)
        if finished is None:
            return None
        now = time.monotonic()
        if finished.valid_until <= now:
            renewed = finished.renewed(now, PREFETCHED)
            if renewed is None:
                return None
            finished = self._finished.young[key] = renewed
        return Outcome(None, finished=finished)

    def refuse_unsupported(self, lookup: Lookup) -> Outcome | None:
        """Before the name is looked at: what no name would make answerable."""
        query = lookup.query
        if query.flags & wire.OPCODE_BITS:  # UPDATE, NOTIFY and the rest are an authority's business
            return Outcome(replies.bare(wire.NOTIMP), "refused")
        if query.edns is not None and query.edns.version:  # RFC 6891 section 6.1.3
            return Outcome(replies.bare(wire.BADVERS), "refused")
        if query.qclass != wire.CLASS_IN:
            return Outcome(replies.bare(wire.REFUSED), "refused")
        if query.qtype in _NO_DATA_TYPES:
            if query.qtype in _TRANSFERS:
                return Outcome(replies.bare(wire.REFUSED), "refused")
            # RFC 9824 section 3.5 asks for it where the type is NXNAME; the others are as misplaced in a question.
            return Outcome(replies.bare(wire.FORMERR), "malformed", (wire.EDE_INVALID_QUERY_TYPE, ""))
        return None

    def answer_locally(self, lookup: Lookup) -> Outcome | None:
        """Before the policy, whose lists are about other people's names: our own, and those that must not leave."""
        query = lookup.query
        edns = query.edns
        lookup.key = query.folded + KEY_BITS[edns is not None and edns.do, query.flags & wire.CD != 0]
        found = self.local.find(query.name, query.qtype)
        if found is None:
            return None
        if found.alias:
            lookup.alias = found.answer._replace(targets=found.targets)
            return None
        if found.is_ours and lookup.client.scope.policy.has_exceptions:  # an administrator may take back what he said
            verdict = self._outcomes.decide_way(lookup, found.targets)
            if verdict.is_blocked:
                lookup.verdict = verdict
                return self._outcomes.sunk(lookup)
        return Outcome(found.answer, found.verdict, valid_seconds=LOCAL_SECONDS, rule=found.rule)

    def sink(self, lookup: Lookup) -> Outcome | None:
        """Before the cache, which knows no groups: the policy's verdict."""
        verdict = self._outcomes.decide(lookup)
        if lookup.alias is not None:  # our own alias opens nothing
            verdict = self._outcomes.decide_way(lookup, lookup.alias.targets, verdict)
        if verdict is ALLOWED:
            return None
        lookup.verdict = verdict
        return self._outcomes.sunk(lookup) if verdict.is_blocked else None

    def answer_shortly(self, lookup: Lookup) -> Outcome | None:
        """Before anyone is asked, behind the policy: what gets a short answer whatever is known."""
        query = lookup.query
        if not query.flags & wire.RD:
            # From what is cached one would learn who was where. RFC 8914 section 4.21 has the code.
            return Outcome(replies.bare(wire.REFUSED), "refused", (wire.EDE_NOT_AUTHORITATIVE, ""))
        if query.qtype == wire.TYPE_ANY:  # RFC 8482 section 4.2
            hinfo = records.answer([records.record(wire.TYPE_HINFO, b"\x07RFC8482\x00", 3600)], ttl=3600)
            return Outcome(hinfo, valid_seconds=FOREVER)
        return None

    def answer_from_cache(self, lookup: Lookup) -> Outcome | None:
        """Before anyone is asked: an answer that is still good, or the knowledge that there is none to be had."""
        octets = self._cache.memory.get(lookup.key)
        now = time.monotonic()
        if octets is not None:
            kept = self._cache.read(octets)
            age, lifetime = now - kept.received, kept.answer.lifetime
            if age < lifetime:
                is_old = age > PREFETCHED * lifetime and lifetime >= PREFETCHED_SECONDS
                if is_old and not self._outcomes.failure(lookup.key, now):
                    self._ask_again(lookup)
                return self._outcomes.known(lookup, kept, age, octets)
            if age < lifetime + self._settings.cache.stale_seconds:
                lookup.stale = kept
                # Whoever asked first has waited for it.
                if self.forwarder.takes_long(lookup.key) or self._chains.is_slow(lookup.key):
                    return self._outcomes.failed(lookup, None)
        ede = self._outcomes.failure(lookup.key, now)
        return self._outcomes.failed(lookup, (ede, "")) if ede else None

    def forward(self, lookup: Lookup) -> Outcome | None:
        """Last: ask an upstream; the lookup ends when it answers, with all others that ask for the same."""
        under_way = self._chains.under_way
        chain = under_way.get(lookup.key) if under_way else None
        if chain is None and lookup.alias is not None:
            chain = self._chains.of_ours(lookup.key, lookup.query.name, lookup.alias)
            if chain.is_over:
                return self._outcomes.of_chain(lookup, chain)
        allowance = lookup.client.allowance
        if allowance.in_flight >= self._limiter.in_flight and not allowance.is_exempt:
            self.turned_away += 1
            return Outcome(replies.bare(wire.REFUSED), "refused", (wire.EDE_PROHIBITED, ""), rule="limits.in_flight")
        allowance.in_flight += 1
        if chain is not None:
            if self._chains.wait(chain, lookup):
                return None
        elif self.forwarder.ask(lookup.key, lookup.query.name, lookup):
            return None
        allowance.in_flight -= 1
        return self._outcomes.failed(lookup, None)

    def _ask_again(self, lookup: Lookup) -> None:
        """Have what is cached of a lookup's question renewed."""
        if lookup.key in self._chains.under_way:
            return
        if lookup.alias is not None:
            chain = self._chains.of_ours(lookup.key, lookup.query.name, lookup.alias)
            if not chain.is_over:
                self._chains.follow(chain)
        else:
            self.forwarder.ask(lookup.key, lookup.query.name, None)
