"""Special names (rows 29 to 36 and 38 to 40): what is answered from here, and what an upstream never hears of."""

import subprocess
from typing import NamedTuple

import pytest

from tests.integration.node import Node
from tests.scenarios.conftest import StartNode
from tests.support import behaviours
from tests.support.dns_client import Dig, parse_dig, udp
from tests.support.fake_upstream import FakeUpstream
from tests.support.scenarios import NODATA, NXDOMAIN, Check, address, data, rcode, soa, texts
from tests.unit.policy.build import Listed, block


class Special(NamedTuple):
    """A name that stays here."""

    section: str
    name: str
    rdtype: str
    expect: tuple[Check, ...]


def nothing_at(zone: str) -> tuple[Check, ...]:
    return rcode("NOERROR"), data(), soa(zone)


def not_in(zone: str) -> tuple[Check, ...]:
    return rcode("NXDOMAIN"), data(), soa(zone)


V6 = ".".join("0" * 20)
SPECIAL = [
    # Row 29. In short: address queries get the loopback address, all others NODATA.
    Special("RFC 6761 section 6.3", "localhost", "A", (data("127.0.0.1"),)),
    Special("RFC 6761 section 6.3", "localhost", "AAAA", (data("::1"),)),
    Special("RFC 6761 section 6.3", "a.b.localhost", "A", (data("127.0.0.1"),)),
    Special("RFC 6761 section 6.3", "A.LocalHost", "AAAA", (data("::1"),)),
    Special("RFC 6761 section 6.3", "a.localhost", "HTTPS", NODATA),
    Special("RFC 6761 section 6.3", "localhost", "MX", NODATA),
    # Row 30. In short: caching servers should, by default, answer from here that there is no such name.
    Special("RFC 6761 section 6.4", "invalid", "A", not_in("invalid")),
    Special("RFC 6761 section 6.4", "x.invalid", "TXT", not_in("invalid")),
    Special("RFC 6761 section 6.2", "x.test", "A", not_in("test")),
    Special("RFC 6761 section 6.2", "a.B.tEsT", "AAAA", not_in("test")),
    # Row 31. In short: servers that know nothing of Tor must say that there is no such name, and look nothing up.
    Special("RFC 7686 section 2", "x.onion", "A", not_in("onion")),
    Special("RFC 7686 section 2", "a.b.onion", "AAAA", not_in("onion")),
    # Row 32. In short: what is multicast DNS's must not be looked up elsewhere, nor link-local reverse zones.
    Special("RFC 6762 section 22.1", "printer.local", "A", not_in("local")),
    Special("RFC 6762 section 22.1", "_ipp._tcp.local", "PTR", not_in("local")),
    Special("RFC 6762 section 22.1", "1.2.254.169.in-addr.arpa", "PTR", not_in("254.169.in-addr.arpa")),
    *(
        Special("RFC 6762 section 22.1", f"0.{nibble}.e.f.ip6.arpa", "PTR", not_in(f"{nibble}.e.f.ip6.arpa"))
        for nibble in "89ab"
    ),
    # Row 33. In short: reverse zones of private, shared and documentation networks are empty zones here.
    Special("RFC 6303 section 4.1", "1.0.0.10.in-addr.arpa", "PTR", not_in("10.in-addr.arpa")),
    Special("RFC 6303 section 3", "10.in-addr.arpa", "NS", nothing_at("10.in-addr.arpa")),
    *(
        Special("RFC 6303 section 4.1", f"1.2.{second}.172.in-addr.arpa", "PTR", not_in(f"{second}.172.in-addr.arpa"))
        for second in range(16, 32)
    ),
    Special("RFC 6303 section 4.1", "4.3.168.192.in-addr.arpa", "PTR", not_in("168.192.in-addr.arpa")),
    Special("RFC 6303 section 4.2", "1.1.1.0.in-addr.arpa", "PTR", not_in("0.in-addr.arpa")),
    Special("RFC 6303 section 4.2", "1.2.0.192.in-addr.arpa", "PTR", not_in("2.0.192.in-addr.arpa")),
    Special("RFC 6303 section 4.2", "1.100.51.198.in-addr.arpa", "PTR", not_in("100.51.198.in-addr.arpa")),
    Special("RFC 6303 section 4.2", "1.113.0.203.in-addr.arpa", "PTR", not_in("113.0.203.in-addr.arpa")),
    Special("RFC 6303 section 4.2", "2.0.0.127.in-addr.arpa", "PTR", not_in("127.in-addr.arpa")),
    Special("RFC 6303 section 4.4", f"{V6}.d.f.ip6.arpa", "PTR", not_in("d.f.ip6.arpa")),
    Special("RFC 6303 section 4.6", f"{V6}.8.b.d.0.1.0.0.2.ip6.arpa", "PTR", not_in("8.b.d.0.1.0.0.2.ip6.arpa")),
    Special("RFC 7793 section 3", "1.2.64.100.in-addr.arpa", "PTR", not_in("64.100.in-addr.arpa")),
    Special("RFC 7793 section 3", "1.2.127.100.in-addr.arpa", "PTR", not_in("127.100.in-addr.arpa")),
    Special("RFC 9637 section 3", f"{V6}.0.f.f.f.3.ip6.arpa", "PTR", not_in("0.f.f.f.3.ip6.arpa")),
    # Row 34. In short: home.arpa is a zone of the network that one is in.
    Special("RFC 8375 section 4", "home.arpa", "SOA", nothing_at("home.arpa")),
    Special("RFC 8375 section 4", "nas.home.arpa", "A", not_in("home.arpa")),
    # Row 35. In short: servers should not send such names on to others.
    Special("RFC 9476 section 2", "x.alt", "A", not_in("alt")),
    # Row 36. In short: it is never forwarded; who has no designated resolver answers NODATA.
    Special("RFC 9462 section 6.4", "_dns.resolver.arpa", "SVCB", nothing_at("resolver.arpa")),
    Special("RFC 9462 section 6.4", "resolver.arpa", "A", nothing_at("resolver.arpa")),
    Special("RFC 9462 section 6.4", "x.resolver.arpa", "A", nothing_at("resolver.arpa")),
    # Rows 38 and 39. Signals by which a network tells that lookups are not to go round its resolver.
    Special("Mozilla's canary domain", "use-application-dns.net", "A", NXDOMAIN),
    Special("Mozilla's canary domain", "use-application-dns.net", "AAAA", NXDOMAIN),
    Special("Apple's iCloud Private Relay", "mask.icloud.com", "A", NXDOMAIN),
    Special("Apple's iCloud Private Relay", "mask-h2.icloud.com", "HTTPS", NXDOMAIN),
]


