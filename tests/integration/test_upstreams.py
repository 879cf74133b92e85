"""Forwarding over real sockets on loopback, to name servers that do as they are told, well or badly."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dns.flags
import dns.message
import dns.rcode
import pytest

from resolver import wire
from resolver.upstream import Exchange, Forwarder, Server
from settings import from_document
from tests.support import behaviours
from tests.support.certificates import Authority
from tests.support.dns_client import receive_framed, send_framed
from tests.support.fake_upstream import FakeUpstream

QUICK = {"try_timeout_ms": 150, "deadline_ms": 1500}


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
        self.forwarder = Forwarder(from_document(document, Path("/")).upstream, self._done)

    def _done(self, exchange: Exchange, server: Server | None, reply: bytes | None) -> None:
        message = None if reply is None else dns.message.from_wire(reply)
        for future in exchange.waiting:
            future.set_result(Result(server.name if server else "", message, exchange.ede))

    def start(self, name: str, rdtype: str = "A") -> "asyncio.Future[Result]":
        question = dns.message.make_query(name, rdtype).to_wire()[12:]
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        query = wire.write_upstream_query(question, do=False, cd=False)
        assert self.forwarder.ask((question, False, False), question, query, future)
        return future

    async def ask(self, name: str = "a.test", rdtype: str = "A") -> Result:
        return await asyncio.wait_for(self.start(name, rdtype), 10)


Asking = Callable[..., Asker]


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    """Make askers, and let go of their sockets."""
    made: list[Asker] = []

    def one(*servers: FakeUpstream | str, **options: Any) -> Asker:
        made.append(Asker(*servers, **options))
        return made[-1]

    yield one
    for asker in made:
        asker.forwarder.close()
    await asyncio.sleep(0)  # aborted streams close in the loop's next turn
    await asyncio.sleep(0)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def second() -> Iterator[FakeUpstream]:
    with FakeUpstream("127.0.0.2") as server:
        yield server


def dead_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """Return a port that nothing listens on."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def right(name: str = "a.test") -> list[str]:
    return [str(behaviours.computed_rdata(name, "A"))]


# UDP.


async def test_an_answer_comes_over_udp(upstream: FakeUpstream, asking: Asking) -> None:
    result = await asking(upstream).ask()
    assert result.rdata == right()
    assert result.server == upstream.url
    (query,) = upstream.log
    assert query.transport == "udp"


async def test_over_ipv6_too(asking: Asking) -> None:
    with FakeUpstream("::1") as server:
        result = await asking(server).ask()
    assert result.rdata == right()
    assert result.server.startswith("udp://[::1]:")


@pytest.mark.parametrize(
    "forgery", [behaviours.garbage, behaviours.wrong_id, behaviours.wrong_question, behaviours.wrong_source]
)
async def test_what_answers_no_question_is_ignored_and_the_wait_goes_on(
    upstream: FakeUpstream, asking: Asking, forgery: behaviours.Behaviour
) -> None:
    """RFC 5452 section 9.1: ID, question, address and port must match; and the first that doesn't ends nothing."""
    upstream.behave("a.test", behaviours.each(forgery, forgery, behaviours.slow(0.03)))
    result = await asking(upstream, try_timeout_ms=5000, deadline_ms=6000).ask()
    assert result.rdata == right()
    assert len(upstream.log) == 1


@pytest.mark.parametrize(
    "forgery", [behaviours.garbage, behaviours.wrong_id, behaviours.wrong_question, behaviours.wrong_source]
)
async def test_forgeries_alone_are_silence(
    upstream: FakeUpstream, second: FakeUpstream, asking: Asking, forgery: behaviours.Behaviour
) -> None:
    upstream.behave("a.test", forgery)
    result = await asking(upstream, second).ask()
    assert (result.server, result.rdata) == (second.url, right())


def header_only(query: behaviours.Query) -> list[behaviours.Reply]:
    return [behaviours.Reply(query.wire[:2] + b"\x81\x82" + bytes(8))]


def echo(query: behaviours.Query) -> list[behaviours.Reply]:
    return [behaviours.Reply(query.wire)]


