"""What the fuzzer (`tests.fuzz.atheris_wire`) and the replay of its kept corpus drive: octets in, no error out.

Each target takes any octets. What is no query, no answer or no stream is refused or passed over; anything else than
that, or a reply that dnspython can't read, is an error.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dns.exception
import dns.message
import pytest

from querylog.journal import segments
from resolver import answers, replies, service_binding, wire
from resolver.cache import AnswerCache, Finished
from resolver.compression import MalformedAnswerError
from resolver.listeners.framing import Framing, LengthPrefixed
from resolver.listeners.http1 import Http1
from resolver.listeners.http2 import Http2
from resolver.rewriting import Terms
from resolver.service_binding import BrokenServiceError
from resolver.transports import HTTPS, TCP, UDP
from resolver.upstreams.matching import answers_question
from resolver.wire import MalformedQueryError
from tests.unit.policy.build import Listed, block
from tests.unit.resolver.bench import Bench, make_bench, network_at

Target = Callable[[bytes], None]

UPDATE = 5  # RFC 2136 section 1.3
LONGEST_UDP = 1232
LONGEST_STREAM = 65_535
QUESTION = b"\1a\7example\0\0\1\0\1"
"""In whose name the fixed question is asked: a.example A."""
SERVICE = b"\1a\7example\0\0\x41\0\1"
"""a.example HTTPS."""
TERMS = Terms(0, 3600)
PIECE = 7
"""A stream comes in pieces of so many octets, which cut every header somewhere."""
SWEPT = 10_000
"""After so many lookups, segments of the journal that are full are removed."""


class _NoLoop:
    def call_soon(self, call: object) -> None:
        """Leave it: every input is followed by a flush."""


def _failed(message: str, *arguments: object) -> None:
    """Stand for the engine's report of a bug that cost one lookup."""
    raise AssertionError(message % arguments)


class Lookups:
    """An engine that is given any datagram or message; one for all inputs, so that one meets what others left."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def __call__(self, data: bytes) -> None:
        """Have the engine answer or be silent, over each transport, with as many records as replies."""
        for transport, longest in ((UDP, LONGEST_UDP), (TCP, LONGEST_STREAM), (HTTPS, LONGEST_STREAM)):
            before = self._bench.engine.lookups
            reply = self._bench.ask_octets(data, transport=transport)
            assert (reply is not None) == wire.is_query(data)
            assert self._bench.engine.lookups - before == (reply is not None)
            if reply is not None:
                assert reply[:2] == data[:2]
                assert len(reply) <= longest
                check_reply(reply)
                check_reply(replies.as_servfail(reply))
        if self._bench.engine.lookups % SWEPT < 3:
            for path in segments(self._bench.directory / "journal")[:-1]:
                path.unlink()
        self._bench.sent.clear()


def check_reply(reply: bytes) -> None:
    """Have dnspython read a reply; all but an UPDATE's, in whose zone section it takes no type but SOA."""
    assert reply[2] & 0x80
    if reply[2] >> 3 & 15 != UPDATE:
        dns.message.from_wire(reply)


@contextmanager
def lookups(directory: Path) -> Iterator[Lookups]:
    """Give an engine whose upstream refuses everything, so that every lookup ends at once."""
    with pytest.MonkeyPatch.context() as patch:
        network = network_at(patch)
        lists = [Listed("one", "adult", [block("bad.example"), block("(a|b)+x", pattern=True)])]
        document = {
            "cache": {"entries": 500},
            "limits": {"queries_per_second": 0},
            "local": {"records": ["host.local.example 60 A 10.0.0.7", "alias.local.example 60 CNAME a.example"]},
        }
        bench = make_bench(directory, network, lists=lists, document=document)
        bench.counts = False
        network.unreachable.add("192.0.2.53")
        patch.setattr("resolver.engine.asyncio.get_running_loop", _NoLoop)
        patch.setattr("resolver.engine.log.exception", _failed)
        yield Lookups(bench)
        bench.journal.close()


def query(data: bytes) -> None:
    """Read a query, or find it malformed; what is made of it reads back as the same."""
    if not wire.is_query(data):
        return
    with suppress(MalformedQueryError):
        found = wire.read_query(data)
        assert found.name == found.name.lower()
        assert found.name.isascii()
        assert data[12 : 12 + len(found.question)] == found.question
        assert wire.read_query(data[:2] + found.plain).plain == found.plain


def answer(data: bytes) -> None:
    """Read octets behind a fixed question, and a message as the answer to its own question."""
    if len(data) < wire.HEADER_LENGTH:
        return
    for question in (QUESTION, SERVICE):
        read_answer(data[:2] + b"\x81" + data[3:4] + b"\0\1" + data[6:12] + question + data[12:], question, "a.example")
    try:
        asked = wire.read_query(data[:2] + b"\1\0\0\1\0\0\0\0\0\0" + data[12:])
    except MalformedQueryError:
        return
    read_answer(data, asked.folded, asked.name)


