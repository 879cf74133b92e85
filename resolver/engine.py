"""One query's way, from its octets to its answer.

`Engine.take_burst` is the hot way: finished replies are found by the query's octets, so a repeated question is answered
without being read. `Engine.handle` is the whole way: the stages of `resolver.stages`, first to last, until one of them
has an outcome. Records gather in the journal and replies in the outbox; `flush` writes the first, then sends the
second. Knows no socket but through the functions it is given to send with.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from itertools import chain, islice
from typing import Any

from policy.decide import ALLOWED
from policy.snapshot import Snapshot
from querylog.journal import DECISION, JournalWriter
from querylog.records import Decision, encode_decision, encode_decision_tail
from resolver import replies, wire
from resolver.cache import AnswerCache, Finished, Memory, octets_of_finished
from resolver.clients import TAG_OCTETS, Client, Clients
from resolver.lookup import Lookup, Outcome, Send
from resolver.stages import Stages
from resolver.transports import HTTPS, TCP, TLS, UDP
from resolver.wire import Edns
from settings import Settings

log = logging.getLogger(__name__)

LET_GO_AT_ONCE = 2_000  # entries: 3 ms
LONGEST_KEPT_QUERY = 300  # octets
FINISHED_SHARE = 3
"""One octet of so many that replies take is for finished ones, the rest for what they are made of."""
LONGEST_RULE = 250
"""Characters of a rule that are logged: lists may have rules of tens of thousands."""
KEEPALIVE = 100
"""How long a connection may be idle, in units of 100 ms (RFC 7828): what `listeners.limits` has in seconds."""
TC_OCTET = wire.TC >> 8
HEAD_OCTETS = 10
"""What is before the question in a reply without its ID."""


class Engine:
    """Answers queries under a policy snapshot."""

    def __init__(self, settings: Settings, journal: JournalWriter, snapshot: Snapshot) -> None:
        """Take what is configured, where lookups are logged, and the policy."""
        self.journal = journal
        self.outbox: list[tuple[Send, bytes, object]] = []
        """Replies whose records are pending: how to send, the reply, where to."""
        self.lookups = 0
        self._settings = settings
        entries, octets = settings.cache.entries, settings.cache.bytes
        self.cache = AnswerCache(entries, octets - octets // FINISHED_SHARE)
        self._finished: Memory[bytes, Finished] = Memory(entries, octets // FINISHED_SHARE, octets_of_finished)
        self.clients = Clients(settings, journal, snapshot)
        self._stages = Stages(
            settings, self.clients.limiter, self.cache, self._finished, self._finish_later, self.flush
        )
        self.forwarder = self._stages.forwarder
        self._tails: dict[tuple[int, int, str, bool], bytes] = {}
        """What is logged of lookups that nothing decided, but for their names and types."""
        self._flush_is_due = False
        journal.on_new_segment = self.forget_numbers

    @property
    def snapshot(self) -> Snapshot:
        """Return the policy in force."""
        return self.clients.snapshot

    # The hot way.

    def take_burst(self, burst: Iterable[tuple[bytes, Any]], send: Send, received: int) -> None:
        """Answer datagrams, each with the address that it came from; the replies leave with the next `flush`."""
        clients, finished_of = self.clients.by_transport[UDP].young, self._finished.young.get
        now = time.monotonic()
        pending, outbox = self.journal.pending, self.outbox
        for data, address in burst:
            client = clients.get(address[0])
            if client is not None:
                finished = finished_of(client.tag + data[2:])
                allowance = client.allowance
                if finished is not None and finished.valid_until > now and allowance.tokens >= 1:
                    allowance.tokens -= 1
                    pending.append((received, client.number, finished.decision))
                    outbox.append((send, data[:2] + finished.reply, address))
                    continue
            self.handle(data, address[0], UDP, send, address, received, client)

    def take(self, data: bytes, peer: str, transport: str, send: Send, target: object, received: int) -> None:
        """Answer one message from a client; the reply leaves with the next `flush`."""
        client = self.clients.by_transport[transport].young.get(peer)
        if client is not None and client.allowance.tokens >= 1:
            finished = self._finished.young.get(client.tag + data[2:])
            if finished is not None and finished.valid_until > time.monotonic():
                client.allowance.tokens -= 1
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
            outbox[:] = [(send, replies.as_servfail(reply), target) for send, reply, target in outbox]
        for send, reply, target in outbox:
            try:
                send(reply, target)
            except OSError:  # the client's path is full or gone: it will ask again
                log.debug("a reply could not be sent to %s", target)
            except Exception:  # a bug in one costs that one: the others leave, and none leaves twice
                log.exception("a reply to %s failed", target)
        outbox.clear()

    # The whole way.

    def handle(
        self,
        data: bytes,
        peer: str,
        transport: str,
        send: Send,
        target: object,
        received: int,
        client: Client | None = None,
    ) -> None:
        """Answer one message by going through the stages; a bug in one costs this lookup, no more."""
        if not wire.is_query(data):
            return
        try:
            client = client or self.clients.at(peer, transport)
        except Exception:  # of a client that can't be placed nothing could be logged: so nothing is answered
            log.exception("a query from %s is passed over: %s", peer, data[:64].hex())
            return
        lookup = Lookup(data, peer, transport, send, target, received, client)
        try:
            outcome = self._stages.outcome_of(lookup)
            if outcome is not None:
                self._finish(lookup, outcome)
        except Exception:
            log.exception("a lookup from %s failed: %s", lookup.peer, lookup.data[:64].hex())
            self._fail(lookup)

    def _finish_later(self, lookup: Lookup, outcome: Outcome) -> None:
        """End a lookup that was forwarded; its reply leaves with those of all the answers that came with its own."""
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self.flush)
        try:
            self._finish(lookup, outcome)
        except Exception:
            log.exception("a lookup from %s failed: %s", lookup.peer, lookup.data[:64].hex())
            self._fail(lookup)

    def _fail(self, lookup: Lookup) -> None:
        """End a lookup that met a bug, without what it came to: that may be what the bug is about."""
        lookup.verdict = ALLOWED
        self._finish(lookup, Outcome(replies.bare(wire.SERVFAIL), "failed"))

    def _finish(self, lookup: Lookup, outcome: Outcome) -> None:
        """Log a lookup and put its reply in the outbox; both or, where that meets a bug, neither."""
        client, query = lookup.client, lookup.query
        is_known = client.era == self.clients.era
        if outcome.finished is not None:
            reply, _, number, _, opt_octets = outcome.finished
        else:
            reply, opt_octets = self._reply(lookup, outcome)
            number = self.journal.define(DECISION, self._decision(lookup, outcome))
            if outcome.valid_seconds and is_known and 0 < len(query.plain) <= LONGEST_KEPT_QUERY:
                until = time.monotonic() + outcome.valid_seconds
                kept = None if reply[0] & TC_OCTET else outcome.kept  # a truncated reply has no TTLs to renew
                self._finished.keep(client.tag + query.plain, Finished(reply, until, number, kept, opt_octets))
        client_number = client.number if is_known else self.journal.client(client.record)
        if reply and query.question != query.folded:  # RFC 4343: case is kept
            reply = reply[:HEAD_OCTETS] + query.question + reply[HEAD_OCTETS + len(query.question) :]
        if lookup.transport != UDP and query.edns is not None and query.edns.options:
            reply = self._with_options(query.edns, lookup.transport, reply, opt_octets)
        self.journal.pending.append((lookup.received, client_number, number))
        if reply:
            self.outbox.append((lookup.send, lookup.data[:2] + reply, lookup.target))

    def _reply(self, lookup: Lookup, outcome: Outcome) -> tuple[bytes, int]:
        """Return the reply to the plain form of a query, but for its ID, and how long the OPT record at its end is."""
        query, answer = lookup.query, outcome.answer
        if answer is None:
            return b"", 0
        opt = b"" if query.edns is None else replies.opt_record(query.edns, answer.rcode, outcome.ede)
        if not query.plain:  # it can't be read
            return replies.write_error(lookup.data, answer.rcode, query.folded, opt), len(opt)
        reply = replies.write_reply(query, answer, opt)
        if len(reply) + 2 > wire.UDP_LIMIT_PLAIN:  # else it is short enough for any client
            limit = replies.udp_limit(query) if lookup.transport == UDP else wire.STREAM_LIMIT
            if len(reply) + 2 > limit:
                reply = replies.truncated(query, answer.rcode, opt)
        return reply, len(opt)

    def _with_options(self, edns: Edns, transport: str, reply: bytes, opt_octets: int) -> bytes:
        """Return a reply over a stream with options for the options that its query had."""
        # RFC 7828 section 3.2.1: not over UDP, and HTTP has its own. RFC 7830 section 4: not where all can be read.
        keepalive = transport in {TCP, TLS} and edns.offers(wire.OPTION_KEEPALIVE)
        padded = transport in {TLS, HTTPS} and edns.offers(wire.OPTION_PADDING)
        if not keepalive and not padded:
            return reply
        return replies.with_options(reply, opt_octets, keepalive=KEEPALIVE if keepalive else None, padded=padded)

    def _decision(self, lookup: Lookup, outcome: Outcome) -> bytes:
        """Return what is logged about a decision, encoded."""
        query = lookup.query
        if lookup.verdict is ALLOWED and outcome.answer is not None and not outcome.verdict:
            key = lookup.client.scope.snapshot.version, outcome.answer.rcode, outcome.upstream, outcome.cached
            tail = self._tails.get(key)
            if tail is None:
                tail = self._tails[key] = encode_decision_tail(self._whole_decision(lookup, outcome))
            return f"{query.name}\0{query.type_name}".encode() + tail
        return encode_decision(self._whole_decision(lookup, outcome))

    def _whole_decision(self, lookup: Lookup, outcome: Outcome) -> Decision:
        query, verdict, answer = lookup.query, lookup.verdict, outcome.answer
        return Decision(
            query.name,
            query.type_name,
            outcome.verdict or verdict.verdict,
            verdict.category,
            verdict.source,
            (outcome.rule or verdict.rule)[:LONGEST_RULE],
            verdict.exception_id,
            lookup.client.scope.snapshot.version,
            "" if answer is None else wire.RCODE_NAMES.get(answer.rcode) or str(answer.rcode),
            outcome.upstream,
            outcome.cached,
        )

    @property
    def turned_away(self) -> int:
        """Return how many queries were not served: of strangers, and of clients past their limits."""
        return self._stages.turned_away

    @property
    def cached_answers(self) -> int:
        """Return how many upstream answers are kept."""
        return len(self.cache)

    # Clients and policy.

    def recent(self, count: int) -> list[bytes]:
        """Return so many queries that were answered last, without their IDs; `name_asked` reads one."""
        keys = chain(reversed(self._finished.young), reversed(self._finished.old))
        return [key[TAG_OCTETS:] for key in islice(keys, count)]

    def adopt(self, snapshot: Snapshot) -> None:
        """Answer by another policy from now on. Lookups in flight end by the one that they began under."""
        self.clients.snapshot = snapshot
        self.forget_numbers()

    def forget_numbers(self) -> None:
        """Forget clients and finished replies: their scopes or their numbers in the journal are void."""
        self.clients.forget()
        self._finished.forget()
        self._tails.clear()

    def let_go(self) -> None:
        """Free some of what is forgotten, to be called now and then: all at once would hold up every answer."""
        left = LET_GO_AT_ONCE - self._finished.free(LET_GO_AT_ONCE)
        left -= self.cache.memory.free(left)
        self.clients.free(left)


def name_asked(octets: bytes) -> str:
    """Return the name that a query asks for, one that was answered and whose ID is cut off."""
    return wire.read_query(b"\0\0" + octets).name
