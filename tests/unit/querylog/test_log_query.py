"""Questions to the log: which make sense, and what they mean to a store."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.names import is_within, key_of
from querylog.errors import InvalidQueryError
from querylog.records import VERDICTS, Record
from querylog.search import MAX_LIMIT, Cursor, LogQuery, address_key, record_to_json


def test_without_filters_everything_is_wanted() -> None:
    query = LogQuery.of()
    assert query == LogQuery(None, None, None, None, None, None, 100, None)
    assert (query.addresses, query.keys, query.position) == (None, None, None)


@pytest.mark.parametrize(
    ("given_", "meant"),
    [
        ("10.1.2.3", "10.1.2.3/32"),
        (" 10.1.2.3 ", "10.1.2.3/32"),
        ("10.1.2.3/24", "10.1.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::1", "2001:db8::1/128"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:10.1.2.0/120", "10.1.2.0/24"),
        ("::/0", "::/0"),
    ],
)
def test_a_client_is_an_address_or_a_network(given_: str, meant: str) -> None:
    assert LogQuery.of(client=given_).client == meant


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        (
            "10.1.2.0/24",
            ["10.1.2.0", "10.1.2.255", "::ffff:10.1.2.9"],
            ["10.1.1.255", "10.1.3.0", "::a01:201", "x", ""],
        ),
        ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::", "::1", ""]),
        ("::/0", ["::", "ff02::1", "fe80::1"], ["10.1.2.3", "::ffff:10.1.2.3", ""]),
        ("2001:db8::/33", ["2001:db8::", "2001:db8:7fff::1"], ["2001:db8:8000::", "32.1.13.184"]),
        ("192.0.2.7", ["192.0.2.7"], ["192.0.2.6", "192.0.2.8", "192.0.2.70"]),
    ],
)
def test_a_network_is_a_range_of_keys(network: str, inside: list[str], outside: list[str]) -> None:
    wanted = LogQuery.of(client=network).addresses
    assert wanted is not None
    first, last = wanted
    assert all(first <= address_key(address) <= last for address in inside)
    assert not any(first <= address_key(address) <= last for address in outside)


@pytest.mark.parametrize(
    ("given_", "logged"),
    [
        ("www.example.test", "www.example.test"),
        ("WWW.Example.Test.", "www.example.test"),
        ("bücher.example", "xn--bcher-kva.example"),
        (".", "."),
        ("_dmarc.example", "_dmarc.example"),
        ("1.2.0.192.in-addr.arpa", "1.2.0.192.in-addr.arpa"),
        ("192.0.2.1", "192.0.2.1"),  # no host, but clients ask for such
        (r"a\032b.example", r"a\032b.example"),
        ("-x-.example", "-x-.example"),
        ("a%b.Example.", "a%b.example"),
    ],
)
def test_a_name_is_looked_for_as_it_is_logged(given_: str, logged: str) -> None:
    assert LogQuery.of(name=given_).name == logged
    assert LogQuery.of(subtree=given_).subtree == logged


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"client": "school"}, "client"),
        ({"client": ""}, "client"),
        ({"client": "10.1.2.3/33"}, "client"),
        ({"client": "10.1.2.0/24/8"}, "client"),
        ({"name": ""}, "name"),
        ({"name": "two words.example"}, "name"),
        ({"name": "x" * 1021}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"subtree": ""}, "subtree"),
        ({"subtree": "\u2028"}, "subtree"),
        ({"verdict": ""}, "verdict"),
        ({"verdict": "Blocked"}, "verdict"),
        ({"since": 2, "until": 1}, "since"),
        ({"limit": 0}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": MAX_LIMIT + 1}, "limit"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "1"}, "cursor"),
        ({"cursor": "1.2.3"}, "cursor"),
        ({"cursor": "-1.2"}, "cursor"),
        ({"cursor": "g.1"}, "cursor"),
        ({"cursor": "1.1\n"}, "cursor"),
        ({"cursor": "1" * 99 + ".1"}, "cursor"),
    ],
)
def test_what_makes_no_sense_is_refused_and_the_field_named(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidQueryError) as caught:
        LogQuery.of(**values)
    assert caught.value.field == field


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_may_be_asked_for(verdict: str) -> None:
    assert LogQuery.of(verdict=verdict, limit=MAX_LIMIT, since=5, until=5).verdict == verdict


@given(st.integers(0, 2**55), st.integers(0, 2**48 - 1))
def test_a_cursor_survives_being_written(time: int, rank: int) -> None:
    cursor = Cursor(time, rank)
    assert LogQuery.of(cursor=str(cursor)).position == cursor


labels = st.sampled_from(["a", "ab", "b", "-", "com", "z\\032", "!"])
names = st.lists(labels, min_size=1, max_size=4).map(".".join)


def holds(query: LogQuery, name: str) -> bool:
    """Tell whether a store would find a name: by nothing but the range of keys."""
    return query.keys is None or query.keys[0] <= key_of(name) < query.keys[1]


@given(names, names)
def test_an_exact_name_is_a_range_that_holds_it_alone(name: str, other: str) -> None:
    assert holds(LogQuery.of(name=name), other) == (name == other)


@given(names, names)
def test_a_subtree_is_a_range_that_holds_it_and_all_below(subtree: str, name: str) -> None:
    assert holds(LogQuery.of(subtree=subtree), name) == is_within(name, subtree)


@given(names, names, names)
def test_a_name_and_a_subtree_must_both_fit(name: str, subtree: str, other: str) -> None:
    query = LogQuery.of(name=name, subtree=subtree)
    assert holds(query, other) == (name == other and is_within(other, subtree))


def test_the_root_has_everything_below_it_and_is_a_name_itself() -> None:
    assert LogQuery.of(subtree=".").keys is None
    assert [name for name in (".", "", "a", "a.b") if holds(LogQuery.of(name="."), name)] == ["."]
    assert LogQuery.of(name="a.b", subtree=".").keys == LogQuery.of(name="a.b").keys


RECORD = Record(
    1_795_521_600_123_456,
    "node-1",
    "10.1.2.3",
    "students",
    "www.example",
    "A",
    "udp",
    "blocked",
    "games",
    "list",
    "||example^",
    17,
    42,
    "NOERROR",
    "tls://192.0.2.53",
    cached=True,
    duration_us=0,
)


def test_a_record_is_shown_under_the_names_of_the_contract() -> None:
    assert json.loads(json.dumps(record_to_json(RECORD))) == {
        "time": "2026-11-24T12:00:00.123456Z",
        "node": "node-1",
        "client": "10.1.2.3",
        "group": "students",
        "qname": "www.example",
        "qtype": "A",
        "transport": "udp",
        "verdict": "blocked",
        "category": "games",
        "source": "list",
        "rule": "||example^",
        "exception_id": 17,
        "policy_version": 42,
        "rcode": "NOERROR",
        "upstream": "tls://192.0.2.53",
        "cached": True,
        "duration_us": 0,
    }


def test_what_was_not_decided_is_shown_as_null() -> None:
    bare = RECORD._replace(
        qname="", qtype="", category="", source="", rule="", exception_id=0, upstream="", cached=False
    )
    shown = record_to_json(bare)
    assert [name for name, value in shown.items() if value is None] == [
        "qname",
        "qtype",
        "category",
        "source",
        "rule",
        "exception_id",
        "upstream",
    ]
    assert shown["cached"] is False
    assert shown["duration_us"] == 0
