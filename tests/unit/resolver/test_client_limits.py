"""What one client may take: who is served at all, how much may be asked, and how much may be under way."""

import dns.message
import dns.rcode
import pytest

from resolver.transports import HTTPS, TCP, TLS, UDP
from tests.unit.policy.build import Listed, block
from tests.unit.resolver.bench import CLIENT, Bench, Clock, Make, turn
from tests.unit.resolver.messages import OPT, ede, octets

BLOCKED = [Listed("ut1-adult", "adult", [block("bad.example")])]
LIMITS = {"queries_per_second": 2, "burst": 3}
QUERY = octets(b"bad", b"example")


@pytest.fixture
def bench(make: Make, clock: Clock) -> Bench:
    return make(lists=BLOCKED, document={"limits": LIMITS})


def answered(bench: Bench, count: int, client: str = CLIENT, transport: str = UDP) -> int:
    """Ask so many times; return how often there was an answer."""
    replies = [bench.ask_octets(QUERY, client, transport) for _ in range(count)]
    return sum(reply is not None and reply[3] & 15 == dns.rcode.NOERROR for reply in replies)


# Who is served.


@pytest.mark.parametrize(("transport", "rcode"), [(UDP, None), (TCP, "REFUSED"), (TLS, "REFUSED"), (HTTPS, "REFUSED")])
def test_strangers_may_be_dropped_over_udp(make: Make, transport: str, rcode: str | None) -> None:
    """Where an answer would go to whoever the address was borrowed from. A stream has shown that it is its own."""
    bench = make(lists=BLOCKED, document={"server": {"unserved": "drop"}})
    for _ in range(2):
        reply = bench.ask_octets(QUERY, "192.0.2.1", transport)
        assert (None if reply is None else dns.rcode.to_text(dns.message.from_wire(reply).rcode())) == rcode
    assert bench.burst(QUERY, QUERY, client="192.0.2.2") == []
    decisions = {(record.decision.verdict, record.decision.rule) for record in bench.records}
    assert decisions == {("refused", "server.allow_from")}
    assert len(bench.records) == 4


@pytest.mark.parametrize("client", ["192.0.2.1", CLIENT])
def test_what_cant_be_read_gets_no_more_than_was_sent_when_it_is_refused(make: Make, client: str) -> None:
    bench = make(document={"limits": {"queries_per_second": 1, "burst": 1}, "server": {"unserved": "refuse"}})
    data = octets(b"a", b"example", counts=(1, 0, 0, 1)) + OPT[:-1] + b"\5"
    bench.ask_octets(data, client, TCP)
    reply = bench.ask_octets(data, client, TCP)
    assert reply is not None
    assert len(reply) <= len(data)
    assert dns.message.from_wire(reply).rcode() == dns.rcode.REFUSED
    assert bench.decision.verdict == "refused"


def test_who_is_served_is_a_setting(make: Make) -> None:
    bench = make(lists=BLOCKED, document={"server": {"allow_from": ["192.0.2.0/24", "2001:db8::/32"]}})
    for client, rcode in [("192.0.2.1", 0), ("2001:db8::1", 0), ("192.0.3.1", 5), (CLIENT, 5), ("127.0.0.1", 5)]:
        assert bench.reply_to("bad.example", client=client).rcode() == rcode


# How much may be asked.


def test_over_udp_what_is_too_much_gets_no_answer_and_a_record(bench: Bench) -> None:
    assert answered(bench, 10) == 3
    assert [sent.records for sent in bench.sent] == [1, 2, 3]
    assert [record.decision.verdict for record in bench.records] == ["blocked"] * 3 + ["refused"] * 7
    refused = bench.decision
    assert (refused.qname, refused.rule, refused.rcode) == ("bad.example", "limits.queries_per_second", "")


def test_silence_is_silence_in_whatever_letters_the_name_is(bench: Bench) -> None:
    answered(bench, 3)
    assert bench.ask_octets(octets(b"BaD", b"example")) is None
    assert bench.decision.verdict == "refused"


def test_datagrams_that_arrive_together_count_as_many(bench: Bench) -> None:
    assert len(bench.burst(*[QUERY] * 10)) == 3
    assert len(bench.burst(*[QUERY] * 10)) == 0
    assert [record.decision.verdict for record in bench.records] == ["blocked"] * 3 + ["refused"] * 17


@pytest.mark.parametrize("transport", [TCP, TLS, HTTPS])
def test_over_a_stream_what_is_too_much_is_refused(bench: Bench, transport: str) -> None:
    assert answered(bench, 3, transport=transport) == 3
    for _ in range(2):
        reply = bench.reply_to("bad.example", use_edns=0, transport=transport)
        assert reply.rcode() == dns.rcode.REFUSED
        assert ede(reply) == (18, "")
        assert not reply.answer
    assert len(bench.records) == 5


async def test_what_is_neither_remembered_nor_sound_counts_as_well(bench: Bench) -> None:
    for data in (octets(b"a", b"example"), QUERY[:-1], octets(b"a", qclass=3)):
        bench.ask_octets(data)
    assert answered(bench, 1) == 0
    assert bench.ask_octets(QUERY[:-1]) is None


def test_it_fills_steadily_and_no_higher_than_it_was(bench: Bench, clock: Clock) -> None:
    assert answered(bench, 4) == 3
    for clock.ahead, expected in [(0.4, 0), (0.55, 1), (0.6, 0), (1.05, 1), (2.05, 2), (1000.0, 3), (1000.4, 0)]:
        assert answered(bench, 5) == expected


