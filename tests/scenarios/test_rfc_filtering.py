"""What a filter says and changes (rows 27, 28 and 47 to 49): extended errors, DNSSEC's flags, services, subnets."""

import dns.edns
import dns.flags
import dns.message
import dns.rrset
import pytest

from tests.integration.node import Node
from tests.scenarios.conftest import StartNode
from tests.support import behaviours
from tests.support.dns_client import dig, exchange, tcp, udp
from tests.support.fake_upstream import FakeUpstream
from tests.support.scenarios import (
    Scenario,
    data,
    ede,
    extended_errors,
    flag,
    opt,
    question,
    rcode,
    texts,
)
from tests.unit.policy.build import Listed, block

SCENARIOS = {
    "27: blocked": Scenario(
        "RFC 8914 section 4.16",
        "The server is unable to respond to the request because the domain is on a blocklist due to an internal "
        "security policy imposed by the operator of the server resolving or forwarding the query.",
        question("bad.example", use_edns=0),
        (ede(15, "adult"), data("0.0.0.0"), rcode("NOERROR")),
    ),
    "27: blocked, to who speaks no EDNS": Scenario(
        "RFC 8914 section 2",
        "an option of the OPT record",
        question("bad.example", use_edns=False),
        (opt(None), data("0.0.0.0")),
    ),
    "28: the reason changes no code": Scenario(
        "RFC 8914 section 3",
        "the rcode is what it would be without",
        question("bad.example", "TXT", use_edns=0),
        (ede(15, "adult"), rcode("NOERROR"), data()),
    ),
    "47: a blocked name is never authentic": Scenario(
        "RFC 4035 section 3.2.3 and 3.2.2",
        "AD only for what was validated; CD is copied",
        question("bad.example", use_edns=0, want_dnssec=True, flags=dns.flags.RD | dns.flags.AD | dns.flags.CD),
        (flag("AD", False), flag("CD"), lambda reply: bool(reply.ednsflags & dns.flags.DO)),
    ),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_one_exchange(node: Node, upstream: FakeUpstream, scenario: Scenario, transport: str) -> None:
    """RFC 7766 section 5: TCP is served as UDP is (row 14)."""
    heard = len(upstream.log)
    scenario.holds(node.server, transport)
    assert len(upstream.log) == heard


def test_27_dig_names_the_reason(node: Node) -> None:
    """RFC 8914 section 2, in short: a code for machines, and a text for people."""
    assert dig(node.server, "bad.example").ede == (15, "adult")
    assert dig(node.server, "bad.example", "A", "+noedns").ede is None


def test_27_who_is_not_served_is_told_so(start_node: StartNode) -> None:
    """RFC 8914 section 4.19: Prohibited."""
    node = start_node(server={"allow_from": ["127.0.0.1/32"]})
    wire = question("peer.example", use_edns=0)
    reply = dns.message.from_wire(exchange(node.server, wire, source="127.0.0.2"))
    assert rcode("REFUSED")(reply)
    assert ede(18)(reply)
    assert rcode("NOERROR")(udp(node.server, "peer.example"))
    assert [record.decision.verdict for record in node.records] == ["refused", "allowed"]


def test_27_what_nobody_answers_says_why(start_node: StartNode, upstream: FakeUpstream) -> None:
    """RFC 8914 sections 4.23 and 4.24: No Reachable Authority, Network Error."""
    node = start_node(upstream={"servers": ["udp://127.0.0.1:9"], "deadline_ms": 300, "try_timeout_ms": 100})
    reply = udp(node.server, "peer.example", use_edns=0)
    assert rcode("SERVFAIL")(reply)
    assert [code for code, _ in extended_errors(reply)] in ([22], [23])
    assert dig(node.server, "peer.example").status == "SERVFAIL"


def test_28_a_text_is_short(start_node: StartNode) -> None:
    """RFC 8914 section 6, in short: nothing is truncated for it. The text is the category's key, here a long one."""
    name = f"{'a' * 60}.{'b' * 60}.{'c' * 60}.example"
    node = start_node()
    policy = node.publish(2, lists=[Listed("list", "adult", [block(name)])])
    policy.write_text(policy.read_text().replace('"adult"', f'"{"k" * 97}"'))
    assert node.workers[0].adopt(policy) == 2
    reply = udp(node.server, name, use_edns=0, payload=512)
    assert extended_errors(reply) == [(15, "k" * 96)]
    assert not reply.flags & dns.flags.TC


def vouched(behaviour: behaviours.Behaviour) -> behaviours.Behaviour:
    """Say that what the behaviour answers is authentic."""

    def behave(query: behaviours.Query) -> list[behaviours.Reply]:
        (reply,) = behaviour(query)
        assert reply.wire is not None
        return [reply._replace(wire=reply.wire[:3] + bytes([reply.wire[3] | 0x20]) + reply.wire[4:])]

    return behave


@pytest.mark.parametrize(
    ("flags", "do", "ad"),
    [(dns.flags.RD, False, False), (dns.flags.RD | dns.flags.AD, False, True), (dns.flags.RD, True, True)],
)
def test_47_ad_is_for_who_asked_for_it(node: Node, upstream: FakeUpstream, flags: int, do: bool, ad: bool) -> None:
    """RFC 6840 section 5.8: AD only when the request had DO or AD set."""
    upstream.behave("secure.example", vouched(behaviours.computed))
    reply = udp(node.server, "secure.example", use_edns=0, want_dnssec=do, flags=flags)
    assert bool(reply.flags & dns.flags.AD) == ad


def test_47_cd_and_do_reach_the_upstream(node: Node, upstream: FakeUpstream) -> None:
    """RFC 6840 section 5.9 leaves CD to the resolver; ours passes what the client set."""
    udp(node.server, "check.example", use_edns=0, want_dnssec=True, flags=dns.flags.RD | dns.flags.CD)
    udp(node.server, "check.example")
    first, second = (query.message for query in upstream.asked("check.example"))
    assert first.flags & dns.flags.CD
    assert first.ednsflags & dns.flags.DO
    assert not second.flags & dns.flags.CD
    assert not second.ednsflags & dns.flags.DO


def test_49_a_clients_subnet_goes_nowhere(node: Node, upstream: FakeUpstream) -> None:
    """RFC 7871 section 11.1: what a client says of its network is not trusted, and nobody is told of it."""
    tcp(node.server, "subnet.example", source="127.0.0.5", options=[dns.edns.ECSOption("10.9.8.7", 32)])
    (query,) = upstream.asked("subnet.example")
    assert not query.message.options
    (record,) = [record for record in node.records if record.decision.qname == "subnet.example"]
    assert record.client.client == "127.0.0.5"


def test_47_what_was_rewritten_is_never_authentic(node: Node, upstream: FakeUpstream) -> None:
    """RFC 4035 section 3.2.3, in short: AD says that all of the answer was validated, and what is changed wasn't."""
    changed = behaviours.answering("@ 60 A 192.0.2.1", "@ 60 A 10.0.0.1")
    upstream.behave("changed.example", vouched(changed))
    upstream.behave("whole.example", vouched(behaviours.computed))
    reply = udp(node.server, "changed.example", use_edns=0, want_dnssec=True)
    assert texts(reply) == ["192.0.2.1"]
    assert flag("AD", False)(reply)
    assert flag("AD")(udp(node.server, "whole.example", use_edns=0, want_dnssec=True))


def test_47_signatures_are_for_who_asked_for_them(node: Node, upstream: FakeUpstream) -> None:
    """RFC 4035 section 3.2.1, in short: without DO, no DNSSEC records but those that are asked for."""
    signature = "A 13 2 60 20300101000000 20200101000000 1 example. AAAA"
    upstream.behave("signed.example", behaviours.answering("@ 60 A 192.0.2.1", f"@ 60 RRSIG {signature}"))
    assert texts(udp(node.server, "signed.example", use_edns=0, want_dnssec=True)) == ["192.0.2.1", signature]
    assert texts(udp(node.server, "signed.example", use_edns=0)) == ["192.0.2.1"]


@pytest.mark.parametrize("do", [False, True])
def test_47_signatures_may_be_asked_for_by_themselves(node: Node, upstream: FakeUpstream, do: bool) -> None:
    """RFC 4035 section 3.2.1, in short: DO is no condition for records whose very type is asked for.

    Each has the TTL of the set that it signs (RFC 4034 section 3), so that theirs differ.
    """
    signatures = [f"{covered} 13 2 60 20300101000000 20200101000000 1 example. AAAA" for covered in ("A", "MX")]

    def signed(query: behaviours.Query) -> list[behaviours.Reply]:
        response = dns.message.make_response(query.message)
        owner = response.question[0].name
        for ttl, signature in zip((60, 300), signatures, strict=True):
            response.answer.append(dns.rrset.from_text(owner, ttl, "IN", "RRSIG", signature))
        return [behaviours.Reply(response.to_wire())]

    upstream.behave("signatures.example", signed)
    reply = udp(node.server, "signatures.example", "RRSIG", use_edns=0, want_dnssec=do)
    assert texts(reply) == signatures
    assert [rrset.ttl for rrset in reply.answer] == [60, 300]


SERVICES = {
    "alias": "0 bad.example.",
    "service": "1 www.bad.example. alpn=h2",
    "upper case": "1 BAD.EXAMPLE. alpn=h2",
    "far down": "1 cdn.eu.west.bad.example. alpn=h3 port=8443",
}


@pytest.mark.parametrize("rdtype", ["HTTPS", "SVCB"])
@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_48_a_services_target_is_filtered_as_an_alias_is(
    node: Node, upstream: FakeUpstream, service: str, rdtype: str, request: pytest.FixtureRequest
) -> None:
    """RFC 9460 section 2.4.1 and 2.5, in short: clients connect to the target instead of the name."""
    name = f"{request.node.callspec.id.replace(' ', '-')}.service.example".lower()
    upstream.behave(name, behaviours.answering(f"@ 60 {rdtype} {service}"))
    reply = udp(node.server, name, rdtype, use_edns=0)
    assert data()(reply)
    assert ede(15, "adult")(reply)
    decision = node.records[-1].decision
    assert (decision.verdict, decision.category) == ("blocked", "adult")
    assert "by way of" in decision.rule
