"""DNS over TLS and HTTPS (rows 36, 37 and 43 to 46): found, proven, padded, and in HTTP's own words."""

import re
import ssl
import struct
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.integration.encrypted_node import EncryptedNode, Fetched
from tests.scenarios.conftest import serving
from tests.support import behaviours
from tests.support.dns_client import Address, dig, query, receive_framed, send_framed, tcp_socket, udp
from tests.support.fake_upstream import FakeUpstream
from tests.support.scenarios import OPT, address, data, no_option, rcode

NAME = "dns.example"
MEDIA_TYPE = "application/dns-message"
PADDING, KEEPALIVE = dns.edns.OptionType.PADDING, dns.edns.OptionType.KEEPALIVE
BLOCK = 468
"""RFC 8467 section 4.1: responses are padded to a multiple of so many octets."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[EncryptedNode]:
    """Give a worker that has a name, and a certificate for it and for its address."""
    made = EncryptedNode(tmp_path_factory.mktemp("encrypted"), upstream)
    section = made.document["server"]
    assert isinstance(section, dict)
    section["name"] = NAME
    with serving(made, {}):
        yield made


@contextmanager
def tls(node: EncryptedNode, where: Address, protocol: str, name: str) -> Iterator[ssl.SSLSocket]:
    """Give a TLS connection to who must prove a name or an address."""
    context = ssl.create_default_context(cafile=str(node.authority.certificate))
    context.set_alpn_protocols([protocol])
    with tcp_socket(where) as sock, context.wrap_socket(sock, server_hostname=name) as secured:
        yield secured


def asked_over_tls(node: EncryptedNode, message: dns.message.Message) -> bytes:
    with tls(node, node.tls, "dot", NAME) as sock:
        send_framed(sock, message.to_wire())
        return receive_framed(sock)


# Rows 36 and 37: how clients find the encrypted ports, and know that they are the resolver's.


def test_36_clients_are_told_of_the_encrypted_ports(node: EncryptedNode, upstream: FakeUpstream) -> None:
    """RFC 9462 section 4, in short: SVCB records at ``_dns.resolver.arpa`` name the designated resolvers.

    RFC 9461 sections 4 and 5: with ALPN, port, and the path of HTTPS.
    """
    heard = len(upstream.log)
    reply = udp(node.server, "_dns.resolver.arpa", "SVCB")
    assert {record.to_text() for record in reply.answer[0]} == {
        f'1 {NAME}. alpn="dot" port="{node.tls[1]}"',
        f'2 {NAME}. alpn="h2" port="{node.https[1]}" dohpath="/dns-query{{?dns}}"',
    }
    assert len(upstream.log) == heard


@pytest.mark.parametrize("proven", [NAME, "127.0.0.1"])
def test_37_the_certificate_covers_name_and_address(node: EncryptedNode, proven: str) -> None:
    """RFC 9462 section 4.2, in short: a client checks that the certificate has the address of the resolver it knows."""
    for where, protocol in ((node.tls, "dot"), (node.https, "h2")):
        with tls(node, where, protocol, proven) as sock:
            assert sock.selected_alpn_protocol() == protocol
            certificate = sock.getpeercert()
            assert certificate is not None
            assert ("IP Address", "127.0.0.1") in certificate["subjectAltName"]


def test_37_others_names_are_not_proven(node: EncryptedNode) -> None:
    """RFC 9462 section 4.2: so that the test above can fail."""
    with pytest.raises(ssl.SSLCertVerificationError), tls(node, node.tls, "dot", "other.example"):
        pass


# Row 43: padding.


@pytest.mark.parametrize("name", ["bad.example", "a.example", f"{'x' * 60}.{'y' * 60}.example", "large.pad.example"])
@pytest.mark.parametrize("payload", [0, 1, 128])
def test_43_replies_are_padded_for_who_pads(
    node: EncryptedNode, upstream: FakeUpstream, name: str, payload: int
) -> None:
    """RFC 7830 section 4 and RFC 8467 section 4.1, in short: a padded query gets a reply of whole blocks."""
    upstream.behave("large.pad.example", behaviours.big_text(3_000))
    kind = "TXT" if name.startswith("large") else "A"
    padded = query(name, kind, use_edns=0, options=[dns.edns.GenericOption(PADDING, bytes(payload))])
    for _ in range(2):  # from the upstream, and from what is remembered
        wire = asked_over_tls(node, padded)
        assert len(wire) % BLOCK == 0
        reply = dns.message.from_wire(wire)
        assert padded.is_response(reply)
        assert [option.otype for option in reply.options].count(PADDING) == 1


def of_length(octets: int) -> behaviours.Behaviour:
    """Answer, over a stream, with a message of so many octets."""

    def behave(query: behaviours.Query) -> list[behaviours.Reply]:
        if query.transport == "udp":
            return behaviours.truncated(query)
        end = query.wire.index(b"\0", 12) + 5
        head = query.wire[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0) + query.wire[12:end]
        left = octets - len(head) - 12
        return [behaviours.Reply(head + b"\xc0\x0c" + struct.pack(">HHIH", 65280, 1, 60, left) + bytes(left))]

    return behave


@pytest.mark.parametrize("options", [[PADDING], [KEEPALIVE], [KEEPALIVE, PADDING]], ids=str)
@pytest.mark.parametrize("octets", [65_036, 65_500, 65_509, 65_513, 65_514, 65_518, 65_520, 65_524, 65_525, 65_535])
def test_43_padding_never_costs_the_answer(
    node: EncryptedNode, upstream: FakeUpstream, options: list[dns.edns.OptionType], octets: int
) -> None:
    """RFC 7830 section 3, in short: no message is longer than the transport lets it be."""
    name = f"long-{octets}.pad.example"
    upstream.behave(name, of_length(octets))
    asked_for = [dns.edns.GenericOption(option, b"") for option in options]
    wire = asked_over_tls(node, query(name, "TYPE65280", use_edns=0, options=asked_for))
    reply = dns.message.from_wire(wire)
    if octets + len(OPT) <= 65_535:
        assert len(reply.answer) == 1
    else:
        assert reply.flags & dns.flags.TC


def test_43_replies_over_https_are_padded_too(node: EncryptedNode) -> None:
    """RFC 8467 section 4.1."""
    padded = query("bad.example", use_edns=0, options=[dns.edns.GenericOption(PADDING, b"")])
    assert len(post(node, padded.to_wire()).body) == BLOCK
    assert len(post(node, query("bad.example", use_edns=0).to_wire()).body) < BLOCK


def test_43_nobody_else_gets_padding(node: EncryptedNode) -> None:
    """RFC 7830 section 4, in short: none to a query without, none where everybody can read it."""
    plain = dns.message.from_wire(asked_over_tls(node, query("bad.example", use_edns=0)))
    assert no_option(PADDING)(plain)
    padded = query("bad.example", use_edns=0, options=[dns.edns.GenericOption(PADDING, bytes(100))])
    for tcp in (False, True):
        said = dig(node.server, "bad.example", "A", "+padding=128", *(["+tcp"] if tcp else []))
        assert "PAD" not in said.text
        assert said.status == "NOERROR"
    with tcp_socket(node.server) as sock:
        send_framed(sock, padded.to_wire())
        assert no_option(PADDING)(dns.message.from_wire(receive_framed(sock)))


def test_43_kdig_agrees(node: EncryptedNode) -> None:
    """RFC 8467 section 4.1."""
    said = node.kdig("bad.example", "+tls", "+padding", "+edns")
    received = re.search(r"Received (\d+) B", said.text)
    assert received is not None, said.text
    assert int(received[1]) % BLOCK == 0
    received = re.search(r"Received (\d+) B", node.kdig("bad.example", "+tls", "+nopadding", "+edns").text)
    assert received is not None
    assert int(received[1]) < BLOCK


# Row 44: TLS.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_44_sound_versions_are_spoken(node: EncryptedNode, version: ssl.TLSVersion) -> None:
    """RFC 8310 section 9 and RFC 9325 section 3.1.1, in short: TLS 1.2 at least."""
    context = ssl.create_default_context(cafile=str(node.authority.certificate))
    context.minimum_version = context.maximum_version = version
    message = query("bad.example")
    with tcp_socket(node.tls) as sock, context.wrap_socket(sock, server_hostname=NAME) as secured:
        assert secured.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        send_framed(secured, message.to_wire())
        assert message.is_response(dns.message.from_wire(receive_framed(secured)))


@pytest.mark.parametrize("option", ["-tls1", "-tls1_1"])
def test_44_old_versions_are_not(node: EncryptedNode, option: str) -> None:
    """RFC 8996 section 4, in short: TLS 1.0 and 1.1 must not be used."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{node.tls[1]}", option, "-cipher", "ALL:@SECLEVEL=0"]
    done = subprocess.run(command, check=False, input=b"", capture_output=True, timeout=20)
    assert done.returncode != 0
    assert b"alert protocol version" in done.stderr


