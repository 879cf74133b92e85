"""Forwarding over real sockets on loopback, to name servers that do as they are told, well or badly."""

import asyncio
import errno
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from resolver import wire
from tests.support import behaviours
from tests.support.asker import Asker
from tests.support.certificates import Authority
from tests.support.dns_client import receive_framed, send_framed
from tests.support.fake_upstream import FakeUpstream
from tests.support.processes import eventually
from tests.support.server import free_port

PATIENT = {"failover_ms": 10_000, "try_timeout_ms": 10_000, "deadline_ms": 30_000}
"""So that none is sent twice, on the slowest of machines."""

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
def second() -> Iterator[FakeUpstream]:
    with FakeUpstream("127.0.0.2") as server:
        yield server


def right(name: str = "a.example") -> list[str]:
    return [str(behaviours.computed_rdata(name, "A"))]


# UDP.


async def test_an_answer_comes_over_udp(upstream: FakeUpstream, asking: Asking) -> None:
    result = await asking(upstream, **PATIENT).ask()
    assert result.rdata == right()
    assert result.server == upstream.url
    (query,) = upstream.log
    assert query.transport == "udp"


async def test_over_ipv6_too(asking: Asking) -> None:
    with FakeUpstream("::1") as server:
        result = await asking(server).ask()
    assert result.rdata == right()
    assert result.server.startswith("udp://[::1]:")


def header_only(query: behaviours.Query) -> list[behaviours.Reply]:
    return [behaviours.Reply(query.wire[:2] + b"\x81\x82" + bytes(8))]


def echo(query: behaviours.Query) -> list[behaviours.Reply]:
    return [behaviours.Reply(query.wire)]


def short(query: behaviours.Query) -> list[behaviours.Reply]:
    return [behaviours.Reply(query.wire[:length]) for length in (0, 1, 2, 11)]


FORGERIES = [
    behaviours.garbage,
    behaviours.wrong_id,
    behaviours.wrong_question,
    behaviours.wrong_source,
    header_only,
    echo,
    short,
]


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_what_answers_no_question_is_ignored_and_the_wait_goes_on(
    upstream: FakeUpstream, asking: Asking, forgery: behaviours.Behaviour
) -> None:
    """RFC 5452 section 9.1: ID, question, address and port must match; and the first that doesn't ends nothing."""
    upstream.behave("a.example", behaviours.each(forgery, forgery, behaviours.slow(0.03)))
    result = await asking(upstream, failover_ms=5000, try_timeout_ms=5000, deadline_ms=6000).ask()
    assert result.rdata == right()
    assert len(upstream.log) == 1


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_forgeries_alone_are_silence(
    upstream: FakeUpstream, asking: Asking, forgery: behaviours.Behaviour
) -> None:
    upstream.behave("a.example", forgery)
    result = await asking(upstream, deadline_ms=200).ask()
    assert (result.server, result.message, result.ede) == ("", None, wire.EDE_NO_REACHABLE_AUTHORITY)
    await asyncio.to_thread(eventually, lambda: upstream.log)


def other_case(query: behaviours.Query) -> list[behaviours.Reply]:
    """Answer with an address of one's own, the name's letters the other way round."""
    name = query.message.question[0].name.to_text()
    forged = dns.message.make_response(dns.message.make_query(name.swapcase(), "A", id=query.id))
    forged.answer.append(dns.rrset.from_text(name, 300, "IN", "A", "198.51.100.66"))
    return [behaviours.Reply(forged.to_wire())]


async def test_an_answer_in_other_letters_is_asked_for_again_over_tcp(upstream: FakeUpstream, asking: Asking) -> None:
    """The letters that were sent are as much of a secret as the ID is: who doesn't know them is not believed."""
    upstream.behave("a.example", behaviours.by_transport(udp=other_case))
    result = await asking(upstream, failover_ms=5000, try_timeout_ms=5000, deadline_ms=9000).ask()
    assert result.rdata == right()
    assert [query.transport for query in upstream.log] == ["udp", "tcp"]


