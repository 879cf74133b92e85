"""Too much of everything (rows 15, 16, 21 and 22 of the attacks): others are answered all the same."""

import resource
import socket
import struct
from contextlib import ExitStack
from pathlib import Path

import dns.message
import pytest

from tests.integration.encrypted_node import EncryptedNode
from tests.integration.node import Node
from tests.scenarios.conftest import StartNode, serving
from tests.support import behaviours
from tests.support.dns_client import exchange, query, receive_framed, send_framed, tcp, tcp_socket, udp, udp_socket
from tests.support.fake_upstream import FakeUpstream
from tests.support.processes import descriptors, eventually, leave_room_for
from tests.support.scenarios import address, asked_over, ede, octets, question, rcode

ATTACKER, OTHER, STRANGER = "127.0.0.30", "127.0.0.31", "127.0.0.99"
BURST, IN_FLIGHT = 200, 20
PATIENT = {"failover_ms": 5_000, "try_timeout_ms": 5_000, "deadline_ms": 10_000}
EACH = 64
"""The default of limits.connections_per_client."""
EXTENDED_ERROR = 6
"""Octets of an extended error without a text, in an OPT record."""


def works_for(node: Node, source: str, mark: str) -> None:
    """See that a client is answered over UDP and TCP: what is blocked, and what an upstream must be asked for."""
    for number, ask in enumerate((udp, tcp)):
        name = f"{mark}-{number}.probe.example"
        assert rcode("NOERROR")(ask(node.server, "bad.example", source=source))
        assert address(name)(ask(node.server, name, source=source))


# Row 15: nobody is hit by what the resolver sends.


@pytest.mark.parametrize("rdtype", ["A", "ANY", "TXT"])
def test_15_a_stranger_gets_no_more_than_it_sent(start_node: StartNode, upstream: FakeUpstream, rdtype: str) -> None:
    """Row 15: networks that aren't served are refused in as many octets; nobody is asked for them."""
    node = start_node(server={"allow_from": ["127.0.0.1/32"]})
    heard = len(upstream.log)
    for options in ({"use_edns": False}, {"use_edns": 0, "payload": 4096}):
        wire = question("peer.example", rdtype, **options)
        reply = exchange(node.server, wire, source=STRANGER)
        assert rcode("REFUSED")(dns.message.from_wire(reply))
        assert len(reply) <= len(wire) + EXTENDED_ERROR
    assert len(upstream.log) == heard
    assert [record.decision.verdict for record in node.records] == ["refused"] * 2


def test_15_strangers_may_get_nothing_at_all(start_node: StartNode) -> None:
    """Row 15: by ``server.unserved = "drop"``; over TCP, whose addresses are true, they are still told."""
    node = start_node(server={"allow_from": ["127.0.0.1/32"], "unserved": "drop"})
    with udp_socket(node.server, source=STRANGER) as sock:
        sock.send(question("peer.example"))
        eventually(lambda: node.records)
        assert rcode("REFUSED")(tcp(node.server, "peer.example", source=STRANGER))
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(4096)
    assert [record.decision.verdict for record in node.records] == ["refused"] * 2


def test_15_what_is_malformed_is_turned_away_too(start_node: StartNode) -> None:
    """Row 15: a FORMERR is a reply as any other is, to strangers and over a client's limit."""
    node = start_node(
        server={"allow_from": ["127.0.0.1/32", f"{ATTACKER}/32"], "unserved": "drop"},
        limits={"exempt": ["127.0.0.1/32"], "queries_per_second": 1, "burst": 10},
    )
    with ExitStack() as stack:
        stranger, attacker = (stack.enter_context(udp_socket(node.server, source=s)) for s in (STRANGER, ATTACKER))
        for number in range(50):
            for sock in (stranger, attacker):
                sock.send(octets("bad.example", counts=(number % 3 * 3, 0, 0, 0), flags=(0x0100, 0x7900)[number % 2]))
        assert rcode("NOERROR")(udp(node.server, "bad.example"))  # it has read them
        for sock, least, most in ((stranger, 0, 0), (attacker, 10, 20)):
            sock.setblocking(False)
            replies = 0
            while received(sock):
                replies += 1
            assert least <= replies <= most
    assert len(node.records) == 101


def test_15_replies_are_not_replied_to(node: Node) -> None:
    """Row 15: two servers that answer each other's errors would never stop; none of it is a lookup."""
    before = len(node.records)
    replies = [
        exchange(node.server, question("bad.example")),
        exchange(node.server, octets("bad.example", counts=(9, 0, 0, 0))),  # FORMERR
        exchange(node.server, octets("bad.example", rdclass=3)),  # REFUSED
    ]
    with udp_socket(node.server, source=ATTACKER) as sock:
        for reply in replies:
            sock.send(reply)
        sock.send(question("bad.example"))
        assert sock.recv(4096) == replies[0]
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(4096)
    assert len(node.records) - before == len(replies) + 1