@pytest.mark.parametrize("broken", [header_only, echo])
async def test_a_message_without_the_question_or_without_qr_is_none(
    upstream: FakeUpstream, second: FakeUpstream, asking: Asking, broken: behaviours.Behaviour
) -> None:
    upstream.behave("a.test", broken)
    result = await asking(upstream, second).ask()
    assert result.server == second.url


async def test_a_silent_upstream_is_followed_by_the_next(
    upstream: FakeUpstream, second: FakeUpstream, asking: Asking
) -> None:
    upstream.default = behaviours.silent
    result = await asking(upstream, second).ask()
    assert (result.server, result.rdata) == (second.url, right())


async def test_one_that_is_silent_once_is_asked_again(upstream: FakeUpstream, asking: Asking) -> None:
    upstream.behave("a.test", behaviours.in_turn(behaviours.silent, behaviours.computed))
    result = await asking(upstream).ask()
    assert result.rdata == right()
    assert len(upstream.log) == 2


async def test_a_failure_of_one_is_followed_by_the_next(
    upstream: FakeUpstream, second: FakeUpstream, asking: Asking
) -> None:
    upstream.behave("a.test", behaviours.servfail)
    result = await asking(upstream, second).ask()
    assert (result.server, result.rdata) == (second.url, right())


async def test_a_failure_of_all_is_the_answer(upstream: FakeUpstream, second: FakeUpstream, asking: Asking) -> None:
    upstream.default = second.default = behaviours.servfail
    result = await asking(upstream, second).ask()
    assert result.message is not None
    assert result.message.rcode() == dns.rcode.SERVFAIL


async def test_when_all_are_silent_there_is_no_answer(upstream: FakeUpstream, asking: Asking) -> None:
    upstream.default = behaviours.silent
    asker = asking(upstream)
    result = await asker.ask()
    assert (result.server, result.message, result.ede) == ("", None, wire.EDE_NO_REACHABLE_AUTHORITY)
    assert asker.forwarder.in_flight == 0


async def test_a_port_that_nobody_listens_on_is_left_at_once(upstream: FakeUpstream, asking: Asking) -> None:
    """ICMP says so: the next upstream answers long before the first one's time is over."""
    asker = asking(f"udp://127.0.0.1:{dead_port()}", upstream, try_timeout_ms=10000, deadline_ms=30000)
    result = await asker.ask()
    assert result.rdata == right()


async def test_when_every_port_is_dead_that_is_said_at_once(asking: Asking) -> None:
    asker = asking(f"udp://127.0.0.1:{dead_port()}", try_timeout_ms=10000, deadline_ms=30000)
    result = await asker.ask()
    assert (result.message, result.ede) == (None, wire.EDE_NETWORK_ERROR)


async def test_a_thousand_questions_for_a_dead_port_all_end(asking: Asking) -> None:
    """Each refusal is reported within another's send: that must not pile up."""
    asker = asking(f"udp://127.0.0.1:{dead_port()}", f"udp://127.0.0.2:{dead_port()}", deadline_ms=5000)
    results = await asyncio.gather(*[asker.start(f"n{number}.test") for number in range(1000)])
    assert {result.message for result in results} == {None}
    assert asker.forwarder.in_flight == 0


async def test_identical_questions_share_one_query(upstream: FakeUpstream, asking: Asking) -> None:
    upstream.behave("a.test", behaviours.slow(0.05))
    asker = asking(upstream, try_timeout_ms=5000)
    results = await asyncio.gather(*[asker.start("a.test") for _ in range(50)])
    assert {tuple(result.rdata) for result in results} == {tuple(right())}
    assert len(upstream.log) == 1


