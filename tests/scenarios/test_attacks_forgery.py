"""Forged answers and poisoned caches (rows 1 to 6, 17 and 18 of the attacks): what is believed, and what is kept."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import dns.message
import dns.rdatatype
import dns.rrset
import pytest

from resolver.rewriting import LONGEST_CHAIN
from tests.integration.node import Node
from tests.scenarios.conftest import StartNode, serving
from tests.support import behaviours
from tests.support.behaviours import Behaviour, Query, Reply, answering, each, slow
from tests.support.dns_client import TIMEOUT_SECONDS, query, udp, udp_socket
from tests.support.fake_upstream import ELSEWHERE, FakeUpstream
from tests.support.processes import eventually
from tests.support.scenarios import address, data, rcode, texts

FORGED = "198.51.100.66"
TRUE = "192.0.2.99"
DELAY = 0.1
"""Seconds by which a forger is faster."""


# Forgeries: each what a forger sends who has guessed all but one thing.


def forged(query: Query) -> bytes:
    """Return what a forger wants believed, all guessed right."""
    (reply,) = answering(f"@ 86400 A {FORGED}")(query)
    assert reply.wire is not None
    return reply.wire


def altered(alter: Callable[[Query, bytes], bytes]) -> Behaviour:
    return lambda query: [Reply(alter(query, forged(query)))]


def another_id(query: Query, wire: bytes) -> bytes:
    return (query.id ^ 1).to_bytes(2, "big") + wire[2:]


def other_case(query: Query, wire: bytes) -> bytes:
    return wire[:13] + bytes([wire[13] ^ 0x20]) + wire[14:]


def other_question(query: Query, wire: bytes) -> bytes:
    return wire[:13] + b"z" + wire[14:]


def with_type(rdtype: int) -> Callable[[Query, bytes], bytes]:
    def alter(query: Query, wire: bytes) -> bytes:
        end = wire.index(b"\0", 12) + 1
        return wire[:end] + rdtype.to_bytes(2, "big") + wire[end + 2 :]

    return alter


def from_another_port(query: Query) -> list[Reply]:
    """Send it from the address that was asked, and another port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.sendto(forged(query), query.client)
    return []


def every_other_id(query: Query) -> list[Reply]:
    """Try many IDs, as one does who has found the port."""
    wire = forged(query)
    return [Reply((query.id ^ number).to_bytes(2, "big") + wire[2:]) for number in range(1, 400)]


