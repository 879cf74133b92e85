"""What is neither refused nor sunk: asked upstream once, kept by its TTLs, handed to everyone who waits.

Upstreams are played at the transports' seam; time is the monotonic clock as the engine reads it.
"""

import struct
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from querylog.records import Client
from resolver.transports import TCP, UDP
from tests.unit.policy.build import Listed, block, exception
from tests.unit.resolver.bench import CLIENT, TWO_UPSTREAMS, Clock, Make, turn
from tests.unit.resolver.messages import ede, octets, rdata

A = "a.example. 300 A 192.0.2.7"
SOA = "example. 300 SOA ns.example. host.example. 1 2 3 4 60"


async def test_an_answer_from_upstream_reaches_the_client_and_the_log(make: Make) -> None:
    bench = make()
    reply = await bench.resolved(A, name="A.Example")
    assert rdata(reply) == ["192.0.2.7"]
    assert reply.answer[0].ttl == 300
    assert reply.question[0].name.to_text() == "A.Example."
    assert dns.flags.to_text(reply.flags) == "QR RD RA"
    (record,) = bench.records
    assert record.client == Client(CLIENT, "students", "udp")
    assert record.decision._asdict() == {
        "qname": "a.example",
        "qtype": "A",
        "verdict": "allowed",
        "category": "",
        "source": "",
        "rule": "",
        "exception_id": 0,
        "policy_version": 1,
        "rcode": "NOERROR",
        "upstream": "udp://192.0.2.53",
        "cached": False,
    }


async def test_the_record_of_an_exception_names_it(make: Make) -> None:
    bench = make(lists=[Listed("one", "adult", [block("a.example")])], exceptions=[exception(5, "a.example")])
    await bench.resolved(A)
    assert (bench.decision.verdict, bench.decision.exception_id) == ("exception", 5)


@pytest.mark.parametrize(
    ("options", "do", "cd"),
    [
        ({"use_edns": False}, False, False),
        ({"use_edns": 0}, False, False),
        ({"use_edns": 0, "want_dnssec": True}, True, False),
        ({"use_edns": False, "flags": dns.flags.RD | dns.flags.CD}, False, True),
        ({"use_edns": 0, "want_dnssec": True, "flags": dns.flags.RD | dns.flags.CD}, True, True),
    ],
)
async def test_an_upstream_is_asked_for_what_the_client_wants_and_told_nothing_of_it(
    make: Make, options: dict[str, Any], do: bool, cd: bool
) -> None:
    bench = make()
    if "use_edns" in options and options["use_edns"] is not False:
        options = options | {"options": [dns.edns.ECSOption("10.0.0.1", 32)]}
    assert bench.ask("A.example", **options) is None
    query = bench.network.last.query
    assert query.question[0].to_text() == "a.example. IN A"
    assert bool(query.ednsflags & dns.flags.DO) == do
    assert bool(query.flags & dns.flags.CD) == cd
    assert query.flags & dns.flags.RD
    assert not query.options


@pytest.mark.parametrize("rdtype", ["TYPE65280", "NULL", "CAA", "DS", "TLSA"])
async def test_any_type_is_carried_unchanged(make: Make, rdtype: str) -> None:
    """RFC 3597 section 3: RDATA of a type that isn't known goes as it is, also when it looks like a pointer."""
    bench = make()
    number = int(dns.rdatatype.from_text(rdtype))
    assert bench.ask("a.example", rdtype) is None
    question = bench.network.last.exchange.question
    data = b"\xc0\x0c\xff\0" * 5
    record = b"\xc0\x0c" + struct.pack(">HHIH", number, 1, 77, len(data)) + data
    bench.network.last.reply(struct.pack(">6H", 0, 0x8180, 1, 1, 0, 0) + question + record)
    await turn()
    assert bench.sent[-1].reply.endswith(record)
    assert bench.decision.qtype == rdtype


# AD and CD.


