"""Searching either store against a plain list, with paths through the code that are meant for millions of records."""

import random
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from querylog import postgres_append, postgres_search, sqlite_day, sqlite_search
from querylog.records import VERDICTS, Client, Record
from querylog.search import LogQuery
from querylog.store import LogStore
from querylog.store_postgres import PostgresLogStore
from querylog.store_sqlite import SqliteLogStore
from querylog.times import DAY
from tests.conftest import BOTH
from tests.support.journals import Lookup, a_decision, record_of
from tests.support.postgres import PostgresServer, fresh_database
from tests.support.shipped import MIDNIGHT, ship, write

CLIENTS = [*(f"192.0.2.{n}" for n in (1, 2, 3, 64, 65, 200)), "198.51.100.7", "2001:db8::1", "2001:db8:1::1", "?"]
NAMES = [
    *("example", "a.example", "b.example", "www.a.example", "x.www.a.example", "aa.example", "a-b.example"),
    *("test", "a.test", r"a\032b.test", "a%.test", "_x.a.test", "xn--bcher-kva.test", ".", ""),
]
BEGIN, END = MIDNIGHT - DAY - 3_600_000_000, MIDNIGHT + DAY
SIZE = 1_200


def a_school(seed: int) -> list[Lookup]:
    """Return lookups of four days, some common, some rare, many at the same time."""
    chance = random.Random(seed)
    found = []
    for n in range(SIZE):
        qname = NAMES[min(int(chance.expovariate(0.4)), len(NAMES) - 1)]
        client = Client(chance.choice(CLIENTS), chance.choice(("students", "staff")), chance.choice(("udp", "tcp")))
        decision = a_decision(qname, chance.choice(("A", "AAAA")), chance.choice(VERDICTS[:4]), policy_version=n // 400)
        at = chance.randrange(BEGIN, END, 1_000_000_000 if n % 2 else 1_000)
        found.append((at, client, decision, n % 9))
    return found


class Filled(NamedTuple):
    """A store and what is in it."""

    store: LogStore
    records: list[Record]


@pytest.fixture(scope="module", params=BOTH)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Give a store of each kind, filled in many portions, out of order, with parts that are not indexed yet."""
    directory = tmp_path_factory.mktemp("filled")
    school = a_school(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_day, "RUN_ROWS", 150)
        patch.setattr(sqlite_search, "FEW_CLIENTS", 3)
        patch.setattr(sqlite_search, "MANY_DECISIONS", 8)
        patch.setattr(sqlite_search, "SCANNED_ROWS", 30)
        patch.setattr(sqlite_search, "FIRST_CHUNK", 2)
        patch.setattr(sqlite_search, "CHUNK", 5)
        patch.setattr(postgres_search, "SLICES", (25, 100))
        patch.setattr(postgres_search, "MANY_DECISIONS", 8)
        patch.setattr(postgres_append, "SUMMARY_LOOKUPS", 200)
        if request.param == "sqlite":
            with SqliteLogStore(directory / "log") as store:
                yield fill(directory / "journal", store, school)
        else:
            server: PostgresServer = request.getfixturevalue("postgres_server")
            with fresh_database(server) as url, PostgresLogStore(url) as store:
                yield fill(directory / "journal", store, school)


def fill(journal: Path, store: LogStore, school: list[Lookup]) -> Filled:
    for start in range(0, SIZE, 100):
        for worker, node in enumerate(("north", "south")):
            write(journal, school[start + worker * 50 : start + worker * 50 + 50], worker=worker, node=node)
        ship(journal, store)
    nodes = [("north", "south")[n % 100 // 50] for n in range(SIZE)]
    return Filled(store, [record_of(lookup, node) for lookup, node in zip(school, nodes, strict=True)])


def in_order(window: tuple[int | None, int | None]) -> tuple[int | None, int | None]:
    """Return a window whose end is not before its beginning."""
    first, last = window
    return window if first is None or last is None else (min(first, last), max(first, last))


times = st.one_of(
    st.integers(BEGIN - DAY, END + DAY),
    st.sampled_from([MIDNIGHT, MIDNIGHT - DAY, MIDNIGHT + DAY, *(at for at, *_ in a_school(1)[:50])]),
)
networks = ["192.0.2.0/26", "192.0.2.0/24", "0.0.0.0/0", "::/0", "2001:db8::/48", "203.0.113.0/24"]
queries = st.builds(
    lambda window, **values: LogQuery.of(since=window[0], until=window[1], **values),
    window=st.tuples(st.none() | times, st.none() | times).map(in_order),
    client=st.none() | st.sampled_from([name for name in CLIENTS if name != "?"] + networks),
    name=st.none() | st.sampled_from([name for name in NAMES if name] + ["absent.example"]),
    subtree=st.none() | st.sampled_from([name for name in NAMES if name] + ["www.absent.example"]),
    verdict=st.none() | st.sampled_from(VERDICTS),
    limit=st.integers(1, 60),
)


def fits(query: LogQuery, record: Record) -> bool:
    """Decide without anything of the stores' whether a record is wanted."""
    if query.client is not None:
        try:
            address = ip_address(record.client)
        except ValueError:
            return False
        network = ip_network(query.client)
        if address.version != network.version or address not in network:
            return False
    if query.name is not None and record.qname != query.name:
        return False
    below = query.subtree in {None, "."} or record.qname == query.subtree or record.qname.endswith(f".{query.subtree}")
    return (
        below
        and query.verdict in {None, record.verdict}
        and (query.since is None or record.time >= query.since)
        and (query.until is None or record.time < query.until)
    )


def pages(store: LogStore, query: LogQuery) -> list[list[Record]]:
    found = []
    cursor = None
    while True:
        page = store.search(
            LogQuery.of(
                client=query.client,
                name=query.name,
                subtree=query.subtree,
                verdict=query.verdict,
                since=query.since,
                until=query.until,
                limit=query.limit,
                cursor=cursor,
            )
        )
        found.append(page.records)
        cursor = page.cursor
        if cursor is None:
            return found


@settings(max_examples=80, deadline=None)
@given(query=queries)
def test_a_search_finds_what_a_plain_list_has(filled: Filled, query: LogQuery) -> None:
    found = pages(filled.store, query)
    wanted = [record for record in filled.records if fits(query, record)]
    together = [record for page in found for record in page]
    assert Counter(together) == Counter(wanted)
    assert [record.time for record in together] == sorted((record.time for record in wanted), reverse=True)
    assert all(len(page) == query.limit for page in found[:-1])
    assert len(found[-1]) == (len(wanted) - 1) % query.limit + 1 if wanted else found == [[]]
    assert filled.store.count(query) == len(wanted)


def test_all_of_it_is_there(filled: Filled) -> None:
    found = pages(filled.store, LogQuery.of(limit=500))
    assert Counter(record for page in found for record in page) == Counter(filled.records)
    assert filled.store.count(LogQuery.of()) == SIZE


@pytest.mark.parametrize("hostile", ["%", "_", "'", '"', "%.example", r"\\", "a'--.test", "x;drop_table.test", "*"])
def test_names_are_taken_by_the_letter(filled: Filled, hostile: str) -> None:
    assert filled.store.search(LogQuery.of(name=hostile)).records == []
    assert filled.store.search(LogQuery.of(subtree=hostile)).records == []


def test_a_name_is_found_in_any_case_and_with_its_dot(filled: Filled) -> None:
    plain = filled.store.search(LogQuery.of(name="www.a.example"))
    assert plain.records
    assert filled.store.search(LogQuery.of(name="WWW.A.Example.")) == plain


@pytest.mark.parametrize("cursor", ["0.0", "fffffffffffffff.ffffffffffff", "1.1"])
def test_a_cursor_that_nobody_gave_is_a_place_like_any_other(filled: Filled, cursor: str) -> None:
    found = filled.store.search(LogQuery.of(cursor=cursor, limit=7)).records
    assert len(found) == (7 if cursor.startswith("f") else 0)


def test_most_asked_counts_every_name(filled: Filled) -> None:
    counted = Counter(record.qname for record in filled.records)
    found = filled.store.most_asked(BEGIN, 100)
    assert dict(found) == counted
    assert [number for _, number in found] == sorted(counted.values(), reverse=True)
    [(name, number)] = filled.store.most_asked(BEGIN, 1)
    assert number == counted[name] == max(counted.values())
    day = MIDNIGHT // DAY * DAY
    assert dict(filled.store.most_asked(day + 1, 100)) == Counter(r.qname for r in filled.records if r.time >= day)
    assert filled.store.most_asked(END + DAY, 100) == []
