"""Ways round a block (rows 7, 8 and 10 to 14 of the attacks): caches, aliases, spelling, types, options."""

from collections.abc import Callable, Iterator
from zlib import crc32

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.integration.node import Node
from tests.scenarios.conftest import StartNode, serving
from tests.support import behaviours
from tests.support.behaviours import Behaviour, answering
from tests.support.dns_client import query, tcp, udp, udp_socket
from tests.support.fake_upstream import FakeUpstream
from tests.support.scenarios import address, asked_over, data, ede, octets, octets_of, rcode, texts
from tests.unit.policy.build import Listed, block

STAFF, STUDENT = "127.0.0.9", "127.0.0.10"
POLICY = {
    "lists": [
        Listed("ut1-adult", "adult", [block("bad.example")]),
        Listed("ut1-gambling", "gambling", [block("casino.example")]),
    ],
    "networks": {f"{STAFF}/32": "staff"},
}
"""Staff may gamble; nobody may have ``bad.example``."""
SUNK = data("0.0.0.0")
Asks = Callable[..., dns.message.Message]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[Node]:
    """Give a worker with two groups."""
    settings = {"servers": [upstream.url], "failover_ms": 5_000, "try_timeout_ms": 5_000}
    with serving(Node(tmp_path_factory.mktemp("groups"), upstream, upstream=settings), POLICY) as made:
        yield made


# Row 7: what one group may know is another's as well only if its policy says so.


@pytest.mark.parametrize("order", [(STAFF, STUDENT), (STUDENT, STAFF)], ids=["staff first", "students first"])
@pytest.mark.parametrize("ask", [udp, tcp])
def test_7_a_cached_answer_is_judged_for_each_group(
    node: Node, upstream: FakeUpstream, order: tuple[str, str], ask: Asks
) -> None:
    """Row 7: a name that is blocked itself, and one whose alias is."""
    name = f"{'tcp' if ask is tcp else 'udp'}-{order[0].rpartition('.')[2]}.leak.example"
    upstream.behave(name, behaviours.cname_chain("www.casino.example"))
    for _ in range(3):
        for source in order:
            reply, direct = (ask(node.server, asked, source=source) for asked in (name, f"{name[:5]}.casino.example"))
            if source == STAFF:
                assert address("www.casino.example")(dns_tail(reply))
                assert address(f"{name[:5]}.casino.example")(direct)
            else:
                assert SUNK(reply)
                assert SUNK(direct)
    assert len(upstream.asked(name)) == 1


def dns_tail(reply: dns.message.Message) -> dns.message.Message:
    """Return a reply without its alias."""
    assert reply.answer[0].rdtype == 5
    reply.answer = reply.answer[1:]
    return reply


def test_7_a_shared_exchange_ends_differently_for_each_group(node: Node, upstream: FakeUpstream) -> None:
    """Row 7: both wait for one query to the upstream."""
    upstream.behave("shared.example", behaviours.slow(0.3, behaviours.cname_chain("www.casino.example")))
    with udp_socket(node.server, source=STUDENT) as student, udp_socket(node.server, source=STAFF) as staff:
        for sock in (student, staff):
            sock.send(query("shared.example").to_wire())
        assert SUNK(dns.message.from_wire(student.recv(4096)))
        assert address("www.casino.example")(dns_tail(dns.message.from_wire(staff.recv(4096))))
    assert len(upstream.asked("shared.example")) == 1


def test_7_a_new_policy_ends_remembered_answers(start_node: StartNode, upstream: FakeUpstream) -> None:
    """Row 7: what was answered under the last policy is not handed out under this one."""
    node = start_node()
    upstream.behave("later.example", behaviours.cname_chain("late.example"))
    for _ in range(2):
        assert rcode("NOERROR")(udp(node.server, "later.example"))
    lists = [Listed("ut1-adult", "adult", [block("late.example")])]
    assert node.workers[0].adopt(node.publish(version=2, lists=lists)) == 2
    assert SUNK(udp(node.server, "later.example"))
    assert SUNK(udp(node.server, "late.example"))
    assert len(upstream.asked("later.example")) == 1


# Row 8: what a name leads to.

