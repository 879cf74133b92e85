"""Answers of upstreams and how long they hold (rows 21 to 26, 42 and 50): TTLs, negative answers, failures, aliases."""

import struct
from collections import Counter
from itertools import pairwise

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from tests.integration.node import Node
from tests.scenarios.conftest import StartNode
from tests.support import behaviours
from tests.support.behaviours import answering, in_turn
from tests.support.dns_client import query, udp, udp_socket
from tests.support.fake_upstream import FakeUpstream
from tests.support.processes import eventually
from tests.support.scenarios import Check, address, data, ede, extended_errors, rcode, texts

HASTY = {"try_timeout_ms": 200, "failover_ms": 5000, "deadline_ms": 2000}
TRIES = 2
"""How often one exchange asks the same server."""
STALE_ANSWER, STALE_NXDOMAIN = 3, 19
UNREACHABLE = {22, 23}
"""No reachable authority, network error."""


def denied(rcode: str, ttl: int, minimum: int) -> behaviours.Behaviour:
    """Deny a name, with an SOA of this TTL and this MINIMUM."""

    def behave(query: behaviours.Query) -> list[behaviours.Reply]:
        response = dns.message.make_response(query.message, recursion_available=True)
        response.set_rcode(dns.rcode.from_text(rcode))
        soa = f"ns.example. host.example. 1 3600 600 86400 {minimum}"
        response.authority = [dns.rrset.from_text("example.", ttl, "IN", "SOA", soa)]
        return [behaviours.Reply(response.to_wire())]

    return behave


@pytest.mark.parametrize("code", ["NXDOMAIN", "NOERROR"])
@pytest.mark.parametrize(("ttl", "minimum"), [(300, 60), (60, 300)])
def test_21_a_negative_answer_carries_its_soa_and_is_cached(
    node: Node, upstream: FakeUpstream, code: str, ttl: int, minimum: int
) -> None:
    """RFC 2308 section 3: how long a negative answer may be cached.

    "The TTL of this record is set from the minimum of the MINIMUM field of the SOA record and the TTL of the SOA
    itself, and indicates how long a resolver may cache the negative answer."

    That it is forgotten after that time: tests/unit/resolver/test_engine_forwarding.py, by a clock of its own.
    """
    name = f"{code}-{ttl}-{minimum}.example"
    upstream.behave(name, denied(code, ttl, minimum))

    def left() -> int:
        reply = udp(node.server, name)
        assert rcode(code)(reply)
        (soa,) = reply.authority
        assert soa.rdtype == dns.rdatatype.SOA
        return int(soa.ttl)

    assert left() == 60
    eventually(lambda: left() < 60)
    assert len(upstream.asked(name)) == 1


def test_21_an_alias_to_nothing_is_negative_too(node: Node, upstream: FakeUpstream) -> None:
    """RFC 2308 section 2.2: the common case of a name that is served from elsewhere and has no AAAA record."""

    def dangling(query: behaviours.Query) -> list[behaviours.Reply]:
        (negative,) = behaviours.nodata(query)
        assert negative.wire is not None
        response = dns.message.from_wire(negative.wire)
        response.answer = [dns.rrset.from_text(response.question[0].name, 3600, "IN", "CNAME", "elsewhere.example.")]
        return [behaviours.Reply(response.to_wire())]

    upstream.behave("alias.example", dangling)
    for _ in range(2):
        reply = udp(node.server, "alias.example", "AAAA")
        assert reply.answer[0].rdtype == dns.rdatatype.CNAME
        assert reply.authority[0].rdtype == dns.rdatatype.SOA
    assert len(upstream.asked("alias.example")) == 1


def test_21_an_alias_of_our_own_to_nothing_is_negative_too(start_node: StartNode, upstream: FakeUpstream) -> None:
    """RFC 2308 section 2.2: whoever has nothing at the end of an alias says so, upstream or we."""
    records = ["a.own.example CNAME far.example", "b.own.example CNAME c.own.example", "c.own.example A 192.0.2.1"]
    node = start_node(local={"records": records})
    upstream.behave("far.example", behaviours.nodata)
    for name in ("a.own.example", "a.own.example", "b.own.example"):  # from the upstream, the cache, and here
        reply = udp(node.server, name, "AAAA")
        assert [rrset.rdtype for rrset in reply.answer] == [dns.rdatatype.CNAME]
        assert [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]
    assert len(upstream.asked("far.example")) == 1


