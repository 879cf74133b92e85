"""One query's way with nobody asked upstream: refusals, the sinkhole, what is remembered, and the record of each."""

import struct
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest

from policy.rules import Scope
from querylog.records import Client, Decision
from resolver.engine import Engine
from resolver.transports import TCP, UDP
from tests.unit.policy.build import Listed, block, exception, group
from tests.unit.resolver.bench import CLIENT, NOW, Make
from tests.unit.resolver.messages import OPT, ede, octets

BLOCKED = [Listed("ut1-adult", "adult", [block("bad.example")])]


# What is answered without looking at the name.


@pytest.mark.parametrize("data", [b"", b"\x12", b"\x12\x34", octets(b"a")[:11], octets(b"a", flags=0x8180)])
def test_what_is_no_query_gets_no_answer_and_no_record(make: Make, data: bytes) -> None:
    bench = make()
    assert bench.ask_octets(data) is None
    assert not bench.records


@pytest.mark.parametrize("opcode", [1, 2, 3, 4, 5, 6, 15])
def test_another_opcode_is_not_implemented(make: Make, opcode: int) -> None:
    """RFC 1035 section 4.1.1; UPDATE (RFC 2136) and NOTIFY (RFC 1996) among them."""
    bench = make()
    flags = opcode << 11
    record = b"\xc0\x0c\0\6\0\1\0\0\0\0\0\0"
    for data in (
        octets(b"a", qtype=6, flags=flags),
        octets(flags=flags, counts=(0, 0, 0, 0))[:12],
        octets(b"a", qtype=6, flags=flags, counts=(1, 1, 0, 0)) + record,
        octets(b"a", qtype=6, flags=flags, counts=(1, 0, 1, 0)) + record,
    ):
        reply = dns.message.from_wire(bench.ask_octets(data) or b"")
        assert reply.rcode() == dns.rcode.NOTIMP
        assert reply.opcode() == dns.opcode.Opcode(opcode)
        assert reply.id == 0x1234
        assert bench.decision.verdict == "refused"
        assert bench.decision.rcode == "NOTIMP"
    assert len(bench.records) == 4
    assert not bench.network.tries


@pytest.mark.parametrize(
    "data",
    [
        octets(counts=(0, 0, 0, 0))[:12],
        octets(b"a", counts=(2, 0, 0, 0)) + octets(b"b")[12:],
        octets(b"a")[:-1],
        b"\x12\x34\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1",
    ],
    ids=["no question", "two questions", "cut", "a pointer"],
)
def test_what_cant_be_read_is_a_format_error(make: Make, data: bytes) -> None:
    """RFC 9619 section 4 and RFC 1035 section 4.1.4."""
    bench = make()
    reply = dns.message.from_wire(bench.ask_octets(data) or b"")
    assert (reply.id, reply.rcode(), reply.question) == (0x1234, dns.rcode.FORMERR, [])
    assert reply.flags & dns.flags.QR
    (record,) = bench.records
    assert record.client == Client(CLIENT, "students", "udp")
    assert record.decision == Decision("", "", "malformed", "", "", "", 0, 1, "FORMERR", "", False)


