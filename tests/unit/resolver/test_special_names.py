"""Names that never leave the network: what each is answered here, and when somebody else is asked for it after all."""

import dns.message
import dns.rcode
import dns.reversename
import pytest

from tests.unit.resolver.bench import TWO_UPSTREAMS, Bench, Make
from tests.unit.resolver.messages import rdata

# Rows: name, type, response code, data. Behind each the document that says so.
ANSWERS = [
    ("localhost", "A", "NOERROR", ["127.0.0.1"]),  # RFC 6761 section 6.3
    ("localhost", "AAAA", "NOERROR", ["::1"]),
    ("a.LocalHost", "A", "NOERROR", ["127.0.0.1"]),
    ("b.a.localhost", "AAAA", "NOERROR", ["::1"]),
    ("a.localhost", "HTTPS", "NOERROR", []),
    ("localhost", "TXT", "NOERROR", []),
    *((name, "A", "NXDOMAIN", []) for name in ("test", "x.test", "y.x.TEST")),  # RFC 6761 section 6.2
    *((name, "AAAA", "NXDOMAIN", []) for name in ("invalid", "x.invalid")),  # RFC 6761 section 6.4
    *((name, "A", "NXDOMAIN", []) for name in ("onion", "x.onion")),  # RFC 7686 section 2
    *((name, "A", "NXDOMAIN", []) for name in ("local", "printer.local")),  # RFC 6762 section 22.1
    *((name, "HTTPS", "NXDOMAIN", []) for name in ("alt", "x.alt")),  # RFC 9476 section 2
    ("home.arpa", "A", "NOERROR", []),  # RFC 8375 section 4
    ("x.home.arpa", "A", "NXDOMAIN", []),
    ("x.home.arpa", "DS", "NXDOMAIN", []),
    ("resolver.arpa", "A", "NOERROR", []),  # RFC 9462 section 6.4
    ("_dns.resolver.arpa", "SVCB", "NOERROR", []),
    ("_dns.resolver.arpa", "A", "NOERROR", []),
    ("use-application-dns.net", "A", "NXDOMAIN", []),  # Firefox
    ("use-application-dns.net", "AAAA", "NXDOMAIN", []),
    ("mask.icloud.com", "A", "NXDOMAIN", []),  # Apple's private relay
    ("mask-h2.icloud.com", "HTTPS", "NXDOMAIN", []),
    ("1.0.0.127.in-addr.arpa", "PTR", "NOERROR", ["localhost."]),
    ("1.0.0.127.in-addr.arpa", "A", "NOERROR", []),
    ("2.0.0.127.in-addr.arpa", "PTR", "NXDOMAIN", []),
    (f"{'0.' * 30}0.0.ip6.arpa", "PTR", "NOERROR", []),  # the unspecified address: a zone of its own
    (f"1.{'0.' * 31}ip6.arpa", "PTR", "NOERROR", ["localhost."]),
    ("10.in-addr.arpa", "SOA", "NOERROR", []),
]


@pytest.mark.parametrize(("name", "rdtype", "rcode", "data"), ANSWERS)
def test_a_special_name_is_answered_here(make: Make, name: str, rdtype: str, rcode: str, data: list[str]) -> None:
    bench = make()
    reply = bench.reply_to(name, rdtype)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert rdata(reply) == data
    if not data:  # RFC 2308 section 3: with an SOA, of the name or above it
        (soa,) = reply.authority
        assert f".{name}.".lower().endswith("." + soa.name.to_text())
        assert soa.ttl == 600
    assert (bench.decision.verdict, bench.decision.qname, bench.decision.rcode) == ("local", name.lower(), rcode)
    assert not bench.network.tries


# RFC 6303 section 4, RFC 7793, RFC 9637, RFC 6762 section 12: the first and the last address of each.
@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.2.0", "192.0.2.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_the_reverse_of_a_private_network_is_empty(make: Make, first: str, last: str) -> None:
    bench = make()
    for address in (first, last):
        reply = bench.reply_to(dns.reversename.from_address(address).to_text(), "PTR")
        assert reply.rcode() == dns.rcode.NXDOMAIN
        assert len(reply.authority) == 1
    assert not bench.network.tries


@pytest.mark.parametrize(
    "name",
    [
        *(
            dns.reversename.from_address(address).to_text()
            for address in ("1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255")
        ),
        *(
            dns.reversename.from_address(address).to_text()
            for address in ("172.32.0.0", "192.0.3.0", "192.167.255.255", "fcff::", "fe7f::1", "fec0::", "2001:db9::")
        ),
        *("in-addr.arpa", "ip6.arpa", "arpa", "ipv4only.arpa", "168.192.in-addr.example"),
        *("test.example", "mytest", "localhost.example", "notlocalhost", "xlocal", "onion.example"),
        *("x.use-application-dns.net", "icloud.com", "mask.icloud.com.example", "application-dns.net"),
    ],
)
async def test_what_only_looks_special_is_forwarded(make: Make, name: str) -> None:
    bench = make()
    assert bench.ask(name, "PTR") is None
    assert len(bench.network.tries) == 1


