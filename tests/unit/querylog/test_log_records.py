"""Definitions, which carry clients and decisions from the journal to the store."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querylog.records import (
    LOOKUP,
    Client,
    Decision,
    Record,
    decode_client,
    decode_decision,
    encode_client,
    encode_decision,
)

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
clients = st.builds(Client, text, text, text)
whole = st.integers(0, 2**63 - 1)
decisions = st.builds(Decision, text, text, text, text, text, text, whole, whole, text, text, st.booleans())


@given(clients)
def test_a_client_survives_its_definition(client: Client) -> None:
    assert decode_client(encode_client(client)) == client


@given(decisions)
def test_a_decision_survives_its_definition(decision: Decision) -> None:
    assert decode_decision(encode_decision(decision)) == decision


@given(st.binary(max_size=200))
def test_other_octets_are_no_definition_and_say_so(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert decode_client(encode_client(decode_client(data))) == decode_client(data)
    with contextlib.suppress(ValueError):
        assert decode_decision(encode_decision(decode_decision(data))) == decode_decision(data)


@pytest.mark.parametrize("data", [b"", b"192.0.2.1", b"192.0.2.1\0students", b"a\0b\0c\0d", b"\xff\0\0"])
def test_a_client_has_three_fields_of_text(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"unpack|decode"):
        decode_client(data)


def test_a_lookup_takes_twenty_octets() -> None:
    assert LOOKUP.size == 20


def test_the_record_has_the_fields_of_the_contract_in_its_order() -> None:
    assert " ".join(Record._fields) == (
        "time node client group qname qtype transport verdict category source rule"
        " exception_id policy_version rcode upstream cached duration_us"
    )