BROKEN_OPTIONS = b"\0\x0a\0"
QUESTION_ALONE = octets(b"WwW", b"a", qtype=28)
LYING_OPT = OPT[:-2] + b"\0\3" + BROKEN_OPTIONS
MALFORMED_BEHIND_THE_QUESTION = {
    "two OPT records": ((0, 0, 2), OPT + OPT, True),
    "an OPT record with a name": ((0, 0, 1), b"\1x" + OPT, True),
    "options that can't be read": ((0, 0, 1), LYING_OPT, True),
    "an OPT record cut in its options": ((0, 0, 1), LYING_OPT[:-1], True),
    "an OPT record, and a record that isn't there": ((0, 0, 2), OPT, True),
    "a record that isn't there": ((0, 0, 1), b"", False),
    "a record cut short": ((0, 0, 1), b"\0\0\1\0\1\0\0\0\0\0\4\1\2\3", False),
    "an answer": ((1, 0, 1), b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4" + OPT, True),
    "an authority": ((0, 1, 0), b"\xc0\x0c\0\6\0\1\0\0\0\0\0\0", False),
}


@pytest.mark.parametrize(
    ("counts", "rest", "has_opt"), MALFORMED_BEHIND_THE_QUESTION.values(), ids=MALFORMED_BEHIND_THE_QUESTION
)
@pytest.mark.parametrize("transport", [UDP, TCP])
@pytest.mark.parametrize("opcode", [0, 4, 2])
def test_what_can_be_read_of_it_is_in_the_reply_and_the_record(
    make: Make, counts: tuple[int, int, int], rest: bytes, has_opt: bool, transport: str, opcode: int
) -> None:
    """RFC 6891 sections 6.1.1 and 7: an OPT record for an OPT record, whatever is wrong with it."""
    bench = make()
    data = octets(b"WwW", b"a", qtype=28, flags=0x0110 | opcode << 11, counts=(1, *counts)) + rest
    wire = bench.ask_octets(data, transport=transport) or b""
    reply = dns.message.from_wire(wire)
    name, verdict = ("NOTIMP", "refused") if opcode else ("FORMERR", "malformed")
    assert dns.rcode.to_text(reply.rcode()) == name
    assert wire[12 : len(QUESTION_ALONE)] == QUESTION_ALONE[12:]  # case kept (RFC 4343)
    assert (reply.edns, reply.options) == (0 if has_opt else -1, ())
    assert len(wire) <= len(data)
    assert reply.flags & 0x7FF0 == dns.flags.RD | dns.flags.RA | dns.flags.CD | opcode << 11
    (record,) = bench.records
    assert record.decision == Decision("www.a", "AAAA", verdict, "", "", "", 0, 1, name, "", False)


def test_without_one_question_an_opt_record_is_answered_by_one_all_the_same(make: Make) -> None:
    bench = make()
    for data in (octets(counts=(0, 0, 0, 1))[:12], octets(b"a", counts=(2, 0, 0, 1)) + octets(b"b")[12:]):
        reply = dns.message.from_wire(bench.ask_octets(data + OPT) or b"")
        assert (reply.rcode(), reply.question, reply.edns) == (dns.rcode.FORMERR, [], 0)
        assert (bench.decision.qname, bench.decision.qtype, bench.decision.verdict) == ("", "", "malformed")


@pytest.mark.parametrize("opcode", [1, 2, 4, 6, 15])
def test_another_opcode_with_edns_is_not_implemented_with_edns(make: Make, opcode: int) -> None:
    bench = make()
    data = octets(b"a", qtype=6, flags=0x0100 | opcode << 11, counts=(1, 0, 0, 1)) + OPT
    reply = dns.message.from_wire(bench.ask_octets(data) or b"")
    assert (reply.rcode(), reply.edns) == (dns.rcode.NOTIMP, 0)
    assert [question.name.to_text() for question in reply.question] == ["a."]
    assert (bench.decision.qname, bench.decision.qtype, bench.decision.verdict) == ("a", "SOA", "refused")


@pytest.mark.parametrize("transport", [UDP, TCP])
def test_another_edns_versions_options_are_not_read(make: Make, transport: str) -> None:
    """RFC 6891 section 6.1.3: version 1 may write them in any way."""
    bench = make()
    opt = b"\0" + struct.pack(">HHIH", 41, 1232, 1 << 16, len(BROKEN_OPTIONS)) + BROKEN_OPTIONS
    data = octets(b"a", counts=(1, 0, 0, 1)) + opt
    reply = dns.message.from_wire(bench.ask_octets(data, transport=transport) or b"")
    assert (reply.rcode(), reply.edns) == (dns.rcode.BADVERS, 0)
    assert (bench.decision.verdict, bench.decision.rcode) == ("refused", "BADVERS")


def test_types_that_no_name_has_records_of_are_a_format_error(make: Make) -> None:
    """RFC 6895 section 3.1: 128 to 255 are for questions and messages themselves. RFC 9824 section 3.5: 128."""
    bench = make()
    for qtype in {*range(128, 255)} - {251, 252}:
        data = octets(b"a", b"example", qtype=qtype, counts=(1, 0, 0, 1)) + OPT
        reply = dns.message.from_wire(bench.ask_octets(data) or b"")
        assert reply.rcode() == dns.rcode.FORMERR, qtype
        assert ede(reply) == (30, "")
        assert reply.question[0].rdtype == qtype
        assert (bench.decision.qname, bench.decision.verdict) == ("a.example", "malformed")
    assert len(bench.records) == 125
    assert not bench.network.tries


@pytest.mark.parametrize("qtype", [0, 127, 256, 65535])
async def test_types_beside_those_are_asked_for(make: Make, qtype: int) -> None:
    bench = make()
    assert bench.ask_octets(octets(b"a", b"example", qtype=qtype)) is None
    assert bench.network.last.query.question[0].rdtype == qtype


def test_an_unknown_edns_version_is_told_ours(make: Make) -> None:
    """RFC 6891 section 6.1.3: BADVERS, version 0, and no answer."""
    bench = make(lists=BLOCKED)
    reply = bench.reply_to("bad.example", use_edns=1)
    assert reply.rcode() == dns.rcode.BADVERS
    assert reply.edns == 0
    assert not reply.answer
    assert (bench.decision.verdict, bench.decision.rcode) == ("refused", "BADVERS")


@pytest.mark.parametrize("qclass", [0, 2, 3, 4, 32, 254, 255, 65280])
def test_another_class_is_refused_and_never_forwarded(make: Make, qclass: int) -> None:
    bench = make()
    reply = bench.ask_octets(octets(b"version", b"bind", qtype=16, qclass=qclass)) or b""
    assert dns.message.from_wire(reply).rcode() == dns.rcode.REFUSED
    assert not bench.network.tries
    assert (bench.decision.qname, bench.decision.verdict) == ("version.bind", "refused")


@pytest.mark.parametrize("qtype", [251, 252])
def test_zone_transfers_are_refused(make: Make, qtype: int) -> None:
    bench = make()
    for transport in (UDP, TCP):
        reply = bench.ask_octets(octets(b"a", b"example", qtype=qtype), transport=transport) or b""
        assert dns.message.from_wire(reply).rcode() == dns.rcode.REFUSED
    assert not bench.network.tries


@pytest.mark.parametrize("stranger", ["192.0.2.1", "2001:db8::1", "11.0.0.1"])
def test_a_stranger_is_refused_and_logged(make: Make, stranger: str) -> None:
    bench = make(lists=BLOCKED)
    for name in ("a.example", "bad.example"):
        reply = bench.reply_to(name, client=stranger, use_edns=0)
        assert reply.rcode() == dns.rcode.REFUSED
        assert not reply.answer
        assert ede(reply) == (18, "")
    assert not bench.network.tries
    assert [record.client for record in bench.records] == [Client(stranger, "students", "udp")] * 2
    assert {(r.decision.verdict, r.decision.rcode) for r in bench.records} == {("refused", "REFUSED")}


@pytest.mark.parametrize(
    "client", ["127.0.0.1", "::1", "10.255.0.1", "172.31.0.1", "192.168.1.1", "fd00::1", "fe80::1%eth0"]
)
def test_private_networks_are_served(make: Make, client: str) -> None:
    bench = make(lists=BLOCKED)
    assert bench.reply_to("bad.example", client=client).answer
    assert bench.records[0].client.client == client.partition("%")[0]


def test_strangers_share_no_remembered_reply_with_who_is_served(make: Make) -> None:
    bench = make(lists=BLOCKED)
    for client, rcode in [("192.0.2.1", "REFUSED"), (CLIENT, "NOERROR"), ("192.0.2.1", "REFUSED"), (CLIENT, "NOERROR")]:
        query = dns.message.make_query("bad.example", "A", id=1)
        reply = dns.message.from_wire(bench.ask_octets(query.to_wire(), client=client) or b"")
        assert dns.rcode.to_text(reply.rcode()) == rcode


# The sinkhole.


def test_a_blocked_name_is_sunk_with_the_reason(make: Make) -> None:
    bench = make(lists=BLOCKED)
    reply = bench.reply_to(
        "Www.BAD.example", use_edns=0, want_dnssec=True, flags=dns.flags.RD | dns.flags.AD | dns.flags.CD
    )
    assert [rdata.to_text() for rdata in reply.answer[0]] == ["0.0.0.0"]
    assert reply.answer[0].ttl == 10
    assert reply.question[0].name.to_text() == "Www.BAD.example."
    assert ede(reply) == (15, "adult")
    assert dns.flags.to_text(reply.flags) == "QR RD RA CD"  # RFC 4035 section 3.2.3: never AD
    (record,) = bench.records
    assert record.time == NOW
    assert record.client == Client(CLIENT, "students", "udp")
    assert record.decision == Decision(
        "www.bad.example", "A", "blocked", "adult", "ut1-adult", "||bad.example^", 0, 1, "NOERROR", "", False
    )


def test_no_reason_goes_to_who_speaks_no_edns(make: Make) -> None:
    reply = make(lists=BLOCKED).reply_to("bad.example", use_edns=False)
    assert reply.edns == -1
    assert reply.answer


@pytest.mark.parametrize(
    ("mode", "rcode"), [("null", "NOERROR"), ("nxdomain", "NXDOMAIN"), ("nodata", "NOERROR"), ("refused", "REFUSED")]
)
def test_the_groups_mode_gives_the_code(make: Make, mode: str, rcode: str) -> None:
    """RFC 8914 section 6: the extended error changes no code."""
    bench = make(lists=BLOCKED, groups=[group("students", mode=mode)])
    reply = bench.reply_to("bad.example", "HTTPS", use_edns=0)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert ede(reply) == (15, "adult")
    assert bench.decision.rcode == rcode


def test_the_blocks_ttl_is_a_setting(make: Make) -> None:
    bench = make(lists=BLOCKED, document={"filter": {"block_ttl_seconds": 0}})
    assert bench.reply_to("bad.example").answer[0].ttl == 0


def test_a_block_by_exception_is_logged_with_its_number(make: Make) -> None:
    bench = make(exceptions=[exception(7, "bad.example", "block")])
    assert ede(bench.reply_to("bad.example", use_edns=0)) == (15, "exception")
    assert (bench.decision.verdict, bench.decision.exception_id, bench.decision.rule) == (
        "blocked",
        7,
        "||bad.example^",
    )


@pytest.mark.parametrize("rdtype", ["A", "AAAA", "HTTPS", "ANY", "TXT", "TYPE65280", "NULL", "DS"])
def test_every_type_of_a_blocked_name_is_sunk(make: Make, rdtype: str) -> None:
    bench = make(lists=BLOCKED)
    bench.reply_to("x.bad.example", rdtype)
    assert (bench.decision.verdict, bench.decision.qtype) == ("blocked", rdtype)
    assert not bench.network.tries


@pytest.mark.parametrize(
    "labels",
    [(b"BAD", b"EXAMPLE"), (b"wWw", b"bAd", b"eXaMpLe")],
)
def test_case_hides_nothing(make: Make, labels: tuple[bytes, ...]) -> None:
    bench = make(lists=BLOCKED)
    bench.ask_octets(octets(*labels))
    assert bench.decision.verdict == "blocked"


@pytest.mark.parametrize(
    "labels",
    [
        (b"bad.example",),
        (b"www", b"bad.example"),
        (b"bad", b"example\0"),
        (b"\0bad", b"example"),
        (b"bad\\", b"example"),
        (b"bad", b"example", b"net"),
        (b"bad ", b"example"),
    ],
)
async def test_another_name_is_not_taken_for_a_blocked_one(make: Make, labels: tuple[bytes, ...]) -> None:
    """A dot or a NUL in a label makes another name; it goes upstream as it is."""
    bench = make(
        lists=[Listed("one", "adult", [block("bad.example", Scope.EXACT), block("bad.example", Scope.SUBDOMAINS)])]
    )
    assert bench.ask_octets(octets(*labels)) is None
    assert bench.network.last.exchange.question == octets(*labels)[12:]


async def test_an_allowed_label_with_a_dot_opens_no_blocked_name(make: Make) -> None:
    bench = make(
        lists=[Listed("one", "adult", [block("bad.example")])],
        exceptions=[exception(1, "ok.bad.example"), exception(2, "ok.example")],
    )
    bench.ask_octets(octets(b"ok.bad", b"bad", b"example"))
    assert bench.decision.verdict == "blocked"
    bench.ask_octets(octets(b"ok\0", b"bad", b"example"))
    assert (bench.decision.verdict, bench.decision.qname) == ("blocked", "ok\\000.bad.example")


# Groups.


def test_each_group_gets_its_own_answer_to_the_same_octets(make: Make) -> None:
    bench = make(
        lists=[Listed("s", "gambling", [block("bet.example")])],
        groups=[
            group("students"),
            group("guests", mode="nxdomain"),
            group("staff", mode="address", addresses=["192.0.2.80"]),
        ],
        networks={"10.1.0.0/16": "guests", "10.2.0.0/16": "staff"},
    )
    data = dns.message.make_query("bet.example", "A", id=7).to_wire()
    for _ in range(3):
        replies = [
            dns.message.from_wire(bench.ask_octets(data, client=c) or b"") for c in ("10.0.0.1", "10.1.0.1", "10.2.0.1")
        ]
        assert [dns.rcode.to_text(reply.rcode()) for reply in replies] == ["NOERROR", "NXDOMAIN", "NOERROR"]
        assert [[str(r) for rrset in reply.answer for r in rrset] for reply in replies] == [
            ["0.0.0.0"],
            [],
            ["192.0.2.80"],
        ]
    assert [record.client.group for record in bench.records] == ["students", "guests", "staff"] * 3


def test_a_client_with_an_exception_of_its_own_shares_nothing(make: Make) -> None:
    bench = make(lists=BLOCKED, exceptions=[exception(9, "bad.example", "block", clients=["10.0.0.2/32"])])
    data = dns.message.make_query("bad.example", "A", id=7).to_wire()
    for client in ("10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2"):
        bench.ask_octets(data, client=client)
    assert [record.decision.exception_id for record in bench.records] == [0, 9, 0, 9]


# What is remembered.


def test_a_repeated_question_is_answered_alike_under_each_id(make: Make) -> None:
    bench = make(lists=BLOCKED)
    first = dns.message.make_query("bad.example", "A", id=1).to_wire()
    replies = [bench.ask_octets(struct.pack(">H", ident) + first[2:]) or b"" for ident in (1, 2, 65535)]
    assert [reply[:2] for reply in replies] == [b"\0\1", b"\0\2", b"\xff\xff"]
    assert len({reply[2:] for reply in replies}) == 1
    assert len(bench.records) == 3
    assert len({record.decision for record in bench.records}) == 1


def remembered(engine: Engine) -> int:
    """Return how many replies are remembered."""
    return len(engine._finished)


def test_a_query_is_remembered_without_its_letters_and_options(make: Make) -> None:
    """What makes queries differ and replies not, like a cookie (RFC 7873) or padding, fills no memory."""
    bench = make(lists=BLOCKED)
    asked: list[tuple[str, dict[str, Any]]] = [
        ("bad.example", {"use_edns": 0}),
        ("Bad.EXAMPLE", {"use_edns": 0}),
        ("bad.example", {"options": [dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")]}),
        ("bad.example", {"options": [dns.edns.ECSOption("10.0.0.1")]}),
        ("BAD.example", {"use_edns": 0, "pad": 468}),
    ]
    for name, options in asked:
        reply = bench.reply_to(name, **options)
        assert reply.question[0].name.to_text() == f"{name}."
        assert reply.answer[0].name.to_text() == f"{name}."
        assert [int(option.otype) for option in reply.options] == [15]
    assert remembered(bench.engine) == 1
    assert bench.reply_to("bad.example", use_edns=False).edns == -1
    assert remembered(bench.engine) == 2
    assert len(bench.records) == 6
    assert len({record.decision for record in bench.records}) == 1


def test_octets_behind_the_message_fill_no_memory(make: Make) -> None:
    bench = make(lists=BLOCKED)
    data = octets(b"bad", b"example")
    for number in range(100):
        assert bench.ask_octets(data + number.to_bytes(2, "big")) is not None
    assert remembered(bench.engine) == 1
    assert len(bench.records) == 100


def test_what_is_remembered_is_bounded(make: Make) -> None:
    bench = make(lists=BLOCKED, document={"cache": {"entries": 20}})
    for number in range(100):
        bench.reply_to(f"n{number}.bad.example")
        assert 0 < remembered(bench.engine) <= 20
    assert len(bench.records) == 100


def test_transports_share_no_reply_and_are_logged_apart(make: Make) -> None:
    bench = make(lists=BLOCKED)
    for transport in (UDP, TCP, UDP, TCP):
        bench.reply_to("bad.example", transport=transport)
    assert [record.client.transport for record in bench.records] == ["udp", "tcp", "udp", "tcp"]


def test_a_new_policy_voids_what_was_remembered(make: Make) -> None:
    bench = make(lists=BLOCKED)
    other = make(
        lists=[Listed("other", "gambling", [block("example")])], groups=[group("students", mode="nxdomain")], version=2
    )
    data = dns.message.make_query("bad.example", "A", id=7).to_wire()
    replies = [bench.ask_octets(data), bench.ask_octets(data)]
    bench.engine.adopt(other.engine.snapshot)
    replies += [bench.ask_octets(data), bench.ask_octets(data)]
    assert [dns.rcode.to_text(dns.message.from_wire(r or b"").rcode()) for r in replies] == ["NOERROR"] * 2 + [
        "NXDOMAIN"
    ] * 2
    decided = [(record.decision.category, record.decision.policy_version) for record in bench.records]
    assert decided == [("adult", 1)] * 2 + [("gambling", 2)] * 2


def test_an_exception_that_ends_voids_what_was_remembered(make: Make) -> None:
    """The worker's clock says when; the engine forgets and decides anew."""
    bench = make(lists=BLOCKED, exceptions=[exception(7, "bad.example", "block", expires_at=NOW + 1000)])
    data = dns.message.make_query("bad.example", "A", id=7).to_wire()
    bench.ask_octets(data, received=NOW)
    bench.engine.forget_numbers()
    bench.ask_octets(data, received=NOW + 999)
    bench.engine.forget_numbers()
    bench.ask_octets(data, received=NOW + 1000)
    assert [record.decision.exception_id for record in bench.records] == [7, 7, 0]


# Bugs and broken paths.


def test_a_bug_in_one_lookup_costs_that_lookup(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A snapshot with a source of no category stands for any bug."""
    bench = make(lists=[*BLOCKED, Listed("lost", "no such category", [block("broken.example")])])
    broken, sound = bench.reply_to("broken.example"), bench.reply_to("bad.example")
    assert broken.rcode() == dns.rcode.SERVFAIL
    assert sound.rcode() == dns.rcode.NOERROR
    assert [record.decision.verdict for record in bench.records] == ["failed", "blocked"]
    assert "KeyError: 'no such category'" in caplog.text


@pytest.mark.parametrize("failure", [BlockingIOError(), ConnectionRefusedError(), RuntimeError("a bug")])
def test_a_reply_that_cant_be_sent_keeps_none_of_the_others(make: Make, failure: Exception) -> None:
    bench = make(lists=BLOCKED)
    data = dns.message.make_query("bad.example", "A").to_wire()

    def broken(reply: bytes, target: object) -> None:
        raise failure

    bench.feed(data)
    bench.engine.take(data, CLIENT, UDP, broken, None, NOW)
    bench.feed(data)
    bench.engine.flush()
    assert len(bench.sent) == 2
    bench.engine.flush()
    assert len(bench.sent) == 2
    assert len(bench.records) == 3
