"""Where an answer leads must be open to the client as well, whoever asked first and whatever is remembered."""

from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from resolver.transports import HTTPS, TCP, TLS, UDP
from tests.unit.policy.build import ALLOW_CATEGORY, Listed, allow, block, exception, group
from tests.unit.resolver.bench import Bench, Clock, Make, turn
from tests.unit.resolver.messages import ede, rdata

STUDENT, STAFF = "10.0.0.1", "10.1.0.1"
BET = [Listed("s", "gambling", [block("bet.example")])]
CLOAKED = (
    "a.example. 100 CNAME x.cdn.example.",
    "x.cdn.example. 100 CNAME www.bet.example.",
    "www.bet.example. 100 A 192.0.2.7",
)


def cloaking(make: Make, **parts: Any) -> Bench:
    """Return an engine under which students, and not staff, are kept from bet.example."""
    groups = [group("students"), group("staff", ["adult"]), group("guests", mode="nxdomain")]
    return make(
        **{"lists": BET, "networks": {"10.1.0.0/16": "staff", "10.2.0.0/16": "guests"}, "groups": groups} | parts
    )


async def resolved(bench: Bench, *records: str, **options: Any) -> dns.message.Message:
    """Have an upstream answer with all that it can vouch for; return the reply."""
    assert bench.ask(**{"use_edns": 0} | options) is None
    bench.network.last.answer(*records, flags=dns.flags.AD)
    await turn()
    return bench.sent[-1].message


@pytest.mark.parametrize(
    ("rdtype", "records"),
    [
        ("A", CLOAKED),
        ("A", tuple(reversed(CLOAKED))),
        ("TXT", ("a.example. 100 CNAME BET.example.", "bet.example. 100 TXT x")),
        ("HTTPS", ("a.example. 100 HTTPS 1 www.bet.example. alpn=h2",)),
        ("HTTPS", ("a.example. 100 HTTPS 0 bet.example.",)),
        ("HTTPS", ("a.example. 100 HTTPS 1 . alpn=h2", "a.example. 100 HTTPS 2 Bet.Example.")),
        ("SVCB", ("a.example. 100 SVCB 1 dns.bet.example. alpn=dot",)),
    ],
)
async def test_an_answer_that_leads_to_a_blocked_name_is_sunk(
    make: Make, rdtype: str, records: tuple[str, ...]
) -> None:
    bench = cloaking(make)
    for asked in range(2):  # from upstream, and from the cache
        if asked:
            reply = bench.reply_to(rdtype=rdtype, use_edns=0, flags=0x0130)
        else:
            reply = await resolved(bench, *records, rdtype=rdtype, flags=0x0130)
        assert rdata(reply) == (["0.0.0.0"] if rdtype == "A" else [])
        assert ede(reply) == (15, "gambling")
        assert not reply.flags & dns.flags.AD  # RFC 4035 section 3.2.3
        decision = bench.decision
        assert (decision.verdict, decision.category, decision.source, decision.cached) == (
            "blocked",
            "gambling",
            "s",
            bool(asked),
        )
        assert decision.rule.startswith("||bet.example^ by way of ")
        assert decision.upstream == "udp://192.0.2.53"


@pytest.mark.parametrize("alias", [(), ("x.a.example. 9 CNAME x.bet.example.",)])
async def test_so_is_one_that_leads_there_by_a_dname(make: Make, alias: tuple[str, ...]) -> None:
    """Whether or not it comes with the alias that it means (RFC 6672 section 3.1)."""
    records = "a.example. 9 DNAME bet.example.", *alias, "x.bet.example. 9 A 192.0.2.7"
    assert rdata(await resolved(cloaking(make), *records, name="x.a.example")) == ["0.0.0.0"]


async def test_the_record_names_the_first_name_that_is_blocked(make: Make) -> None:
    bench = cloaking(make)
    await resolved(bench, *CLOAKED)
    assert bench.decision.rule == "||bet.example^ by way of www.bet.example"
    assert bench.decision.qname == "a.example"


