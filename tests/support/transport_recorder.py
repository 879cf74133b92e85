"""Who uses a transport to an upstream, in a test: asks questions, and writes down what becomes of each try."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dns.message
import dns.rdatatype

from resolver.upstreams.https import HttpsTransport
from resolver.upstreams.stream import StreamTransport
from resolver.upstreams.tls import tls_context
from setting_values import upstream as read_address

WAIT_SECONDS = 20.0


class Asked:
    """An exchange, as far as a transport knows it."""

    def __init__(self, name: str, rdtype: str = "A") -> None:
        message = dns.message.make_query(name, rdtype)
        self.octets = message.to_wire()[2:]
        self.question = message.to_wire()[12:]
        self.finished = False
        self.name = name

    def wire(self, _server: object) -> bytes:
        return self.octets

    def __repr__(self) -> str:
        return f"<Asked {self.name}>"


class Recorder:
    """Has one transport. `received` and `lost` hold what it reported, in order."""

    def __init__(self, url: str, *, ca_file: str = "", finishes: bool = True, overdue: float = WAIT_SECONDS) -> None:
        """Take after how many seconds without a word a connection that worked is doubted.

        With `finishes` an exchange is over at its first reply or loss, as nobody else is asked.
        """
        address = read_address(url)
        kind = HttpsTransport if address.scheme == "https" else StreamTransport
        protocols = {"https": ["h2"], "tls": ["dot"]}.get(address.scheme)
        context: ssl.SSLContext | None = tls_context(ca_file, protocols) if protocols else None
        self.server: Any = SimpleNamespace(overdue=overdue)
        self.received: list[tuple[Asked, bytes]] = []
        self.lost: list[Asked] = []
        self.on_lost: Callable[[Asked], object] = lambda _: None
        self.on_received: Callable[[Asked], object] = lambda _: None
        self.transport = kind(address, context, self._received, self._lost)
        self._finishes = finishes
        self._changed = asyncio.Event()

    def ask(self, name: str = "a.test", rdtype: str = "A") -> Asked:
        """Send a question, which the transport must take."""
        asked = Asked(name, rdtype)
        assert self.send(asked), f"{self.transport} refused {name}"
        return asked

    def send(self, asked: Asked) -> bool:
        """Send a question and return whether it was taken."""
        return self.transport.send(cast(Any, asked), self.server)

    @property
    def unsent(self) -> int:
        """Return how many octets wait to be sent."""
        links = self.transport._links
        return sum(link.conversation.unsent + link._connection.unsent for link in links)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that the transport's reports lead to."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def reports(self, number: int) -> None:
        """Wait for so many tries to have ended."""
        await self.until(lambda: len(self.received) + len(self.lost) >= number)

    async def answers(self, *asked: Asked) -> list[list[str]]:
        """Wait for these to be answered and return the data of their answers."""
        await self.until(lambda: all(self.reply(one) or one in self.lost for one in asked))
        return [self.rdata(one) for one in asked]

    def reply(self, asked: Asked) -> bytes | None:
        """Return what came for an exchange."""
        return next((data for one, data in self.received if one is asked), None)

    def rdata(self, asked: Asked) -> list[str]:
        """Return the data of an exchange's answer, sorted."""
        data = self.reply(asked)
        assert data is not None, f"no answer for {asked}"
        return sorted(item.to_text() for rrset in dns.message.from_wire(data).answer for item in rrset)

    def _received(self, exchange: Any, server: Any, data: bytes) -> None:
        assert server is self.server
        self.received.append((exchange, data))
        exchange.finished = exchange.finished or self._finishes
        self.on_received(exchange)
        self._changed.set()

    def _lost(self, exchange: Any, server: Any) -> None:
        assert server is self.server
        assert not exchange.finished, "nobody waits for it any more"
        self.lost.append(exchange)
        exchange.finished = self._finishes
        self.on_lost(exchange)
        self._changed.set()


@contextmanager
def recorders(ca_file: Path) -> Iterator[Callable[..., Recorder]]:
    """Give what makes recorders that trust an authority, unless told otherwise; they are closed in the end."""
    made: list[Recorder] = []

    def one(url: str, **options: Any) -> Recorder:
        made.append(Recorder(url, **{"ca_file": str(ca_file)} | options))
        return made[-1]

    yield one
    for recorder in made:
        recorder.transport.close()
