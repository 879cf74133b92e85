"""The fake name server does what tests rely on; read by dnspython and dig."""

import time
from pathlib import Path
from typing import Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import pytest

from tests.support import behaviours, plain_queries
from tests.support.certificates import Authority
from tests.support.dns_client import dig, exchange, query, receive_framed, send_framed, tcp, tcp_socket, udp
from tests.support.fake_upstream import ELSEWHERE, FakeUpstream


def address(server: FakeUpstream) -> tuple[str, int]:
    return server.address, server.port


@pytest.mark.parametrize("rdtype", ["A", "AAAA", "TXT"])
def test_any_name_has_computed_records_over_udp_and_tcp(upstream: FakeUpstream, rdtype: str) -> None:
    for ask in (udp, tcp):
        (rrset,) = ask(address(upstream), "www.school.example", rdtype).answer
        assert rrset.ttl == behaviours.TTL
        assert rrset[0].to_text() == behaviours.computed_rdata("www.school.example", rdtype)
    assert [asked.transport for asked in upstream.asked("www.school.example", rdtype)] == ["udp", "tcp"]


def test_the_log_keeps_each_query_as_it_came(upstream: FakeUpstream) -> None:
    message = query("WWW.School.Example", "AAAA")
    exchange(address(upstream), message.to_wire(), source="127.0.0.9")
    (asked,) = upstream.log
    assert (asked.name, asked.rdtype, asked.id, asked.wire) == (
        "WWW.School.Example",
        "AAAA",
        message.id,
        message.to_wire(),
    )
    assert asked.client[0] == "127.0.0.9"


