"""One query's way, from its octets to its answer.

`Engine.take` is the hot way: a client's scope holds finished replies by the query's octets, so a repeated question is
answered without being read. `Engine.handle` is the whole way: the stages in `_STAGES`, first to last, until one of
them has an outcome. Records gather in the journal and replies in the outbox; `flush` writes the first, then sends the
second. Knows no socket but through the functions it is given to send with.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from typing import Any, NamedTuple

from policy.decide import ALLOWED, Verdict, decide
from policy.snapshot import ClientScope, Snapshot
from querylog.journal import JournalWriter
from querylog.records import Client as ClientRecord
from querylog.records import Decision
from resolver import wire
from resolver.cache import Bounded, Finished, Kept
from resolver.sinkhole import sink
from resolver.upstream import Exchange, Forwarder, Key, Server
from resolver.wire import Answer, MalformedQueryError, Query
from settings import Settings

log = logging.getLogger(__name__)

CLIENTS_REMEMBERED = 65_536
FOREVER = 1e9  # seconds: as long as the policy stands
LET_GO_AT_ONCE = 2_000  # entries: 3 ms
NO_KEY: Key = (b"", False, False)
LONGEST_KEPT_QUERY = 300  # octets: longer ones carry options that will not come again
UDP, TCP = "udp", "tcp"

Send = Callable[[bytes, Any], object]
"""Sends a reply to a target, both as the listener wants them; may raise `OSError`."""


class Scope(NamedTuple):
    """What clients with the same rules share."""

    policy: ClientScope
    allowed: bool
    """Whether they are served at all."""
    finished: Bounded[bytes, Finished]
    """Replies by the query's octets behind the ID."""


class Client(NamedTuple):
    """A client as the hot way knows it."""

    number: int
    """In the journal's segment."""
    finished: Bounded[bytes, Finished]
    scope: Scope


class Lookup:
    """One query that is being answered the whole way."""

    __slots__ = ("data", "key", "peer", "policy_version", "query", "received", "send", "target", "transport", "verdict")

    def __init__(self, data: bytes, peer: str, transport: str, send: Send, target: object, received: int) -> None:
        self.data = data
        self.peer = peer
        self.transport = transport
        self.send = send
        self.target = target
        self.received = received
        """Microseconds since the epoch."""
        self.query: Query | None = None
        self.key: Key = NO_KEY
        """The question as the cache and the upstreams know it."""
        self.verdict: Verdict = ALLOWED
        self.policy_version = 0


class Outcome(NamedTuple):
    """How a stage ends a lookup."""

    answer: Answer
    verdict: str = ""
    """Empty: the policy's."""
    ede: tuple[int, str] | None = None
    upstream: str = ""
    cached: bool = False
    age: int = 0
    """Seconds since the answer came from the upstream."""
    valid_seconds: float = 0.0
    """How long the reply may be given again as it is; 0: not at all."""