CLOAKS: dict[str, tuple[str, Behaviour]] = {
    "an alias": ("A", behaviours.cname_chain("bad.example")),
    "an alias below": ("A", behaviours.cname_chain("x.y.bad.example")),
    "in capitals": ("A", behaviours.cname_chain("X.BAD.eXample")),
    "in the middle": ("A", behaviours.cname_chain("one.example", "bad.example", "cdn.example")),
    "at the end of many": ("A", behaviours.cname_chain(*(f"n{n}.example" for n in range(10)), "bad.example")),
    "for IPv6": ("AAAA", answering("@ 60 CNAME bad.example.", "bad.example. 60 AAAA 2001:db8::1")),
    "without an end": ("A", answering("@ 60 CNAME bad.example.")),
    "that is not there": ("A", answering("@ 60 CNAME bad.example.", rcode="NXDOMAIN")),
    "a text": ("TXT", answering("@ 60 CNAME bad.example.", 'bad.example. 60 TXT "x"')),
    "a DNAME": (
        "A",
        answering(
            "cloak.example. 60 DNAME bad.example.",
            "a-DNAME.cloak.example. 60 CNAME a-DNAME.bad.example.",
            "a-DNAME.bad.example. 60 A 192.0.2.1",
        ),
    ),
    "a DNAME alone": (
        "A",
        answering("cloak.example. 60 DNAME bad.example.", "a-DNAME-alone.bad.example. 60 A 192.0.2.1"),
    ),
    "a service": ("HTTPS", answering("@ 60 HTTPS 1 bad.example. alpn=h2")),
    "a service's alias": ("HTTPS", answering("@ 60 HTTPS 0 www.bad.example.")),
    "one of two services": ("HTTPS", answering("@ 60 HTTPS 1 . alpn=h2", "@ 60 HTTPS 2 bad.example. alpn=h2")),
    "a service at an alias": ("HTTPS", answering("@ 60 CNAME c.example.", "c.example. 60 HTTPS 1 bad.example.")),
    "records in disorder": ("A", answering("bad.example. 60 A 192.0.2.1", "@ 60 CNAME bad.example.")),
}


@pytest.mark.parametrize(("rdtype", "behaviour"), CLOAKS.values(), ids=CLOAKS)
def test_8_a_cloak_is_seen_through(
    node: Node, upstream: FakeUpstream, rdtype: str, behaviour: Behaviour, request: pytest.FixtureRequest
) -> None:
    """Row 8: the answer, what is cached, and the log all say that it is blocked."""
    name = f"{request.node.callspec.id.replace(' ', '-').replace(chr(39), '')}.cloak.example"
    upstream.behave(name, behaviour)
    for _ in range(2):
        reply = udp(node.server, name, rdtype, use_edns=0)
        assert ede(15, "adult")(reply)
        assert data(*{"A": ["0.0.0.0"], "AAAA": ["::"]}.get(rdtype, []))(reply)
        decision = node.records[-1].decision
        assert (decision.verdict, decision.category) == ("blocked", "adult")
        assert "by way of" in decision.rule


def test_8_our_own_alias_leads_nobody_round_the_filter(start_node: StartNode) -> None:
    """Row 8: an alias of the district's own to a name that the group may not have."""
    node = start_node(POLICY, local={"records": ["portal.district.example CNAME www.casino.example"]})
    assert SUNK(udp(node.server, "portal.district.example", source=STUDENT))
    reply = udp(node.server, "portal.district.example", source=STAFF)
    assert address("www.casino.example")(dns_tail(reply))


# Row 11: spelling. Labels are octets (RFC 1035 section 3.1), and names are compared as labels, not as text.

BELOW = {
    "capitals": [b"WwW", b"BaD", b"eXaMpLe"],
    "a NUL before": [b"\0", b"bad", b"example"],
    "a NUL before capitals": [b"\0", b"BAD", b"eXample"],
    "a long label and capitals": [b"WxYz" * 12 + b"Ab", b"bAd", b"EXAMPLE"],
    "a dot in a label": [b"a.b", b"bad", b"example"],
    "a backslash": [b"\\", b"bad", b"example"],
    "a star": [b"*", b"bad", b"example"],
    "UTF-8": ["bäd".encode(), b"bad", b"example"],
    "octets": [bytes(range(0x80, 0xBF)), b"bad", b"example"],
    "spaces": [b" ", b"bad", b"example"],
    "a label of 63": [b"x" * 63, b"bad", b"example"],
    "as long as can be": [b"a"] * 121 + [b"bad", b"example"],
    "a slash": [b"a/b", b"bad", b"example"],
    "lengths like letters": [b"-" * 45, b"_" * 48, b"a" * 57, b"bad", b"example"],
}
OTHERS = {
    "a NUL within": [b"bad\0", b"example"],
    "a NUL behind": [b"bad", b"example\0"],
    "a NUL and more": [b"bad", b"example\0", b"com"],
    "an escaped dot": [b"bad.example"],
    "an escaped dot below": [b"www.bad", b"example"],
    "text of an escape": [b"bad\\046example"],
    "a full stop that is none": ["bad。example".encode()],
    "a look-alike": ["bаd".encode(), b"example"],  # noqa: RUF001 - a Cyrillic letter is what it is about
    "a hyphen": [b"-bad", b"example"],
    "a space": [b"bad ", b"example"],
}