async def test_a_silent_upstream_is_followed_by_the_next(
    upstream: FakeUpstream, second: FakeUpstream, asking: Asking
) -> None:
    upstream.default = behaviours.silent
    result = await asking(upstream, second).ask()
    assert (result.server, result.rdata) == (second.url, right())


async def test_one_that_is_silent_once_is_asked_again(upstream: FakeUpstream, asking: Asking) -> None:
    upstream.behave("a.example", behaviours.in_turn(behaviours.silent, behaviours.computed))
    result = await asking(upstream).ask()
    assert result.rdata == right()
    assert len(upstream.log) >= 2  # more where the machine is slow to bring the answer


async def test_a_failure_of_one_is_followed_by_the_next(
    upstream: FakeUpstream, second: FakeUpstream, asking: Asking
) -> None:
    upstream.behave("a.example", behaviours.servfail)
    result = await asking(upstream, second).ask()
    assert (result.server, result.rdata) == (second.url, right())


async def test_a_failure_of_all_is_the_answer(upstream: FakeUpstream, second: FakeUpstream, asking: Asking) -> None:
    upstream.default = second.default = behaviours.servfail
    result = await asking(upstream, second).ask()
    assert result.message is not None
    assert result.message.rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize("header_only", [False, True])
@pytest.mark.parametrize("rcode", ["FORMERR", "NOTIMP"])
@pytest.mark.parametrize("scheme", ["udp", "tcp"])
async def test_who_knows_no_edns_is_asked_without(
    upstream: FakeUpstream, asking: Asking, scheme: str, rcode: str, header_only: bool
) -> None:
    """RFC 6891 section 6.2.2: at once from the second question on, whether or not it repeats what it can't read."""
    upstream.default = behaviours.without_edns(rcode, header_only=header_only)
    asker = asking(upstream.url.replace("udp", scheme), **PATIENT)
    for name in ("a.example", "b.example"):
        assert (await asker.ask(name)).rdata == right(name)
    assert [query.message.edns for query in upstream.log] == [0, -1, -1]
    assert {query.transport for query in upstream.log} == {scheme}


async def test_when_all_are_silent_there_is_no_answer(upstream: FakeUpstream, asking: Asking) -> None:
    upstream.default = behaviours.silent
    asker = asking(upstream, deadline_ms=1500)
    result = await asker.ask()
    assert (result.server, result.message, result.ede) == ("", None, wire.EDE_NO_REACHABLE_AUTHORITY)
    assert asker.forwarder.in_flight == 0


async def test_a_port_that_nobody_listens_on_is_left_at_once(upstream: FakeUpstream, asking: Asking) -> None:
    """ICMP says so: the next upstream answers long before the first one's time is over."""
    asker = asking(f"udp://127.0.0.1:{free_port()}", upstream, try_timeout_ms=10000, deadline_ms=30000)
    result = await asker.ask()
    assert result.rdata == right()


async def test_when_every_port_is_dead_that_is_said_at_once(asking: Asking) -> None:
    asker = asking(f"udp://127.0.0.1:{free_port()}", try_timeout_ms=10000, deadline_ms=30000)
    result = await asker.ask()
    assert (result.message, result.ede) == (None, wire.EDE_NETWORK_ERROR)