@pytest.mark.parametrize("special", SPECIAL, ids=[f"{special.name} {special.rdtype}" for special in SPECIAL])
def test_29_to_39_what_stays_here(node: Node, upstream: FakeUpstream, special: Special) -> None:
    """Each row of the table: the answer, and that no upstream hears of it."""
    heard = len(upstream.log)
    reply = udp(node.server, special.name, special.rdtype)
    for check in special.expect:
        assert check(reply), f"{special.section}\n{reply}"
    assert len(upstream.log) == heard
    assert node.records[-1].decision.verdict == "local"


@pytest.mark.parametrize(
    "name",
    [
        *("test.example", "localhost.example", "mylocal", "notlocalhost", "onion.example", "xalt", "icloud.com"),
        *("www.icloud.com", "1.2.15.172.in-addr.arpa", "1.2.32.172.in-addr.arpa", "1.2.63.100.in-addr.arpa"),
        *("1.2.128.100.in-addr.arpa", "1.1.168.193.in-addr.arpa", "8.8.8.8.in-addr.arpa", "0.c.f.ip6.arpa", "arpa"),
    ],
)
def test_29_to_39_neighbours_are_public(node: Node, upstream: FakeUpstream, name: str) -> None:
    """What only looks like a special name, or is next to one."""
    udp(node.server, name, "PTR")
    assert len(upstream.asked(name, "PTR")) == 1


def test_33_dig_agrees(node: Node, upstream: FakeUpstream) -> None:
    """RFC 6303 section 3, in short: negative answers, each with the zone's SOA."""
    heard = len(upstream.log)
    for reverse in ("10.0.0.1", "fd00::1", "192.0.2.1", "fe80::1", "100.64.0.1", "3fff::1", "2001:db8::1"):
        said = dig_reverse(node, reverse)
        assert said.status == "NXDOMAIN"
        assert [record.rdtype for record in said.authority] == ["SOA"]
    for loopback in ("127.0.0.1", "::1"):
        assert dig_reverse(node, loopback).rdata == ["localhost."]
    assert len(upstream.log) == heard


