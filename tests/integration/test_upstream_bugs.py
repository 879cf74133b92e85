"""Transports whose upstream, or whose own code, does what nobody thought of: `send` never raises, and time goes on."""

import asyncio
import logging
from collections.abc import Callable
from ssl import SSLContext
from types import SimpleNamespace
from typing import Any, cast

import dns.message
import pytest

from resolver.upstreams import persistent
from resolver.upstreams.https import HttpsTransport
from resolver.upstreams.link import Link
from resolver.upstreams.stream import StreamTransport
from resolver.upstreams.tls import tls_context
from setting_values import UpstreamAddress, upstream
from tests.support.connections import handling
from tests.support.fake_https import HttpServer, Manners
from tests.support.transport_recorder import WAIT_SECONDS, Asked

ILLEGAL = bytes(9)
"""A DATA frame on stream 0 (RFC 9113 section 6.1: a connection error)."""


class User:
    """Who asks, and is told; the next question is asked the moment that the first is answered."""

    def __init__(
        self,
        kind: Callable[..., Any],
        server: str | UpstreamAddress,
        tls: SSLContext | None = None,
        *,
        after: tuple[str, ...] = (),
    ) -> None:
        address = upstream(server) if isinstance(server, str) else server
        self.transport = kind(address, tls, self._received, self._lost)
        self.answered: list[str] = []
        self.lost: list[str] = []
        self._after = list(after)
        self._changed = asyncio.Event()

    def ask(self, name: str) -> bool:
        taken: bool = self.transport.send(cast(Any, Asked(name)), cast(Any, SimpleNamespace(overdue=WAIT_SECONDS)))
        return taken

    async def ended(self, number: int) -> None:
        """Wait for so many tries to have ended."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.answered) + len(self.lost) < number:
                self._changed.clear()
                await self._changed.wait()

    def _received(self, exchange: Any, _server: object, _data: bytes) -> None:
        self.answered.append(exchange.name)
        exchange.finished = True
        self._changed.set()
        if self._after:
            assert self.ask(self._after.pop(0))

    def _lost(self, exchange: Any, _server: object) -> None:
        self.lost.append(exchange.name)
        exchange.finished = True
        self._changed.set()


async def answer_and_break_the_rules(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each query over HTTP/2 without TLS; behind each answer, in the same octets, is an illegal frame."""
    answered: list[int] = []

    def answer(stream: int, query: bytes) -> None:
        http.respond(stream, dns.message.make_response(dns.message.from_wire(query)).to_wire())
        answered.append(stream)

    http = HttpServer(Manners(), answer)
    while data := await reader.read(1 << 16):
        http.receive(data)
        writer.write(http.outgoing() + ILLEGAL * bool(answered))


async def test_a_query_that_an_answer_leads_to_survives_the_illegal_frame_behind_that(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As when an upstream's SERVFAIL has it asked again: the broken connection takes nothing more."""
    async with handling(answer_and_break_the_rules) as port:
        user = User(HttpsTransport, f"https://127.0.0.1:{port}", after=("b.test", "c.test"))
        assert user.ask("a.test")
        await user.ended(3)
        user.transport.close()
    assert (user.answered, user.lost) == (["a.test", "b.test", "c.test"], [])
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("name", ["a..test", ".test", "x" * 64 + ".test"])
async def test_a_name_that_no_certificate_can_have_is_refused_and_told(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    address = UpstreamAddress("tls", "127.0.0.1", 853, name)  # the settings let none of them pass
    user = User(StreamTransport, address, tls_context("", ["dot"]))
    assert [user.ask("a.test"), user.ask("b.test")] == [False, False]
    (line,) = caplog.messages
    assert "no certificate can be for such a name" in line


async def test_a_bug_in_a_look_costs_that_connection_and_the_looks_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(persistent, "LOOK_SECONDS", 0.001)
    looks = []

    def look(link: Link, *_: float) -> None:
        looks.append(link)
        raise RuntimeError("a bug")

    monkeypatch.setattr(Link, "look", look)

    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with handling(say_nothing) as port:
        user = User(StreamTransport, f"tcp://127.0.0.1:{port}")
        with caplog.at_level(logging.ERROR):
            for number in (1, 2):
                assert user.ask(f"n{number}.test")
                await user.ended(number)
        user.transport.close()
    assert user.lost == ["n1.test", "n2.test"]
    assert len(set(looks)) >= 2
    assert "RuntimeError: a bug" in caplog.text
