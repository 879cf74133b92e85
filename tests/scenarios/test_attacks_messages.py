"""Messages made to break a parser (rows 19 and 20 of the attacks): each is one lookup, or none, and all goes on."""

import random
import struct
from typing import Any

import dns.exception
import dns.message
import dns.rcode
import pytest

from tests.integration.node import Node
from tests.support import behaviours
from tests.support.behaviours import Query, Reply
from tests.support.dns_client import receive_framed, send_framed, tcp_socket, udp, udp_socket
from tests.support.fake_upstream import FakeUpstream
from tests.support.scenarios import IDENT, OPT, address, asked_over, octets, octets_of, question, rcode

QUESTION = octets("bad.example")[12:]
LAST = b"\xff\xfe" + question("www.bad.example")[2:]
"""Asked after each: its answer shows that the worker has taken what came before."""
TXT_RECORD = b"\0" + struct.pack(">HHIH", 16, 1, 0, 2) + b"\1x"


def message(rest: bytes, *counts: int, flags: int = 0x0100) -> bytes:
    """Return a header with these counts, and octets behind it."""
    return struct.pack(">6H", IDENT, flags, *counts) + rest


def opt(options: bytes, length: int | None = None) -> bytes:
    return b"\0" + struct.pack(">HHIH", 41, 1232, 0, len(options) if length is None else length) + options


NAME_TYPE = b"\0\1\0\1"
LONGEST = b"".join([b"\1a"] * 127) + b"\0"
MALFORMED = {
    "a pointer to itself": message(b"\xc0\x0c" + NAME_TYPE, 1, 0, 0, 0),
    "two pointers in a circle": message(b"\xc0\x0e\xc0\x0c" + NAME_TYPE, 1, 0, 0, 0),
    "a pointer forward": message(b"\xc0\x20" + NAME_TYPE + bytes(32), 1, 0, 0, 0),
    "a pointer into the header": message(b"\3bad\xc0\x00" + NAME_TYPE, 1, 0, 0, 0),
    "a pointer out of the message": message(b"\xff\xff" + NAME_TYPE, 1, 0, 0, 0),
    "half a pointer": message(b"\3bad\xc0", 1, 0, 0, 0),
    "an extended label": message(b"\x41\x08abc\0" + NAME_TYPE, 1, 0, 0, 0),
    "a reserved label": message(b"\x80abc\0" + NAME_TYPE, 1, 0, 0, 0),
    "a name without an end": message(b"\3bad\7example", 1, 0, 0, 0),
    "a name of 256 octets": message(b"".join([b"\1a"] * 127) + b"\1b\0" + NAME_TYPE, 1, 0, 0, 0),
    "a name of 4,000 octets": message(b"\x3f" + b"x" * 63 + (b"\x3f" + b"x" * 63) * 60 + b"\0" + NAME_TYPE, 1, 0, 0, 0),
    "a question cut short": message(b"\3bad\7example\0\0\1\0", 1, 0, 0, 0),
    "no question behind the header": message(b"", 1, 0, 0, 0),
    "65,535 questions": message(QUESTION, 0xFFFF, 0, 0, 0),
    "answers in a question": message(QUESTION + TXT_RECORD, 1, 1, 0, 0),
    "authorities in a question": message(QUESTION + TXT_RECORD, 1, 0, 1, 0),
    "additional records that aren't there": message(QUESTION, 1, 0, 0, 0xFFFF),
    "a record longer than the message": message(QUESTION + opt(b"", 0xFFFF), 1, 0, 0, 1),
    "an option longer than its record": message(QUESTION + opt(b"\0\x0a\xff\xffab"), 1, 0, 0, 1),
    "half an option": message(QUESTION + opt(b"\0\x0a\0"), 1, 0, 0, 1),
    "an OPT record with a name": message(QUESTION + b"\3bad" + OPT, 1, 0, 0, 1),
    "5,000 OPT records": message(QUESTION + OPT * 5_000, 1, 0, 0, 5_000),
    "300 OPT records": message(QUESTION + OPT * 300, 1, 0, 0, 300),
    "a question for OPT": octets("bad.example", 41),
    "all ones": message(b"\xff" * 500, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF),
}
ODD_BUT_SOUND = {
    "a name of 255 octets in 127 labels": message(LONGEST + NAME_TYPE, 1, 0, 0, 0),
    "a label of 63": octets("x" * 63 + ".bad.example"),
    "the root": octets_of([]),
    "octets behind its end": question("bad.example") + b"\xff" * 40,
    "a record besides the OPT record": message(QUESTION + TXT_RECORD + OPT, 1, 0, 0, 2),
    "a record whose owner points to itself": message(
        QUESTION + bytes([0xC0, 12 + len(QUESTION)]) + TXT_RECORD[1:] + OPT, 1, 0, 0, 2
    ),
    "250 records": message(QUESTION + TXT_RECORD * 250, 1, 0, 0, 250),
    "100 options": message(QUESTION + opt(b"\xfd\xe9\0\1x" * 100), 1, 0, 0, 1),
    "every flag": octets("bad.example", flags=0x07FF),
}
NO_QUERIES = {
    "nothing": b"",
    "one octet": b"\0",
    "a header cut short": bytes(11),
    "a response": octets("bad.example", flags=0x8180),
    "a response of junk": message(b"\xff" * 100, 0xFFFF, 1, 2, 3, flags=0xFFFF),
}