@pytest.mark.parametrize("options", [{}, {"use_edns": 0}, {"want_dnssec": True}, {"flags": dns.flags.CD}], ids=str)
@pytest.mark.parametrize("rdtype", ["A", "AAAA", "HTTPS"])
def test_what_it_says_as_octets_is_what_dnspython_would_write(
    rdtype: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "wWw-1.school.example"
    wire = dns.message.make_query(name, rdtype, **options).to_wire()
    query = behaviours.Query(name, rdtype, "udp", ("127.0.0.1", 1), 1, wire, 0.0)
    assert plain_queries.read(wire) == (name, rdtype)
    said = behaviours.computed(query)
    monkeypatch.setattr(plain_queries, "read", lambda _: None)
    assert behaviours.computed(query) == said


PLAIN = dns.message.make_query("a.example", "A", use_edns=0).to_wire()
NOT_PLAIN = {
    "option": dns.message.make_query("a.example", "A", options=[dns.edns.CookieOption(bytes(8), b"")]).to_wire(),
    "option that is missing": PLAIN[:-1] + b"\5",
    "EDNS version": dns.message.make_query("a.example", "A", use_edns=1).to_wire(),
    "class": dns.message.make_query("a.example", "A", rdclass="CH").to_wire(),
    "type": dns.message.make_query("a.example", "TXT").to_wire(),
    "opcode": PLAIN[:2] + b"\x28" + PLAIN[3:],
    "response": PLAIN[:2] + b"\x81" + PLAIN[3:],
    "two questions": PLAIN[:5] + b"\2" + PLAIN[6:],
    "pointer": PLAIN[:12] + b"\xc0\x0c" + PLAIN[23:],
    "trailing octets": PLAIN + b"\0",
    "OPT that isn't announced": PLAIN[:11] + b"\0" + PLAIN[12:],
    "name too long": PLAIN[:12] + (b"\x3f" + b"a" * 63) * 4 + PLAIN[22:],
    "root": PLAIN[:12] + PLAIN[22:],
    "cut": PLAIN[:20],
}


@pytest.mark.parametrize("wire", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_not_plain_is_left_to_dnspython(wire: bytes) -> None:
    assert plain_queries.read(PLAIN) == ("a.example", "A")
    assert plain_queries.read(wire) is None


def test_dig_reads_what_it_says(upstream: FakeUpstream) -> None:
    upstream.behave("alias.example", behaviours.cname_chain("b.example", "c.example", ttl=70))
    upstream.behave("*.gone.example", behaviours.nxdomain)
    answer = dig(address(upstream), "alias.example")
    assert answer.status == "NOERROR"
    assert {"qr", "rd", "ra"} <= answer.flags
    assert [(record.name, record.ttl, record.rdtype, record.rdata) for record in answer.answer] == [
        ("alias.example", 70, "CNAME", "b.example."),
        ("b.example", 70, "CNAME", "c.example."),
        ("c.example", 70, "A", behaviours.computed_rdata("c.example", "A")),
    ]
    gone = dig(address(upstream), "x.y.gone.example")
    assert (gone.status, gone.answer, gone.authority[0].rdtype) == ("NXDOMAIN", [], "SOA")


def test_a_zone_answers_as_its_file_says(upstream: FakeUpstream) -> None:
    text = "@ 60 SOA ns hostmaster 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.53\nwww.a 30 CNAME ns\nloop 9 CNAME loop\n"
    upstream.default = behaviours.zone("zone.example", text)
    server = address(upstream)
    assert dig(server, "www.a.zone.example").rdata == ["192.0.2.53", "ns.zone.example."]
    assert dig(server, "a.zone.example").status == "NOERROR"
    assert dig(server, "b.zone.example").status == "NXDOMAIN"
    assert dig(server, "ns.zone.example", "TXT").answer == []
    assert dig(server, "loop.zone.example").rdata == ["loop.zone.example."]
    assert dig(server, "elsewhere.example").status == "REFUSED"


def test_what_does_not_fit_is_truncated_over_udp_alone(upstream: FakeUpstream) -> None:
    upstream.behave("big.example", behaviours.big_text(3000))
    upstream.behave("cut.example", behaviours.truncated)
    for name in ("big.example", "cut.example"):
        assert udp(address(upstream), name, "TXT").flags & dns.flags.TC
        whole = tcp(address(upstream), name, "TXT")
        assert not whole.flags & dns.flags.TC
        assert whole.answer
    assert not udp(address(upstream), "big.example", "TXT", use_edns=0, payload=4096).flags & dns.flags.TC


def test_forgeries_are_no_answers(upstream: FakeUpstream) -> None:
    message = query("www.example")
    for behaviour in (behaviours.wrong_id, behaviours.wrong_question):
        upstream.default = behaviour
        forged = dns.message.from_wire(exchange(address(upstream), message.to_wire()))
        assert not message.is_response(forged)
    upstream.default = behaviours.garbage
    garbage = exchange(address(upstream), message.to_wire())
    assert garbage[:2] == message.to_wire()[:2]
    with pytest.raises(dns.exception.DNSException):
        dns.message.from_wire(garbage)


def test_an_answer_from_elsewhere_does_not_reach_a_connected_socket(upstream: FakeUpstream) -> None:
    upstream.default = behaviours.each(behaviours.wrong_source, behaviours.answering("@ 5 A 192.0.2.200"))
    answer = udp(address(upstream), "www.example")
    assert answer.answer[0][0].to_text() == "192.0.2.200"
    assert upstream.address != ELSEWHERE


def test_silence_and_slowness(upstream: FakeUpstream) -> None:
    upstream.behave("silent.example", behaviours.silent)
    upstream.behave("slow.example", behaviours.slow(0.3))
    with pytest.raises(TimeoutError):
        udp(address(upstream), "silent.example", timeout=0.2)
    begun = time.monotonic()
    assert udp(address(upstream), "slow.example").answer
    assert time.monotonic() - begun >= 0.3


def test_behaviours_in_turn_and_by_transport(upstream: FakeUpstream) -> None:
    server = address(upstream)
    upstream.behave("turns.example", behaviours.in_turn(behaviours.servfail, behaviours.refused, behaviours.computed))
    assert [dig(server, "turns.example").status for _ in range(4)] == ["SERVFAIL", "REFUSED", "NOERROR", "NOERROR"]
    upstream.behave("stream.example", behaviours.by_transport(stream=behaviours.hang_up))
    assert udp(server, "stream.example").answer
    with pytest.raises(ConnectionError):
        tcp(server, "stream.example")


def test_one_connection_carries_many_queries(upstream: FakeUpstream) -> None:
    messages = [query(f"n{number}.example") for number in range(5)]
    with tcp_socket(address(upstream)) as sock:
        send_framed(sock, *(message.to_wire() for message in messages))
        for message in messages:
            assert message.is_response(dns.message.from_wire(receive_framed(sock)))


def test_it_can_be_stopped_and_started_on_the_same_port(upstream: FakeUpstream) -> None:
    port = upstream.port
    with tcp_socket(address(upstream)) as sock:
        send_framed(sock, query("www.example").to_wire())
        receive_framed(sock)
        upstream.stop()
        assert sock.recv(1) == b""
    with pytest.raises(OSError):
        udp(address(upstream), "www.example", timeout=0.2)
    upstream.start()
    assert upstream.port == port
    assert udp(address(upstream), "www.example").answer
    assert tcp(address(upstream), "www.example").answer


def test_a_failing_behaviour_reaches_the_test() -> None:
    def broken(_: behaviours.Query) -> list[behaviours.Reply]:
        raise ValueError("broken behaviour")

    server = FakeUpstream().start()
    server.default = broken
    with pytest.raises(TimeoutError):
        udp(address(server), "www.example", timeout=0.2)
    with pytest.raises(ValueError, match="broken behaviour"):
        server.stop()


def test_tls_shows_the_certificate_of_its_authority(tmp_path: Path) -> None:
    import ssl

    authority = Authority(tmp_path)
    with FakeUpstream(identity=authority.issue("dns.example", "127.0.0.1")) as server:
        assert server.url == f"tls://127.0.0.1:{server.port}#dns.example"
        context = ssl.create_default_context(cafile=authority.certificate)
        message = query("www.example")
        with (
            tcp_socket(address(server)) as sock,
            context.wrap_socket(sock, server_hostname="dns.example") as secured,
        ):
            send_framed(secured, message.to_wire())
            assert message.is_response(dns.message.from_wire(receive_framed(secured)))
        assert [asked.transport for asked in server.log] == ["tls"]
