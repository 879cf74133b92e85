"""Who uses a forwarder, in a test: asks questions, and waits for what comes of them."""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import dns.message

from resolver import replies, wire
from resolver.replies import Answer
from resolver.rewriting import Terms
from resolver.upstreams.exchange import KEY_BITS, Exchange
from resolver.upstreams.forwarder import Forwarder
from resolver.upstreams.server import Server
from settings import from_document
from tests.support.fake_upstream import FakeUpstream

QUICK = {"try_timeout_ms": 150, "deadline_ms": 20_000}
"""Another try comes soon; but an answer may take as long as a machine that stands still makes it."""


class Result(NamedTuple):
    server: str
    """Empty: no upstream answered."""
    message: dns.message.Message | None
    ede: int

    @property
    def rdata(self) -> list[str]:
        assert self.message is not None
        return sorted(item.to_text() for rrset in self.message.answer for item in rrset)


class Asker:
    """A forwarder and who waits for it."""

    def __init__(self, *servers: FakeUpstream | str, **options: Any) -> None:
        urls = [server if isinstance(server, str) else server.url for server in servers]
        document = {"upstream": QUICK | {"servers": urls} | options}
        self.forwarder = Forwarder(
            from_document(document, Path("/")).upstream,
            Terms(0, 86400),
            self._done,
            slow=lambda _: None,
            slow_seconds=60.0,
            batch_done=lambda: None,
        )

    def _done(
        self,
        exchange: Exchange,
        waiting: "list[asyncio.Future[Result]]",
        server: Server | None,
        answer: Answer | None,
    ) -> None:
        message = None
        if server is not None and answer is not None:
            query = wire.read_query(b"\0\0" + exchange.wire(server))
            message = dns.message.from_wire(b"\0\0" + replies.write_reply(query, answer, b""))
        for future in waiting:
            future.set_result(Result(server.name if server else "", message, exchange.ede))

    def start(self, name: str, rdtype: str = "A") -> "asyncio.Future[Result]":
        question = dns.message.make_query(name, rdtype).to_wire()[12:]
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        assert self.forwarder.ask(question + KEY_BITS[False, False], name, future)
        return future

    async def ask(self, name: str = "a.example", rdtype: str = "A") -> Result:
        return await asyncio.wait_for(self.start(name, rdtype), 10)
