"""What is asked: each scenario's queries. The same for every server, and in every run of the benchmark.

The popular names of a school are real ones where the file of them is beside the checkout, otherwise generated. From the
trace it is taken who asked how often for the same, in which order and for which types, but not the names.
"""

import gzip
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate, chain, islice
from pathlib import Path

from tests.benchmarks.queries import HEADER, QUESTION_TAIL, TYPES, Query, name_wire, wire, with_cookie

DATA = Path(__file__).parents[2].with_name("shared") / "data"
TOP_NAMES = DATA / "top-domains.txt.gz"
TRACE = DATA / "dns-traces" / "brimdata-wrccdc-2018-dns.log.gz"

CLIENTS = 5_000
POPULAR = 3_000
POPULAR_AT_SCHOOL = 10_000
BLOCKED = 2_000
DRAWN = 200_000
WARMING = 99
"""The run that warms up, where each run has names of its own."""
ADDRESSES_OF_A_RUN = 1_000_000
COLD, BLOCKED_SHARE = 0.20, 0.05
"""Of the queries at school: names not asked before, and names of the block list."""

MIX = {"A": 55, "AAAA": 30, "HTTPS": 15}
"""What stub resolvers ask for: browsers send HTTPS beside A and AAAA."""

# RFC 6895 section 3.1: these ask for other than data of that type (AXFR, ANY).
FIRST_META_TYPE = 128
# Unbound and others answer for these names themselves (RFC 6761, RFC 7686, RFC 8375).
_PLAIN_NAME = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.(?!arpa$|test$|invalid$|localhost$|local$|onion$|example$)[a-z]+")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load."""

    name: str
    warming: Callable[[], Iterable[Query]]
    """What each server is asked once before it is measured."""
    queries: Callable[[int, int], Iterable[Query]]
    """The queries of a run, by its number, which no other run of this server has, and how many."""
    per_second: int = 0
    """Each query is asked once, and a fast server answers so many in a second; 0: they are asked over and over."""
    forwards: bool = False
    """Whether a server that knows nothing, as the floor, has no part in it."""
    against: str = ""
    """The scenario that it is like, but for the one thing whose cost it shows."""


def blocked_names() -> list[str]:
    """Return the names of the block list."""
    return [f"ads{number:04d}.tracker{number % 97}.example" for number in range(BLOCKED)]


def popular_names() -> list[str]:
    """Return the names that everybody asks for, the most popular first."""
    return [f"www.site{number:04d}.popular.example" for number in range(POPULAR)]


def names_at_school() -> list[str]:
    """Return the real world's popular names, or generated ones."""
    try:
        with gzip.open(TOP_NAMES, "rt") as lines:
            names = (line.strip() for line in lines)
            return list(islice(filter(_PLAIN_NAME.fullmatch, names), POPULAR_AT_SCHOOL))
    except FileNotFoundError:
        return generated_names()


def generated_names() -> list[str]:
    """Return as many names that are in no list of ours."""
    return [f"www.site{number:05d}.popular.example" for number in range(POPULAR_AT_SCHOOL)]


