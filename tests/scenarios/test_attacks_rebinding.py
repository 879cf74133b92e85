"""DNS rebinding (row 9 of the attacks): no public name leads a browser to the school's own devices."""

from collections.abc import Iterator
from ipaddress import ip_address
from zlib import crc32

import pytest

from tests.integration.node import Node
from tests.scenarios.conftest import StartNode, serving
from tests.support import behaviours
from tests.support.behaviours import answering
from tests.support.dns_client import tcp, udp
from tests.support.fake_upstream import FakeUpstream
from tests.support.scenarios import data, ede, extended_errors, rcode, texts

PRIVATE = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.8.9.1"),
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
    *("::", "::1", "fc00::1", "fd12:3456::1", "fe80::1", "febf::1", "fec0::1"),
    *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "::10.0.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1"),
    *("64:ff9b::192.168.1.1", "64:ff9b::127.0.0.1"),
]
PUBLIC = [
    *("1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1"),
    *("169.253.1.1", "172.15.255.255", "172.32.0.1", "192.167.1.1", "192.169.1.1", "192.0.2.1", "198.51.100.1"),
    *("2001:db8::1", "2606:4700::1", "64:ff9b::9.9.9.9", "::ffff:9.9.9.9", "ff02::1", "fbff::1"),
]


def type_of(address: str) -> str:
    return "AAAA" if ":" in address else "A"


@pytest.fixture(scope="module")
def own() -> Iterator[FakeUpstream]:
    """Give the servers of the district's own zone."""
    with FakeUpstream() as server:
        server.default = answering("@ 60 A 10.20.30.40")
        yield server


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream, own: FakeUpstream) -> Iterator[Node]:
    settings = {"servers": [upstream.url], "zones": {"ad.district.example": [own.url]}}
    made = Node(
        tmp_path_factory.mktemp("rebinding"), upstream, upstream=settings, filter={"private_zones": ["lan.example"]}
    )
    with serving(made, {}):
        yield made


@pytest.mark.parametrize("address", PRIVATE)
def test_9_a_private_address_is_taken_out(node: Node, upstream: FakeUpstream, address: str) -> None:
    """Row 9: the answer is empty, from the cache too, and log and extended error say why."""
    name = f"{address.replace(':', '-').replace('.', '-')}.x.rebind.example"
    upstream.behave(name, answering(f"@ 60 {type_of(address)} {address}"))
    for ask in (udp, tcp):
        reply = ask(node.server, name, type_of(address), use_edns=0)
        assert data()(reply)
        assert rcode("NOERROR")(reply)
        assert ede(15, "private address")(reply)
        assert (node.records[-1].decision.verdict, node.records[-1].decision.rule) == ("blocked", "private address")
    assert len(upstream.asked(name)) == 1


@pytest.mark.parametrize("address", PUBLIC)
def test_9_a_public_address_is_passed_on(node: Node, upstream: FakeUpstream, address: str) -> None:
    """Row 9: up to the very next address."""
    name = f"{address.replace(':', '-').replace('.', '-')}.x.public.example"
    upstream.behave(name, answering(f"@ 60 {type_of(address)} {address}"))
    reply = udp(node.server, name, type_of(address), use_edns=0)
    assert [ip_address(text) for text in texts(reply)] == [ip_address(address)]
    assert extended_errors(reply) == []


@pytest.mark.parametrize(
    ("rdtype", "private", "public"), [("A", "192.168.1.1", "192.0.2.7"), ("AAAA", "fd00::1", "2001:db8::7")]
)
def test_9_of_a_mixed_set_the_public_ones_are_left(
    node: Node, upstream: FakeUpstream, rdtype: str, private: str, public: str
) -> None:
    """Row 9: browsers try the second address when the first doesn't answer."""
    name = f"mixed-{rdtype}.rebind.example"
    upstream.behave(name, answering(f"@ 60 {rdtype} {public}", f"@ 60 {rdtype} {private}"))
    for _ in range(2):
        assert texts(udp(node.server, name, rdtype)) == [public]


