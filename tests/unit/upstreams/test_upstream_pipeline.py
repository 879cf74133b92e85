"""Queries and replies on one stream to an upstream, as octets."""

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.upstreams import stream
from resolver.upstreams.conversation import Tried, Try
from resolver.upstreams.stream import Frames, Pipeline
from tests.support.transport_recorder import Asked


def a_try(name: str = "a.test", at: float = 0.0) -> Try:
    return Try(Asked(name), object(), at)  # type: ignore[arg-type] # what a conversation knows of either


def sent(pipeline: Pipeline) -> list[dns.message.Message]:
    return [dns.message.from_wire(message) for message in Frames().receive(pipeline.outgoing())]


def reply(query: dns.message.Message) -> bytes:
    wire = dns.message.make_response(query).to_wire()
    return len(wire).to_bytes(2, "big") + wire


def test_replies_in_any_order_find_their_tries() -> None:
    pipeline = Pipeline()
    tries = [a_try(f"n{number}.test") for number in range(5)]
    assert all(pipeline.ask(one) for one in tries)
    queries = sent(pipeline)
    assert pipeline.unsent == 0
    assert pipeline.outgoing() == b""
    outcomes = pipeline.receive(b"".join(map(reply, reversed(queries))))
    assert [outcome.attempt for outcome in outcomes] == tries[::-1]
    assert [dns.message.from_wire(outcome.reply or b"").id for outcome in outcomes] == [q.id for q in reversed(queries)]
    assert pipeline.waiting == 0


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 6, 15])
def test_a_response_to_another_kind_of_request_is_none(opcode: int) -> None:
    """RFC 1035 section 4.1.1: the opcode is copied into the response."""
    pipeline = Pipeline()
    pipeline.ask(a_try())
    (query,) = sent(pipeline)
    right = reply(query)
    assert pipeline.receive(right[:4] + bytes([right[4] | opcode << 3]) + right[5:]) == []
    (outcome,) = pipeline.receive(right)
    assert outcome.reply == right[2:]


def test_ids_are_random_and_differ() -> None:
    pipeline = Pipeline()
    for _ in range(1000):
        pipeline.ask(a_try())
    ids = [query.id for query in sent(pipeline)]
    assert len(set(ids)) == 1000
    for bit in range(16):
        assert 400 < sum(ident >> bit & 1 for ident in ids) < 600


def test_so_many_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_WAITING", 3)
    pipeline = Pipeline()
    assert [pipeline.ask(a_try()) for _ in range(4)] == [True, True, True, False]
    assert len(sent(pipeline)) == pipeline.waiting == 3


def test_the_old_that_are_over_are_forgotten_and_no_others() -> None:
    pipeline = Pipeline()
    tries = {case: a_try(f"{case}.test", at) for case, at in [("old", 1), ("waiting", 1), ("new", 5)]}
    for one in tries.values():
        pipeline.ask(one)
    tries["old"].exchange.finished = tries["new"].exchange.finished = True
    pipeline.forget(5)
    outcomes = pipeline.receive(b"".join(map(reply, sent(pipeline))))
    assert [outcome.attempt for outcome in outcomes] == [tries["waiting"], tries["new"]]


def test_what_is_left_is_given_back_once() -> None:
    pipeline = Pipeline()
    tries = [a_try("a.test"), a_try("b.test")]
    for one in tries:
        pipeline.ask(one)
    pipeline.receive(reply(sent(pipeline)[0]))
    assert pipeline.owed() == pipeline.owed() == tries[1:]
    assert pipeline.leave() == tries[1:]
    assert pipeline.leave() == []


@given(st.lists(st.binary(max_size=40)), st.data())
def test_however_a_stream_is_split_the_messages_are_the_same(messages: list[bytes], data: st.DataObject) -> None:
    """RFC 7766 section 8."""
    octets = b"".join(len(message).to_bytes(2, "big") + message for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)))))
    frames = Frames()
    pieces = [octets[start:end] for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
    found = [message for piece in pieces for message in frames.receive(piece)]
    assert found == [message for message in messages if len(message) >= 12]


def test_a_long_message_in_single_octets_is_joined_twice_not_each_time() -> None:
    """Else 64 KiB cost 2 GiB of copying."""
    frames = Frames()
    octets = (65535).to_bytes(2, "big") + bytes(65535)
    for octet in octets[:-1]:
        assert frames.receive(bytes([octet])) == []
    assert len(frames._pieces) == len(octets) - 1 - 2 + 1  # the length, and each octet behind it
    assert frames.receive(octets[-1:]) == [bytes(65535)]
    assert frames._pieces == [b""]


@given(st.binary(max_size=200))
def test_any_garbage_is_passed_over(garbage: bytes) -> None:
    pipeline = Pipeline()
    one = a_try()
    pipeline.ask(one)
    (query,) = sent(pipeline)
    assert pipeline.receive(len(garbage).to_bytes(2, "big") + garbage) == []
    (outcome,) = pipeline.receive(reply(query))
    assert isinstance(outcome, Tried)
    assert outcome.attempt is one