def read_answer(data: bytes, question: bytes, name: str) -> None:
    """Read an answer to a question, or find it malformed; what is passed on reads back as the same."""
    if not answers_question(data, question):
        return
    for do in (True, False):
        try:
            found = answers.read_answer(data, question, name, TERMS, do=do)
        except MalformedAnswerError:
            continue
        assert 0 <= found.lifetime <= TERMS.max_ttl
        assert len(found.ttls) == found.answers + found.authorities
        for seconds in (0, 1, 10**6):
            aged = answers.aged(found.body, found.ttls, seconds)
            assert all(struct.unpack_from(">I", aged, place)[0] <= TERMS.max_ttl for place in found.ttls)
        asked = wire.read_query(b"\0\0\1\0\0\1\0\0\0\0\0\0" + question)
        written = b"\0\0" + replies.write_reply(asked, found, b"")
        try:
            again = answers.read_answer(written, question, name, TERMS, do=do)
        except MalformedAnswerError as problem:
            raise AssertionError(f"{data.hex()} was passed on as {written.hex()}") from problem
        assert (again.answers, again.targets) == (found.answers, found.targets)
        assert do or again.body == found.body  # proofs that nothing needs are kept or not, by how the rest is made
        if is_readable(data):
            said(written)
        check_ageing(asked, found)


AGES = (1, 256, 1 << 14, 10**6)
"""Seconds: after so many, other octets of TTLs have changed."""


def said(message: bytes) -> list[tuple[object, ...]]:
    """Return what a message says as dnspython reads it, but for TTLs."""
    read = dns.message.from_wire(message, one_rr_per_rrset=True)
    return [(s.name, s.rdtype, s.covers, tuple(s)) for section in (read.answer, read.authority) for s in section]


def check_ageing(asked: wire.Query, found: replies.Answer) -> None:
    """Have an answer say the same as the time goes by, whether a reply is made of it or renewed."""
    reply = replies.write_reply(asked, found, b"")
    try:
        first = said(b"\0\0" + reply)
    except (dns.exception.DNSException, ValueError):
        return
    assert len(first) == len(set(found.ttls)) == found.answers + found.authorities
    # Its TTLs are where it says: with every octet of theirs another, the rest is the same.
    others = found._replace(body=with_ttls(found, lambda ttl: ttl ^ 0xFFFFFFFF))
    assert said(b"\0\0" + replies.write_reply(asked, others, b"")) == first
    cache = AnswerCache(8, 1 << 20)
    cache.keep(asked.folded, found._replace(lifetime=10**8), "", 0.0)
    for seconds in AGES:
        aged = answers.aged(found.body, found.ttls, seconds)
        assert aged == with_ttls(found, lambda ttl: max(0, ttl - seconds))  # noqa: B023 - called here
        expected = replies.write_reply(asked, found._replace(body=aged), b"")
        for octets in cache.memory.young.values():
            renewed = Finished(reply, 0.0, 0, octets, 0).renewed(seconds, 1.0)
            assert renewed is not None
            assert renewed.reply == expected


def with_ttls(found: replies.Answer, change: Callable[[int], int]) -> bytes:
    """Return an answer's body with other TTLs."""
    body = bytearray(found.body)
    for place in found.ttls:
        (ttl,) = struct.unpack_from(">I", body, place)
        struct.pack_into(">I", body, place, change(ttl))
    return bytes(body)


def is_readable(data: bytes) -> bool:
    """Tell whether dnspython can read a message: it reads the data of each record too, which is passed on as it is."""
    try:
        dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError):
        return False
    return True


def service(data: bytes) -> None:
    """Read the data of a SVCB record, or find it broken; without private addresses it has none and is as sound."""
    with suppress(BrokenServiceError):
        target = service_binding.target_of(data)
        without = service_binding.without_private_hints(data)
        assert service_binding.target_of(without) == target
        assert not service_binding.has_private_hints(without)


def stream(data: bytes) -> None:
    """Bring a client's stream to each framing, whole and in pieces, and answer what it asks."""
    framings: tuple[Callable[[], Framing], ...] = (LengthPrefixed, Http1, Http2)
    for make in framings:
        for size in (len(data) or 1, PIECE):
            bring(make(), [data[start : start + size] for start in range(0, len(data), size)])


def bring(framing: Framing, pieces: Iterable[bytes]) -> None:
    """Give a framing a client's stream, and answers to what it finds."""
    for piece in pieces:
        framing.receive(piece, 1.0)
        while (message := framing.next_message()) is not None:
            framing.reply(message.target, message.data + bytes(100))
        assert isinstance(framing.output(), bytes)
        assert framing.begun >= 1.0
        assert framing.held <= 1 << 20
        if framing.is_over:
            break
    framing.close()
    framing.output()
    framing.release()


TARGETS: dict[str, Target] = {"answer": answer, "query": query, "service": service, "stream": stream}
"""By the directory of its corpus. The engine's is `lookups`, which takes the corpus of `query`."""