def test_44_pipelined_queries_are_answered_as_they_finish(node: EncryptedNode, upstream: FakeUpstream) -> None:
    """RFC 7858 section 3.3, in short: several queries at once, their answers in any order."""
    upstream.behave("slow.tls.example", behaviours.slow(1.0))
    slow, fast = query("slow.tls.example", id=1), query("fast.tls.example", id=2)
    with tls(node, node.tls, "dot", NAME) as sock:
        send_framed(sock, slow.to_wire(), fast.to_wire())
        assert fast.is_response(dns.message.from_wire(receive_framed(sock)))
        assert slow.is_response(dns.message.from_wire(receive_framed(sock)))


def test_44_kdig_agrees(node: EncryptedNode) -> None:
    """RFC 7858 section 3: over TLS 1.3, more than one question on a connection."""
    said = node.kdig("bad.example", "+tls", "+keepopen", "b.tls.example")
    assert said.text.count("status: NOERROR") == 2
    assert "TLS1.3" in said.text


# Rows 45 and 46: HTTPS.


def get(node: EncryptedNode, message: dns.message.Message, *options: str) -> Fetched:
    encoded = urlsafe_b64encode(message.to_wire()).rstrip(b"=").decode()
    return node.curl(*options, f"{node.url}?dns={encoded}")


