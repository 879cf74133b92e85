"""Public names with private addresses: those are taken out of addresses and of services' hints (DNS rebinding)."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import dns.rdata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver import service_binding
from resolver.addresses import is_private
from resolver.compression import MalformedAnswerError
from resolver.rewriting import Terms
from resolver.service_binding import BrokenServiceError
from tests.unit.resolver.messages import octets, rdata
from tests.unit.resolver.reading_answers import Asked

ASKED = Asked()
SERVICE = Asked(rdtype="HTTPS")

# The first and the last address of each range, and their neighbours.
PRIVATE_V4 = [
    *("0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.0"),
    *("127.255.255.255", "169.254.0.0", "169.254.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0"),
    "192.168.255.255",
]
PUBLIC_V4 = [
    *("1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"),
    *("169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0"),
]
PRIVATE_V6 = [
    *("::", "::1", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::", "febf:ffff::", "fec0::", "feff::1"),
]
PUBLIC_V6 = ["2001:db8::1", "fbff::1", "ff02::1", "fe7f::1", "2606:4700::1111", "64:ff9a::a00:1", "100::1"]
EMBEDDED = ["::ffff:{}", "::{}", "64:ff9b::{}"]


@pytest.mark.parametrize("text", PRIVATE_V4 + PRIVATE_V6)
def test_private_addresses_are_told(text: str) -> None:
    assert is_private(ip_address(text).packed)


@pytest.mark.parametrize("text", PUBLIC_V4 + PUBLIC_V6)
def test_public_addresses_are_told(text: str) -> None:
    assert not is_private(ip_address(text).packed)


@pytest.mark.parametrize("form", EMBEDDED)
def test_an_ipv4_address_in_an_ipv6_one_is_what_it_is(form: str) -> None:
    """Mapped, compatible (RFC 4291 section 2.5.5) and translated (RFC 6052 section 2.1)."""
    assert all(is_private(ip_address(form.format(text)).packed) for text in PRIVATE_V4)
    assert not any(is_private(ip_address(form.format(text)).packed) for text in PUBLIC_V4)


def test_what_holds_a_private_address_is_private() -> None:
    """6to4 (RFC 3056), IPv4-translated (RFC 2765) and a network's own translation (RFC 8215)."""
    assert all(is_private(ip_address(text).packed) for text in ("2002:c0a8:101::1", "::ffff:0:192.168.1.1"))
    assert is_private(ip_address("64:ff9b:1::808:808").packed)
    assert not any(is_private(ip_address(text).packed) for text in ("2002:808:808::1", "2001:4860::8888"))


EMBEDDING = ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0/96", "::ffff:0:0:0/96", "2002::/16")


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_no_global_address_is_taken_for_private(address: IPv4Address | IPv6Address) -> None:
    """As the standard library has them from IANA's registries, which have forgotten site-local addresses."""
    embedded = any(address in ip_network(network) for network in EMBEDDING if address.version == 6)
    if is_private(address.packed) and not embedded:
        assert not address.is_global or (address.version == 6 and address.is_site_local)


# Addresses in answers.


@pytest.mark.parametrize(
    ("rdtype", "private", "public"), [("A", "10.1.2.3", "192.0.2.1"), ("AAAA", "fd00::1", "2001:db8::1")]
)
def test_private_addresses_are_taken_out_and_public_ones_stay(rdtype: str, private: str, public: str) -> None:
    asked = Asked(rdtype=rdtype)
    answer = asked.answered(f"a.example. 60 {rdtype} {private}", f"a.example. 60 {rdtype} {public}", flags=0x20)
    assert rdata(asked.passed_on(answer)) == [public]
    assert not answer.ad  # nobody vouches for what we made of it
    assert (answer.is_stripped, answer.lifetime) == (False, 60)


@pytest.mark.parametrize("text", ["10.1.2.3", "127.0.0.1", "0.0.0.0", "169.254.169.254"])
def test_where_none_is_left_that_is_told(text: str) -> None:
    answer = ASKED.answered(f"a.example. 60 A {text}")
    assert (answer.is_stripped, answer.answers, answer.lifetime) == (True, 0, 60)


def test_behind_an_alias_too() -> None:
    answer = ASKED.answered("a.example. 60 CNAME b.example.", "b.example. 60 A 192.168.0.1")
    assert rdata(ASKED.passed_on(answer)) == ["b.example."]
    assert answer.is_stripped


def test_a_signature_goes_with_what_it_signs() -> None:
    asked = Asked(do=True)
    signature = "a.example. 60 RRSIG A 8 2 60 20300101000000 20200101000000 1234 example. AAAA"
    answer = asked.answered("a.example. 60 A 10.0.0.1", "a.example. 60 A 192.0.2.1", signature, flags=0x20)
    assert rdata(asked.passed_on(answer)) == ["192.0.2.1"]


@pytest.mark.parametrize("zone", ["a.example", "example", "."])
def test_names_of_an_excepted_zone_may_have_them(zone: str) -> None:
    asked = Asked(terms=Terms(0, 86400, [zone]))
    answer = asked.answered("a.example. 60 A 10.1.2.3", flags=0x20)
    assert rdata(asked.passed_on(answer)) == ["10.1.2.3"]
    assert (answer.ad, answer.is_stripped) == (True, False)


def test_an_excepted_zone_is_that_of_the_name_that_was_asked_for() -> None:
    """Else any public name might borrow the exception by an alias."""
    asked = Asked(terms=Terms(0, 86400, ["inside.example"]))
    answer = asked.answered("a.example. 60 CNAME www.inside.example.", "www.inside.example. 60 A 10.1.2.3")
    assert answer.is_stripped
    assert Asked("www.inside.example", terms=asked.terms).answered("www.inside.example. 60 A 10.1.2.3").answers == 1