class _Drawing:
    """Clients, names and types by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def clients(self, count: int) -> list[int]:
        return self.chance.choices(range(1, CLIENTS + 1), k=count)

    def types(self, count: int) -> list[int]:
        return self.chance.choices([TYPES[name] for name in MIX], list(MIX.values()), k=count)

    def by_popularity(self, names: list[str], count: int) -> list[bytes]:
        """Return names of which the nth is asked for 1/n as often as the first (Zipf's law)."""
        weights = list(accumulate(1 / rank for rank in range(1, len(names) + 1)))
        return self.chance.choices([name_wire(name) for name in names], cum_weights=weights, k=count)

    def evenly(self, names: list[str], count: int) -> list[bytes]:
        return self.chance.choices([name_wire(name) for name in names], k=count)

    def queries(self, names: list[bytes]) -> Iterator[Query]:
        count = len(names)
        for client, name, rdtype in zip(self.clients(count), names, self.types(count), strict=True):
            yield Query(client, wire(name, rdtype))


def every_type(names: Iterable[str]) -> Iterator[Query]:
    """Ask for all that there is, and let every client be seen."""
    wires = [wire(name_wire(name), rdtype) for name in names for rdtype in TYPES.values()]
    for number in range(max(len(wires), CLIENTS)):
        yield Query(1 + number % CLIENTS, wires[number % len(wires)])


def _new_names(run: int, count: int) -> list[bytes]:
    parent = name_wire(f"run{run}.rare.example")
    return [b"\x09h%08x" % number + parent for number in range(count)]


COLD_KEY = re.compile(r"example\.rare\.run(\d+)\.h([0-9a-f]{8})\.")
"""Such a name as the log's `decisions.key` has it, read from the root: its run and its number."""
_COLD_PARENT = name_wire("rare.example")
_COLD_AT = len(HEADER) + 2
"""Where the number stands in a query for such a name."""


def cold_number(octets: bytes) -> int | None:
    """Return the number of the name that is new in its run, if that is what a query asks for."""
    if octets[-QUESTION_TAIL - len(_COLD_PARENT) : -QUESTION_TAIL] != _COLD_PARENT:
        return None
    return int(octets[_COLD_AT : _COLD_AT + 8], 16)


def _cached(_run: int, _count: int) -> Iterator[Query]:
    return _popular(0, DRAWN)


def _popular(run: int, count: int) -> Iterator[Query]:
    drawing = _Drawing(run)
    return drawing.queries(drawing.by_popularity(popular_names(), count))


def _blocked(_run: int, _count: int) -> Iterator[Query]:
    drawing = _Drawing(0)
    return drawing.queries(drawing.evenly(blocked_names(), DRAWN))


def _forwarded(run: int, count: int) -> Iterator[Query]:
    clients = _Drawing(run).clients(count)
    for client, name in zip(clients, _new_names(run, count), strict=True):
        yield Query(client, wire(name, TYPES["A"]))


def _school(run: int, count: int) -> Iterator[Query]:
    return school(run, count, names_at_school())


def school(run: int, count: int, popular_ones: list[str]) -> Iterator[Query]:
    """Mix names that are new in each run, asked once each, with names of the block list and popular ones."""
    drawing = _Drawing(run)
    cold = iter(_new_names(run, count))
    blocked = iter(drawing.evenly(blocked_names(), count))
    popular = iter(drawing.by_popularity(popular_ones, count))
    shares = [COLD, BLOCKED_SHARE, 1 - COLD - BLOCKED_SHARE]
    return drawing.queries([next(kind) for kind in drawing.chance.choices([cold, blocked, popular], shares, k=count)])


def _trace(run: int, count: int) -> Iterator[Query]:
    """Replay the trace, each name by its rank, as often as it takes: each time nothing is known at first."""
    asked = _read_trace()
    for number in range(count):
        replay, position = divmod(number, len(asked))
        client, rank, rdtype = asked[position]
        yield Query(client, wire(name_wire(f"www.rank{rank}.run{run}-{replay}.trace.example"), rdtype))


@cache
def _read_trace() -> list[tuple[int, int, int]]:
    """Return the trace as client, rank of the name, and type: Zeek's dns.log, a line a query, tabs between fields."""
    asked = []
    with gzip.open(TRACE, "rt", errors="replace") as lines:
        for line in lines:
            fields = line.rstrip("\n").split("\t")
            if fields[0] == "#fields":
                client_at, name_at, type_at = (fields.index(name) - 1 for name in ("id.orig_h", "query", "qtype"))
            elif not line.startswith("#"):
                rdtype = fields[type_at]
                if rdtype.isdecimal() and 0 < int(rdtype) < FIRST_META_TYPE:
                    asked.append((fields[client_at], fields[name_at].lower(), int(rdtype)))
    clients, names = _ranks(client for client, _, _ in asked), _ranks(name for _, name, _ in asked)
    return [(clients[client], names[name], rdtype) for client, name, rdtype in asked]


def _ranks(words: Iterable[str]) -> dict[str, int]:
    """Return each word's rank by how often it comes; the most frequent one's is 1."""
    return {word: rank for rank, (word, _) in enumerate(Counter(words).most_common(), 1)}


def _new_clients(run: int, count: int) -> Iterator[Query]:
    """Ask for what is cached, each time from another address."""
    first = 1 + CLIENTS + run * ADDRESSES_OF_A_RUN
    return (query._replace(client=client) for client, query in enumerate(_popular(run, count), first))


def _random_case(run: int, count: int) -> Iterator[Query]:
    """Ask for what is cached in letters of random case, as resolvers do against forgers (0x20)."""
    bits = random.Random(run).getrandbits
    for client, octets in _popular(run, count):
        turned = int.from_bytes(octets, "big") ^ (bits(8 * len(octets)) & _case_bits(octets))
        yield Query(client, turned.to_bytes(len(octets), "big"))


@lru_cache(maxsize=100_000)
def _case_bits(octets: bytes) -> int:
    """Return the bits that tell small letters from capitals. Nothing else in these queries is as high as a letter."""
    return int.from_bytes(bytes(0x20 if 0x61 <= octet <= 0x7A else 0 for octet in octets), "big")


def _cookies(run: int, count: int) -> Iterator[Query]:
    """Ask for what is cached with a cookie that is another each time."""
    cookie = random.Random(run).randbytes
    for client, octets in _popular(run, count):
        yield Query(client, with_cookie(octets, cookie(8)))


SCENARIOS = (
    Scenario("cached", warming=lambda: every_type(popular_names()), queries=_cached),
    Scenario("blocked", warming=lambda: every_type(blocked_names()), queries=_blocked),
    Scenario(
        "forwarded",
        warming=lambda: _forwarded(WARMING, 5_000),
        queries=_forwarded,
        per_second=30_000,
        forwards=True,
    ),
    Scenario(
        "trace",
        warming=lambda: _trace(WARMING, 5_000),
        queries=_trace,
        per_second=150_000,
        forwards=True,
    ),
    Scenario(
        "school",
        warming=lambda: chain(every_type(names_at_school()), every_type(blocked_names())),
        queries=_school,
        per_second=100_000,
        forwards=True,
    ),
    Scenario(
        "new-clients",
        warming=lambda: every_type(popular_names()),
        queries=_new_clients,
        per_second=200_000,
        against="cached",
    ),
    Scenario(
        "random-case",
        warming=lambda: every_type(popular_names()),
        queries=_random_case,
        per_second=200_000,
        against="cached",
    ),
    Scenario(
        "edns-options",
        warming=lambda: every_type(popular_names()),
        queries=_cookies,
        per_second=200_000,
        against="cached",
    ),
)


def scenarios() -> list[Scenario]:
    """Return those for which there is what they need; say which are left out."""
    if TRACE.exists():
        return list(SCENARIOS)
    print(f"no {TRACE.name} beside the checkout: trace is left out")
    return [scenario for scenario in SCENARIOS if scenario.name != "trace"]