def dig_reverse(node: Node, reverse: str) -> Dig:
    command = ["dig", f"@{node.server[0]}", "-p", str(node.port), "+tries=1", "-x", reverse]
    return parse_dig(subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout)


def test_33_a_zone_with_servers_of_its_own_is_theirs(start_node: StartNode, upstream: FakeUpstream) -> None:
    """RFC 6303 section 3, in short: these zones are for who isn't configured to know better."""
    with FakeUpstream() as own:
        zones = {zone: [own.url] for zone in ("10.in-addr.arpa", "d.f.ip6.arpa", "home.arpa", "ad.test", "corp.local")}
        node = start_node(upstream={"servers": [upstream.url], "zones": zones})
        heard = len(upstream.log)
        own.default = behaviours.answering("@ 60 PTR pc.ad.test.")
        for name in ("1.2.3.10.in-addr.arpa", f"{V6}.d.f.ip6.arpa", "nas.home.arpa", "x.ad.test", "x.corp.local"):
            assert data("pc.ad.test.")(udp(node.server, name, "PTR"))
            assert len(own.asked(name)) == 1
        for name in ("1.1.168.192.in-addr.arpa", "x.test", "x.local"):  # nobody serves these
            assert rcode("NXDOMAIN")(udp(node.server, name, "PTR"))
        assert len(upstream.log) == heard


def test_34_the_ds_of_home_arpa_is_outside(node: Node, upstream: FakeUpstream) -> None:
    """RFC 8375 section 4, in short: its DS is asked for outside, so that validators see the zone unsigned."""
    udp(node.server, "home.arpa", "DS")
    udp(node.server, "nas.home.arpa", "DS")
    assert len(upstream.asked("home.arpa", "DS")) == 1
    assert upstream.asked("nas.home.arpa") == []


def test_38_and_39_no_exception_opens_what_goes_round_the_filter(start_node: StartNode) -> None:
    """In short: the answer is the network's, not that of a list or a group."""
    node = start_node({"lists": [Listed("bypass", "adult", [block("use-application-dns.net")])]})
    for name in ("use-application-dns.net", "mask.icloud.com"):
        assert rcode("NXDOMAIN")(udp(node.server, name))


def test_40_addresses_of_ipv4only_arpa_are_the_upstreams(start_node: StartNode, upstream: FakeUpstream) -> None:
    """RFC 8880 section 7 and RFC 7050 section 3, in short: with DNS64 there are AAAA records, without there are none.

    Made-up ones would have clients send to them whatever they have for IPv4: so no list decides about this name.
    """
    listed = Listed("broad", "adult", [block("ipv4only.arpa"), block("mapped.example")])
    node = start_node({"lists": [listed]})
    synthesised = behaviours.answering("@ 60 AAAA 64:ff9b::c000:aa", "@ 60 AAAA 64:ff9b::c000:ab")
    upstream.behave("ipv4only.arpa", behaviours.in_turn(behaviours.nodata, synthesised))
    assert texts(udp(node.server, "mapped.example", "AAAA")) == ["::"]  # the list is in force
    for check in NODATA:
        assert check(udp(node.server, "ipv4only.arpa", "AAAA"))
    other = start_node({"lists": [listed]})
    assert data("64:ff9b::c000:aa", "64:ff9b::c000:ab")(udp(other.server, "ipv4only.arpa", "AAAA"))
    upstream.behave("ipv4only.arpa", behaviours.answering("@ 60 A 192.0.0.170", "@ 60 A 192.0.0.171"))
    assert data("192.0.0.170", "192.0.0.171")(udp(node.server, "ipv4only.arpa", "A"))


def test_the_districts_own_records_come_first(start_node: StartNode) -> None:
    """RFC 6303 section 3 and RFC 8375 section 4: whoever runs the network may have names in these zones."""
    records = ["nas.home.arpa A 10.1.2.3", "printer.local A 10.1.2.4", "4.2.1.10.in-addr.arpa PTR printer.local"]
    node = start_node(local={"records": records})
    assert data("10.1.2.3")(udp(node.server, "nas.home.arpa"))
    assert data("10.1.2.4")(udp(node.server, "printer.local"))
    assert data("printer.local.")(udp(node.server, "4.2.1.10.in-addr.arpa", "PTR"))
    assert address("www.example")(udp(node.server, "www.example"))