@pytest.mark.parametrize("labels", BELOW.values(), ids=BELOW)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_11_whatever_is_below_a_blocked_name_is_blocked(
    node: Node, upstream: FakeUpstream, labels: list[bytes], transport: str
) -> None:
    """Row 11."""
    heard = len(upstream.log) + upstream.unreadable
    wire = octets_of(labels)
    for _ in range(2):
        reply = asked_over(node.server, transport, wire)
        assert SUNK(dns.message.from_wire(reply))
        assert reply[12 : len(wire)] == wire[12:]
    assert len(upstream.log) + upstream.unreadable == heard


@pytest.mark.parametrize("labels", OTHERS.values(), ids=OTHERS)
def test_11_what_only_looks_blocked_is_a_name_of_its_own(
    node: Node, upstream: FakeUpstream, labels: list[bytes]
) -> None:
    """Row 11: asked for with its very octets, logged without ambiguity, and sharing nothing with the blocked name."""
    wire = octets_of(labels)
    heard = len(upstream.log)
    reply = asked_over(node.server, "udp", wire)
    assert reply[12 : len(wire)] == wire[12:]
    assert not SUNK(dns.message.from_wire(reply))
    (asked,) = upstream.log[heard:]
    assert asked.wire[12 : len(wire)].lower() == wire[12:].lower()
    assert node.records[-1].decision.qname not in {"bad.example", "www.bad.example", "bad.example.com"}
    assert node.records[-1].decision.qname.isascii()
    assert SUNK(udp(node.server, "bad.example"))


# Rows 10 and 12: rare types and classes, and what leads to other resolvers.


@pytest.mark.parametrize(
    "rdtype",
    [
        *(1, 2, 5, 6, 10, 11, 12, 13, 15, 16, 28, 29, 33, 35, 39, 42, 43, 46, 48, 52, 61, 64, 65, 99),
        *(108, 127, 255, 256, 257, 32768, 65280, 65535),
    ],
)
def test_12_every_type_of_a_blocked_name_is_blocked(node: Node, upstream: FakeUpstream, rdtype: int) -> None:
    """Rows 10 and 12: HTTPS with its ECH among them."""
    heard = len(upstream.log)
    reply = dns.message.from_wire(asked_over(node.server, "udp", octets("www.bad.example", rdtype)))
    assert rcode("NOERROR")(reply)
    assert data(*{1: ["0.0.0.0"], 28: ["::"]}.get(rdtype, []))(reply)
    assert node.records[-1].decision.verdict == "blocked"
    assert len(upstream.log) == heard


@pytest.mark.parametrize("rdtype", [128, 249, 250, 253, 254])
def test_12_types_that_are_none_of_a_name_lead_nowhere(node: Node, upstream: FakeUpstream, rdtype: int) -> None:
    """Row 12: whatever the name, nobody is asked (RFC 6895 section 3.1)."""
    heard = len(upstream.log)
    for name in ("www.bad.example", "peer.example"):
        reply = dns.message.from_wire(asked_over(node.server, "udp", octets(name, rdtype)))
        assert rcode("FORMERR")(reply)
        assert data()(reply)
        assert (node.records[-1].decision.qname, node.records[-1].decision.verdict) == (name, "malformed")
    assert len(upstream.log) == heard


@pytest.mark.parametrize("rdclass", [0, 2, 3, 4, 254, 255, 32, 65535])
@pytest.mark.parametrize("name", ["bad.example", "version.bind", "peer.example"])
def test_12_other_classes_are_refused(node: Node, upstream: FakeUpstream, rdclass: int, name: str) -> None:
    """Row 12: nothing is forwarded in another class, nor are blocked names answered in one."""
    heard = len(upstream.log)
    reply = dns.message.from_wire(asked_over(node.server, "udp", octets(name, 16, rdclass)))
    assert rcode("REFUSED")(reply)
    assert data()(reply)
    assert len(upstream.log) == heard


