"""DNS over TCP (rows 14 to 19): what RFC 7766 and its neighbours ask of a server."""

import socket
import subprocess
from contextlib import ExitStack

import dns.edns
import dns.flags
import dns.message
import pytest

from tests.integration.node import Node
from tests.support import behaviours
from tests.support.dns_client import dig, query, receive_framed, send_framed, tcp, tcp_socket, udp
from tests.support.fake_upstream import FakeUpstream
from tests.support.scenarios import address, asked_over, no_option, question

KEEPALIVE = dns.edns.OptionType.KEEPALIVE
CONNECTIONS_EACH = 64
"""The default of limits.connections_per_client."""


def test_14_tcp_is_served_as_udp_is(node: Node, upstream: FakeUpstream) -> None:
    """RFC 7766 section 5: "All general-purpose DNS implementations MUST support both UDP and TCP transport"."""
    upstream.behave("large.example", behaviours.big_text(20_000))
    assert len(tcp(node.server, "large.example", "TXT").answer[0]) == 94
    said = dig(node.server, "large.example", "TXT")
    assert "Truncated, retrying in TCP mode" in said.text
    assert len(said.answer) == 94


def test_14_what_an_upstream_truncates_is_fetched_over_tcp(node: Node, upstream: FakeUpstream) -> None:
    """RFC 7766 section 5 and RFC 2181 section 9: what is cut is asked for again, and never passed on as whole."""
    upstream.behave("cut.example", behaviours.truncated)
    reply = udp(node.server, "cut.example")
    assert not reply.flags & dns.flags.TC
    assert address("cut.example")(reply)
    assert [query.transport for query in upstream.asked("cut.example")] == ["udp", "tcp"]


@pytest.mark.parametrize("names", [["a.example", "b.example", "bad.example"], [f"p{n}.example" for n in range(200)]])
def test_15_queries_may_be_pipelined(node: Node, names: list[str]) -> None:
    """RFC 7766 section 6.2.1.1, in short: clients need not wait for an answer before they send the next query."""
    messages = [query(name, id=number) for number, name in enumerate(names)]
    with tcp_socket(node.server) as sock:
        send_framed(sock, *(message.to_wire() for message in messages))
        answers = {answer.id: answer for answer in (dns.message.from_wire(receive_framed(sock)) for _ in messages)}
    for message in messages:
        assert message.is_response(answers[message.id])


def test_15_kdig_keeps_its_connection(node: Node) -> None:
    """RFC 7766 section 6.2.1, in short: a connection serves more than one query."""
    command = ["kdig", f"@{node.server[0]}", "-p", str(node.port), "+tcp", "+keepopen", "+retry=0"]
    before = len(node.records)
    done = subprocess.run(
        [*command, "a.example", "b.example", "c.example"], check=True, capture_output=True, text=True, timeout=20
    )
    assert done.stdout.count("status: NOERROR") == 3
    assert [record.client.transport for record in node.records[before:]] == ["tcp"] * 3


def test_16_what_is_done_first_is_answered_first(node: Node, upstream: FakeUpstream) -> None:
    """RFC 7766 section 7, in short: answers are matched by ID and question, and may come in any order."""
    upstream.behave("slow.example", behaviours.slow(1.0))
    slow, fast = query("slow.example"), query("fast.example")
    with tcp_socket(node.server) as sock:
        send_framed(sock, slow.to_wire(), fast.to_wire())
        assert fast.is_response(dns.message.from_wire(receive_framed(sock)))
        assert slow.is_response(dns.message.from_wire(receive_framed(sock)))


def test_17_a_message_may_come_split(node: Node) -> None:
    """RFC 7766 section 8, in short: the length and the message come in any pieces."""
    wire = question("bad.example")
    framed = len(wire).to_bytes(2, "big") + wire
    for cut in (1, 2, 3, len(framed) - 1):
        with tcp_socket(node.server) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(framed[:cut])
            sock.sendall(framed[cut:])
            assert receive_framed(sock)[:2] == wire[:2]
    with tcp_socket(node.server) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in framed:
            sock.sendall(bytes([octet]))
        assert receive_framed(sock)[:2] == wire[:2]


def test_17_an_answer_leaves_whole(node: Node) -> None:
    """RFC 7766 section 8, in short: the length and the message are handed to TCP together.

    What has been written in one go waits in the socket in one piece: it is looked at without being taken. That it was
    one call is counted in tests/integration/test_stream_limits.py.
    """
    wire = question("bad.example")
    with tcp_socket(node.server) as sock:
        send_framed(sock, wire)
        found = sock.recv(65537, socket.MSG_PEEK)
        assert len(found) == 2 + int.from_bytes(found[:2], "big")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_18_keepalive_is_for_connections(node: Node, transport: str) -> None:
    """RFC 7828 section 3.3.2, in short: over UDP the option is ignored; over TCP it says how long one may be idle.

    That such a one ends then, and one that waits for an answer doesn't: tests/integration/test_stream_limits.py.
    """
    wire = question("bad.example", options=[dns.edns.GenericOption(KEEPALIVE, b"")])
    reply = dns.message.from_wire(asked_over(node.server, transport, wire))
    found = [option.to_wire() for option in reply.options if option.otype == KEEPALIVE]
    if transport == "udp":
        assert found == []
    else:
        (octets,) = found
        assert octets is not None
        assert 0 < int.from_bytes(octets, "big") / 10 <= 60  # it counts units of 100 ms


def test_18_nobody_gets_the_option_who_did_not_send_it(node: Node) -> None:
    """RFC 7828 section 3.3.2."""
    assert no_option(KEEPALIVE)(tcp(node.server, "bad.example", use_edns=0))


def test_18_dig_agrees(node: Node) -> None:
    assert "KEEPALIVE: " in dig(node.server, "bad.example", "A", "+tcp", "+keepalive").text
    assert "KEEPALIVE: " not in dig(node.server, "bad.example", "A", "+notcp", "+keepalive").text


def test_19_connections_are_limited_for_each_client(node: Node) -> None:
    """RFC 7766 section 6.2.2, in short: a server may limit a client's connections; others must not suffer.

    A client opens 200, and begins a message on each that it never ends. The oldest are closed for the newer ones, and
    another's that has been silent for longer is not; other clients, and itself over UDP, are answered meanwhile.
    """
    with ExitStack() as stack:
        idle = stack.enter_context(tcp_socket(node.server, source="127.0.0.21"))
        stalled = [stack.enter_context(tcp_socket(node.server, source="127.0.0.20")) for _ in range(200)]
        for sock in stalled[-CONNECTIONS_EACH:]:
            sock.sendall(b"\0\x20partial")
        assert address("probe.example")(tcp(node.server, "probe.example", source="127.0.0.21"))
        assert address("probe.example")(udp(node.server, "probe.example", source="127.0.0.20"))
        assert address("probe.example")(tcp(node.server, "probe.example", source="127.0.0.20"))
        for sock in stalled[: 200 - CONNECTIONS_EACH]:
            assert sock.recv(1) == b""
        send_framed(idle, wire := question("bad.example"))
        assert receive_framed(idle)[:2] == wire[:2]
