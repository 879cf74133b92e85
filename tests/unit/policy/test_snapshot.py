"""What of the policy reaches a client: its group, and the exceptions made for it."""

import json
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy import snapshot as snapshots
from policy.index import CorruptIndexError
from policy.networks import NetworkTable
from policy.snapshot import Snapshot
from tests.unit.policy.build import NOW, Listed, block, document, exception, group, policy, publish

NETWORKS = {
    "10.0.0.0/8": "guests",
    "10.1.0.0/16": "staff",
    "10.1.2.0/24": "students",
    "10.1.2.7/32": "staff",
    "2001:db8::/32": "guests",
    "2001:db8:1::/48": "staff",
    "2001:db8:1::7/128": "students",
}


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("10.1.2.7", "staff"),
        ("10.1.2.8", "students"),
        ("10.1.3.1", "staff"),
        ("10.2.0.1", "guests"),
        ("192.0.2.1", "students"),
        ("2001:db8:1::7", "students"),
        ("2001:db8:1::8", "staff"),
        ("2001:db8:2::1", "guests"),
        ("2001:db9::1", "students"),
        ("::a01:207", "students"),  # 10.1.2.7's number, in the other family
        ("0.0.0.0", "students"),
        ("255.255.255.255", "students"),
    ],
)
def test_the_longest_network_gives_the_group_and_the_default_group_the_rest(
    tmp_path: Path, address: str, name: str
) -> None:
    assert policy(tmp_path, networks=NETWORKS).group_of(ip_address(address)).name == name


def test_a_network_of_everything_leaves_no_one_to_the_default_group(tmp_path: Path) -> None:
    snapshot = policy(tmp_path, networks={"0.0.0.0/0": "guests", "::/0": "staff"})
    assert snapshot.group_of(ip_address("192.0.2.1")).name == "guests"
    assert snapshot.group_of(ip_address("2001:db8::1")).name == "staff"


@given(
    st.dictionaries(
        st.builds(
            lambda number, length: (number >> (32 - length) << (32 - length), length),
            st.integers(0, 2**32 - 1),
            st.integers(0, 32),
        ),
        st.sampled_from(["students", "staff", "guests"]),
        max_size=8,
    ),
    st.lists(st.integers(0, 2**32 - 1), max_size=5),
)
def test_the_table_agrees_with_trying_every_network(nets: dict[tuple[int, int], str], numbers: list[int]) -> None:
    table = NetworkTable((ip_network((number, length)), name) for (number, length), name in nets.items())
    for number in [*numbers, *(start for start, _ in nets)]:
        address = IPv4Address(number)
        holding = [
            (length, name)
            for (start, length), name in nets.items()
            if number >> (32 - length) == start >> (32 - length)
        ]
        assert table.of(address) == ([max(holding)[1]] if holding else [])
        assert table.all_of(address) == sorted(holding, reverse=True)
        assert (address in table) == bool(holding)


# Exceptions.


def decided_by(snapshot: Snapshot, address: str, name: str, now: int = NOW) -> int:
    """Return the id of the exception that decides a name for a client; 0: none."""
    found = snapshot.scope_of(ip_address(address)).exception_for(name, now)
    return found.id if found else 0


@pytest.mark.parametrize(
    ("address", "number"),
    [
        ("10.1.2.7", 1),  # the client itself
        ("10.1.2.8", 2),  # its network
        ("10.1.9.9", 3),  # a wider network
        ("10.2.0.1", 4),  # its group: guests
        ("192.0.2.1", 5),  # everyone
        ("2001:db8::7", 6),
        ("2001:db8::8", 5),
    ],
)
def test_the_nearest_exception_wins(tmp_path: Path, address: str, number: int) -> None:
    """Client, network, group, everyone; and allow and block alternate, so that neither decides it."""
    exceptions = [
        exception(5, "a.test", "block"),
        exception(4, "a.test", "allow", groups=["guests"]),
        exception(3, "a.test", "block", clients=["10.1.0.0/16"]),
        exception(2, "a.test", "allow", clients=["10.1.2.0/24"]),
        exception(1, "a.test", "block", clients=["192.0.2.200/32", "10.1.2.7/32"]),
        exception(6, "a.test", "allow", clients=["2001:db8::7/128"]),
    ]
    for listed in (exceptions, exceptions[::-1]):
        snapshot = policy(tmp_path, networks={"10.0.0.0/8": "guests"}, exceptions=listed)
        assert decided_by(snapshot, address, "www.a.test") == number