# Row 16: names that nobody has asked for before.


@pytest.fixture
def limited(start_node: StartNode, upstream: FakeUpstream) -> Node:
    """Give a worker that exempts nobody from its limits, and an upstream that is silent about ``torture.example``."""
    upstream.behave("*.torture.example", behaviours.silent)
    limits = {"exempt": [], "queries_per_second": 1, "burst": BURST, "in_flight": IN_FLIGHT}
    return start_node(limits=limits, upstream={"servers": [upstream.url]} | PATIENT)


def test_16_one_clients_random_names_hold_up_nobody(limited: Node, upstream: FakeUpstream) -> None:
    """Row 16 (water torture): so many questions in flight for a client, and the rest refused at once."""
    count = 5 * IN_FLIGHT
    with udp_socket(limited.server, source=ATTACKER) as sock:
        for number in range(count):
            sock.send(query(f"r{number}.torture.example", use_edns=0).to_wire())
        replies = [dns.message.from_wire(sock.recv(4096)) for _ in range(count - IN_FLIGHT)]
    assert all(rcode("REFUSED")(reply) and ede(18)(reply) for reply in replies)
    works_for(limited, OTHER, "torture")
    assert len([asked for asked in upstream.log if asked.name.lower().endswith(".torture.example")]) == IN_FLIGHT
    refused = [record for record in limited.records if record.decision.rule == "limits.in_flight"]
    assert len(refused) == count - IN_FLIGHT


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_16_who_asks_too_much_is_turned_away(limited: Node, transport: str) -> None:
    """Row 16: over UDP with silence, since the address may be another's; each is logged, and others are answered."""
    sent, answered = 0, 0
    with ExitStack() as stack:
        if transport == "udp":
            sock = stack.enter_context(udp_socket(limited.server, source=ATTACKER))
            for sent in range(1, BURST + 101):
                sock.send(question("bad.example", use_edns=0))
                if not sent % 50:
                    assert rcode("NOERROR")(udp(limited.server, "bad.example", source=OTHER))  # it has read the 50
            sock.setblocking(False)
            while received(sock):
                answered += 1
        else:
            stream = stack.enter_context(tcp_socket(limited.server, source=ATTACKER))
            for _ in range(BURST + 100):
                sent += 1
                send_framed(stream, question("bad.example", use_edns=0))
                reply = dns.message.from_wire(receive_framed(stream))
                answered += rcode("NOERROR")(reply)
                assert rcode("NOERROR")(reply) or (rcode("REFUSED")(reply) and ede(18)(reply))
    assert BURST <= answered < BURST + 100
    works_for(limited, OTHER, f"rate-{transport}")
    logged = [record for record in limited.records if record.client.client == ATTACKER]
    assert len(logged) == sent
    turned_away = [record for record in logged if record.decision.rule == "limits.queries_per_second"]
    assert len(turned_away) == sent - answered


def received(sock: socket.socket) -> bytes:
    """Return the next datagram that has come; empty: there is none."""
    try:
        return sock.recv(4096)
    except BlockingIOError:
        return b""


def test_16_names_that_are_not_there_are_remembered(node: Node, upstream: FakeUpstream) -> None:
    """Row 16: a denial is asked for once, a failure twice (RFC 9520), however often clients ask."""
    upstream.behave("denied.flood.example", behaviours.nxdomain)
    upstream.behave("failed.flood.example", behaviours.servfail)
    for _ in range(50):
        udp(node.server, "denied.flood.example")
        udp(node.server, "failed.flood.example")
    assert len(upstream.asked("denied.flood.example")) == 1
    assert len(upstream.asked("failed.flood.example")) <= 2


# Row 21: clients that take their time.


def test_21_slowloris_holds_up_nobody(node: Node) -> None:
    """Row 21: messages that are begun and never ended, on as many connections as one may have, and more.

    That such connections end by themselves, however octets trickle: tests/integration/test_stream_limits.py.
    """
    with ExitStack() as stack:
        for number in range(2 * EACH):
            sock = stack.enter_context(tcp_socket(node.server, source=ATTACKER))
            sock.sendall((b"", b"\0", b"\0\x30", b"\0\x30" + bytes(20))[number % 4])
        works_for(node, OTHER, "slowloris-other")
        works_for(node, ATTACKER, "slowloris-same")