def replies_over(node: Node, transport: str, wire: bytes) -> list[bytes]:
    """Send octets and then a sound question; return what came in reply to the octets."""
    found: list[bytes] = []
    if transport == "udp":
        with udp_socket(node.server) as sock:
            sock.send(wire)
            sock.send(LAST)
            while (reply := sock.recv(65535))[:2] != LAST[:2]:
                found.append(reply)
    else:
        with tcp_socket(node.server) as stream:
            send_framed(stream, wire, LAST)
            while (reply := receive_framed(stream))[:2] != LAST[:2]:
                found.append(reply)
    return found


def transports(cases: dict[str, bytes]) -> list[Any]:
    """Return each case with each transport, as parameters of a test."""
    return [
        pytest.param(transport, wire, id=f"{transport}: {name}")
        for name, wire in cases.items()
        for transport in ("udp", "tcp")
    ]


@pytest.mark.parametrize(("transport", "wire"), transports(MALFORMED))
def test_19_what_is_malformed_is_told_so_and_logged_once(
    node: Node, upstream: FakeUpstream, transport: str, wire: bytes
) -> None:
    """Row 19: FORMERR (RFC 1035 section 4.1.1), no larger than the query, and no upstream hears of it."""
    before, heard = len(node.records), len(upstream.log)
    (reply,) = replies_over(node, transport, wire)
    assert rcode("FORMERR")(dns.message.from_wire(reply))
    assert reply[:2] == wire[:2]
    assert len(reply) <= len(wire)
    (record, last) = node.records[before:]
    assert record.decision.verdict == "malformed"
    assert last.decision.verdict == "blocked"
    assert len(upstream.log) == heard


@pytest.mark.parametrize(("transport", "wire"), transports(ODD_BUT_SOUND))
def test_19_what_is_merely_odd_is_answered(node: Node, transport: str, wire: bytes) -> None:
    """Row 19: what the limits of the RFCs still allow."""
    before = len(node.records)
    reply = asked_over(node.server, transport, wire)
    assert reply[:2] == wire[:2]
    assert rcode("NOERROR")(dns.message.from_wire(reply))
    assert len(node.records) == before + 1


