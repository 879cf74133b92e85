"""An engine on a bench: a real journal and a real policy on disk, and no socket.

Replies go to a list that also notes how many records the journal's files held when each was sent. Upstreams are
played by `Network`, which stands where the transports of `resolver.upstreams` stand.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from querylog.journal import Batch, JournalWriter, Kind, SegmentReader, segments
from querylog.records import LOOKUP, Client, Decision, decode_client, decode_decision
from resolver.engine import Engine
from resolver.transports import UDP
from resolver.upstreams.exchange import Exchange
from resolver.upstreams.server import Server
from setting_values import UpstreamAddress
from settings import from_document
from tests.support.processes import eventually
from tests.unit.policy.build import policy

CLIENT = "10.0.0.1"
NOW = time.time_ns() // 1000
"""When queries arrive, in microseconds since the epoch: the journal measures from it how long each took."""
ONE_UPSTREAM = {"servers": ["udp://192.0.2.53"]}
TWO_UPSTREAMS = {"servers": ["udp://192.0.2.53", "udp://192.0.2.54"]}


class Logged(NamedTuple):
    """One record as the journal has it, its numbers resolved within its own segment."""

    time: int
    duration: int
    client: Client
    decision: Decision


def batches(path: Path) -> list[Batch]:
    """Return every batch of a segment, which may be being written; one that is torn and stays so is a failure."""
    with closing(SegmentReader(path)) as reader:
        found: list[Batch] = []

        def all_read() -> bool:
            found.extend(reader.batches())
            return reader.unread() == 0

        eventually(all_read)
    return found


def logged(directory: Path) -> list[Logged]:
    """Return every record in a directory's segments. A number that its segment doesn't define is a `KeyError`."""
    found = []
    for path in segments(directory):
        clients: dict[int, Client] = {}
        decisions: dict[int, Decision] = {}
        for batch in batches(path):
            for definition in batch.definitions:
                if definition.kind == Kind.CLIENT:
                    clients[definition.number] = decode_client(definition.data)
                elif definition.kind == Kind.DECISION:
                    decisions[definition.number] = decode_decision(definition.data)
            for received, client, decision, duration in LOOKUP.iter_unpack(batch.lookups):
                found.append(Logged(received, duration, clients[client], decisions[decision]))
    return found


def gaps(directory: Path) -> list[bytes]:
    """Return how many lookups each gap in a directory's segments says were lost, oldest first."""
    definitions = [one for path in segments(directory) for batch in batches(path) for one in batch.definitions]
    return [one.data.split(b"\0")[0] for one in definitions if one.kind == Kind.GAP]


class Sent(NamedTuple):
    """One reply as it left."""

    reply: bytes
    target: object
    records: int
    """How many records the journal's files held at that moment; -1: nobody counted."""

    @property
    def message(self) -> dns.message.Message:
        return dns.message.from_wire(self.reply)


class Try(NamedTuple):
    """One query on its way to an upstream."""

    exchange: Exchange
    server: Server
    via: str
    """``udp`` or ``stream``."""
    received: Callable[[Exchange, Server, bytes], None]
    lost: Callable[[Exchange, Server], None]

    @property
    def query(self) -> dns.message.Message:
        return dns.message.from_wire(b"\0\0" + self.exchange.wire(self.server))

    def reply(self, reply: dns.message.Message | bytes) -> None:
        """Bring the upstream's answer."""
        self.received(self.exchange, self.server, reply if isinstance(reply, bytes) else reply.to_wire(max_size=65535))

    def answer(self, *records: str, authority: Sequence[str] = (), rcode: str = "NOERROR", flags: int = 0) -> None:
        """Answer with records as text: ``NAME TTL TYPE RDATA``."""
        response = dns.message.make_response(self.query, recursion_available=True)
        response.set_rcode(dns.rcode.from_text(rcode))
        response.flags |= flags
        for section, lines in ((response.answer, records), (response.authority, authority)):
            for line in lines:
                name, ttl, rdtype, rdata = line.split(maxsplit=3)
                section.append(dns.rrset.from_text(name, int(ttl), "IN", rdtype, rdata))
        self.reply(response)

    def lose(self) -> None:
        """Have the network refuse it."""
        self.lost(self.exchange, self.server)


class Network:
    """The upstreams' side: keeps every try, and answers none by itself."""

    def __init__(self) -> None:
        self.tries: list[Try] = []
        self.unreachable: set[str] = set()
        """Hosts that the network refuses at once."""

    @property
    def last(self) -> Try:
        return self.tries[-1]

    def udp(self, address: UpstreamAddress, received: Any, lost: Any, _batch_done: object) -> "_Way":
        return _Way(self, "udp", address, received, lost)

    def stream(self, address: UpstreamAddress, tls: object, received: Any, lost: Any) -> "_Way":
        return _Way(self, "stream", address, received, lost)