def test_between_equals_allow_wins_whichever_is_newer(tmp_path: Path) -> None:
    for first, second in (("allow", "block"), ("block", "allow")):
        exceptions = [exception(1, "a.test", first), exception(2, "a.test", second)]
        snapshot = policy(tmp_path, exceptions=exceptions)
        assert decided_by(snapshot, "192.0.2.1", "a.test") == (1 if first == "allow" else 2)


def test_the_longest_name_wins_over_the_nearest_scope(tmp_path: Path) -> None:
    exceptions = [
        exception(1, "b.a.test", "block"),
        exception(2, "a.test", "allow", clients=["192.0.2.1/32"]),
        exception(3, "test", "allow", clients=["192.0.2.1/32"]),
    ]
    snapshot = policy(tmp_path, exceptions=exceptions)
    asked = ["c.b.a.test", "b.a.test", "x.a.test", "a.test", "xa.test", "test", "other.example"]
    assert [decided_by(snapshot, "192.0.2.1", name) for name in asked] == [1, 1, 2, 2, 3, 3, 0]


def test_an_exact_exception_holds_for_its_name_alone(tmp_path: Path) -> None:
    exceptions = [exception(1, "b.a.test", match="exact"), exception(2, "a.test", "block")]
    snapshot = policy(tmp_path, exceptions=exceptions)
    asked = ["b.a.test", "c.b.a.test", "a.test"]
    assert [decided_by(snapshot, "192.0.2.1", name) for name in asked] == [1, 2, 2]


def test_an_exact_one_of_the_same_name_leaves_the_names_below_to_the_subtree(tmp_path: Path) -> None:
    exceptions = [exception(1, "a.test", "allow", match="exact"), exception(2, "a.test", "block")]
    snapshot = policy(tmp_path, exceptions=exceptions)
    assert decided_by(snapshot, "192.0.2.1", "a.test") == 1
    assert decided_by(snapshot, "192.0.2.1", "b.a.test") == 2


def test_an_exception_ends_at_its_moment_and_the_next_nearest_decides(tmp_path: Path) -> None:
    exceptions = [
        exception(1, "b.a.test", "allow", expires_at=NOW),
        exception(2, "b.a.test", "block", groups=["students"], expires_at=NOW + 10),
        exception(3, "a.test", "allow"),
    ]
    snapshot = policy(tmp_path, exceptions=exceptions)
    moments = [NOW - 1, NOW, NOW + 9, NOW + 10]
    assert [decided_by(snapshot, "192.0.2.1", "b.a.test", now) for now in moments] == [2, 2, 2, 3]
    assert decided_by(snapshot, "192.0.2.1", "b.a.test", NOW - 1) == 2
    alone = policy(tmp_path, exceptions=[exception(1, "a.test", expires_at=NOW)])
    assert [decided_by(alone, "192.0.2.1", "a.test", now) for now in (NOW - 1, NOW, NOW + 1)] == [1, 0, 0]


def test_an_exception_with_groups_and_clients_reaches_both_and_nobody_else(tmp_path: Path) -> None:
    both = exception(1, "a.test", groups=["staff"], clients=["10.9.0.0/16"])
    snapshot = policy(tmp_path, networks={"10.1.0.0/16": "staff"}, exceptions=[both])
    assert [decided_by(snapshot, client, "a.test") for client in ("10.1.0.1", "10.9.0.1", "10.8.0.1")] == [1, 1, 0]


def test_next_expiry_is_the_first_that_is_still_to_come(tmp_path: Path) -> None:
    exceptions = [
        exception(1, "a.test"),
        exception(2, "a.test", expires_at=NOW),
        exception(3, "a.test", expires_at=NOW + 30),
        exception(4, "a.test", expires_at=NOW + 20),
    ]
    snapshot = policy(tmp_path, exceptions=exceptions)
    moments = [NOW - 1, NOW, NOW + 20, NOW + 30]
    assert [snapshot.next_expiry(now) for now in moments] == [NOW, NOW + 20, NOW + 30, 0]


