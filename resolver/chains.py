"""Aliases that lead on: what their last target has is found, and put behind them.

A record of our own may lead to a name that somebody else knows. An upstream may give an alias and nothing else: a
zone's server that doesn't know where it leads, or one that leads into a zone with servers of its own. Either way the
target is asked for as if a client had: among our own records, in the cache, by its own route (RFC 1034 section 5.3.3
step 4c). What comes of it is read as if one upstream had answered all of it, so that the same holds for it: no circles,
no chain that is too long, private addresses for whose first name may have them; of our own aliases also where that to
which they lead may, since it was us who chose it.

For one question there is one chain, whoever asks. It takes no longer than one exchange may, and whatever happens on its
way, it ends once: `Chains._end` is the only end. Links are asked for by themselves, never waited for as the chains
that they may be: two that lead to each other would wait for ever.

Knows no policy: where an answer leads is decided for each client that gets it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from resolver import answers, rewriting, wire
from resolver.cache import AnswerCache
from resolver.compression import MalformedAnswerError
from resolver.local import LocalNames
from resolver.lookup import Lookup
from resolver.replies import Answer
from resolver.rewriting import Terms
from resolver.upstreams.exchange import KEY_DO, KEY_PRIVATE, Exchange
from resolver.upstreams.forwarder import MAX_WAITING, Forwarder
from settings import Settings

log = logging.getLogger(__name__)

USED_UP = 0.9
"""What is cached of a target is asked for anew when so much of its life is over: the whole would live no longer."""
CHAIN_LOAD = 10
"""Putting a chain together takes as long as answering so many lookups."""
NOBODY = (wire.EDE_NO_REACHABLE_AUTHORITY, "")


class Chain:
    """A question whose answer leads on, how far it has been followed, and who waits for the whole."""

    __slots__ = (
        "answer",
        "begun",
        "ede",
        "is_cached",
        "is_inside",
        "is_over",
        "is_slow",
        "key",
        "link",
        "name",
        "timer",
        "upstream",
        "waiting",
    )

    def __init__(self, key: bytes, name: str, answer: Answer, upstream: str, begun: float, *, is_inside: bool) -> None:
        self.key = key
        """The question as the cache and the upstreams know it."""
        self.name = name
        """Its name as text."""
        self.answer = answer
        """The aliases so far; in the end, the whole."""
        self.upstream = upstream
        """Who answered first; empty: nobody has yet, the aliases are our own."""
        self.is_cached = not upstream
        """Whether all of it was known: nobody was asked."""
        self.begun = begun
        """Seconds on the monotonic clock."""
        self.is_inside = is_inside
        """Whether private addresses may be at its end."""
        self.waiting: list[Lookup] = []
        self.is_slow = False
        """Whether those who wait were told that it takes long."""
        self.is_over = False
        self.ede: tuple[int, str] | None = None
        """Once it is over, the extended error of one that came to nothing."""
        self.link = b""
        """The question that it waits for."""
        self.timer: asyncio.TimerHandle | None = None


class Link:
    """A question that is under way to the upstreams, and the chains that wait for it."""

    __slots__ = ("chains", "load")

    def __init__(self) -> None:
        self.chains: dict[Chain, None] = {}
        """In the order in which they came; may be none, since an exchange outlives them."""
        self.load = 0
        """What there is to do once it is answered, in lookups."""

    def add(self, chain: Chain) -> None:
        """Have a chain wait."""
        self.chains[chain] = None
        self.load += CHAIN_LOAD + len(chain.waiting)

    def remove(self, chain: Chain) -> None:
        """Forget a chain, if it waits."""
        if chain in self.chains:
            del self.chains[chain]
            self.load -= CHAIN_LOAD + len(chain.waiting)


class Owner(NamedTuple):
    """Whom chains are followed for."""

    ended: Callable[[Chain], None]
    """Is told that a chain is over, and ends the lookups that wait for it."""
    slow: Callable[[list[Lookup]], None]
    """Is told that a chain takes long, and takes out of those who wait whom it has something for."""
    failure: Callable[[bytes, float], int]
    """Returns the extended error of a question that failed a moment ago; 0: it didn't."""


class _Part(NamedTuple):
    """What was found of a target."""

    answer: Answer
    upstream: str = ""


class _DeadEndError(Exception):
    """Nobody can be asked where a chain leads; the argument is the extended error."""