@pytest.mark.parametrize(
    ("flags", "do", "shown"),
    [(dns.flags.RD, False, False), (dns.flags.RD | dns.flags.AD, False, True), (dns.flags.RD, True, True)],
)
async def test_ad_is_passed_to_who_asks_for_it(make: Make, flags: int, do: bool, shown: bool) -> None:
    """RFC 6840 section 5.7 and 5.8."""
    bench = make()
    assert bench.ask("a.example", flags=flags, use_edns=0, want_dnssec=do) is None
    bench.network.last.answer(A, flags=dns.flags.AD)
    await turn()
    reply = bench.sent[-1].message
    assert bool(reply.flags & dns.flags.AD) == shown


async def test_answers_with_and_without_proofs_are_kept_apart(make: Make) -> None:
    bench = make()
    asked: list[dict[str, Any]] = [
        {"use_edns": 0},
        {"use_edns": 0, "want_dnssec": True},
        {"use_edns": 0, "flags": dns.flags.RD | dns.flags.CD},
        {"use_edns": 0, "want_dnssec": True, "flags": dns.flags.RD | dns.flags.CD},
    ]
    for options in asked:
        await bench.resolved(A, **options)
    for options in asked:
        assert bench.ask(**options) is not None
    assert len(bench.network.tries) == 4


# The cache.


async def test_an_answer_is_kept_and_its_ttl_counts_down(make: Make, clock: Clock) -> None:
    bench = make()
    await bench.resolved(A)
    for clock.ahead, ttl in [(0.5, 300), (1.5, 299), (120.5, 180), (200.5, 100), (269.5, 31)]:
        # Twice: the first is worked out from the cache, the second remembered by its octets.
        data = dns.message.make_query("a.example", "A", id=int(clock.ahead)).to_wire()
        for _ in range(2):
            reply = dns.message.from_wire(bench.ask_octets(data) or b"")
            assert reply.answer[0].ttl == ttl
    assert len(bench.network.tries) == 1
    assert [record.decision.cached for record in bench.records] == [False] + [True] * 10
    assert {record.decision.upstream for record in bench.records} == {"udp://192.0.2.53"}
    clock.ahead = 300.5
    assert bench.ask() is None
    assert len(bench.network.tries) == 2


async def test_a_remembered_reply_ends_when_a_second_has_passed(make: Make, clock: Clock) -> None:
    """The very octets that were answered before get the TTL of now."""
    bench = make()
    await bench.resolved(A)
    data = dns.message.make_query("a.example", "A", id=1).to_wire()
    seen = []
    for clock.ahead in (0.2, 0.4, 1.3, 1.6, 2.4, 299.9):
        seen.append(dns.message.from_wire(bench.ask_octets(data) or b"").answer[0].ttl)
    assert seen == [300, 300, 299, 299, 298, 1]
    clock.ahead = 300.1
    assert bench.ask_octets(data) is None


async def test_the_cache_has_a_longest_ttl(make: Make, clock: Clock) -> None:
    bench = make(document={"cache": {"max_ttl_seconds": 100}})
    assert (await bench.resolved(A)).answer[0].ttl == 100
    clock.ahead = 60.5
    assert bench.reply_to().answer[0].ttl == 40
    clock.ahead = 100.5
    assert bench.ask() is None


async def test_a_ttl_with_the_top_bit_set_is_zero_and_not_kept(make: Make) -> None:
    """RFC 2181 section 8."""
    bench = make()
    assert bench.ask() is None
    question = bench.network.last.exchange.question
    record = b"\xc0\x0c\0\1\0\1\x80\0\0\1\0\4\xc0\0\2\1"
    bench.network.last.reply(struct.pack(">6H", 0, 0x8180, 1, 1, 0, 0) + question + record)
    await turn()
    assert bench.sent[-1].message.answer[0].ttl == 0
    assert bench.ask() is None