@pytest.mark.parametrize("rdtype", [251, 252])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_12_zones_are_not_handed_out(node: Node, upstream: FakeUpstream, rdtype: int, transport: str) -> None:
    """Row 12."""
    heard = len(upstream.log)
    assert rcode("REFUSED")(dns.message.from_wire(asked_over(node.server, transport, octets("a.example", rdtype))))
    assert len(upstream.log) == heard


def test_12_an_aliass_own_type_opens_nothing(node: Node, upstream: FakeUpstream) -> None:
    """Row 12: who asks for the CNAME itself learns a name, which is blocked when it is asked for."""
    upstream.behave("veil.example", behaviours.cname_chain("bad.example"))
    udp(node.server, "veil.example", "CNAME")
    assert SUNK(udp(node.server, "veil.example"))
    assert SUNK(udp(node.server, "bad.example"))


def test_10_designated_resolvers_of_others_are_filtered_as_any_name(start_node: StartNode) -> None:
    """Row 10 (RFC 9462): ``_dns.`` of a blocked resolver is below it."""
    node = start_node({"lists": [Listed("doh", "adult", [block("dns.rogue.example")])]})
    for name in ("dns.rogue.example", "_dns.dns.rogue.example"):
        assert ede(15, "adult")(udp(node.server, name, "SVCB", use_edns=0))


def test_10_what_hides_an_allowed_name_is_passed_on(node: Node, upstream: FakeUpstream) -> None:
    """Row 10: the key for ECH of a name that a client may have stays as it was, from the cache too.

    Why: docs/decisions/0017-what-is-answered-from-here.md.
    """
    service = '1 . alpn="h2" ech="AAj+DQAEQUJDRA=="'
    for name in ("hidden.example", "ech.casino.example"):
        upstream.behave(name, answering(f"@ 60 HTTPS {service}"))
    for _ in range(2):
        assert texts(udp(node.server, "hidden.example", "HTTPS", source=STUDENT)) == [service]
        assert texts(udp(node.server, "ech.casino.example", "HTTPS", source=STUDENT)) == []
    assert texts(udp(node.server, "ech.casino.example", "HTTPS", source=STAFF)) == [service]


# Rows 13 and 14: who is asking.

IDENTITIES = {
    "a subnet": dns.edns.ECSOption(STAFF, 32),
    "a subnet, hidden": dns.edns.ECSOption("0.0.0.0", 0),
    "a MAC address": dns.edns.GenericOption(65001, bytes.fromhex("020000000001")),  # type: ignore[arg-type] # no known
    "a MAC address as text": dns.edns.GenericOption(65073, b"AgAAAAAB"),  # type: ignore[arg-type]
    "a device": dns.edns.GenericOption(20292, b"abcd"),  # type: ignore[arg-type]
    "a name server's": dns.edns.GenericOption(3, b""),  # type: ignore[arg-type]
    "all there are": dns.edns.GenericOption(65074, b"staff"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("option", IDENTITIES.values(), ids=IDENTITIES)
@pytest.mark.parametrize("ask", [udp, tcp])
def test_13_nobody_is_who_an_option_says(
    node: Node, upstream: FakeUpstream, option: dns.edns.Option, ask: Asks
) -> None:
    """Row 13: policy and log go by the socket's peer, and no upstream is told anything."""
    assert SUNK(ask(node.server, "casino.example", source=STUDENT, use_edns=0, options=[option]))
    record = node.records[-1]
    assert (record.client.client, record.client.group) == (STUDENT, "students")
    name = f"{'tcp' if ask is tcp else 'udp'}-{crc32(repr(option).encode())}.id.example"
    reply = ask(node.server, name, source=STUDENT, use_edns=0, options=[option])
    assert reply.options == ()
    (asked,) = upstream.asked(name)
    assert asked.message.options == ()
    assert node.records[-1].client.client == STUDENT


def test_14_the_log_says_how_a_lookup_came(node: Node) -> None:
    """Row 14: a datagram's address may be another's, a connection's is its own (docs/decisions/0014-no-cookies.md)."""
    for ask in (udp, tcp):
        ask(node.server, "bad.example", source=STUDENT)
    records = [record for record in node.records if record.client.client == STUDENT][-2:]
    assert [record.client.transport for record in records] == ["udp", "tcp"]