@pytest.mark.parametrize(("transport", "wire"), transports(NO_QUERIES))
def test_19_what_is_no_query_is_nothing(node: Node, transport: str, wire: bytes) -> None:
    """Row 19: no reply, no record."""
    before = len(node.records)
    assert replies_over(node, transport, wire) == []
    assert len(node.records) == before + 1


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_20_each_of_many_mutations_is_one_lookup(
    node: Node, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """Row 20: sound queries with octets changed, cut, doubled: one reply and one record for each that is a query.

    None of these meets a bug. What one costs, wherever it is: tests/unit/resolver/test_engine_faults.py and
    tests/integration/test_worker_faults.py.
    """
    monkeypatch.setattr(upstream, "default", echo)
    rng = random.Random(20_053)
    sound = [
        question("bad.example", use_edns=0, want_dnssec=True),
        question("www.bad.example", "HTTPS"),
        question("x.test", use_edns=0, options=[dns.edns.ECSOption("192.0.2.0", 24)]),
    ]
    wires = [mutated(rng, rng.choice(sound)) for _ in range(1_500)]
    wires = [number.to_bytes(2, "big") + wire[2:] for number, wire in enumerate(wires)]
    queries = [wire for wire in wires if len(wire) >= 12 and not wire[2] & 0x80]
    assert len(queries) > 1_000
    before = len(node.records)
    replied: set[int] = set()
    if transport == "udp":
        with udp_socket(node.server) as sock:
            for start in range(0, len(wires), 50):
                for wire in wires[start : start + 50]:
                    sock.send(wire)
                sock.send(LAST)
                while (reply := sock.recv(65535))[:2] != LAST[:2]:
                    replied |= seen(reply, replied)
            rest = len(range(0, len(wires), 50))
            while len(replied) < len(queries):  # those that an upstream had to be asked for
                replied |= seen(sock.recv(65535), replied)
    else:
        with tcp_socket(node.server) as stream:
            for start in range(0, len(wires), 50):
                send_framed(stream, *wires[start : start + 50])
            rest = 0
            while len(replied) < len(queries):
                replied |= seen(receive_framed(stream), replied)
    assert replied == {int.from_bytes(wire[:2], "big") for wire in queries}
    assert len(node.records) == before + len(queries) + rest
    assert node.workers[0].process.poll() is None


def echo(query: Query) -> list[Reply]:
    """Answer nothing, whatever the name."""
    return [Reply(dns.message.make_response(query.message).to_wire())]


def seen(reply: bytes, before: set[int]) -> set[int]:
    """Return a reply's ID. Fails for a second reply, and for one that can't be read."""
    number = int.from_bytes(reply[:2], "big")
    assert number not in before
    dns.message.from_wire(reply[:2] + bytes([reply[2] & 0x87]) + reply[3:])  # it reads other kinds otherwise
    return {number}


def mutated(rng: random.Random, wire: bytes) -> bytes:
    """Return octets changed here and there, behind the ID."""
    changed = bytearray(wire)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(2, len(changed))
        kind = rng.randrange(4)
        if kind == 0:
            changed[place] = rng.randrange(256)
        elif kind == 1:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del changed[place : place + rng.randint(1, 5)]
        else:
            changed[place:place] = changed[place : place + rng.randint(1, 20)]
        if len(changed) <= 3:
            break
    return bytes(changed)


BROKEN_ANSWERS = {
    "a pointer in a circle": ("A", b"\xc0\x20\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"),
    "data longer than the message": ("A", b"\xc0\x0c\0\1\0\1\0\0\0\x3c\xff\xff\xc0\0\2\1"),
    "an address cut short": ("A", b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0"),
    "an address of another class": ("A", b"\xc0\x0c\0\1\0\3\0\0\0\x3c\0\4\xc0\0\2\1"),
    "an alias in a circle": ("A", b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\2\xc0\x0c"),
    "a name that points forward": ("MX", b"\xc0\x0c\0\x0f\0\1\0\0\0\x3c\0\4\0\x0a\xc0\xff"),
    "a name that points to the header": ("NS", b"\xc0\x0c\0\2\0\1\0\0\0\x3c\0\2\xc0\4"),
    "a name longer than its record": ("PTR", b"\xc0\x0c\0\x0c\0\1\0\0\0\x3c\0\3\7example\0"),
    "a zone's start cut short": ("SOA", b"\xc0\x0c\0\6\0\1\0\0\0\x3c\0\6\0\0\0\0\0\1"),
    "nothing at all": ("A", b""),
}


@pytest.mark.parametrize(("rdtype", "record"), BROKEN_ANSWERS.values(), ids=BROKEN_ANSWERS)
def test_19_an_upstreams_broken_answer_is_a_failure(
    node: Node, upstream: FakeUpstream, rdtype: str, record: bytes, request: pytest.FixtureRequest
) -> None:
    """Rows 19 and 20: it is not passed on, so that no client's parser meets it, and the next question is answered."""

    def broken(query: Query) -> list[Reply]:
        end = query.wire.index(b"\0", 12) + 5
        return [Reply(query.wire[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0) + query.wire[12:end] + record)]

    name = f"{request.node.callspec.id.replace(' ', '-').replace(chr(39), '')}.broken.example"
    upstream.behave(name, broken)
    assert rcode("SERVFAIL")(udp(node.server, name, rdtype))
    assert address(f"after.{name}")(udp(node.server, f"after.{name}"))


def test_19_a_denial_with_a_broken_soa_is_a_failure(node: Node, upstream: FakeUpstream) -> None:
    """Row 19: how long it holds could be read from anywhere else."""

    def broken(query: Query) -> list[Reply]:
        end = query.wire.index(b"\0", 12) + 5
        record = b"\xc0\x0c\0\6\0\1\0\0\0\x3c\0\2\0\0"
        return [Reply(query.wire[:2] + struct.pack(">5H", 0x8183, 1, 0, 1, 0) + query.wire[12:end] + record)]

    upstream.behave("denied.broken.example", broken)
    assert rcode("SERVFAIL")(udp(node.server, "denied.broken.example"))


def test_19_an_upstreams_many_records_are_bounded_by_the_message(node: Node, upstream: FakeUpstream) -> None:
    """Row 19: 3,000 addresses in one answer are passed on over TCP as they came."""
    count = 3_000

    def many(query: Query) -> list[Reply]:
        if query.transport == "udp":
            return behaviours.truncated(query)
        end = query.wire.index(b"\0", 12) + 5
        records = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + struct.pack(">I", 0xC6330000 + n) for n in range(count))
        return [Reply(query.wire[:2] + struct.pack(">5H", 0x8180, 1, count, 0, 0) + query.wire[12:end] + records)]

    upstream.behave("many.example", many)
    reply = dns.message.from_wire(asked_over(node.server, "tcp", question("many.example")))
    assert len(reply.answer[0]) == count