# Scopes that clients share.


def test_clients_share_a_scope_exactly_when_the_same_rules_reach_them(tmp_path: Path) -> None:
    exceptions = [
        exception(1, "a.test", clients=["10.0.0.1/32"]),
        exception(2, "b.test", clients=["10.0.0.0/30"]),
        exception(3, "c.test", groups=["staff"]),
        exception(4, "d.test"),
    ]
    snapshot = policy(tmp_path, networks={"10.0.1.0/24": "staff"}, exceptions=exceptions)

    def key(address: str) -> object:
        return snapshot.scope_key(ip_address(address))

    assert key("10.0.0.2") == key("10.0.0.3")
    assert key("10.0.5.1") == key("192.0.2.1") == key("2001:db8::1")
    assert key("10.0.1.1") == key("10.0.1.2")
    assert len({key(address) for address in ("10.0.0.1", "10.0.0.2", "10.0.1.1", "192.0.2.1")}) == 4
    hash(key("10.0.0.1"))


def test_the_same_exception_through_another_network_is_another_scope(tmp_path: Path) -> None:
    """Nearness counts: through the /32 it beats the exception of the /24, through the /8 it doesn't."""
    exceptions = [
        exception(1, "a.test", "allow", clients=["10.0.0.1/32", "10.0.0.0/8"]),
        exception(2, "a.test", "block", clients=["10.0.0.0/24"]),
    ]
    snapshot = policy(tmp_path, exceptions=exceptions)
    assert snapshot.scope_key(ip_address("10.0.0.1")) != snapshot.scope_key(ip_address("10.0.0.2"))
    assert decided_by(snapshot, "10.0.0.1", "a.test") == 1
    assert decided_by(snapshot, "10.0.0.2", "a.test") == 2


# Reading it back.


def test_a_document_is_read_back_whole(tmp_path: Path) -> None:
    snapshot = policy(
        tmp_path,
        version=12,
        lists=[Listed("one", "adult", [block("a.test")])],
        groups=[group("students", ["gambling", "adult"], mode="address", addresses=["192.0.2.1", "2001:db8::1"])],
        exceptions=[exception(3, "b.test", "block", match="exact", clients=["10.0.0.0/8"], expires_at=NOW)],
    )
    assert snapshot.version == 12
    students = snapshot.groups["students"]
    assert (students.mode, students.addresses) == ("address", ("192.0.2.1", "2001:db8::1"))
    assert students.blocked == ("gambling", "adult")  # the order is the severity's
    assert snapshot.categories["adult"].clause == "IV.a"
    assert snapshot.sources[1] == ("one", "adult")
    (kept,) = snapshot.exceptions
    assert (kept.id, kept.domain, kept.allows, kept.exact, kept.expires_at) == (3, "b.test", False, True, NOW)
    assert snapshot.index.names == 1


@pytest.mark.parametrize("missing", sorted(document()))
def test_a_document_without_a_part_is_none(tmp_path: Path, missing: str) -> None:
    path = publish(tmp_path)
    whole = json.loads(path.read_text())
    del whole[missing]
    path.write_text(json.dumps(whole))
    with pytest.raises(KeyError):
        snapshots.read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', '{"version": "x"}'])
def test_what_is_no_document_is_refused(tmp_path: Path, text: str) -> None:
    path = publish(tmp_path)
    path.write_text(text)
    with pytest.raises((ValueError, KeyError, TypeError)):
        snapshots.read(path)


def test_a_document_whose_index_is_damaged_is_refused(tmp_path: Path) -> None:
    path = publish(tmp_path, lists=[Listed("one", "adult", [block("a.test")])])
    index = tmp_path / "names-1.index"
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(CorruptIndexError):
        snapshots.read(path)


def test_a_snapshot_outlives_its_files(tmp_path: Path) -> None:
    """A worker answers by what it has mapped, also when the supervisor has tidied up or written anew."""
    snapshot = policy(tmp_path, lists=[Listed("one", "adult", [block("a.test")])])
    publish(tmp_path, lists=[Listed("one", "adult", [block("b.test")])])
    (tmp_path / "names-1.index").unlink()
    assert [match.rule.name for match in snapshot.index.match("a.test")] == ["a.test"]