def test_22_a_ttl_with_the_top_bit_set_is_zero(node: Node, upstream: FakeUpstream) -> None:
    """RFC 2181 section 8: such a TTL is read "as if the entire value received was zero"."""

    def huge(query: behaviours.Query) -> list[behaviours.Reply]:
        end = query.wire.index(b"\0\0\1\0\1") + 5
        record = b"\xc0\x0c\0\1\0\1\xff\xff\xff\xff\0\4\xc0\0\2\1"
        return [behaviours.Reply(query.wire[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0) + query.wire[12:end] + record)]

    upstream.behave("huge.example", huge)
    for count in (1, 2):
        assert udp(node.server, "huge.example").answer[0].ttl == 0
        assert len(upstream.asked("huge.example")) == count


def test_22_a_long_ttl_is_capped(node: Node, upstream: FakeUpstream) -> None:
    """RFC 2181 section 8: "Implementations are always free to place an upper bound on any TTL received"."""
    upstream.behave("long.example", behaviours.answering("@ 2147483647 A 192.0.2.9"))
    assert udp(node.server, "long.example").answer[0].ttl == 86400


def test_22_a_ttl_counts_down(node: Node, upstream: FakeUpstream) -> None:
    """RFC 1035 section 3.2.1: the TTL is "the time interval (in seconds) that the resource record may be cached".

    To its end, and that it is asked for anew then: tests/unit/resolver/test_engine_forwarding.py.
    """
    upstream.behave("counted.example", answering("@ 100 A 192.0.2.1"))
    assert udp(node.server, "counted.example").answer[0].ttl == 100
    eventually(lambda: udp(node.server, "counted.example").answer[0].ttl < 100)
    assert len(upstream.asked("counted.example")) == 1


def test_23_a_set_has_one_ttl(node: Node, upstream: FakeUpstream) -> None:
    """RFC 2181 section 5.2: "the TTLs of all RRs in an RRSet must be the same"; the lowest is, where they aren't."""

    def mixed(query: behaviours.Query) -> list[behaviours.Reply]:
        end = query.wire.index(b"\0\0\1\0\1") + 5
        records = b"".join(
            b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", ttl, 4) + bytes([192, 0, 2, ttl]) for ttl in (90, 30, 60)
        )
        return [
            behaviours.Reply(query.wire[:2] + struct.pack(">5H", 0x8180, 1, 3, 0, 0) + query.wire[12:end] + records)
        ]

    upstream.behave("mixed.example", mixed)
    for _ in range(2):
        wires = []
        with udp_socket(node.server) as sock:
            sock.send(query("mixed.example").to_wire())
            wires.append(sock.recv(4096))
        found = [
            struct.unpack_from(">I", wires[0], wires[0].index(b"\xc0\x0c\0\1\0\1") + 6 + 16 * n)[0] for n in range(3)
        ]
        assert len(set(found)) == 1
        assert 0 < found[0] <= 30
    assert len(upstream.asked("mixed.example")) == 1


def test_24_what_is_below_a_name_that_is_not_there_is_asked_for(node: Node, upstream: FakeUpstream) -> None:
    """RFC 8020 section 2 would have it denied too; docs/decisions/0014-no-cookies.md says why it is not."""
    upstream.behave("gone.example", behaviours.nxdomain)
    assert rcode("NXDOMAIN")(udp(node.server, "gone.example"))
    assert address("a.gone.example")(udp(node.server, "a.gone.example"))
    assert len(upstream.asked("a.gone.example")) == 1


