"""The benchmark's load generator: what Python writes it reads and sends, what it prints Python reads."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from tests.benchmarks.accounts import NO_ANSWER, WRONG
from tests.benchmarks.contestants import Upstream
from tests.benchmarks.load import Answers, BadRunError, Load, ask, parse
from tests.benchmarks.programs import can_compile, compiled
from tests.benchmarks.queries import TYPES, Query, address_of, name_wire, wire, with_cookie, write
from tests.benchmarks.troubles import address_for, hashed
from tests.support.dns_client import Address, udp

SECONDS = 10.0
QUERIES = [
    Query(client, wire(name_wire(f"host{client}.known.example"), rdtype))
    for client in range(1, 31)
    for rdtype in TYPES.values()
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not can_compile() and os.environ.get("CI") != "true":
        pytest.skip("there is no C compiler")
    return compiled(tmp_path_factory.mktemp("load"), "load")


class Outcome(NamedTuple):
    """What the load makes of one answer."""

    wrong: int
    octets: bytes
    complaints: str


class Server:
    """Turns queries round, all but those that it is told to drop, and keeps what came from where."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self.drops = b"nothing"
        self.reply: Callable[[bytes], bytes] = lambda data: data[:2] + bytes([data[2] | 0x80]) + data[3:]
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.address: Address = self._sock.getsockname()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, client = self._sock.recvfrom(4096)
            if not data:
                return
            self.seen.append((client[0], data))
            if self.drops not in data:
                self._sock.sendto(self.reply(data), client)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._thread.join()
        self._sock.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def test_each_query_is_sent_once_from_its_clients_address(program: Path, server: Server, tmp_path: Path) -> None:
    queries = write(tmp_path / "queries", QUERIES)

    answers = ask(program, server.address, queries, seconds=SECONDS, once=True)

    expected = [(str(ip_address(address_of(query.client))), query.wire[2:]) for query in QUERIES]
    assert sorted((client, data[2:]) for client, data in server.seen) == sorted(expected)
    assert (answers.sent, answers.answered, answers.lost, answers.unexpected) == (90, 90, 0, 0)
    assert answers.rcodes == {0: 90}
    assert 0 <= answers.p50_us <= answers.p99_us <= answers.p999_us <= answers.max_us


def test_a_fixed_rate_sends_as_many_as_are_due(program: Path, server: Server, tmp_path: Path) -> None:
    queries = write(tmp_path / "queries", QUERIES)

    answers = ask(program, server.address, queries, seconds=3.0, rate=100.0)

    # The file is asked over and over; a machine that is late for the end leaves some out. So few a second find room in
    # the server's socket though it stands still for two.
    assert 90 < answers.sent <= 300
    assert answers.answered == answers.sent == len(server.seen)


def test_what_has_no_answer_is_lost(program: Path, server: Server, tmp_path: Path) -> None:
    server.drops = b"host7"
    queries = write(tmp_path / "queries", QUERIES)

    answers = ask(program, server.address, queries, seconds=SECONDS, once=True)

    assert (answers.answered, answers.lost) == (87, 3)


# Answers that are read.


def answered(data: bytes, *records: str, rcode: int = 0) -> bytes:
    """Return an answer to a query, of records as text: ``TTL TYPE RDATA``."""
    response = dns.message.make_response(dns.message.from_wire(data), recursion_available=True)
    response.set_rcode(dns.rcode.Rcode(rcode))
    for record in records:
        ttl, rdtype, rdata = record.split(maxsplit=2)
        response.answer.append(dns.rrset.from_text(response.question[0].name, int(ttl), "IN", rdtype, rdata))
    return response.to_wire()


NAME = name_wire("www.known.example")
RIGHT = {
    "the name's address": lambda data: answered(data, f"60 A {address_for(NAME)}"),
    "a failure": lambda data: answered(data, rcode=2),
}
WRONG_ANSWERS = {
    "another name's address": lambda data: answered(data, f"60 A {address_for(name_wire('ftp.known.example'))}"),
    "a sink's address": lambda data: answered(data, "60 A 0.0.0.0"),
    "nothing": answered,
    "two addresses": lambda data: answered(data, f"60 A {address_for(NAME)}", "60 A 192.0.2.1"),
    "another type": lambda data: answered(data, "60 AAAA 2001:db8::1"),
    "a refusal": lambda data: answered(data, rcode=5),
    "another question": lambda data: answered(data.replace(b"www", b"ftp"), f"60 A {address_for(NAME)}"),
    "a header": lambda data: answered(data)[:12],
    "a truncated one": lambda data: data[:2] + bytes([data[2] | 0x82]) + data[3:],
}


def judged(program: Path, server: Server, directory: Path, reply: Callable[[bytes], bytes], *, sunk: bool) -> Outcome:
    """Ask for one name's A and return what the load makes of the reply."""
    server.reply = reply
    asked = write(directory / "queries", [Query(1, wire(NAME, TYPES["A"]))], [NAME] if sunk else ())
    outcomes = directory / "outcomes"
    load = Load(program, server.address, asked, seconds=SECONDS, once=True, rate=1000.0, outcomes=outcomes)
    return Outcome(load.result().wrong, outcomes.read_bytes(), load.complaints)