def test_other_types_are_not_looked_into() -> None:
    asked = Asked(rdtype="TXT")
    assert rdata(asked.passed_on(asked.answered('a.example. 60 TXT "10.0.0.1"'))) == ['"10.0.0.1"']


# Services (RFC 9460).


def hinted(*records: str) -> list[str]:
    return rdata(SERVICE.passed_on(SERVICE.answered(*(f"a.example. 60 HTTPS {record}" for record in records))))


@pytest.mark.parametrize(
    ("record", "left"),
    [
        ('1 . alpn="h2" ipv4hint="192.0.2.1"', '1 . alpn="h2" ipv4hint="192.0.2.1"'),
        ('1 . alpn="h2" ipv4hint="10.0.0.1"', '1 . alpn="h2"'),
        ('1 . ipv4hint="10.0.0.1,192.0.2.1,127.0.0.1"', '1 . ipv4hint="192.0.2.1"'),
        ('1 . alpn="h2" ipv6hint="fd00::1,2001:db8::1,::ffff:10.0.0.1"', '1 . alpn="h2" ipv6hint="2001:db8::1"'),
        ('1 . ipv4hint="10.0.0.1" ipv6hint="::1"', "1 ."),
        (
            '1 b.example. mandatory="alpn,ipv4hint" alpn="h2" ipv4hint="10.0.0.1"',
            '1 b.example. mandatory="alpn" alpn="h2"',
        ),
        ('1 . mandatory="ipv4hint" ipv4hint="10.0.0.1" port="8443"', '1 . port="8443"'),
        (
            '1 . mandatory="ipv4hint" ipv4hint="10.0.0.1,192.0.2.1"',
            '1 . mandatory="ipv4hint" ipv4hint="192.0.2.1"',
        ),
    ],
)
def test_private_hints_are_taken_out(record: str, left: str) -> None:
    """Section 8: what is mandatory must be there."""
    assert hinted(record) == [left]


def test_a_record_with_private_hints_keeps_none_of_the_others() -> None:
    assert hinted('2 . ipv4hint="10.0.0.1"', '1 . ipv4hint="192.0.2.1"') == ['1 . ipv4hint="192.0.2.1"', "2 ."]


def test_ad_is_not_told_of_changed_hints() -> None:
    assert SERVICE.answered('a.example. 60 HTTPS 1 . ipv4hint="192.0.2.1"', flags=0x20).ad
    assert not SERVICE.answered('a.example. 60 HTTPS 1 . ipv4hint="10.0.0.1"', flags=0x20).ad


@pytest.mark.parametrize("rdtype", ["HTTPS", "SVCB"])
@pytest.mark.parametrize("junk", [(), ("b.example. 60 A 192.0.2.1",)])
def test_where_services_lead_is_told(rdtype: str, junk: tuple[str, ...]) -> None:
    asked = Asked(rdtype=rdtype)
    answer = asked.answered(
        *junk,
        f"a.example. 60 {rdtype} 1 Svc.B.example. alpn=h2",
        f"a.example. 60 {rdtype} 2 . alpn=h2",
        f"a.example. 60 {rdtype} 3 c.example.",
    )
    assert set(answer.targets) == {"svc.b.example", "c.example"}


def test_a_service_in_alias_mode_leads_on_too() -> None:
    """Section 2.4.2."""
    assert SERVICE.answered("a.example. 60 HTTPS 0 b.example.").targets == ("b.example",)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\1",
        b"\0\1\3ab",
        b"\0\1\xc0\x0c",
        b"\0\1\0\0\1",
        b"\0\1\0\0\1\0",
        b"\0\1\0\0\1\0\5ab",
        b"\0\1\0\0\4\0\3\1\2\3",
        b"\0\1\0\0\6\0\4\1\2\3\4",
    ],
)
@pytest.mark.parametrize("owner", [b"\xc0\x0c", b"\1a\7example\0"])
def test_a_service_that_cant_be_read_makes_the_answer_malformed(data: bytes, owner: bytes) -> None:
    record = owner + b"\0\x41\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data
    head = b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + octets(b"a", b"example", qtype=65)[12:]
    with pytest.raises(MalformedAnswerError):
        SERVICE.read(head + record)


@given(st.binary(max_size=80))
def test_any_octets_are_a_service_or_broken(data: bytes) -> None:
    data = b"\0\1\0" + data
    try:
        private = service_binding.has_private_hints(data)
        left = service_binding.without_private_hints(data)
    except BrokenServiceError:
        return
    assert not service_binding.has_private_hints(left)
    assert private or sorted(left) == sorted(data) or len(left) < len(data)  # a parameter twice becomes one


@given(st.lists(st.ip_addresses(v=4)), st.lists(st.ip_addresses(v=6)))
def test_hints_read_back_as_those_that_are_public(four: list[IPv4Address], six: list[IPv6Address]) -> None:
    """Written by dnspython, and read back by it."""
    hints = {"ipv4hint": [str(a) for a in four], "ipv6hint": [str(a) for a in six]}
    parameters = " ".join(f'{key}="{",".join(found)}"' for key, found in hints.items() if found)
    written = dns.rdata.from_text("IN", "HTTPS", f"1 . {parameters}").to_wire()
    assert written is not None
    left = service_binding.without_private_hints(written)
    public = {key: [text for text in found if not is_private(ip_address(text).packed)] for key, found in hints.items()}
    expected = " ".join(f'{key}="{",".join(found)}"' for key, found in public.items() if found)
    assert dns.rdata.from_wire("IN", "HTTPS", left, 0, len(left)) == dns.rdata.from_text(
        "IN", "HTTPS", f"1 . {expected}"
    )
