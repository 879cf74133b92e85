"""A bug costs the lookup that meets it: SERVFAIL, a traceback, one record; wherever on its way it strikes."""

from typing import Any

import dns.edns
import dns.message
import dns.rcode
import pytest

from policy.decide import Verdict, decide
from resolver.transports import UDP
from tests.unit.policy.build import Listed, block
from tests.unit.resolver.bench import NOW, Bench, Clock, Make, turn
from tests.unit.resolver.messages import octets

BLOCKED = [Listed("ut1-adult", "adult", [block("bad.example")])]
FIRST, SECOND, THIRD = "10.0.0.1", "10.0.0.2", "10.0.0.3"
ALIAS = ["a.example. 300 CNAME b.example.", "b.example. 300 A 192.0.2.7"]


def outcomes(bench: Bench) -> dict[str, str]:
    """Return each client's response code, as it was sent."""
    found = {}
    for sent in bench.sent:
        assert isinstance(sent.target, tuple)
        found[sent.target[0]] = dns.rcode.to_text(sent.message.rcode())
    return found


def logged(bench: Bench) -> dict[str, tuple[str, str]]:
    """Return each client's verdict and response code, of which there must be one."""
    records = bench.records
    assert len({record.client.client for record in records}) == len(records)
    return {record.client.client: (record.decision.verdict, record.decision.rcode) for record in records}


@pytest.fixture
def broken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the policy fail where the second client's lookup leads to b.example."""

    def failing(snapshot: Any, scope: Any, name: str, *rest: Any) -> Verdict:
        if name == "b.example" and scope.group.name == "staff":
            raise RuntimeError("a bug of the policy")
        return decide(snapshot, scope, name, *rest)

    monkeypatch.setattr("policy.decide.decide", failing)