def test_21_half_open_handshakes_hold_up_nobody(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Row 21: TLS that is begun and not gone on with, on the ports for TLS and HTTPS.

    How long it may take: `test_who_begins_no_tls_is_not_waited_for` in tests/integration/test_stream_limits.py.
    """
    hello = b"\x16\3\1\2\0\1\0\1\xfc\3\3" + bytes(40)  # a ClientHello of 512 octets, of which most is missing
    node = EncryptedNode(tmp_path / "node", upstream)
    with serving(node, {}), ExitStack() as stack:
        for number in range(2 * EACH):
            port = (node.tls, node.https)[number % 2]
            sock = stack.enter_context(tcp_socket(port, source=ATTACKER))
            sock.sendall((b"", hello[:3], hello)[number % 3])
        assert node.kdig("bad.example", "+tls").rdata == ["0.0.0.0"]
        assert node.kdig("bad.example", "+https").rdata == ["0.0.0.0"]
        works_for(node, OTHER, "half-open-other")
        works_for(node, ATTACKER, "half-open-same")


def test_21_who_reads_nothing_costs_little(start_node: StartNode, upstream: FakeUpstream) -> None:
    """Row 21: questions with large answers, as many as the connection takes, of which none is read.

    200 MB would have to be kept for them.
    """
    upstream.behave("large.example", behaviours.big_text(20_000))
    node = start_node()
    works_for(node, OTHER, "before")
    before = resident(node.workers[0].process.pid)
    wire = question("large.example", "TXT")
    framed = (len(wire).to_bytes(2, "big") + wire) * 100
    with ExitStack() as stack:
        for _ in range(10):
            sock = stack.enter_context(tcp_socket(node.server, source=ATTACKER))
            sock.setblocking(False)
            taken = 0
            while taken < 10 * len(framed):
                try:
                    taken += sock.send(framed)
                except (BlockingIOError, ConnectionError):
                    break
            works_for(node, OTHER, f"no-read-{sock.fileno()}")
        works_for(node, ATTACKER, "no-read-same")
        assert resident(node.workers[0].process.pid) - before < 60 << 20


def resident(pid: int) -> int:
    """Return how much memory a process holds, in octets."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_21_ten_thousand_on_one_connection_are_all_answered(node: Node) -> None:
    """Row 21: they are read as they are answered, and others' questions between them."""
    wire = question("bad.example")
    with tcp_socket(node.server, source=ATTACKER) as sock:
        for part in range(10):
            send_framed(sock, *[part.to_bytes(2, "big") + wire[2:]] * 1_000)
            works_for(node, OTHER, f"pipelined-{part}")
            for _ in range(1_000):
                assert receive_framed(sock)[:2] == part.to_bytes(2, "big")


def test_21_who_hangs_up_at_once_leaves_nothing(node: Node) -> None:
    """Row 21: connections that are reset with their questions unanswered."""
    pid = node.workers[0].process.pid
    works_for(node, OTHER, "before-reset")
    before = len(descriptors(pid))
    for number in range(200):
        with tcp_socket(node.server, source=ATTACKER) as sock:
            send_framed(sock, query(f"reset-{number}.example").to_wire())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
    works_for(node, OTHER, "after-reset")
    eventually(lambda: len(descriptors(pid)) <= before + 2 * 32 + 8)  # ports to the upstream come and go


# Row 22: nothing left to open.


def test_22_without_descriptors_udp_goes_on_and_tcp_comes_back(start_node: StartNode) -> None:
    """Row 22: blocked and cached names, and those that an upstream must be asked for, more than a port may ask.

    That no worker turns in circles meanwhile, and that new clients take the places of older ones:
    tests/integration/test_exhausted_descriptors.py.
    """
    node = start_node()
    pid = node.workers[0].process.pid
    assert address("before.example")(udp(node.server, "before.example"))
    before = leave_room_for(0, pid)
    assert rcode("NOERROR")(udp(node.server, "bad.example"))
    assert address("before.example")(udp(node.server, "before.example"))
    for number in range(100):
        assert address(f"n{number}.exhausted.example")(udp(node.server, f"n{number}.exhausted.example"))
    with tcp_socket(node.server) as sock:
        send_framed(sock, question("bad.example"))
        assert address("meanwhile.example")(udp(node.server, "meanwhile.example"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert rcode("NOERROR")(dns.message.from_wire(receive_framed(sock)))
    assert asked_over(node.server, "tcp", question("bad.example"))


def test_22_a_worker_takes_what_the_system_lets_it_have(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Row 22: shells allow 1,024 unless they are asked for more, which a worker's clients alone may take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    made = Node(tmp_path / "node", upstream)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))  # which children inherit
    try:
        with serving(made, {}):
            allowed, possible = resource.prlimit(made.workers[0].process.pid, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (allowed, possible) == (min(hard, 65_536), hard)