class Engine:
    """Answers queries under a policy snapshot."""

    def __init__(self, settings: Settings, journal: JournalWriter, snapshot: Snapshot) -> None:
        self.journal = journal
        self.snapshot = snapshot
        self.forwarder = Forwarder(settings.upstream, self._answered)
        self.outbox: list[tuple[Send, bytes, object]] = []
        """Replies whose records are pending: how to send, the reply, where to."""
        self.lookups = 0
        self._settings = settings
        self._forgotten: list[Bounded[Any, Any]] = []
        self._remember_nothing()
        self._cache: Bounded[Key, Kept] = Bounded(settings.cache.entries)
        self._flush_is_due = False
        journal.on_new_segment = self.forget_numbers

    # The hot way.

    def take(self, data: bytes, peer: str, transport: str, send: Send, target: object, received: int) -> None:
        """Answer one message from a client; the reply leaves with the next `flush`."""
        client = self.clients[transport].get(peer)
        if client is not None:
            finished = client.finished.get(data[2:])
            if finished is not None and finished.valid_until > time.monotonic():
                self.journal.pending.append((received, client.number, finished.decision))
                self.outbox.append((send, data[:2] + finished.reply, target))
                return
        self.handle(data, peer, transport, send, target, received)

    def flush(self) -> None:
        """Write the records of the batch, then send its replies."""
        self._flush_is_due = False
        self.lookups += len(self.journal.pending)
        written = self.journal.commit()
        outbox = self.outbox
        if not written and self._settings.querylog.on_full == "refuse":
            outbox[:] = [(send, wire.as_servfail(reply), target) for send, reply, target in outbox]
        for send, reply, target in outbox:
            try:
                send(reply, target)
            except OSError:  # the client's path is full or gone: it will ask again
                log.debug("a reply could not be sent to %s", target)
            except Exception:  # a bug in one costs that one: the others leave, and none leaves twice
                log.exception("a reply to %s failed", target)
        outbox.clear()

    # The whole way.

    def handle(self, data: bytes, peer: str, transport: str, send: Send, target: object, received: int) -> None:
        """Answer one message by going through the stages; a bug in one costs this lookup, no more."""
        if not wire.is_query(data):
            return
        lookup = Lookup(data, peer, transport, send, target, received)
        try:
            for stage in self._STAGES:
                outcome = stage(self, lookup)
                if outcome is not None:
                    self._finish(lookup, outcome)
                    return
        except Exception:
            log.exception("a lookup from %s failed: %s", peer, data[:64].hex())
            self._finish(lookup, Outcome(wire.bare(wire.SERVFAIL), "failed"))

    def _read(self, lookup: Lookup) -> Outcome | None:
        """First: what can't be read can't be judged."""
        try:
            lookup.query = wire.read_query(lookup.data)
        except MalformedQueryError:
            opcode = lookup.data[2] >> 3 & wire.OPCODE_MASK
            # RFC 1035 section 4.1.1: a kind of request that isn't known isn't malformed.
            if opcode:
                return Outcome(wire.bare(wire.NOTIMP), "refused")
            return Outcome(wire.bare(wire.FORMERR), "malformed")
        return None

    def _refuse_strangers(self, lookup: Lookup) -> Outcome | None:
        """Before anything is done for the client: only networks that are served get answers."""
        if self._client(lookup).scope.allowed:
            return None
        return Outcome(wire.bare(wire.REFUSED), "refused", (wire.EDE_PROHIBITED, ""), valid_seconds=60.0)

    def _refuse_unsupported(self, lookup: Lookup) -> Outcome | None:
        """Before the name is looked at: what no name would make answerable."""
        query = lookup.query
        assert query is not None
        if query.opcode:  # UPDATE, NOTIFY and the rest are an authority's business
            return Outcome(wire.bare(wire.NOTIMP), "refused")
        if query.edns is not None and query.edns.version:  # RFC 6891 section 6.1.3
            return Outcome(wire.bare(wire.BADVERS), "refused")
        if query.qclass != wire.CLASS_IN or query.qtype in {wire.TYPE_AXFR, wire.TYPE_IXFR}:
            return Outcome(wire.bare(wire.REFUSED), "refused")
        return None

    def _sink(self, lookup: Lookup) -> Outcome | None:
        """Before the cache, which knows no groups: the policy's verdict."""
        query = lookup.query
        assert query is not None
        scope = self._client(lookup).scope.policy
        verdict = decide(self.snapshot, scope, query.name, query.type_name, lookup.received)
        lookup.verdict, lookup.policy_version = verdict, self.snapshot.version
        if not verdict.is_blocked:
            return None
        answer = sink(scope.group, query.qtype, self._settings.filter.block_ttl_seconds)
        ede = (wire.EDE_BLOCKED, verdict.category or "exception")
        return Outcome(answer, ede=ede, valid_seconds=FOREVER)

    def _from_cache(self, lookup: Lookup) -> Outcome | None:
        """Before anyone is asked: an answer that is still good."""
        query = lookup.query
        assert query is not None
        lookup.key = _key_of(query)
        kept = self._cache.get(lookup.key)
        if kept is None:
            return None
        age = time.monotonic() - kept.received
        if age >= kept.answer.lifetime:
            return None
        whole = int(age)
        return Outcome(
            kept.answer,
            upstream=kept.upstream,
            cached=True,
            age=whole,
            valid_seconds=min(whole + 1, kept.answer.lifetime) - age,
        )

    def _forward(self, lookup: Lookup) -> Outcome | None:
        """Last: ask an upstream; the lookup ends when it answers."""
        question, do, cd = lookup.key
        if self.forwarder.ask(lookup.key, question, wire.write_upstream_query(question, do=do, cd=cd), lookup):
            return None
        return Outcome(wire.bare(wire.SERVFAIL), "failed")

    _STAGES = (_read, _refuse_strangers, _refuse_unsupported, _sink, _from_cache, _forward)

    def _answered(self, exchange: Exchange, server: Server | None, reply: bytes | None) -> None:
        """End every lookup that waited for an exchange."""
        outcome = self._outcome_of(exchange, server, reply)
        for lookup in exchange.waiting:
            self._finish(lookup, outcome)
        if not self._flush_is_due:
            # One write for all the answers that this turn of the loop brings.
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def _outcome_of(self, exchange: Exchange, server: Server | None, reply: bytes | None) -> Outcome:
        """Return what an exchange came to."""
        if server is None or reply is None:
            return Outcome(wire.bare(wire.SERVFAIL), "failed", (exchange.ede, ""))
        do = exchange.key[1]
        limit = self._settings.cache.max_ttl_seconds
        try:
            answer = wire.scan_answer(reply, exchange.question, limit, do=do)
        except wire.MalformedAnswerError:
            return Outcome(wire.bare(wire.SERVFAIL), "failed", (wire.EDE_NETWORK_ERROR, ""), server.name)
        if answer.lifetime:
            self._cache.keep(exchange.key, Kept(answer, server.name, time.monotonic()))
        if answer.rcode in {wire.SERVFAIL, wire.REFUSED}:
            # RFC 8914 section 4.23 covers refusals too. What refused us must not look as if we refused the client.
            said = f"the upstream said {wire.RCODE_NAMES[answer.rcode]}"
            return Outcome(wire.bare(wire.SERVFAIL), "failed", (wire.EDE_NO_REACHABLE_AUTHORITY, said), server.name)
        return Outcome(answer, upstream=server.name)

    def _finish(self, lookup: Lookup, outcome: Outcome) -> None:
        """Log a lookup and put its reply in the outbox."""
        client = self._client(lookup)
        reply = self._reply(lookup, outcome)
        number = self.journal.decision(self._decision(lookup, outcome), remember=outcome.valid_seconds > 0)
        self.journal.pending.append((lookup.received, client.number, number))
        self.outbox.append((lookup.send, lookup.data[:2] + reply, lookup.target))
        if outcome.valid_seconds and _will_come_again(lookup):
            valid_until = time.monotonic() + outcome.valid_seconds
            client.finished.keep(lookup.data[2:], Finished(reply, valid_until, number))

    def _reply(self, lookup: Lookup, outcome: Outcome) -> bytes:
        query, answer = lookup.query, outcome.answer
        if query is None:
            return wire.write_error(lookup.data, None, answer.rcode)
        body = wire.aged(answer, outcome.age) if outcome.age else answer.body
        reply = wire.write_reply(query, answer, body, outcome.ede)
        limit = wire.udp_limit(query) if lookup.transport == UDP else wire.STREAM_LIMIT
        if len(reply) + 2 > limit:
            return wire.truncated(query, answer)
        return reply

    def _decision(self, lookup: Lookup, outcome: Outcome) -> Decision:
        query, verdict = lookup.query, lookup.verdict
        rcode = outcome.answer.rcode
        return Decision(
            query.name if query else "",
            query.type_name if query else "",
            outcome.verdict or verdict.verdict,
            verdict.category,
            verdict.source,
            verdict.rule,
            verdict.exception_id,
            lookup.policy_version or self.snapshot.version,
            wire.RCODE_NAMES.get(rcode) or str(rcode),
            outcome.upstream,
            outcome.cached,
        )

    @property
    def cached_answers(self) -> int:
        """Return how many upstream answers are kept."""
        return len(self._cache)

    # Clients and policy.

    def recent(self, count: int) -> list[bytes]:
        """Return about so many queries that were answered last, without their IDs; `name_asked` reads one."""
        each = count // max(len(self._scopes), 1)
        return [octets for scope in self._scopes.values() for octets in islice(reversed(scope.finished), each)]

    def adopt(self, snapshot: Snapshot) -> None:
        """Answer by another policy from now on."""
        self.snapshot = snapshot
        self.forget_numbers()

    def forget_numbers(self) -> None:
        """Forget clients and finished replies: their scopes or their numbers in the journal are void."""
        self._forgotten += self.clients.values()
        self._forgotten += (scope.finished for scope in self._scopes.values())
        self._remember_nothing()

    def _remember_nothing(self) -> None:
        self.clients: dict[str, Bounded[str, Client]] = {
            transport: Bounded(CLIENTS_REMEMBERED) for transport in (UDP, TCP)
        }
        self._scopes: dict[tuple[Any, ...], Scope] = {}

    def let_go(self) -> None:
        """Free some of what is forgotten, to be called now and then: all at once would hold up every answer."""
        left = LET_GO_AT_ONCE
        while left and self._forgotten:
            memory = self._forgotten[-1]
            left -= memory.drop(left)
            if not memory:
                self._forgotten.pop()

    def _client(self, lookup: Lookup) -> Client:
        """Return the client of a lookup; it is looked up each time, since a new segment voids its number."""
        peer, transport = lookup.peer, lookup.transport
        client = self.clients[transport].get(peer)
        if client is None:
            address = ip_address(peer.partition("%")[0])
            scope = self._scope(address, transport)
            number = self.journal.client(ClientRecord(str(address), scope.policy.group.name, transport))
            client = Client(number, scope.finished, scope)
            self.clients[transport].keep(peer, client)
        return client

    def _scope(self, address: IPv4Address | IPv6Address, transport: str) -> Scope:
        allowed = any(
            address in network for network in self._settings.server.allow_from if network.version == address.version
        )
        # A reply over TCP is whole where one over UDP is truncated, so transports share none.
        key = (transport, allowed, *self.snapshot.scope_key(address))
        scope = self._scopes.get(key)
        if scope is None:
            finished: Bounded[bytes, Finished] = Bounded(self._settings.cache.entries)
            scope = self._scopes[key] = Scope(self.snapshot.scope_of(address), allowed, finished)
        return scope


def name_asked(octets: bytes) -> str:
    """Return the name that a query asks for, one that was answered and whose ID is cut off."""
    return wire.read_query(b"\0\0" + octets).name


def _key_of(query: Query) -> Key:
    question = query.question
    do = query.edns is not None and query.edns.do
    return question[:-4].lower() + question[-4:], do, bool(query.flags & wire.CD)


def _will_come_again(lookup: Lookup) -> bool:
    """Tell whether a query's octets are worth remembering: those with options (cookies) differ each time."""
    query = lookup.query
    if query is None or len(lookup.data) > LONGEST_KEPT_QUERY:
        return False
    return query.edns is None or not query.edns.has_options