FORGERIES: dict[str, Behaviour] = {
    "another id": altered(another_id),
    "many ids": every_other_id,
    "another address": lambda query: [Reply(forged(query), from_elsewhere=True)],
    "another port": from_another_port,
    "another name": altered(other_question),
    "another type": altered(with_type(28)),
    "another case": altered(other_case),
    "no answer but a query": altered(lambda query, wire: wire[:2] + bytes([wire[2] & 0x7F]) + wire[3:]),
    "another opcode": altered(lambda query, wire: wire[:2] + bytes([wire[2] | 4 << 3]) + wire[3:]),
    "the query itself": lambda query: [Reply(query.wire)],
    "a header alone": altered(lambda query, wire: wire[:4] + bytes(8)),
    "a header that promises": altered(lambda query, wire: wire[:12]),
    "a header cut short": altered(lambda query, wire: wire[:7]),
    "no question": altered(lambda query, wire: wire[:4] + b"\0\0" + wire[6:]),
    "two questions": altered(lambda query, wire: wire[:4] + b"\0\2" + wire[6:]),
    "nothing": lambda query: [Reply(b"")],
    "garbage": behaviours.garbage,
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_1_and_3_a_forgery_before_the_answer_ends_no_wait(
    node: Node, upstream: FakeUpstream, forgery: Behaviour, request: pytest.FixtureRequest
) -> None:
    """Rows 1 and 3 (Kaminsky's attack, TuDoor): what doesn't match is passed over, and the right answer still comes.

    Once more from the cache: none of it was kept.
    """
    name = f"{request.node.callspec.id.replace(' ', '-')}.forged.example"
    true = answering(f"@ 300 A {TRUE}")
    upstream.behave(name, behaviours.by_transport(udp=each(forgery, slow(DELAY, true)), stream=true))
    for _ in range(2):
        assert data(TRUE)(udp(node.server, name))
    # A wrong case is a sign of a forger: it is asked again, over TCP.
    assert len(upstream.asked(name)) == (2 if forgery is FORGERIES["another case"] else 1)


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[Node]:
    """Give a worker that doesn't wait for long."""
    settings = {"servers": [upstream.url], "try_timeout_ms": 150, "failover_ms": 50, "deadline_ms": 250}
    with serving(Node(tmp_path_factory.mktemp("hasty"), upstream, upstream=settings), {}) as made:
        yield made


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_3_a_forgery_alone_is_no_answer(
    hasty: Node, upstream: FakeUpstream, forgery: Behaviour, request: pytest.FixtureRequest
) -> None:
    """Row 3: where nothing else comes it is as if nothing had come; over TCP, nobody is there to be asked."""
    name = f"{request.node.callspec.id.replace(' ', '-')}.alone.example"
    upstream.behave(name, behaviours.by_transport(udp=forgery, stream=behaviours.hang_up))
    assert rcode("SERVFAIL")(udp(hasty.server, name))


def test_1_a_forged_answer_that_is_cut_is_asked_for_over_tcp(node: Node, upstream: FakeUpstream) -> None:
    """Row 1: even whoever guesses it all but the case gets no more than a second query over a connection."""
    upstream.behave("cased.example", behaviours.by_transport(udp=altered(other_case)))
    assert address("cased.example")(udp(node.server, "cased.example"))
    assert [asked.transport for asked in upstream.asked("cased.example")] == ["udp", "tcp"]


def test_2_ports_look_closed_to_anybody_else(node: Node, upstream: FakeUpstream) -> None:
    """Row 2 (SAD DNS): who scans for the port of a query in flight finds the same as where nobody listens."""
    seen: list[tuple[str, int]] = []

    def watched(query: Query) -> list[Reply]:
        seen.append(query.client)
        return slow(2)(query)

    upstream.behave("scanned.example", watched)
    with udp_socket(node.server) as sock:
        sock.send(query("scanned.example").to_wire())
        (port,) = eventually(lambda: seen)
        for source in ("127.0.0.1", ELSEWHERE):
            with udp_socket(port, source=source) as scanner:
                scanner.send(b"\0" * 12)
                with pytest.raises(ConnectionRefusedError):
                    scanner.recv(1)
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)  # the query was in flight all the time
        sock.settimeout(TIMEOUT_SECONDS)
        assert address("scanned.example")(dns.message.from_wire(sock.recv(4096)))


# What a server adds that it was not asked for.


def poisoned(query: Query) -> list[Reply]:
    """Answer, and say much besides about other names: in every section."""
    (reply,) = answering("@ 60 A 192.0.2.1")(query)
    assert reply.wire is not None
    response = dns.message.from_wire(reply.wire)
    extra = dns.rrset.from_text("victim.example.", 86400, "IN", "A", FORGED)
    servers = dns.rrset.from_text("example.", 86400, "IN", "NS", "ns.victim.example.")
    glue = dns.rrset.from_text("ns.victim.example.", 86400, "IN", "A", FORGED)
    response.answer = [extra, *response.answer, dns.rrset.from_text("www.bank.example.", 86400, "IN", "A", FORGED)]
    response.authority = [servers, extra]
    response.additional = [glue, extra]
    return [Reply(response.to_wire())]