@pytest.mark.parametrize("behaviour", [behaviours.servfail, behaviours.refused, behaviours.silent, behaviours.garbage])
def test_25_a_failure_is_remembered(
    start_node: StartNode, upstream: FakeUpstream, behaviour: behaviours.Behaviour
) -> None:
    """RFC 9520 sections 3.1 and 3.2, in short: few retries, and failures are cached, for 1 second to 5 minutes."""
    node = start_node(upstream={"servers": [upstream.url]} | HASTY)
    name = f"{behaviour.__name__}.example"
    upstream.behave(name, behaviour)
    for _ in range(20):
        reply = udp(node.server, name, use_edns=0)
        assert rcode("SERVFAIL")(reply)
        assert {code for code, _ in extended_errors(reply)} <= UNREACHABLE
    assert 0 < len(upstream.asked(name)) <= TRIES


def test_25_a_failure_is_not_remembered_for_long(start_node: StartNode, upstream: FakeUpstream) -> None:
    """RFC 9520 section 3.2: once it is forgotten, upstreams are asked again."""
    node = start_node(cache={"failure_seconds": 1})
    upstream.behave("passing.example", in_turn(*[behaviours.servfail] * TRIES, behaviours.computed))
    assert rcode("SERVFAIL")(udp(node.server, "passing.example"))
    eventually(lambda: rcode("NOERROR")(udp(node.server, "passing.example")))
    assert len(upstream.asked("passing.example")) == TRIES + 1


@pytest.mark.parametrize("trouble", [behaviours.silent, behaviours.servfail])
def test_26_what_was_known_is_served_when_nobody_answers(
    start_node: StartNode, upstream: FakeUpstream, trouble: behaviours.Behaviour
) -> None:
    """RFC 8767 sections 4 and 5, in short: old data are better than none, with a TTL of 30 seconds.

    RFC 8914 section 4.4: Stale Answer. Only where the upstream has failed, or has taken long.
    """
    node = start_node(cache={"stale_after_ms": 100})
    name = f"{trouble.__name__}.stale.example"
    upstream.behave(name, in_turn(answering("@ 1 A 192.0.2.1"), answering("@ 2 A 192.0.2.2"), trouble))
    assert data("192.0.2.1")(udp(node.server, name))
    renewed = asked_until(node, name, lambda reply: not data("192.0.2.1")(reply))
    assert data("192.0.2.2")(renewed)  # who answers in time is believed
    assert extended_errors(renewed) == []
    stale = asked_until(node, name, lambda reply: extended_errors(reply) != [])
    assert data("192.0.2.2")(stale)
    assert stale.answer[0].ttl == 30
    assert ede(STALE_ANSWER)(stale)
    assert rcode("NOERROR")(stale)


def test_26_nobody_waits_for_an_upstream_longer_than_for_what_was_known(
    start_node: StartNode, upstream: FakeUpstream
) -> None:
    """RFC 8767 section 5, in short: after a while the client gets what is known, and what comes later is kept."""
    node = start_node(upstream={"failover_ms": 50}, cache={"stale_after_ms": 100})
    late = behaviours.slow(2, answering("@ 60 A 192.0.2.2"))
    upstream.behave("late.stale.example", in_turn(answering("@ 1 A 192.0.2.1"), late))
    assert data("192.0.2.1")(udp(node.server, "late.stale.example"))
    stale = asked_until(node, "late.stale.example", lambda reply: extended_errors(reply) != [])
    assert data("192.0.2.1")(stale)
    assert ede(STALE_ANSWER)(stale)
    renewed = asked_until(node, "late.stale.example", lambda reply: extended_errors(reply) == [])
    assert data("192.0.2.2")(renewed)


def asked_until(node: Node, name: str, holds: Check) -> dns.message.Message:
    """Ask until the answer is such, and return it."""

    def ask() -> dns.message.Message | None:
        reply = udp(node.server, name, use_edns=0)
        return reply if holds(reply) else None

    found = eventually(ask)
    assert found is not None
    return found