@pytest.mark.parametrize("rcode", ["NXDOMAIN", "NOERROR"])
async def test_a_negative_answer_is_kept_by_its_soa(make: Make, clock: Clock, rcode: str) -> None:
    """RFC 2308 section 3 and 5: as long as the SOA's minimum, its TTL counting down with it."""
    bench = make()
    reply = await bench.resolved(authority=[SOA], rcode=rcode)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert reply.authority[0].ttl == 60
    clock.ahead = 20.5
    again = bench.reply_to()
    assert dns.rcode.to_text(again.rcode()) == rcode
    assert again.authority[0].ttl == 40
    assert bench.decision.rcode == rcode
    clock.ahead = 60.5
    assert bench.ask() is None


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"])
async def test_a_failure_is_told_and_no_answer_is_kept(make: Make, rcode: str) -> None:
    """RFC 8914 section 4.23. What refused us must not look as if we had refused the client."""
    bench = make()
    assert bench.ask(use_edns=0) is None
    for _ in range(2):
        bench.network.last.answer(rcode=rcode)
    await turn()
    reply = bench.sent[-1].message
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert ede(reply) == (22, f"the upstream said {rcode}")
    assert (bench.decision.verdict, bench.decision.rcode) == ("failed", "SERVFAIL")
    assert bench.decision.upstream == "udp://192.0.2.53"
    assert bench.engine.cached_answers == 0


async def test_no_cache_at_all_still_answers(make: Make) -> None:
    bench = make(document={"cache": {"entries": 0}})
    for _ in range(2):
        await bench.resolved(A)
    assert bench.engine.cached_answers == 0


async def test_the_cache_is_bounded(make: Make) -> None:
    bench = make(document={"cache": {"entries": 3}})
    for number in range(10):
        await bench.resolved(f"n{number}.example. 300 A 192.0.2.7", name=f"n{number}.example")
        assert 0 < bench.engine.cached_answers <= 3
        assert bench.ask(f"n{number}.example") is not None


async def test_the_cache_knows_no_case_and_the_reply_does(make: Make) -> None:
    bench = make()
    await bench.resolved(A)
    reply = bench.reply_to("A.eXAMPLE")
    assert reply.question[0].name.to_text() == "A.eXAMPLE."
    assert rdata(reply) == ["192.0.2.7"]


async def test_the_cache_opens_nothing_that_is_blocked_for_another_group(make: Make) -> None:
    """DESIGN.md section 3: the policy decides before the cache, which knows no groups."""
    bench = make(lists=[Listed("one", "gambling", [block("a.example")])], networks={"10.1.0.0/16": "staff"})
    await bench.resolved(A, client="10.1.0.1")
    assert rdata(bench.reply_to(client="10.1.0.2")) == ["192.0.2.7"]
    assert rdata(bench.reply_to(client="10.0.0.1")) == ["0.0.0.0"]


# Failures.


async def test_when_no_upstream_answers_the_client_is_told(make: Make, clock: Clock) -> None:
    """RFC 8914 section 4.23: 22, no reachable authority."""
    bench = make()
    assert bench.ask(use_edns=0) is None
    for clock.ahead in (2.0, 6.0):
        bench.engine.forwarder._tick()
    await turn()
    reply = bench.sent[-1].message
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert ede(reply) == (22, "")
    (record,) = bench.records
    assert (record.decision.verdict, record.decision.rcode, record.decision.upstream) == ("failed", "SERVFAIL", "")


async def test_when_the_network_refuses_the_client_is_told(make: Make) -> None:
    """RFC 8914 section 4.24: 23, network error."""
    bench = make()
    bench.network.unreachable.add("192.0.2.53")
    query = dns.message.make_query("a.example", "A", use_edns=0)
    bench.ask_octets(query.to_wire())
    await turn()
    (sent,) = bench.sent
    assert sent.message.rcode() == dns.rcode.SERVFAIL
    assert ede(sent.message) == (23, "")
    assert len(bench.records) == 1


async def test_an_answer_that_cant_be_read_is_a_failure(make: Make) -> None:
    bench = make()
    assert bench.ask(use_edns=0) is None
    question = bench.network.last.exchange.question
    for _ in range(2):
        bench.network.last.reply(struct.pack(">6H", 0, 0x8180, 1, 9, 0, 0) + question + b"\xc0")
    await turn()
    assert len(bench.network.tries) == 2
    assert bench.sent[-1].message.rcode() == dns.rcode.SERVFAIL
    assert (bench.decision.verdict, bench.decision.upstream) == ("failed", "udp://192.0.2.53")
    assert bench.engine.cached_answers == 0