async def test_ids_and_ports_cant_be_guessed(upstream: FakeUpstream, asking: Asking) -> None:
    """RFC 5452 section 9.2: 16 random bits of ID, and a port out of many that changes all the time."""
    asker = asking(upstream, try_timeout_ms=10000, deadline_ms=30000)
    for start in range(0, 1000, 50):
        await asyncio.gather(*[asker.start(f"n{number}.test") for number in range(start, start + 50)])
    ids, ports = [query.id for query in upstream.log], [query.client[1] for query in upstream.log]
    assert len(ids) == 1000
    assert len(set(ids)) > 960  # 992 on average; a birthday takes a few
    for bit in range(16):
        assert 400 < sum(ident >> bit & 1 for ident in ids) < 600
    assert sum(ids[n] + 1 == ids[n + 1] for n in range(999)) < 5
    assert len(set(ports)) >= 32
    assert max(ports.count(port) for port in set(ports)) <= 32
    assert max(ports) - min(ports) > 1000


# TCP.


async def test_a_truncated_answer_is_asked_for_over_tcp(upstream: FakeUpstream, asking: Asking) -> None:
    upstream.behave("a.test", behaviours.truncated)
    upstream.behave("big.test", behaviours.big_text(20000))
    asker = asking(upstream, try_timeout_ms=5000)
    assert (await asker.ask()).rdata == right()
    assert len((await asker.ask("big.test", "TXT")).rdata) == 94
    assert [query.transport for query in upstream.log] == ["udp", "tcp"] * 2


async def test_over_tcp_alone_many_questions_share_a_connection(upstream: FakeUpstream, asking: Asking) -> None:
    """RFC 7766 section 6.2.1.1: pipelined, and answered as they finish."""
    upstream.behave("n0.test", behaviours.slow(0.2))
    asker = asking(f"tcp://127.0.0.1:{upstream.port}", try_timeout_ms=5000)
    done: list[int] = []
    futures = []
    for number in range(20):
        future = asker.start(f"n{number}.test")
        future.add_done_callback(lambda _, asked=number: done.append(asked))  # type: ignore[misc] # asked is an int
        futures.append(future)
    results = await asyncio.gather(*futures)
    assert [result.rdata for result in results] == [right(f"n{number}.test") for number in range(20)]
    assert done[-1] == 0
    assert len({query.client for query in upstream.log}) == 1
    assert {query.transport for query in upstream.log} == {"tcp"}


async def test_a_stream_that_the_peer_closed_is_opened_anew(upstream: FakeUpstream, asking: Asking) -> None:
    asker = asking(f"tcp://127.0.0.1:{upstream.port}", try_timeout_ms=5000, deadline_ms=9000)
    assert (await asker.ask("a.test")).rdata == right()
    upstream.stop()
    upstream.start()
    assert (await asker.ask("b.test")).rdata == right("b.test")
    assert len({query.client for query in upstream.log}) == 2


async def test_a_peer_that_hangs_up_on_a_question_is_asked_once_more(upstream: FakeUpstream, asking: Asking) -> None:
    """The first connection's end fails the question on it; the second try must not wait for its time to be over."""
    upstream.behave("a.test", behaviours.in_turn(behaviours.hang_up, behaviours.computed))
    asker = asking(f"tcp://127.0.0.1:{upstream.port}", try_timeout_ms=10000, deadline_ms=30000)
    assert (await asker.ask()).rdata == right()


async def test_a_stream_that_nobody_accepts_fails_at_once_and_for_good(asking: Asking) -> None:
    port = dead_port(socket.SOCK_STREAM)
    asker = asking(f"tcp://127.0.0.1:{port}", try_timeout_ms=10000, deadline_ms=30000)
    result = await asyncio.wait_for(asker.start("a.test"), 8)  # less than one try
    assert (result.message, result.ede) == (None, wire.EDE_NETWORK_ERROR)
    with FakeUpstream(port=port):
        assert (await asker.ask("b.test")).rdata == right("b.test")