async def test_the_ds_of_home_arpa_is_asked_for_outside(make: Make) -> None:
    """RFC 8375 section 4: it proves that the zone is unsigned."""
    bench = make()
    assert bench.ask("home.arpa", "DS", use_edns=0, want_dnssec=True) is None
    assert bench.network.last.query.question[0].to_text() == "home.arpa. IN DS"


@pytest.mark.parametrize("opening", [{"flags": 0}, {"rdtype": "ANY"}])
def test_special_names_come_before_what_gets_a_short_answer(make: Make, opening: dict[str, object]) -> None:
    bench = make()
    assert bench.reply_to(**{"name": "x.test", "rdtype": "A"} | opening).rcode() == dns.rcode.NXDOMAIN  # type: ignore[arg-type] # passed on


# Somebody serves it after all (RFC 6303 section 3).


@pytest.mark.parametrize(
    ("zone", "there", "elsewhere"),
    [
        ("10.in-addr.arpa", "1.2.3.10.in-addr.arpa", "1.1.168.192.in-addr.arpa"),
        ("1.10.in-addr.arpa", "9.9.1.10.in-addr.arpa", "9.9.2.10.in-addr.arpa"),
        ("local", "dc.local", "dc.test"),
        ("ad.local", "dc.AD.local", "printer.local"),
        ("test", "x.test", "x.invalid"),
        ("home.arpa", "x.home.arpa", "resolver.arpa"),
        ("arpa", "ipv4only.arpa", "1.2.3.10.in-addr.arpa"),  # the special name is the longer
        ("example", "a.example", "x.localhost"),
    ],
)
async def test_a_zone_with_servers_of_its_own_is_asked_for(make: Make, zone: str, there: str, elsewhere: str) -> None:
    bench = routed(make, zone)
    assert bench.ask(there) is None
    assert bench.network.last.server.address.host == "192.0.2.60"
    assert bench.ask(elsewhere) is not None
    assert bench.decision.verdict == "local"


def routed(make: Make, zone: str) -> Bench:
    return make(document={"upstream": TWO_UPSTREAMS | {"zones": {zone: ["udp://192.0.2.60"]}}})


async def test_private_addresses_in_a_zone_of_ones_own_are_kept(make: Make) -> None:
    bench = routed(make, "ad.example")
    reply = await bench.resolved("dc.ad.example. 60 A 10.0.0.5", name="dc.ad.example")
    assert rdata(reply) == ["10.0.0.5"]


def test_a_record_of_ours_comes_before_all(make: Make) -> None:
    document = {
        "upstream": TWO_UPSTREAMS | {"zones": {"local": ["udp://192.0.2.60"]}},
        "local": {"records": ["printer.local A 10.0.0.9", "x.test A 10.0.0.8", "5.0.0.10.in-addr.arpa PTR a.local"]},
    }
    bench = make(document=document)
    assert rdata(bench.reply_to("printer.local")) == ["10.0.0.9"]
    assert rdata(bench.reply_to("x.test")) == ["10.0.0.8"]
    assert rdata(bench.reply_to("5.0.0.10.in-addr.arpa", "PTR")) == ["a.local."]


# Our own encrypted ports (RFC 9462).


@pytest.fixture
def designated(make: Make, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("settings._readable", lambda path: True)
    server = {
        "name": "dns.district.example",
        "tls_listen": ["10.0.0.2:853", "[fd00::2]:853"],
        "https_listen": ["10.0.0.2:443"],
        "certificate": "cert.pem",
        "private_key": "key.pem",
    }
    return make(document={"server": server})


def test_clients_find_our_encrypted_ports(designated: Bench) -> None:
    """RFC 9461 section 3 to 5: ALPN dot and h2, the port, and the path's template."""
    reply = designated.reply_to("_dns.resolver.arpa", "SVCB")
    assert rdata(reply) == [
        '1 dns.district.example. alpn="dot" port="853"',
        '2 dns.district.example. alpn="h2" port="443" dohpath="/dns-query{?dns}"',
    ]
    assert not designated.network.tries


def test_at_other_names_and_types_there_are_none(designated: Bench) -> None:
    for name, rdtype in [("_dns.resolver.arpa", "HTTPS"), ("x.resolver.arpa", "SVCB"), ("resolver.arpa", "SVCB")]:
        reply = designated.reply_to(name, rdtype)
        assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])