@dataclass
class _Way:
    network: Network
    via: str
    address: UpstreamAddress
    received: Any
    lost: Any

    def send(self, exchange: Exchange, server: Server) -> bool:
        if self.address.host in self.network.unreachable:
            return False
        self.network.tries.append(Try(exchange, server, self.via, self.received, self.lost))
        return True

    def close(self) -> None:
        pass


@dataclass
class Bench:
    """One engine and what it is fed with."""

    directory: Path
    engine: Engine
    journal: JournalWriter
    network: Network
    sent: list[Sent] = field(default_factory=list)
    counts: bool = True
    """Whether the records are counted at each reply: too slow for thousands."""

    def send(self, reply: bytes, target: object) -> None:
        """Take a reply from the engine, as a listener's socket would."""
        self.sent.append(Sent(reply, target, len(self.records) if self.counts else -1))

    def feed(self, data: bytes, client: str = CLIENT, transport: str = UDP, received: int = NOW) -> None:
        """Give the engine octets, without a flush."""
        self.engine.take(data, client, transport, self.send, (client, 4242), received)

    def burst(self, *messages: bytes, client: str = CLIENT, received: int = NOW) -> list[bytes]:
        """Give the engine datagrams that arrived together; return what was sent in return."""
        before = len(self.sent)
        self.engine.take_burst([(data, (client, 4242)) for data in messages], self.send, received)
        self.engine.flush()
        return [sent.reply for sent in self.sent[before:]]

    def ask_octets(self, data: bytes, client: str = CLIENT, transport: str = UDP, received: int = NOW) -> bytes | None:
        """Give the engine octets as one batch; return what was sent in return, None: nothing."""
        before = len(self.sent)
        self.feed(data, client, transport, received)
        self.engine.flush()
        assert len(self.sent) <= before + 1
        return self.sent[-1].reply if len(self.sent) > before else None

    def ask(
        self, name: str = "a.example", rdtype: str = "A", client: str = CLIENT, transport: str = UDP, **options: Any
    ) -> dns.message.Message | None:
        """Ask a question as dnspython writes it; return the answer as dnspython reads it, None: not yet."""
        query = dns.message.make_query(name, rdtype, **options)
        reply = self.ask_octets(query.to_wire(), client, transport)
        if reply is None:
            return None
        response = dns.message.from_wire(reply)
        assert query.is_response(response)
        return response

    def reply_to(self, name: str = "a.example", rdtype: str = "A", **options: Any) -> dns.message.Message:
        """Ask, and insist on an answer at once."""
        response = self.ask(name, rdtype, **options)
        assert response is not None
        return response

    async def resolved(
        self, *records: str, name: str = "a.example", rdtype: str = "A", **options: Any
    ) -> dns.message.Message:
        """Ask for what no cache has, answer it as the upstream with records, and return the reply."""
        answer = {key: options.pop(key) for key in ("authority", "rcode") if key in options}
        before = len(self.sent)
        assert self.ask(name, rdtype, **options) is None
        self.network.last.answer(*records, **answer)
        await turn()
        assert len(self.sent) == before + 1
        return self.sent[-1].message

    @property
    def records(self) -> list[Logged]:
        return logged(self.directory / "journal")

    @property
    def decision(self) -> Decision:
        """Return the decision of the newest record."""
        return self.records[-1].decision


Make = Callable[..., Bench]


class Clock:
    """The monotonic clock, moved by hand: what is due happens in the loop's next turn."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._began = self.now = 1_000.0
        """Seconds. How they are rounded doesn't depend on how long the machine has run."""
        patch.setattr(time, "monotonic", lambda: self.now)

    @property
    def ahead(self) -> float:
        """Return how many seconds have passed since it was made."""
        return self.now - self._began

    @ahead.setter
    def ahead(self, seconds: float) -> None:
        self.now = self._began + seconds

    async def turn_to(self, ahead: float) -> None:
        """Move it to so many seconds since it was made, and let the loop do what is due."""
        self.ahead = ahead
        await asyncio.sleep(0)
        await turn()


async def turn() -> None:
    """Let the loop run what is due."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def network_at(patch: pytest.MonkeyPatch) -> Network:
    """Put a `Network` in the place of real transports."""
    network = Network()
    patch.setattr("resolver.upstreams.forwarder.UdpTransport", network.udp)
    patch.setattr("resolver.upstreams.forwarder.StreamTransport", network.stream)
    patch.setattr("resolver.upstreams.forwarder.HttpsTransport", network.stream)
    return network


def make_bench(
    directory: Path,
    network: Network,
    *,
    document: dict[str, Any] | None = None,
    segment_bytes: int = 1 << 20,
    **parts: Any,
) -> Bench:
    """Return a bench under a configuration document and a policy's parts (`tests.unit.policy.build.document`)."""
    settings = from_document({"upstream": ONE_UPSTREAM} | (document or {}), directory)
    journal = JournalWriter(directory / "journal", node="node-1", worker=0, segment_bytes=segment_bytes)
    engine = Engine(settings, journal, policy(directory / "policy", **parts))
    return Bench(directory, engine, journal, network)