def test_5_extra_records_are_neither_passed_on_nor_kept(node: Node, upstream: FakeUpstream) -> None:
    """Row 5: of an answer only what is the question's own."""
    upstream.behave("poisoned.example", poisoned)
    for _ in range(2):
        reply = udp(node.server, "poisoned.example")
        assert texts(reply) == ["192.0.2.1"]
        assert reply.authority == []
        assert reply.additional == []
    for victim in ("victim.example", "www.bank.example", "ns.victim.example"):
        assert address(victim)(udp(node.server, victim))
        assert len(upstream.asked(victim)) == 1


def test_5_an_alias_makes_nobody_the_owner_of_its_target(node: Node, upstream: FakeUpstream) -> None:
    """Row 5: what a name's server says of another name holds for its own alone."""
    upstream.behave("lure.example", answering("@ 60 CNAME shop.bank.example.", f"shop.bank.example. 86400 A {FORGED}"))
    assert data("shop.bank.example.", FORGED)(udp(node.server, "lure.example"))
    assert address("shop.bank.example")(udp(node.server, "shop.bank.example"))
    assert len(upstream.asked("shop.bank.example")) == 1


def test_5_an_soa_of_elsewhere_says_nothing_about_a_name(node: Node, upstream: FakeUpstream) -> None:
    """Row 5: a denial holds as long as its own zone says, so another zone's is not kept, nor passed on."""

    def foreign(query: Query) -> list[Reply]:
        (reply,) = behaviours.nxdomain(query)
        assert reply.wire is not None
        response = dns.message.from_wire(reply.wire)
        soa = "ns.bank.example. x.bank.example. 1 2 3 4 86400"
        response.authority = [dns.rrset.from_text("bank.example.", 86400, "IN", "SOA", soa)]
        return [Reply(response.to_wire())]

    upstream.behave("denied.example", foreign)
    for count in (1, 2):
        reply = udp(node.server, "denied.example")
        assert rcode("NXDOMAIN")(reply)
        assert reply.authority == []
        assert len(upstream.asked("denied.example")) == count


def test_4_a_zones_servers_poison_nothing_but_their_zone(start_node: StartNode, upstream: FakeUpstream) -> None:
    """Row 4 (MaginotDNS): servers of a zone share a cache with all the rest, and no more than that."""
    with FakeUpstream() as own:
        node = start_node(upstream={"servers": [upstream.url], "zones": {"ad.example": [own.url]}})
        own.default = each(poisoned)
        own.behave("out.ad.example", answering("@ 60 CNAME pay.bank.example.", f"pay.bank.example. 86400 A {FORGED}"))
        upstream.behave("in.example", answering("@ 60 CNAME dc.ad.example.", f"dc.ad.example. 86400 A {FORGED}"))
        assert texts(udp(node.server, "x.ad.example")) == ["192.0.2.1"]
        udp(node.server, "out.ad.example")
        udp(node.server, "in.example")
        for victim in ("victim.example", "www.bank.example", "pay.bank.example"):
            assert address(victim)(udp(node.server, victim))
        assert texts(udp(node.server, "dc.ad.example")) == ["192.0.2.1"]
        assert {asked.name.lower() for asked in own.log} == {"x.ad.example", "out.ad.example", "dc.ad.example"}


def test_6_identical_questions_give_a_forger_one_chance(start_node: StartNode, upstream: FakeUpstream) -> None:
    """Row 6 (the birthday attack): a hundred clients' questions in flight are one query."""
    node = start_node(upstream={"servers": [upstream.url], "failover_ms": 5_000, "try_timeout_ms": 5_000})
    upstream.behave("birthday.example", slow(0.5))
    with ExitStack() as stack:
        socks = [stack.enter_context(udp_socket(node.server, source=f"127.0.1.{n}")) for n in range(1, 101)]
        for sock in socks:
            sock.send(query("BIRTHday.example").to_wire())
        for sock in socks:
            assert address("birthday.example")(dns.message.from_wire(sock.recv(4096)))
    assert len(upstream.asked("birthday.example")) == 1


# What makes others work.