@pytest.mark.parametrize("reply", RIGHT.values(), ids=RIGHT)
def test_answers_that_are_right(program: Path, server: Server, tmp_path: Path, reply: Callable[[bytes], bytes]) -> None:
    outcome = judged(program, server, tmp_path, reply, sunk=False)

    assert (outcome.wrong, outcome.complaints) == (0, "")
    assert outcome.octets in (b"\0", b"\2")


@pytest.mark.parametrize("reply", WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_answers_that_are_wrong(program: Path, server: Server, tmp_path: Path, reply: Callable[[bytes], bytes]) -> None:
    outcome = judged(program, server, tmp_path, reply, sunk=False)

    assert outcome.wrong == 1
    assert outcome.octets[0] >= WRONG
    assert outcome.complaints.startswith("wrong: ")


def test_a_name_that_must_be_sunk(program: Path, server: Server, tmp_path: Path) -> None:
    sunk = judged(program, server, tmp_path, WRONG_ANSWERS["a sink's address"], sunk=True)
    opened, failed = (judged(program, server, tmp_path, reply, sunk=True) for reply in RIGHT.values())

    assert (sunk.wrong, sunk.octets) == (0, b"\0")
    assert [opened.wrong, failed.wrong] == [1, 1]
    assert opened.complaints.startswith("not sunk: ")


def test_each_query_has_its_outcome(program: Path, server: Server, tmp_path: Path) -> None:
    server.drops = b"host7"
    server.reply = lambda data: answered(data, rcode=2)
    outcomes = tmp_path / "outcomes"
    queries = write(tmp_path / "queries", QUERIES)

    load = Load(program, server.address, queries, seconds=SECONDS, once=True, rate=1000.0, outcomes=outcomes)

    assert load.result().wrong == 0
    assert list(outcomes.read_bytes()) == [NO_ANSWER if query.client == 7 else 2 for query in QUERIES]


def test_the_upstream_answers_with_the_names_address(tmp_path: Path, program: Path) -> None:
    upstream = Upstream(tmp_path)
    try:
        found = [udp(upstream.address, "WWW.known.example", rdtype) for rdtype in ("A", "AAAA", "HTTPS")]
    finally:
        upstream.close()

    assert [str(rrset[0]) for answer in found for rrset in answer.answer] == [
        address_for(NAME),
        f"2001:db8::{hashed(NAME) >> 16:x}:{hashed(NAME) & 0xFFFF:x}",
    ]
    assert [len(answer.authority) for answer in found] == [0, 0, 1]


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x7f\0\0\1\0\x0c" + bytes(11),
        b"\x7f\0\0\1\0\x0b" + bytes(12),
        b"\x0a\0\0\1\0\x0c" + bytes(12),
        b"\x7f\0\0\1\xff\xff" + bytes(65535),
    ],
    ids=["empty", "cut short", "shorter than a header", "a client elsewhere", "too long"],
)
def test_a_file_that_is_none_is_not_sent(program: Path, server: Server, tmp_path: Path, octets: bytes) -> None:
    queries = tmp_path / "queries"
    queries.write_bytes(octets)

    with pytest.raises(BadRunError, match="the load failed: load: "):
        ask(program, server.address, queries, seconds=SECONDS)
    assert not server.seen


def test_a_load_needs_one_way_to_ask(program: Path, tmp_path: Path) -> None:
    queries = write(tmp_path / "queries", QUERIES)
    command = [str(program), "-p", "9", "-d", str(queries), "-l", "1", "-q", "5", "-Q", "5"]

    assert subprocess.run(command, check=False, capture_output=True, timeout=SECONDS).returncode == 2


def test_queries_are_what_dnspython_reads() -> None:
    plain = wire(name_wire("www.known.example"), TYPES["HTTPS"])

    message = dns.message.from_wire(with_cookie(plain, b"8 octets"))

    assert message.question == dns.message.from_wire(plain).question
    assert message.question[0].to_text() == "www.known.example. IN HTTPS"
    assert message.flags == dns.flags.RD
    assert [option.to_wire() for option in message.options] == [b"8 octets"]
    assert message.payload == 1232


def test_no_two_clients_share_an_address() -> None:
    addresses = {address_of(client) for client in range(1, 100_001)}

    assert len(addresses) == 100_000
    assert all(address >> 24 == 127 for address in addresses)


def test_reports_are_read_whole_or_not_at_all() -> None:
    report = (
        '{"sent": 3, "answered": 2, "lost": 1, "unexpected": 0, "seconds": 0.5, "rcodes": {"0": 1, "2": 1},'
        ' "p50_us": 1.5, "p99_us": 2, "p999_us": 3, "max_us": 4}'
    )

    answers = parse(report)

    assert answers == Answers(3, 2, 1, 0, 0.5, {0: 1, 2: 1}, 1.5, 2, 3, 4)
    assert (answers.per_second, answers.failed) == (4.0, 1)
    for broken in ("", "[]", report[:-9], '{"rcodes": {}}', '{"rcodes": 1}'):
        with pytest.raises(BadRunError):
            parse(broken)