def test_a_fraction_is_not_lost_by_asking_too_early(bench: Bench, clock: Clock) -> None:
    """Who asks all the time gets what was promised."""
    answered(bench, 3)
    got = 0
    for step in range(1, 1005):  # a little more than ten seconds: sums of fractions are rounded
        clock.ahead = step / 100
        got += answered(bench, 1)
    assert got == 20


def test_others_have_their_own(bench: Bench) -> None:
    assert answered(bench, 5) == 3
    assert answered(bench, 5, "10.0.0.2") == 3
    assert answered(bench, 5, "fd00::2") == 3


@pytest.mark.parametrize("limits", [{"queries_per_second": 0, "burst": 1}, {"exempt": ["10.0.0.0/24"], "burst": 1}])
def test_there_may_be_no_limit(make: Make, clock: Clock, limits: dict[str, object]) -> None:
    bench = make(lists=BLOCKED, document={"limits": limits})
    assert answered(bench, 50) == 50
    assert len(bench.burst(*[QUERY] * 50)) == 50


def test_the_machine_itself_is_exempt(make: Make, clock: Clock) -> None:
    bench = make(lists=BLOCKED, document={"limits": LIMITS})
    assert answered(bench, 50, "127.0.0.1") == 50
    assert answered(bench, 50, "::1") == 50


# How much may be under way.


async def test_so_many_may_wait_for_upstreams(make: Make) -> None:
    bench = make(lists=BLOCKED, document={"limits": {"in_flight": 2}})
    assert [bench.ask(f"n{number}.example") for number in range(2)] == [None, None]
    for name in ("n2.example", "n0.example"):
        reply = bench.reply_to(name, use_edns=0)
        assert (reply.rcode(), ede(reply)) == (dns.rcode.REFUSED, (18, ""))
        assert (bench.decision.verdict, bench.decision.rule) == ("refused", "limits.in_flight")
    assert bench.reply_to("bad.example").answer  # what costs nobody anything goes on
    assert bench.ask("n3.example", client="10.0.0.2") is None
    assert len(bench.network.tries) == 3
    bench.network.tries[0].answer("n0.example. 60 A 192.0.2.1")
    await turn()
    assert bench.ask("n2.example") is None


@pytest.mark.parametrize("end", ["lose", "late", "stale"])
async def test_however_it_ends_there_is_room_again(make: Make, clock: Clock, end: str) -> None:
    bench = make(document={"limits": {"in_flight": 1}, "cache": {"failure_seconds": 1}})
    if end == "stale":
        await bench.resolved("n.example. 1 A 192.0.2.1", name="n.example")
        clock.ahead += 2
    for _ in range(3):
        clock.ahead += 2
        assert bench.ask("n.example") is None
        if end == "lose":
            for _ in range(2):
                bench.network.last.lose()
        else:
            began = clock.ahead
            for step in range(25):
                await clock.turn_to(began + step * 0.2)
        await turn()
        assert len(bench.sent) == len(bench.records)
        assert bench.engine.forwarder.in_flight == 0


async def test_who_is_exempt_may_have_any_number_under_way(make: Make) -> None:
    bench = make(document={"limits": {"in_flight": 2}})
    assert [bench.ask(f"n{number}.example", client="127.0.0.1") for number in range(20)] == [None] * 20


def test_a_network_of_ipv6_is_one_client(make: Make) -> None:
    """A host chooses among 2^64 addresses (RFC 4291 section 2.5.1): each would be a limit of its own."""
    bench = make(
        lists=BLOCKED, document={"limits": {"queries_per_second": 1, "burst": 5}, "server": {"allow_from": ["::/0"]}}
    )
    replies = [bench.ask("bad.example", client=f"2001:db8:1:2::{number:x}") for number in range(1, 11)]
    assert [reply is not None for reply in replies] == [True] * 5 + [False] * 5
    assert bench.ask("bad.example", client="2001:db8:1:3::1") is not None


def test_transports_share_a_limit(make: Make) -> None:
    bench = make(lists=BLOCKED, document={"limits": {"queries_per_second": 1, "burst": 3}})
    replies = [bench.ask("bad.example", transport=transport) for transport in ("udp", "tcp", "tls", "https")]
    codes = [reply and reply.rcode() for reply in replies]
    assert codes == [dns.rcode.NOERROR] * 3 + [dns.rcode.REFUSED]


def test_strangers_push_no_client_out(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever forges their addresses would give everybody a full bucket, and a new place in the journal."""
    monkeypatch.setattr("resolver.clients.REMEMBERED", 4)
    monkeypatch.setattr("resolver.clients.STRANGERS_REMEMBERED", 4)
    bench = make(lists=BLOCKED, document={"limits": {"queries_per_second": 1, "burst": 2}})
    bench.counts = False
    assert [bench.ask("bad.example") is not None for _ in range(3)] == [True, True, False]
    for number in range(100):
        assert bench.reply_to("bad.example", client=f"198.51.100.{number}").rcode() == dns.rcode.REFUSED
    assert bench.ask("bad.example") is None
    assert bench.engine.turned_away == 102


async def test_no_limit_of_queries_is_none_of_what_waits(make: Make) -> None:
    bench = make(document={"limits": {"queries_per_second": 0, "in_flight": 1}})
    assert bench.ask("n0.example") is None
    assert bench.reply_to("n1.example").rcode() == dns.rcode.REFUSED