@pytest.mark.parametrize("order", [(STAFF, STUDENT), (STUDENT, STAFF)])
async def test_who_asked_first_opens_and_closes_nothing_for_others(
    make: Make, clock: Clock, order: tuple[str, str]
) -> None:
    """One entry of the cache, and each group its own answer, by whatever way it is found."""
    bench = cloaking(make)
    expected = {STAFF: ["192.0.2.7", "www.bet.example.", "x.cdn.example."], STUDENT: ["0.0.0.0"]}
    assert rdata(await resolved(bench, *CLOAKED, client=order[0])) == expected[order[0]]
    for clock.ahead in (0.0, 0.1, 1.5, 2.9, 50.0):
        for client in (*reversed(order), *order):
            for transport in (UDP, TCP):
                reply = bench.reply_to(client=client, transport=transport, use_edns=0)
                assert rdata(reply) == expected[client]
                again = bench.reply_to("A.Example", client=client, transport=transport)
                # Names that are written by pointing into the question have its letters.
                assert [text.lower() for text in rdata(again)] == expected[client]
    assert bench.reply_to(client="10.2.0.1").rcode() == dns.rcode.NXDOMAIN
    assert len(bench.network.tries) == 1


async def test_those_who_wait_for_the_same_answer_get_each_their_own(make: Make) -> None:
    bench = cloaking(make)
    for client in (STAFF, STUDENT, "10.2.0.1", STAFF):
        assert bench.ask(client=client) is None
    bench.network.last.answer(*CLOAKED)
    await turn()
    assert [len(sent.message.answer) for sent in bench.sent] == [3, 1, 0, 3]
    assert [sent.message.rcode() for sent in bench.sent] == [0, 0, 3, 0]
    assert [record.decision.verdict for record in bench.records] == ["allowed", "blocked", "blocked", "allowed"]


async def test_an_exception_for_the_name_covers_where_it_leads(make: Make) -> None:
    """Who let a name through meant it to work."""
    bench = cloaking(make, exceptions=[exception(5, "a.example")])
    for reply in (await resolved(bench, *CLOAKED), bench.reply_to()):
        assert "192.0.2.7" in rdata(reply)
        assert (bench.decision.verdict, bench.decision.exception_id) == ("exception", 5)


async def test_an_exception_for_the_target_opens_it_too(make: Make) -> None:
    bench = cloaking(make, exceptions=[exception(5, "www.bet.example")])
    assert "192.0.2.7" in rdata(await resolved(bench, *CLOAKED))


async def test_an_exception_that_blocks_a_target_is_named(make: Make) -> None:
    bench = cloaking(make, exceptions=[exception(6, "x.cdn.example", "block", groups=["staff"])])
    reply = await resolved(bench, *CLOAKED, client=STAFF)
    assert (rdata(reply), ede(reply)) == (["0.0.0.0"], (15, "exception"))
    assert (bench.decision.exception_id, bench.decision.rule) == (6, "||x.cdn.example^ by way of x.cdn.example")


@pytest.mark.parametrize(
    ("allowing", "is_open"),
    [
        (Listed("t", ALLOW_CATEGORY, [block("a.example")]), True),
        (Listed("t", ALLOW_CATEGORY, [block("b.example")]), False),
        (Listed("t", ALLOW_CATEGORY, [block("a.example", types=("AAAA",))]), False),
        (Listed("t", "gambling", [allow("a.example")]), True),
        (Listed("t", "adult", [allow("a.example")]), False),  # an allow rule acts within its own category
        (Listed("t", "adult", [block("x.cdn.example")]), False),
    ],
)
async def test_what_lets_the_name_through_covers_where_it_leads(make: Make, allowing: Listed, *, is_open: bool) -> None:
    """Though nothing would have blocked the name itself: who listed it meant it to work."""
    bench = cloaking(make, lists=[*BET, allowing])
    for reply in (await resolved(bench, *CLOAKED), bench.reply_to()):
        assert ("192.0.2.7" in rdata(reply)) == is_open
    decision = bench.decision
    if is_open:
        assert (decision.verdict, decision.source) == ("allowed", "t")
        assert decision.rule.endswith("||a.example^")


async def test_an_important_block_of_a_target_isnt_lifted(make: Make) -> None:
    lists = [
        Listed("s", "gambling", [block("bet.example", important=True)]),
        Listed("t", ALLOW_CATEGORY, [block("a.example")]),
    ]
    assert rdata(await resolved(cloaking(make, lists=lists), *CLOAKED)) == ["0.0.0.0"]


async def test_nor_an_administrators_block_of_a_target(make: Make) -> None:
    lists = [Listed("t", ALLOW_CATEGORY, [block("a.example")])]
    bench = cloaking(make, lists=lists, exceptions=[exception(6, "bet.example", "block")])
    assert rdata(await resolved(bench, *CLOAKED)) == ["0.0.0.0"]