def post(node: EncryptedNode, body: bytes, *options: str, kind: str = MEDIA_TYPE) -> Fetched:
    return node.curl(*options, "-H", f"Content-Type: {kind}", "--data-binary", "@-", node.url, body=body)


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("ident", [0, 4711])
def test_45_get_and_post_carry_a_query(node: EncryptedNode, version: str, ident: int) -> None:
    """RFC 8484 section 4.1, in short: GET with base64url without padding, POST with the message; an ID of 0 is fine."""
    message = query("a.https.example", id=ident)
    for got in (get(node, message, f"--http{version}"), post(node, message.to_wire(), f"--http{version}")):
        assert (got.status, got.version) == (200, version)
        assert got.fields["content-type"] == MEDIA_TYPE
        reply = dns.message.from_wire(got.body)
        assert message.is_response(reply)
        assert address("a.https.example")(reply)


def test_45_freshness_is_the_shortest_ttl(node: EncryptedNode, upstream: FakeUpstream) -> None:
    """RFC 8484 section 5.1, in short: max-age is no longer than the smallest TTL of the answer section."""
    upstream.behave(
        "fresh.example", behaviours.answering("@ 30 CNAME b.fresh.example.", "b.fresh.example. 300 A 192.0.2.1")
    )
    got = get(node, query("fresh.example", id=0))
    age = re.fullmatch(r"max-age=(\d+)", got.fields["cache-control"])
    assert age is not None
    assert 0 < int(age[1]) <= 30
    assert (
        got.fields["cache-control"] == f"max-age={min(rrset.ttl for rrset in dns.message.from_wire(got.body).answer)}"
    )