async def test_a_stream_in_single_octets_is_framed(asking: Asking) -> None:
    """RFC 7766 section 8: the length and the message may come split in any way, and glued to the next."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            queries = [dns.message.from_wire(receive_framed(sock)) for _ in range(2)]
            stream = b"\0\0" + b"\0\3abc"  # frames too short for a header are passed over
            for query in queries:
                response = dns.message.make_response(query).to_wire()
                stream += len(response).to_bytes(2, "big") + response
            for octet in stream:
                sock.sendall(bytes([octet]))
            sock.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    asker = asking(f"tcp://127.0.0.1:{listener.getsockname()[1]}", try_timeout_ms=5000, deadline_ms=9000)
    results = await asyncio.gather(asker.start("a.test"), asker.start("b.test"))
    assert all(result.message is not None for result in results)
    asker.forwarder.close()
    await asyncio.to_thread(thread.join)
    listener.close()


async def test_a_stream_of_garbage_is_silence(upstream: FakeUpstream, second: FakeUpstream, asking: Asking) -> None:
    upstream.default = behaviours.garbage
    asker = asking(f"tcp://127.0.0.1:{upstream.port}", f"tcp://127.0.0.2:{second.port}")
    result = await asker.ask()
    assert result.rdata == right()


# TLS.


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def test_an_upstream_over_tls_shows_the_name_that_was_configured(authority: Authority, asking: Asking) -> None:
    """RFC 8310 section 8.1: the authentication domain name."""
    with FakeUpstream(identity=authority.issue("dns.test")) as server:
        asker = asking(server, ca_file=str(authority.certificate), try_timeout_ms=5000)
        results = await asyncio.gather(*[asker.start(f"n{number}.test") for number in range(5)])
        assert [result.rdata for result in results] == [right(f"n{number}.test") for number in range(5)]
        assert results[0].server == f"tls://127.0.0.1:{server.port}#dns.test"
        assert len({query.client for query in server.log}) == 1
        asker.forwarder.close()
        await asyncio.sleep(0.01)


async def test_without_a_name_the_address_is_what_the_certificate_must_carry(
    authority: Authority, asking: Asking
) -> None:
    with FakeUpstream(identity=authority.issue("by-address.test", "127.0.0.1")) as server:
        asker = asking(f"tls://127.0.0.1:{server.port}", ca_file=str(authority.certificate), try_timeout_ms=5000)
        assert (await asker.ask()).rdata == right()
        asker.forwarder.close()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("case", ["another name", "no trust", "plain TCP"])
async def test_who_cant_prove_who_it_is_is_asked_nothing(
    authority: Authority, upstream: FakeUpstream, asking: Asking, case: str
) -> None:
    """RFC 8310 section 5, strict privacy: no falling back to what can't be trusted."""
    trusted = {"ca_file": str(authority.certificate)}
    if case == "plain TCP":
        result = await asking(f"tls://127.0.0.1:{upstream.port}#dns.test", **trusted).ask()
        assert not upstream.log
    else:
        with FakeUpstream(identity=authority.issue("other.test", "127.0.0.1")) as server:
            name = "dns.test" if case == "another name" else "other.test"
            asker = asking(f"tls://127.0.0.1:{server.port}#{name}", **(trusted if case == "another name" else {}))
            result = await asker.ask()
            assert not server.log
    assert result.message is None
    # The plain one says nothing to a handshake.
    assert result.ede == (wire.EDE_NO_REACHABLE_AUTHORITY if case == "plain TCP" else wire.EDE_NETWORK_ERROR)


async def test_a_tls_upstream_that_restarts_is_found_again(authority: Authority, asking: Asking) -> None:
    with FakeUpstream(identity=authority.issue("dns.test")) as server:
        asker = asking(server, ca_file=str(authority.certificate), try_timeout_ms=5000, deadline_ms=9000)
        assert (await asker.ask("a.test")).rdata == right()
        server.stop()
        server.start()
        assert (await asker.ask("b.test")).rdata == right("b.test")
        asker.forwarder.close()
        await asyncio.sleep(0.01)


async def test_a_client_that_frames_as_ours_does_reads_it(upstream: FakeUpstream) -> None:
    """The helpers' own framing, so that the tests above stand on something."""
    with socket.create_connection(("127.0.0.1", upstream.port)) as sock:
        query = dns.message.make_query("a.test", "A")
        send_framed(sock, query.to_wire())
        assert query.is_response(dns.message.from_wire(receive_framed(sock)))