async def test_a_new_policy_holds_for_what_was_kept_under_the_last(make: Make) -> None:
    bench = cloaking(make, lists=[])
    assert "192.0.2.7" in rdata(await resolved(bench, *CLOAKED))
    bench.engine.adopt(cloaking(make, version=2).engine.snapshot)
    assert rdata(bench.reply_to()) == ["0.0.0.0"]
    assert len(bench.network.tries) == 1


# Private addresses.


async def test_an_answer_of_private_addresses_alone_is_empty_and_blocked(make: Make) -> None:
    bench = make()
    for reply in (await resolved(bench, "a.example. 100 A 10.0.0.1"), bench.reply_to(use_edns=0)):
        assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])
        assert ede(reply) == (15, "private address")
        decision = bench.decision
        assert (decision.verdict, decision.rule, decision.upstream) == (
            "blocked",
            "private address",
            "udp://192.0.2.53",
        )
    assert len(bench.network.tries) == 1


async def test_public_addresses_beside_private_ones_are_answered(make: Make) -> None:
    bench = make()
    reply = await resolved(bench, "a.example. 100 A 10.0.0.1", "a.example. 100 A 192.0.2.1", flags=0x0120)
    assert (rdata(reply), ede(reply)) == (["192.0.2.1"], None)
    assert not reply.flags & dns.flags.AD
    assert bench.decision.verdict == "allowed"


async def test_excepted_zones_are_a_setting(make: Make) -> None:
    bench = make(document={"filter": {"private_zones": ["example"]}})
    assert rdata(await resolved(bench, "a.example. 100 A 10.0.0.1")) == ["10.0.0.1"]


# Short answers.


def test_without_rd_nobody_learns_what_others_asked(make: Make) -> None:
    """RFC 8914 section 4.21: 20, not authoritative."""
    bench = make(lists=BET)
    reply = bench.reply_to(flags=0, use_edns=0)
    assert (reply.rcode(), ede(reply)) == (dns.rcode.REFUSED, (20, ""))
    assert bench.decision.verdict == "refused"
    assert not bench.network.tries
    assert rdata(bench.reply_to("bet.example", flags=0)) == ["0.0.0.0"]  # the policy is no secret


async def test_without_rd_what_is_cached_is_refused_as_well(make: Make) -> None:
    bench = make()
    await bench.resolved("a.example. 100 A 192.0.2.7")
    assert bench.reply_to(flags=0).rcode() == dns.rcode.REFUSED
    assert rdata(bench.reply_to()) == ["192.0.2.7"]
    assert bench.reply_to(flags=0).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize("transport", [UDP, TCP])
def test_any_gets_a_short_answer(make: Make, transport: str) -> None:
    """RFC 8482 section 4.2."""
    bench = make()
    for _ in range(2):
        reply = bench.reply_to(rdtype="ANY", transport=transport)
        assert [rrset.to_text() for rrset in reply.answer] == ['a.example. 3600 IN HINFO "RFC8482" ""']
        assert (bench.decision.verdict, bench.decision.qtype) == ("allowed", "ANY")
    assert not bench.network.tries


# Options of the connection.

PADDED = dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(20))
KEPT = dns.edns.GenericOption(dns.edns.OptionType.make(11), b"")


@pytest.mark.parametrize(
    ("transport", "codes"), [(UDP, []), (TCP, [11]), (TLS, [11, 12]), (HTTPS, [12])], ids=["udp", "tcp", "tls", "https"]
)
@pytest.mark.parametrize("name", ["bet.example", "a.example"])
async def test_padding_and_keepalive_go_where_they_may(make: Make, transport: str, codes: list[int], name: str) -> None:
    """RFC 7828 section 3.2.1, RFC 7830 section 4, RFC 8467 section 4.1; also for what is remembered."""
    bench = make(lists=BET)
    await bench.resolved("a.example. 100 A 192.0.2.7", transport=transport, use_edns=0)
    for options in ([PADDED, KEPT], [], [PADDED], [KEPT], [KEPT, PADDED]):
        wanted = {int(option.otype) for option in options}
        reply = bench.reply_to(name, transport=transport, use_edns=0, options=options)
        found = [int(option.otype) for option in reply.options if int(option.otype) != 15]
        assert found == [code for code in codes if code in wanted]
        if 12 in found:
            assert len(bench.sent[-1].reply) % 468 == 0
        assert ede(reply) == ((15, "gambling") if name == "bet.example" else None)