@pytest.mark.parametrize(("behaviour", "code"), [(behaviours.nxdomain, "NXDOMAIN"), (behaviours.nodata, "NOERROR")])
def test_45_a_denial_is_a_success_of_http(
    node: EncryptedNode, upstream: FakeUpstream, behaviour: behaviours.Behaviour, code: str
) -> None:
    """RFC 8484 sections 4.2.1 and 5.1, in short: any DNS response is a 2xx; a denial is as fresh as its SOA says."""
    name = f"{behaviour.__name__}.https.example"
    upstream.behave(name, behaviour)
    got = get(node, query(name, id=0))
    assert got.status == 200
    assert rcode(code)(dns.message.from_wire(got.body))
    assert 0 < int(got.fields["cache-control"].removeprefix("max-age=")) <= behaviours.NEGATIVE_TTL


def test_45_failures_are_not_fresh(node: EncryptedNode, upstream: FakeUpstream) -> None:
    """RFC 8484 section 4.2.1: a SERVFAIL is a DNS response too, and one to ask again for."""
    upstream.behave("failed.https.example", behaviours.servfail)
    got = get(node, query("failed.https.example", id=0))
    assert got.status == 200
    assert rcode("SERVFAIL")(dns.message.from_wire(got.body))
    assert got.fields.get("cache-control", "max-age=0") in {"max-age=0", "no-store", "no-cache"}


def test_45_kdig_agrees(node: EncryptedNode) -> None:
    """RFC 8484 section 4.1: both methods; what is blocked is blocked there too."""
    for option in ("+https", "+https-get"):
        assert node.kdig("a.https.example", option).rdata == [behaviours.computed_rdata("a.https.example", "A")]
        assert node.kdig("bad.example", option).rdata == ["0.0.0.0"]


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_46_what_carries_no_query_gets_a_4xx(node: EncryptedNode, upstream: FakeUpstream, version: str) -> None:
    """RFC 9110 section 15.5 and RFC 8484 section 4.1: each in the words that HTTP has for it, and no 5xx.

    RFC 8484 section 6: a message is at most 65,535 octets.
    """
    http = f"--http{version}"
    before, heard = len(node.records), len(upstream.log)
    sound = query("bad.example").to_wire()
    assert {
        "PUT": node.curl(http, "-X", "PUT", node.url).status,
        "DELETE": node.curl(http, "-X", "DELETE", node.url).status,
        "HEAD": node.curl(http, "--head", node.url).status,
    } == {"PUT": 405, "DELETE": 405, "HEAD": 405}
    assert [
        post(node, sound, http, kind="text/plain").status,
        post(node, sound, http, kind="application/dns-json").status,
    ] == [415, 415]
    for body in (b"", b"x", bytes(11), b"\xff" * 200):
        assert post(node, body, http).status == 400
    for parameters in ("", "?dns=", "?dns=***", "?dns=QQ==", "?name=bad.example", "?dns=AAAA&dns=AAAA", "?dns=A"):
        assert node.curl(http, node.url + parameters).status == 400
    assert post(node, bytes(65_536), http).status == 413
    assert node.curl(http, node.url.replace("/dns-query", "/")).status == 404
    assert (len(node.records), len(upstream.log)) == (before, heard)
    assert get(node, query("bad.example"), http).status == 200


def test_46_what_is_malformed_as_dns_is_dns_own(node: EncryptedNode) -> None:
    """RFC 8484 section 4.2.1, in short: HTTP's codes are about HTTP; FORMERR comes with a 200."""
    got = post(node, bytes(4) + b"\0\2" + bytes(30))
    assert got.status == 200
    assert rcode("FORMERR")(dns.message.from_wire(got.body))
    assert data()(dns.message.from_wire(got.body))