async def test_on_the_way_back_from_an_upstream(
    make: Make, broken_for_one: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Three wait for one answer; the second one's lookup fails when the alias in it is judged."""
    bench = make(networks={f"{SECOND}/32": "staff"})
    for client in (FIRST, SECOND, THIRD):
        assert bench.ask(client=client) is None
    bench.network.last.answer(*ALIAS)
    await turn()
    assert outcomes(bench) == {FIRST: "NOERROR", SECOND: "SERVFAIL", THIRD: "NOERROR"}
    assert logged(bench) == {
        FIRST: ("allowed", "NOERROR"),
        SECOND: ("failed", "SERVFAIL"),
        THIRD: ("allowed", "NOERROR"),
    }
    assert caplog.text.count("RuntimeError: a bug of the policy") == 1
    assert bench.engine.forwarder.in_flight == 0
    assert all(client.allowance.in_flight == 0 for client in bench.engine.clients.by_transport[UDP].young.values())


async def test_when_it_takes_long_and_what_is_known_is_given(
    make: Make, clock: Clock, broken_for_one: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The same where an expired answer is given (RFC 8767)."""
    bench = make(networks={f"{SECOND}/32": "staff"})
    await bench.resolved(*ALIAS, client=FIRST)
    await clock.turn_to(400)
    bench.sent.clear()
    for client in (SECOND, THIRD):
        assert bench.ask(client=client) is None
    await clock.turn_to(402)
    assert outcomes(bench) == {SECOND: "SERVFAIL", THIRD: "NOERROR"}
    assert [record.decision.rcode for record in bench.records] == ["NOERROR", "SERVFAIL", "NOERROR"]
    assert caplog.text.count("RuntimeError: a bug of the policy") == 1


async def test_while_an_answer_is_read(
    make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is as if the upstream had sent garbage: the next is asked, and if it is no better the client is told."""

    def failing(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug of the reader")

    bench = make()
    assert bench.ask() is None
    monkeypatch.setattr("resolver.upstreams.forwarder.read_answer", failing)
    for number in (1, 2):
        assert len(bench.network.tries) == number
        bench.network.last.answer(*ALIAS)
        await turn()
    assert outcomes(bench) == {FIRST: "SERVFAIL"}
    assert logged(bench) == {FIRST: ("failed", "SERVFAIL")}
    assert caplog.text.count("RuntimeError: a bug of the reader") == 2
    assert bench.engine.forwarder.in_flight == 0


def test_when_a_client_is_met_for_the_first_time(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing can be told or logged of a client that the policy can't place; the others of its burst go on."""
    bench = make(lists=BLOCKED)
    placed = type(bench.engine.snapshot).scope_key

    def failing(snapshot: Any, address: Any) -> Any:
        if str(address) == SECOND:
            raise RuntimeError("a bug of the networks")
        return placed(snapshot, address)

    monkeypatch.setattr("policy.snapshot.Snapshot.scope_key", failing)
    data = octets(b"bad", b"example")
    burst = [(data, (client, 4242)) for client in (FIRST, SECOND, THIRD)]
    bench.engine.take_burst(burst, bench.send, NOW)
    bench.engine.flush()
    assert outcomes(bench) == {FIRST: "NOERROR", THIRD: "NOERROR"}
    assert logged(bench) == {FIRST: ("blocked", "NOERROR"), THIRD: ("blocked", "NOERROR")}
    assert caplog.text.count("RuntimeError: a bug of the networks") == 1


def test_while_the_batch_is_written(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What wasn't written has not left either; both happen with the next batch, once."""
    bench = make(lists=BLOCKED)
    bench.feed(octets(b"bad", b"example"), client=FIRST)
    with monkeypatch.context() as patch:
        patch.setattr("querylog.journal._write_whole", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            bench.engine.flush()
    assert not bench.sent
    bench.feed(octets(b"bad", b"example"), client=SECOND)
    bench.engine.flush()
    assert outcomes(bench) == {FIRST: "NOERROR", SECOND: "NOERROR"}
    assert logged(bench) == {FIRST: ("blocked", "NOERROR"), SECOND: ("blocked", "NOERROR")}


@pytest.mark.parametrize("answered", [True, False], ids=["after an answer", "after a refusal"])
async def test_a_send_that_fails_keeps_back_no_other_reply_of_an_exchange(make: Make, answered: bool) -> None:
    bench = make()

    def broken(reply: bytes, target: object) -> None:
        raise RuntimeError("a bug of the listener")

    data = dns.message.make_query("a.example", "A").to_wire()
    bench.feed(data, client=FIRST)
    bench.engine.take(data, SECOND, UDP, broken, None, NOW)
    bench.feed(data, client=THIRD)
    if answered:
        bench.network.last.answer("a.example. 300 A 192.0.2.7")
    else:
        bench.network.last.lose()
        bench.network.last.lose()
    await turn()
    assert set(outcomes(bench)) == {FIRST, THIRD}
    assert set(logged(bench)) == {FIRST, SECOND, THIRD}


def test_a_bug_in_dressing_a_reply_leaves_one_record(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record and the reply are there together: a lookup that failed late isn't logged twice."""
    bench = make(document={"local": {"records": ["a.example A 192.0.2.9"]}})
    broken = [True]

    def once(*_: Any) -> bytes:
        if broken.pop():
            broken.append(False)
            raise RuntimeError("a bug of the options")
        return b"\x81\x82" + bytes(8)

    monkeypatch.setattr(bench.engine, "_with_options", once)
    query = dns.message.make_query("a.example", "A", options=[dns.edns.GenericOption(dns.edns.OptionType(11), b"")])
    assert bench.ask_octets(query.to_wire(), transport="tcp") is not None
    assert [(record.decision.verdict, record.decision.rcode) for record in bench.records] == [("failed", "SERVFAIL")]


def test_a_rule_as_long_as_lists_may_have_is_logged_in_part(make: Make) -> None:
    """What a journal has room for: a longer one would cost everybody's lookups of the same burst."""
    spared = tuple(f"{number:04d}.{'x' * 60}.example" for number in range(1000))
    bench = make(lists=[Listed("ut1-adult", "adult", [block("a.example", unless=spared), block("b.example")])])
    for number, name in enumerate(("b.example", "a.example", "x.b.example")):
        bench.feed(dns.message.make_query(name, "A", id=number).to_wire())
    bench.engine.flush()
    assert len(bench.sent) == len(bench.records) == 3
    rule = bench.records[1].decision.rule
    assert (len(rule), rule[:30]) == (250, "||a.example^$denyallow=0000.xx")


async def test_a_bug_in_a_transport_leaves_no_question_behind(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever asks the same later would wait for an exchange that nobody looks after."""
    bench = make(document={"cache": {"failure_seconds": 1}})

    def failing(*_: Any) -> bool:
        raise RuntimeError("a bug of the transport")

    transport = bench.engine.forwarder._default.servers[0].transport
    with monkeypatch.context() as patch:
        patch.setattr(transport, "send", failing)
        assert bench.reply_to().rcode() == dns.rcode.SERVFAIL
    assert bench.engine.forwarder.in_flight == 0
    assert "a bug of the transport" in caplog.text
    assert bench.ask("b.example") is None
    bench.network.last.answer("b.example. 60 A 192.0.2.1")
    await turn()
    assert bench.sent[-1].message.answer
    assert len(bench.records) == 2


async def test_so_many_wait_for_one_answer(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer for everybody is everybody's stop: past a number they are told at once."""
    monkeypatch.setattr("resolver.upstreams.forwarder.MAX_WAITING", 3)
    bench = make()
    replies = [bench.ask(client=f"10.0.0.{number}") for number in range(1, 6)]
    assert [reply is None for reply in replies] == [True, True, True, False, False]
    assert {reply.rcode() for reply in replies if reply} == {dns.rcode.SERVFAIL}
    bench.network.last.answer("a.example. 60 A 192.0.2.1")
    await turn()
    assert len(bench.sent) == len(bench.records) == 5