def test_26_a_denial_may_be_stale_too(start_node: StartNode, upstream: FakeUpstream) -> None:
    """RFC 8914 section 4.20: Stale NXDOMAIN Answer."""
    node = start_node(cache={"max_ttl_seconds": 1})
    upstream.behave("gone.stale.example", in_turn(behaviours.nxdomain, behaviours.servfail))
    assert rcode("NXDOMAIN")(udp(node.server, "gone.stale.example"))
    eventually(lambda: ede(STALE_NXDOMAIN)(udp(node.server, "gone.stale.example", use_edns=0)))
    assert rcode("NXDOMAIN")(udp(node.server, "gone.stale.example"))


def test_26_what_is_too_old_is_not_served(start_node: StartNode, upstream: FakeUpstream) -> None:
    """RFC 8767 section 4, in short: there is a limit to it, which is the operator's to set."""
    node = start_node(cache={"stale_seconds": 0})
    upstream.behave("old.example", in_turn(answering("@ 1 A 192.0.2.1"), behaviours.servfail))
    assert data("192.0.2.1")(udp(node.server, "old.example"))
    eventually(lambda: rcode("SERVFAIL")(udp(node.server, "old.example")))


def test_42_queries_to_upstreams_can_not_be_guessed(node: Node, upstream: FakeUpstream) -> None:
    """RFC 5452 section 9.2, in short: an unpredictable ID and source port for each query.

    Letters in random case besides. For 1,000 queries, each bit of the ID is set in about half: 400 and 600 are six
    standard deviations away. Ports come from a pool that changes (docs/decisions/0008-upstream-ports.md).
    """
    count = 1_000
    with udp_socket(node.server) as sock:
        for number in range(count):
            sock.send(query(f"guess-{number}.entropy.example").to_wire())
            sock.recv(4096)
    queries = [asked for asked in upstream.log if asked.name.lower().endswith(".entropy.example")]
    assert len(queries) == count
    for bit in range(16):
        assert 400 < sum(asked.id >> bit & 1 for asked in queries) < 600
    assert len({asked.id for asked in queries}) > 970  # 992 are to be expected
    ports = Counter(asked.client[1] for asked in queries)
    assert len(ports) >= 32
    assert max(ports.values()) <= 32
    following = sum(abs(one.client[1] - other.client[1]) <= 1 for one, other in pairwise(queries))
    assert following < count / 4
    spelled = Counter(asked.name[:5] for asked in queries)
    assert len(spelled) > 12  # of 16: letters that are the same are written alike


LOOPS = {
    "two": ("@ 60 CNAME b.{name}.", "b.{name}. 60 CNAME @"),
    "itself": ("@ 60 CNAME @",),
    "a tail": ("@ 60 CNAME b.{name}.", "b.{name}. 60 CNAME c.{name}.", "c.{name}. 60 CNAME b.{name}."),
    "long": tuple(f"{f'n{n}.{{name}}.' if n else '@'} 60 CNAME n{n + 1}.{{name}}." for n in range(40)),
}


@pytest.mark.parametrize("records", LOOPS.values(), ids=LOOPS)
def test_50_aliases_in_a_circle_and_without_end(
    node: Node, upstream: FakeUpstream, records: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    """RFC 1034 section 3.6.2, in short: chains are followed, and loops signalled as an error; once, then remembered."""
    name = f"{request.node.callspec.id.replace(' ', '-')}.loop.example"
    absolute = (record.format(name=name).replace("CNAME @", f"CNAME {name}.") for record in records)
    upstream.behave(name, answering(*absolute))
    for _ in range(5):
        assert rcode("SERVFAIL")(udp(node.server, name))
    assert len(upstream.asked(name)) <= TRIES


@pytest.mark.parametrize("length", [1, 8, 16])
def test_50_chains_that_end_are_passed_on(node: Node, upstream: FakeUpstream, length: int) -> None:
    """RFC 1034 section 3.6.2."""
    names = [f"n{number}.chain-{length}.example" for number in range(length)]
    upstream.behave(f"chain-{length}.example", behaviours.cname_chain(*names))
    reply = udp(node.server, f"chain-{length}.example")
    assert len(texts(reply)) == length + 1
    assert reply.answer[-1].rdtype == dns.rdatatype.A