def referral(query: Query) -> list[Reply]:
    """Send the asker to many other servers, whose addresses it would have to find out."""
    end = query.wire.index(b"\0", 12) + 5
    names = b"".join(
        b"\xc0\x0c" + struct.pack(">HHIH", 2, 1, 60, 8) + bytes([5]) + f"n{n:04d}".encode() + b"\xc0\x0c"
        for n in range(60)
    )
    return [Reply(query.wire[:2] + struct.pack(">5H", 0x8180, 1, 0, 60, 0) + query.wire[12:end] + names)]


@pytest.mark.parametrize(
    "behaviour",
    [
        referral,
        behaviours.cname_chain(*(f"v{n}.example" for n in range(12))),
    ],
    ids=["referral", "a chain"],
)
def test_17_a_question_is_one_query(
    node: Node, upstream: FakeUpstream, behaviour: Behaviour, request: pytest.FixtureRequest
) -> None:
    """Row 17 (NXNSAttack, CAMP): no delegation is followed, nor a chain that is whole; what came is the answer."""
    name = f"{request.node.callspec.id.replace(' ', '-')}.amplified.example"
    upstream.behave(name, behaviour)
    heard = len(upstream.log)
    assert rcode("NOERROR")(udp(node.server, name))
    assert [asked.name.lower() for asked in upstream.log[heard:]] == [name]


def test_17_aliases_that_come_alone_are_followed_so_far(node: Node, upstream: FakeUpstream) -> None:
    """Row 17 (CAMP): each costs a query, as it does elsewhere; of a chain without an end so many, once."""
    for number in range(2 * LONGEST_CHAIN):
        upstream.behave(f"l{number}.amplified.example", answering(f"@ 60 CNAME l{number + 1}.amplified.example."))
    heard = len(upstream.log)
    for _ in range(3):
        assert rcode("SERVFAIL")(udp(node.server, "l0.amplified.example"))
    assert len(upstream.log) - heard == LONGEST_CHAIN + 1


def test_17_what_is_cut_over_tcp_as_well_is_given_up(node: Node, upstream: FakeUpstream) -> None:
    """Row 17: an upstream that never has the whole is not asked for it until somebody's patience ends."""

    def cut(query: Query) -> list[Reply]:
        (reply,) = behaviours.truncated(replace(query, transport="udp"))
        return [reply]

    upstream.behave("cut.amplified.example", cut)
    assert rcode("SERVFAIL")(udp(node.server, "cut.amplified.example"))
    asked = [query.transport for query in upstream.asked("cut.amplified.example")]
    assert (asked.count("udp"), asked.count("tcp")) == (2, 2)


def test_17_a_circle_is_remembered(node: Node, upstream: FakeUpstream) -> None:
    """Row 17 (TsuNAME): who asks again and again for what turns in a circle makes no work."""
    upstream.behave(
        "tsuname.example", answering("@ 60 CNAME b.tsuname.example.", "b.tsuname.example. 60 CNAME tsuname.example.")
    )
    for _ in range(50):
        assert rcode("SERVFAIL")(udp(node.server, "tsuname.example"))
    assert len(upstream.asked("tsuname.example")) <= 2


def test_18_nobody_is_made_to_validate(node: Node, upstream: FakeUpstream) -> None:
    """Row 18 (KeyTrap, CVE-2023-50387; CVE-2023-50868): validation is the upstream's, and its cost with it.

    Signatures by the hundred, of keys that all have one tag: they are passed on, and no key is asked for.
    """
    signatures = [
        f"@ 60 RRSIG A 13 2 60 20300101000000 20200101000000 4242 example. {'A' * 80}{n:04d}" for n in range(300)
    ]
    upstream.behave("keytrap.example", answering("@ 60 A 192.0.2.1", *signatures))
    heard = len(upstream.log)
    reply = udp(node.server, "keytrap.example")
    assert texts(reply) == ["192.0.2.1"]
    assert {asked.rdtype for asked in upstream.log[heard:]} == {"A"}
    assert {asked.name.lower() for asked in upstream.log[heard:]} == {"keytrap.example"}