async def test_too_many_questions_in_flight_are_turned_away(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resolver.upstreams.forwarder.MAX_IN_FLIGHT", 2)
    bench = make()
    assert [bench.ask(f"n{number}.example") for number in range(2)] == [None, None]
    assert bench.reply_to("n2.example").rcode() == dns.rcode.SERVFAIL
    assert bench.ask("n1.example") is None  # shares the exchange that is under way
    assert bench.decision.verdict == "failed"


# Identical questions in flight.


async def test_identical_questions_share_one_exchange(make: Make) -> None:
    bench = make(networks={"10.1.0.0/16": "staff"})
    asked = [
        ("10.0.0.1", UDP, "a.example"),
        ("10.1.0.1", UDP, "A.EXAMPLE"),
        ("10.0.0.3", TCP, "a.Example"),
        ("10.0.0.1", UDP, "a.example"),
    ]
    for client, transport, name in asked:
        assert bench.ask(name, client=client, transport=transport) is None
    assert not bench.records
    assert len(bench.network.tries) == 1
    bench.network.last.answer(A)
    await turn()
    assert [sent.message.question[0].name.to_text(omit_final_dot=True) for sent in bench.sent] == [
        name for _, _, name in asked
    ]
    assert [record.client for record in bench.records] == [
        Client("10.0.0.1", "students", "udp"),
        Client("10.1.0.1", "staff", "udp"),
        Client("10.0.0.3", "students", "tcp"),
        Client("10.0.0.1", "students", "udp"),
    ]


async def test_a_shared_answer_is_cut_for_udp_alone(make: Make) -> None:
    bench = make()
    assert bench.ask(rdtype="TXT", transport=UDP) is None
    assert bench.ask(rdtype="TXT", transport=TCP) is None
    bench.network.last.answer(*[f'a.example. 300 TXT "{number:03d}{"x" * 97}"' for number in range(20)])
    await turn()
    assert [bool(sent.message.flags & dns.flags.TC) for sent in bench.sent] == [True, False]


@pytest.mark.parametrize(
    "other", [{"rdtype": "AAAA"}, {"name": "b.example"}, {"use_edns": 0, "want_dnssec": True}, {"flags": 0x0110}]
)
async def test_questions_that_differ_share_nothing(make: Make, other: dict[str, Any]) -> None:
    bench = make()
    bench.ask()
    bench.ask(**other)
    assert len(bench.network.tries) == 2


async def test_a_name_with_a_dot_in_a_label_shares_nothing_with_its_look_alike(make: Make) -> None:
    bench = make()
    bench.ask_octets(octets(b"a", b"example"))
    bench.ask_octets(octets(b"a.example"))
    assert len(bench.network.tries) == 2
    bench.network.tries[0].answer(A)
    await turn()
    assert len(bench.sent) == 1
    assert bench.ask_octets(octets(b"a.example")) is None


async def test_answers_of_one_turn_go_to_the_journal_together(make: Make) -> None:
    bench = make()
    for number in range(5):
        bench.ask(f"n{number}.example")
    for number, attempt in enumerate(list(bench.network.tries)):
        attempt.answer(f"n{number}.example. 60 A 192.0.2.7")
    assert not bench.sent
    await turn()
    assert [sent.records for sent in bench.sent] == [5] * 5


async def test_while_upstreams_are_tried_nobody_gets_two_answers(make: Make) -> None:
    """A late answer of the first upstream comes after the second's: one reply, one record."""
    bench = make(document={"upstream": TWO_UPSTREAMS})
    bench.ask()
    bench.network.last.lose()
    first, second = bench.network.tries
    second.answer(A)
    first.answer("a.example. 300 A 192.0.2.99")
    first.lose()
    await turn()
    assert len(bench.sent) == len(bench.records) == 1
    assert rdata(bench.sent[0].message) == ["192.0.2.7"]
    assert bench.decision.upstream == "udp://192.0.2.54"
    assert bench.engine.forwarder.in_flight == 0