class Chains:
    """Follows aliases to their end."""

    def __init__(
        self,
        settings: Settings,
        forwarder: Forwarder,
        local: LocalNames,
        cache: AnswerCache,
        terms: Terms,
        owner: Owner,
    ) -> None:
        """Take how answers are read, and for whom."""
        self._slow_seconds = settings.cache.stale_after_ms / 1000
        self._deadline = settings.upstream.deadline_ms / 1000
        self._forwarder = forwarder
        self._local = local
        self._cache = cache
        self._zones = terms.private_zones
        outside = terms._replace(min_ttl=0)  # each part is within bounds already
        self._terms = {False: outside, True: outside._replace(private_zones=(".",))}
        self._owner = owner
        self.under_way: dict[bytes, Chain] = {}
        """Those that wait for an upstream, by their questions."""
        self.waiting: dict[bytes, Link] = {}
        """By the questions that chains wait for; each is under way to the upstreams."""

    def of_ours(self, key: bytes, name: str, alias: Answer) -> Chain:
        """Follow aliases of our own as far as is known: the chain is over, or somebody would have to be asked.

        Takes the question as the cache knows it and its name as text.
        """
        is_inside = self._is_inside(name) or self._is_inside(alias.targets[-1])
        chain = Chain(key, name, alias, "", time.monotonic(), is_inside=is_inside)
        self.follow(chain, asks=False)
        return chain

    def begin(self, exchange: Exchange, waiting: list[Lookup], answer: Answer, upstream: str) -> None:
        """Follow aliases with which an exchange was answered; whoever waits is told now or later."""
        chain = Chain(
            exchange.key, exchange.name, answer, upstream, exchange.begun, is_inside=self._is_inside(exchange.name)
        )
        chain.waiting = waiting
        chain.is_slow = exchange.said
        self.follow(chain)

    def wait(self, chain: Chain, lookup: Lookup) -> bool:
        """Have a lookup wait for a chain that is under way or begins with it; False: too many do.

        May end the lookup before this returns.
        """
        if chain.timer is None:
            chain.waiting.append(lookup)
            self.follow(chain)
            return True
        link = self.waiting[chain.link]
        if link.load >= MAX_WAITING:
            return False
        chain.waiting.append(lookup)
        link.load += 1
        return True

    def is_slow(self, key: bytes) -> bool:
        """Tell whether a question's chain is under way, and those who waited were told that it takes long."""
        chain = self.under_way.get(key)
        return chain is not None and chain.is_slow

    def follow(self, chain: Chain, part: _Part | None = None, *, asks: bool = True) -> None:
        """Follow a chain, from what was found of its target if that is given, to its end or to who must be asked."""
        try:
            if self._is_whole(chain, part):
                self._end(chain)
            elif asks:
                self._ask(chain)
        except _DeadEndError as problem:
            self._end(chain, problem.args[0])
        except MalformedAnswerError as problem:
            self._end(chain, (wire.EDE_NETWORK_ERROR, str(problem)))
        except Exception:  # a bug costs this chain, not those that wait besides, and those who wait an answer, no more
            log.exception("what %s leads to can't be put behind it: %s", chain.name, chain.answer.body[:512].hex())
            self._end(chain, (wire.EDE_NETWORK_ERROR, ""))

    def _is_whole(self, chain: Chain, part: _Part | None) -> bool:
        """Put behind a chain what is known; tell whether that is all. Raises why it can't be had."""
        while part is not None or (part := self._known(chain)) is not None:
            chain.upstream = chain.upstream or part.upstream
            known, chain.answer = len(chain.answer.targets), self._whole(chain, part.answer)
            # Where somebody had nothing to say about the target, not even that it has nothing, that is the end.
            if len(chain.answer.targets) <= known or not rewriting.leads_on(chain.answer, chain.key[:-1]):
                return True
            part = None
        return False

    def _known(self, chain: Chain) -> _Part | None:
        """Return what is known of a chain's target; None: it has to be asked for, as `chain.link`."""
        target = chain.answer.targets[-1]
        chain.link = key = self._key_of(chain, target)
        found = self._local.find(target, chain.key[-5] << 8 | chain.key[-4])
        if found is not None:
            return _Part(found.answer)
        now = time.monotonic()
        kept = self._cache.get(key)
        if kept is not None and now - kept.received <= USED_UP * kept.answer.lifetime:
            return _Part(_aged(kept.answer, int(now - kept.received)), kept.upstream)
        if ede := self._owner.failure(key, now):
            raise _DeadEndError((ede, ""))
        return None

    def _ask(self, chain: Chain) -> None:
        """Have a chain wait for what its target has. Raises `_DeadEndError`."""
        key = chain.link
        link = self.waiting.setdefault(key, Link())
        if link.load >= MAX_WAITING:
            raise _DeadEndError(NOBODY)
        link.add(chain)
        chain.is_cached = False
        if chain.timer is None:
            self.under_way[chain.key] = chain
            self._wake_for(chain)
        is_asked = False
        try:
            is_asked = self._forwarder.ask(key, chain.answer.targets[-1], None)
        finally:
            if not is_asked:
                self.waiting.pop(key, None)
        if not is_asked:
            raise _DeadEndError(NOBODY)
        if self._forwarder.takes_long(key):  # whoever asked first has waited for it
            self._tell_slow(chain)

    def _end(self, chain: Chain, ede: tuple[int, str] | None = None) -> None:
        """End a chain, unless it is over; with the extended error, if it came to nothing."""
        if chain.is_over:
            return
        chain.is_over, chain.ede = True, ede
        if chain.timer is not None:
            chain.timer.cancel()
        if self.under_way.get(chain.key) is chain:
            del self.under_way[chain.key]
        if chain.link in self.waiting:
            self.waiting[chain.link].remove(chain)
        self._owner.ended(chain)

    # What comes back.

    def answered(self, key: bytes, answer: Answer, upstream: str) -> None:
        """Go on with every chain that waited for a question, with what it leads to."""
        link = self.waiting.pop(key, None)
        for chain in link.chains if link else ():
            self.follow(chain, _Part(answer, upstream))

    def failed(self, key: bytes, ede: tuple[int, str], upstream: str) -> None:
        """End every chain that waited for a question which nobody could answer."""
        link = self.waiting.pop(key, None)
        for chain in link.chains if link else ():
            chain.upstream = chain.upstream or upstream
            self._end(chain, ede)

    # Time.

    def takes_long(self, key: bytes) -> None:
        """Tell those who wait for a question that it takes long."""
        if key in self.waiting:
            for chain in self.waiting[key].chains:
                self._tell_slow(chain)

    def _tell_slow(self, chain: Chain) -> None:
        chain.is_slow = True
        waited = len(chain.waiting)
        self._owner.slow(chain.waiting)
        self.waiting[chain.link].load -= waited - len(chain.waiting)

    def _wake_for(self, chain: Chain) -> None:
        seconds = self._deadline if chain.is_slow else min(self._slow_seconds, self._deadline)
        delay = chain.begun + seconds - time.monotonic()
        chain.timer = asyncio.get_running_loop().call_later(max(0.0, delay), self._look_at, chain)

    def _look_at(self, chain: Chain) -> None:
        """Tell those who wait that a chain takes long, or end it: its time is that of all its links together."""
        waited = time.monotonic() - chain.begun
        if waited >= self._deadline:
            self._end(chain, NOBODY)
            return
        if waited >= self._slow_seconds and not chain.is_slow:
            self._tell_slow(chain)
        self._wake_for(chain)

    # Questions and answers.

    def _whole(self, chain: Chain, answer: Answer) -> Answer:
        """Return the aliases and what their target has as one answer. Raises `MalformedAnswerError`."""
        if answer.rcode == wire.SERVFAIL:  # of ours, that go in circles
            raise MalformedAnswerError("aliases in a circle")
        question = chain.key[:-1]
        joined = rewriting.behind(chain.answer, answer, question[:-4], wire.name_octets(chain.answer.targets[-1]))
        head = wire.HEADER.pack(0, wire.QR | answer.rcode, 1, joined.answers, joined.authorities, 0)
        do = chain.key[-1] & KEY_DO != 0
        terms = self._terms[chain.is_inside]
        whole = answers.read_answer(head + question + joined.body, question, chain.name, terms, do=do)
        if not answer.is_stripped:
            return whole
        # What was taken out there may not be had by this name either; what is left lives as long as it would have.
        ttls = (wire.TTL.unpack_from(whole.body, place)[0] for place in whole.ttls)
        return whole._replace(is_stripped=True, lifetime=min(answer.lifetime, *ttls))

    def _key_of(self, chain: Chain, target: str) -> bytes:
        octets = wire.name_octets(target)
        if len(octets) > wire.MAX_NAME_OCTETS:  # RFC 1035 section 3.1; a DNAME may make such a one
            raise MalformedAnswerError("an alias to a name that is too long")
        bits = chain.key[-1] & ~KEY_PRIVATE
        if chain.is_inside and not self._is_inside(target):
            bits |= KEY_PRIVATE
        return octets + chain.key[-5:-1] + bytes([bits])

    def _is_inside(self, name: str) -> bool:
        return rewriting.is_within_any(name, self._zones)


def _aged(answer: Answer, seconds: int) -> Answer:
    body = answers.aged(answer.body, answer.ttls, seconds)
    return answer._replace(body=body, lifetime=answer.lifetime - seconds)
