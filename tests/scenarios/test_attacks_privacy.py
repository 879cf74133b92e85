"""What others could learn (rows 37 and 39 of the attacks): nothing from the cache, nor from upstreams' wires."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.flags
import dns.message
import pytest

from tests.integration.node import Node
from tests.scenarios.conftest import StartNode
from tests.support import behaviours
from tests.support.certificates import Authority
from tests.support.dns_client import dig, udp
from tests.support.fake_upstream import FakeUpstream
from tests.support.scenarios import address, asked_over, data, ede, extended_errors, question, rcode
from tests.support.server import free_port

HASTY = {"try_timeout_ms": 200, "failover_ms": 50, "deadline_ms": 500}
PATIENT = {"try_timeout_ms": 3000, "failover_ms": 3000, "deadline_ms": 3000}
"""For who is to be answered first: a handshake takes its time."""
NOT_AUTHORITATIVE = 20


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_37_rd_0_tells_nothing_of_the_cache(node: Node, upstream: FakeUpstream, transport: str) -> None:
    """Row 37: what others have asked for gets the same octets as what nobody has, and no upstream is asked."""
    visited, other = f"visited-{transport}.example", f"unknown-{transport}.example"
    assert address(visited)(udp(node.server, visited, use_edns=0))
    replies = [asked_over(node.server, transport, question(name, use_edns=0, flags=0)) for name in (visited, other)]
    assert replies[0].replace(b"visited", b"") == replies[1].replace(b"unknown", b"")
    for reply in map(dns.message.from_wire, replies):
        assert rcode("REFUSED")(reply)
        assert ede(NOT_AUTHORITATIVE)(reply)
        assert data()(reply)
        assert not reply.flags & dns.flags.RD
    assert upstream.asked(other) == []
    assert [record.decision.verdict for record in node.records[-2:]] == ["refused"] * 2


def test_37_dig_agrees(node: Node) -> None:
    udp(node.server, "visited-dig.example")
    assert dig(node.server, "visited-dig.example", "A", "+norecurse").status == "REFUSED"


# Row 39: an upstream that is to be asked over TLS alone.


@contextmanager
def listening_in_plain(port: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Listen for datagrams and connections on a port, and answer none."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.create_server(("127.0.0.1", port)) as stream,
    ):
        datagrams.bind(("127.0.0.1", port))
        datagrams.setblocking(False)
        stream.setblocking(False)
        yield datagrams, stream


def is_silent(sock: socket.socket) -> bool:
    """Tell whether no datagram has come."""
    with pytest.raises(BlockingIOError):
        sock.recv(4096)
    return True


@pytest.mark.parametrize("scheme", ["tls", "https"])
def test_39_where_encryption_fails_nothing_goes_in_plain(start_node: StartNode, scheme: str) -> None:
    """Row 39: the port of the upstream takes datagrams and connections, and gets no octet that is a question."""
    with listening_in_plain(port := free_port()) as (datagrams, stream):
        node = start_node(upstream={"servers": [f"{scheme}://127.0.0.1:{port}#dns.example"]} | HASTY)
        reply = udp(node.server, "secret.example", use_edns=0)
        assert rcode("SERVFAIL")(reply)
        assert extended_errors(reply)[0][0] in {22, 23}
        assert is_silent(datagrams)
        heard = b""
        while True:
            try:
                connection, _ = stream.accept()
            except BlockingIOError:
                break
            with connection:
                connection.settimeout(5.0)
                octets = connection.recv(65535)
                assert octets[:1] in {b"\x16", b""}  # a TLS handshake (RFC 8446 section 5.1), or nothing
                heard += octets
        assert heard
        assert b"secret" not in heard


@pytest.mark.parametrize("scheme", ["tls", "https"])
def test_39_an_upstream_that_went_away_is_not_asked_in_plain(
    start_node: StartNode, tmp_path: Path, scheme: str
) -> None:
    """Row 39: it answers once; then there is a server in its place that speaks no TLS, over UDP and TCP."""
    authority = Authority(tmp_path)
    identity = authority.issue("dns.example", "127.0.0.1")
    with FakeUpstream(identity=identity, https=scheme == "https") as encrypted:
        servers = {"servers": [encrypted.url], "ca_file": str(authority.certificate)}
        node = start_node(upstream=servers | PATIENT)
        assert address("first.example")(udp(node.server, "first.example"))
        port = encrypted.port
    with FakeUpstream(port=port) as plain:
        assert rcode("SERVFAIL")(udp(node.server, "secret.example"))
        assert plain.log == []
    assert node.records[-1].decision.verdict == "failed"


def test_39_who_cant_prove_its_name_is_told_nothing(start_node: StartNode, tmp_path: Path) -> None:
    """Row 39: another's certificate, in the place of the upstream's."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for directory in (ours, theirs):
        directory.mkdir()
    trusted = Authority(ours)
    with FakeUpstream(identity=Authority(theirs).issue("dns.example", "127.0.0.1")) as forger:
        forger.default = behaviours.answering("@ 60 A 198.51.100.66")
        node = start_node(upstream={"servers": [forger.url], "ca_file": str(trusted.certificate)} | HASTY)
        assert rcode("SERVFAIL")(udp(node.server, "secret.example"))
        assert forger.log == []
