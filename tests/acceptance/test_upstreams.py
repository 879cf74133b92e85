"""What clients get when upstreams misbehave: silent, slow, sending garbage, forging, dead."""

from collections.abc import Iterator

import pytest

from tests.support.behaviours import (
    Behaviour,
    answering,
    computed_rdata,
    each,
    garbage,
    refused,
    servfail,
    silent,
    slow,
    wrong_id,
    wrong_question,
    wrong_source,
)
from tests.support.dns_client import Dig, dig
from tests.support.fake_upstream import FakeUpstream
from tests.support.server import HallMonitor

PATIENCE = 10
"""Seconds: more than the deadline of a lookup, on a machine that is slow."""


@pytest.fixture(scope="module")
def other() -> Iterator[FakeUpstream]:
    """Give a second upstream, which answers something that tells it from the first."""
    with FakeUpstream() as server:
        server.default = answering("@ 300 A 198.51.100.2")
        yield server


@pytest.fixture(scope="module")
def server(
    upstream: FakeUpstream, other: FakeUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HallMonitor]:
    """Give a server with two upstreams."""
    directory = tmp_path_factory.mktemp("server")
    with HallMonitor(directory, upstreams=[upstream.url, other.url]) as running:
        yield running


def ask(server: HallMonitor, name: str) -> Dig:
    return dig(server.dns, name, seconds=PATIENCE)


def both(upstream: FakeUpstream, other: FakeUpstream, name: str, behaviour: Behaviour) -> None:
    for each_one in (upstream, other):
        each_one.behave(name, behaviour)


@pytest.mark.parametrize("behaviour", [silent, garbage, servfail, refused, wrong_id, wrong_question, wrong_source])
def test_where_one_fails_the_other_answers(
    server: HallMonitor, upstream: FakeUpstream, other: FakeUpstream, behaviour: Behaviour
) -> None:
    name = f"{behaviour.__name__.replace('_', '-')}.example"
    upstream.behave(name, behaviour)
    assert ask(server, name).rdata == ["198.51.100.2"]
    # Forged or sound, nobody but an upstream that was asked has been believed.
    (record,) = server.api("GET", f"/lookups?name={name}").json()["items"]
    assert str(other.port) in record["upstream"]
    assert (record["verdict"], record["rcode"], record["cached"]) == ("allowed", "NOERROR", False)


@pytest.mark.parametrize("forgery", [garbage, wrong_id, wrong_question, wrong_source])
def test_a_forgery_before_the_answer_is_ignored(
    server: HallMonitor, upstream: FakeUpstream, other: FakeUpstream, forgery: Behaviour
) -> None:
    name = f"{forgery.__name__.replace('_', '-')}.forged.example"
    both(upstream, other, name, each(forgery, slow(0.05, answering("@ 300 A 192.0.2.99"))))
    assert ask(server, name).rdata == ["192.0.2.99"]


def test_a_slow_one_is_waited_for(server: HallMonitor, upstream: FakeUpstream, other: FakeUpstream) -> None:
    both(upstream, other, "slow.example", slow(0.6, answering("@ 300 A 192.0.2.98")))
    assert ask(server, "slow.example").rdata == ["192.0.2.98"]


def asked_and_failed(
    server: HallMonitor, upstream: FakeUpstream, other: FakeUpstream, behaviour: Behaviour
) -> tuple[Dig, str]:
    """Ask for a name for which both upstreams fail in that way; return the answer and what the log has as rcode."""
    name = f"{behaviour.__name__}.all.example"
    both(upstream, other, name, behaviour)
    answer = ask(server, name)
    assert upstream.asked(name)
    assert other.asked(name)
    (record,) = server.api("GET", f"/lookups?name={name}").json()["items"]
    assert record["verdict"] == "failed"
    return answer, record["rcode"]


@pytest.mark.parametrize("behaviour", [silent, garbage])
def test_where_none_answers_the_client_is_told_within_its_patience(
    server: HallMonitor, upstream: FakeUpstream, other: FakeUpstream, behaviour: Behaviour
) -> None:
    answer, logged = asked_and_failed(server, upstream, other, behaviour)
    assert (answer.status, logged) == ("SERVFAIL", "SERVFAIL")
    assert answer.ede is not None
    assert answer.ede[0] in {22, 23}


def test_without_edns_there_is_no_extended_error(
    server: HallMonitor, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    both(upstream, other, "plain.all.example", silent)
    answer = dig(server.dns, "plain.all.example", "A", "+noedns", seconds=PATIENCE)
    assert (answer.status, answer.ede) == ("SERVFAIL", None)
    assert "OPT PSEUDOSECTION" not in answer.text


@pytest.mark.parametrize(("behaviour", "said"), [(servfail, "SERVFAIL"), (refused, "REFUSED")])
def test_where_all_say_that_they_cannot_the_client_hears_what_they_said(
    server: HallMonitor, upstream: FakeUpstream, other: FakeUpstream, behaviour: Behaviour, said: str
) -> None:
    answer, logged = asked_and_failed(server, upstream, other, behaviour)
    assert (answer.status, logged) == ("SERVFAIL", "SERVFAIL")
    assert answer.answer == []
    assert answer.ede is not None
    assert answer.ede[0] == 22
    assert said in answer.text


def test_all_dead_and_back_again(server: HallMonitor, upstream: FakeUpstream, other: FakeUpstream) -> None:
    both(upstream, other, "cached.example", answering("@ 300 A 192.0.2.97"))
    assert ask(server, "cached.example").rdata == ["192.0.2.97"]
    upstream.stop()
    other.stop()
    try:
        answer = ask(server, "dead.example")
        assert answer.status == "SERVFAIL", answer.text
        assert answer.ede is not None
        assert answer.ede[0] in {22, 23}
        assert ask(server, "cached.example").rdata == ["192.0.2.97"], "the cache needs nobody"
        assert ask(server, "pokerstars.com").rdata == ["0.0.0.0"], "nor does a block"
    finally:
        upstream.start()
        other.start()
    assert ask(server, "back.example").rdata in ([computed_rdata("back.example", "A")], ["198.51.100.2"])