def test_9_an_alias_hides_no_address(node: Node, upstream: FakeUpstream) -> None:
    """Row 9; and what is written anew has no trace of the random case in which the upstream was asked."""
    upstream.behave(
        "alias.rebind.example",
        answering("@ 60 CNAME t.example.", "t.example. 60 A 10.0.0.1", "t.example. 60 A 9.9.9.9"),
    )
    assert texts(udp(node.server, "alias.rebind.example")) == ["9.9.9.9", "t.example."]
    upstream.behave(
        "inward.rebind.example", answering("@ 60 CNAME printer.lan.example.", "printer.lan.example. 60 A 10.0.0.9")
    )
    assert "10.0.0.9" not in texts(udp(node.server, "inward.rebind.example"))


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("1 . alpn=h2 ipv4hint=10.0.0.1", ['1 . alpn="h2"']),
        ("1 . alpn=h2 ipv4hint=10.0.0.1,192.0.2.1", ['1 . alpn="h2" ipv4hint="192.0.2.1"']),
        ("1 . ipv6hint=fd00::1,::ffff:127.0.0.1,2001:db8::1", ['1 . ipv6hint="2001:db8::1"']),
        ("1 . mandatory=ipv4hint alpn=h2 ipv4hint=127.0.0.1", ['1 . alpn="h2"']),
        ("1 . mandatory=alpn,ipv4hint alpn=h2 ipv4hint=127.0.0.1", ['1 . mandatory="alpn" alpn="h2"']),
        ("1 . ipv4hint=169.254.169.254 ipv6hint=::1 port=8443", ['1 . port="8443"']),
        ("1 . alpn=h2 ipv4hint=192.0.2.1", ['1 . alpn="h2" ipv4hint="192.0.2.1"']),
    ],
)
@pytest.mark.parametrize("rdtype", ["HTTPS", "SVCB"])
def test_9_hints_are_addresses_too(
    node: Node, upstream: FakeUpstream, rdtype: str, given: str, left: list[str]
) -> None:
    """Row 9 (RFC 9460 section 7.3): clients connect to a hint before they ask for addresses."""
    name = f"hint-{crc32(given.encode())}.rebind.example"
    upstream.behave(name, answering(f"@ 60 {rdtype} {given}"))
    for _ in range(2):
        assert texts(udp(node.server, name, rdtype)) == left


def test_9_the_districts_own_zones_may_have_them(node: Node, upstream: FakeUpstream, own: FakeUpstream) -> None:
    """Row 9: zones with servers of their own, and those of filter.private_zones; no neighbour of theirs."""
    for name in ("printer.lan.example", "lan.example", "notlan.example", "lan.example.rebind.example"):
        upstream.behave(name, answering("@ 60 A 10.20.30.40"))
    assert texts(udp(node.server, "dc.ad.district.example")) == ["10.20.30.40"]
    assert texts(udp(node.server, "printer.LAN.example")) == ["10.20.30.40"]
    assert texts(udp(node.server, "lan.example")) == ["10.20.30.40"]
    assert texts(udp(node.server, "notlan.example")) == []
    assert texts(udp(node.server, "lan.example.rebind.example")) == []


def test_9_our_own_records_may_have_them(start_node: StartNode) -> None:
    """Row 9: what the administrators wrote is meant."""
    node = start_node(local={"records": ["printer.district.example A 10.1.2.3"]})
    assert texts(udp(node.server, "printer.district.example")) == ["10.1.2.3"]


def test_9_an_address_of_another_length_is_none(node: Node, upstream: FakeUpstream) -> None:
    """Row 9: what some client might read as an address and we don't is not passed on."""

    def odd(query: behaviours.Query) -> list[behaviours.Reply]:
        (reply,) = answering("@ 60 A 192.0.2.1")(query)
        assert reply.wire is not None
        end = reply.wire.index(b"\xc0\0\2\1")
        return [behaviours.Reply(reply.wire[: end - 1] + b"\5\x0a\0\0\1\0" + reply.wire[end + 4 :])]

    upstream.behave("odd.rebind.example", odd)
    assert rcode("SERVFAIL")(udp(node.server, "odd.rebind.example"))