async def test_without_a_way_to_the_upstream_that_is_said_at_once(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8914 section 4.24. Without a route, connecting a datagram's socket fails already (connect(2))."""
    asker = asking("udp://127.0.0.1:53", **PATIENT)
    assert asker.forwarder.in_flight == 0

    class WithoutRoute(socket.socket):
        def connect(self, _: object) -> None:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(socket, "socket", WithoutRoute)
    result = await asker.ask()
    assert (result.message, result.ede) == (None, wire.EDE_NETWORK_ERROR)
    assert asker.forwarder.in_flight == 0


async def test_a_thousand_questions_for_a_dead_port_all_end(asking: Asking) -> None:
    """Each refusal is reported within another's send: that must not pile up."""
    asker = asking(f"udp://127.0.0.1:{free_port()}", f"udp://127.0.0.2:{free_port()}", deadline_ms=5000)
    results = await asyncio.gather(*[asker.start(f"n{number}.example") for number in range(1000)])
    assert {result.message for result in results} == {None}
    assert asker.forwarder.in_flight == 0


async def test_identical_questions_share_one_query(upstream: FakeUpstream, asking: Asking) -> None:
    upstream.behave("a.example", behaviours.slow(0.05))
    asker = asking(upstream, **PATIENT)
    results = await asyncio.gather(*[asker.start("a.example") for _ in range(50)])
    assert {tuple(result.rdata) for result in results} == {tuple(right())}
    assert len(upstream.log) == 1


async def test_ids_and_ports_cant_be_guessed(upstream: FakeUpstream, asking: Asking) -> None:
    """RFC 5452 section 9.2: 16 random bits of ID, and a port out of many that changes all the time."""
    asker = asking(upstream, **PATIENT)
    for start in range(0, 1000, 50):
        await asyncio.gather(*[asker.start(f"n{number}.example") for number in range(start, start + 50)])
    ids, ports = [query.id for query in upstream.log], [query.client[1] for query in upstream.log]
    assert len(ids) == 1000
    assert len(set(ids)) > 960  # 992 on average; a birthday takes a few
    for bit in range(16):
        assert 400 < sum(ident >> bit & 1 for ident in ids) < 600
    assert sum(ids[n] + 1 == ids[n + 1] for n in range(999)) < 5
    assert len(set(ports)) >= 32
    assert max(ports.count(port) for port in set(ports)) <= 32
    assert max(ports) - min(ports) > 1000


async def test_the_case_of_letters_cant_be_guessed(upstream: FakeUpstream, asking: Asking) -> None:
    """Each letter is sent in either case, as often in one as in the other; who asked sees nothing of it."""
    asker = asking(upstream, **PATIENT)
    results = await asyncio.gather(*[asker.start(f"qwertyuiop-{number}.example") for number in range(300)])
    sent = [query.name for query in upstream.log]
    for place, letter in enumerate("qwertyuiop"):
        assert {name[place] for name in sent} == {letter, letter.upper()}
        assert 100 < sum(name[place] == letter for name in sent) < 200
    assert len({name[:10] for name in sent}) > 150  # of 1024, 260 on average
    asked = [result.message.question[0].name.to_text() for result in results if result.message is not None]
    assert asked == [f"qwertyuiop-{number}.example." for number in range(300)]


# TCP.


async def test_a_truncated_answer_is_asked_for_over_tcp(upstream: FakeUpstream, asking: Asking) -> None:
    upstream.behave("a.example", behaviours.truncated)
    upstream.behave("big.example", behaviours.big_text(20000))
    asker = asking(upstream, **PATIENT)
    assert (await asker.ask()).rdata == right()
    assert len((await asker.ask("big.example", "TXT")).rdata) == 94
    assert [query.transport for query in upstream.log] == ["udp", "tcp"] * 2


async def test_over_tcp_alone_many_questions_share_a_connection(upstream: FakeUpstream, asking: Asking) -> None:
    """RFC 7766 section 6.2.1.1: pipelined, and answered as they finish."""
    upstream.behave("n0.example", behaviours.slow(1.0))
    asker = asking(f"tcp://127.0.0.1:{upstream.port}", **PATIENT)
    done: list[int] = []
    futures = []
    for number in range(20):
        future = asker.start(f"n{number}.example")
        future.add_done_callback(lambda _, asked=number: done.append(asked))  # type: ignore[misc] # asked is an int
        futures.append(future)
    results = await asyncio.gather(*futures)
    assert [result.rdata for result in results] == [right(f"n{number}.example") for number in range(20)]
    assert done[-1] == 0
    assert len({query.client for query in upstream.log}) == 1
    assert {query.transport for query in upstream.log} == {"tcp"}


async def test_a_stream_that_the_peer_closed_is_opened_anew(upstream: FakeUpstream, asking: Asking) -> None:
    asker = asking(f"tcp://127.0.0.1:{upstream.port}", **PATIENT)
    assert (await asker.ask("a.example")).rdata == right()
    upstream.stop()
    upstream.start()
    assert (await asker.ask("b.example")).rdata == right("b.example")
    assert len({query.client for query in upstream.log}) == 2


async def test_a_peer_that_hangs_up_on_a_question_is_asked_once_more(upstream: FakeUpstream, asking: Asking) -> None:
    """The first connection's end fails the question on it; the second try must not wait for its time to be over."""
    upstream.behave("a.example", behaviours.in_turn(behaviours.hang_up, behaviours.computed))
    asker = asking(f"tcp://127.0.0.1:{upstream.port}", try_timeout_ms=10000, deadline_ms=30000)
    assert (await asker.ask()).rdata == right()


async def test_a_stream_that_nobody_accepts_fails_at_once_and_for_good(asking: Asking) -> None:
    port = free_port()
    asker = asking(f"tcp://127.0.0.1:{port}", try_timeout_ms=10000, deadline_ms=30000)
    result = await asyncio.wait_for(asker.start("a.example"), 8)  # less than one try
    assert (result.message, result.ede) == (None, wire.EDE_NETWORK_ERROR)
    with FakeUpstream(port=port):
        assert (await asker.ask("b.example")).rdata == right("b.example")


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

    thread = threading.Thread(target=serve, daemon=True)  # should the test fail, it waits for nobody
    thread.start()
    asker = asking(f"tcp://127.0.0.1:{listener.getsockname()[1]}", try_timeout_ms=5000, deadline_ms=9000)
    results = await asyncio.gather(asker.start("a.example"), asker.start("b.example"))
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
    with FakeUpstream(identity=authority.issue("dns.example")) as server:
        asker = asking(server, ca_file=str(authority.certificate), **PATIENT)
        results = await asyncio.gather(*[asker.start(f"n{number}.example") for number in range(5)])
        assert [result.rdata for result in results] == [right(f"n{number}.example") for number in range(5)]
        assert results[0].server == f"tls://127.0.0.1:{server.port}#dns.example"
        assert len({query.client for query in server.log}) == 1
        asker.forwarder.close()
        await asyncio.sleep(0.01)


async def test_without_a_name_the_address_is_what_the_certificate_must_carry(
    authority: Authority, asking: Asking
) -> None:
    with FakeUpstream(identity=authority.issue("by-address.example", "127.0.0.1")) as server:
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
        result = await asking(f"tls://127.0.0.1:{upstream.port}#dns.example", deadline_ms=1500, **trusted).ask()
        assert not upstream.log
    else:
        with FakeUpstream(identity=authority.issue("other.example", "127.0.0.1")) as server:
            name = "dns.example" if case == "another name" else "other.example"
            patient = {"try_timeout_ms": 10000, "deadline_ms": 30000}  # a handshake that fails ends the wait itself
            options = patient | (trusted if case == "another name" else {})
            asker = asking(f"tls://127.0.0.1:{server.port}#{name}", **options)
            result = await asker.ask()
            assert not server.log
    assert result.message is None
    # The plain one says nothing to a handshake.
    assert result.ede == (wire.EDE_NO_REACHABLE_AUTHORITY if case == "plain TCP" else wire.EDE_NETWORK_ERROR)


async def test_a_tls_upstream_that_restarts_is_found_again(authority: Authority, asking: Asking) -> None:
    with FakeUpstream(identity=authority.issue("dns.example")) as server:
        asker = asking(server, ca_file=str(authority.certificate), try_timeout_ms=5000, deadline_ms=9000)
        assert (await asker.ask("a.example")).rdata == right()
        server.stop()
        server.start()
        assert (await asker.ask("b.example")).rdata == right("b.example")
        asker.forwarder.close()
        await asyncio.sleep(0.01)


async def test_a_client_that_frames_as_ours_does_reads_it(upstream: FakeUpstream) -> None:
    """The helpers' own framing, so that the tests above stand on something."""
    with socket.create_connection(("127.0.0.1", upstream.port)) as sock:
        query = dns.message.make_query("a.example", "A")
        send_framed(sock, query.to_wire())
        assert query.is_response(dns.message.from_wire(receive_framed(sock)))
