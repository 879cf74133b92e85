"""Answers whose names point anywhere are refused, or say what dnspython reads in them for as long as they are kept."""

import struct
from typing import NamedTuple

from hypothesis import event, given, settings
from hypothesis import strategies as st

from resolver import answers, replies, wire
from resolver.compression import MalformedAnswerError
from resolver.rewriting import Terms
from tests.fuzz.targets import check_ageing, is_readable, said

TERMS = Terms(0, 1 << 24, ["."])
CNAME, SOA, MX, TXT, DNAME = 5, 6, 15, 16, 39
SHAPES = {
    1: (4, 0, 0),
    2: (0, 1, 0),
    CNAME: (0, 1, 0),
    SOA: (0, 2, 20),
    12: (0, 1, 0),
    17: (0, 2, 0),
    MX: (2, 1, 0),
    TXT: (2, 0, 0),
    33: (6, 1, 0),
    DNAME: (0, 1, 0),
    47: (0, 1, 4),
}
"""Of each type: how many octets are before the names in its data, how many names there are, and octets behind."""
FILLING = {TXT: b"\1t", 47: b"\0\2\x40\1"}
TTLS = [60, 0x00015100, 0x00016200, 0x01610000, 0x01610000, 0x0001C00C, 0x80000000]
"""In seconds; as octets some are names, or pointers."""
LABELS = [b"a", b"b", b"xy", b"A"]


class Message(NamedTuple):
    """A response's octets, and where in it names may point to."""

    octets: bytes
    places: list[int]


@st.composite
def written_names(draw: st.DrawFn, message: Message) -> bytes:
    """Draw a name that stands at the end of a message: labels, and a pointer to anywhere before or the root."""
    labels = draw(st.lists(st.sampled_from(LABELS), max_size=2))
    name = b"".join(bytes([len(label)]) + label for label in labels)
    latest, places = st.sampled_from(message.places[-5:]), st.sampled_from(message.places)
    place = draw(st.none() | latest | places | st.integers(12, len(message.octets) - 1))
    return name + (b"\0" if place is None else struct.pack(">H", 0xC000 | place))


@st.composite
def records(draw: st.DrawFn, message: Message, rtype: int) -> Message:
    """Draw a record, and return the message with it."""
    octets, places = message.octets, [*message.places]
    usual = [b"\xc0\x0c", b"\xc0\x0c", struct.pack(">H", 0xC000 | places[-1])]
    owner = draw(st.sampled_from(usual) | written_names(message))
    places += [len(octets)]
    octets += owner
    places += [len(octets) + 4 + shift for shift in range(3)]
    before, names, behind = SHAPES[rtype]
    head = octets + struct.pack(">HHI", rtype, 1, draw(st.sampled_from(TTLS)))
    data = FILLING[rtype] if rtype == TXT else bytes([192, 0, 2, 1, 0, 0][:before])
    for _ in range(names):
        places.append(len(head) + 2 + len(data))
        data += draw(written_names(Message(head + b"\0\0" + data, places)))
    data += FILLING.get(rtype, bytes(behind)) if behind else b""
    return Message(head + struct.pack(">H", len(data)) + data, places)


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, bytes, str]:
    """Draw a response, its question, and the question's name as text."""
    qtype = draw(st.sampled_from([2, CNAME, 12, MX, 33, *SHAPES]))
    question = b"\1a\2xy\1b\0" + struct.pack(">HH", qtype, 1)
    message = Message(bytes(12) + question, [12, 14, 17])
    counts = [draw(st.integers(0, 5)), draw(st.sampled_from([0, 0, 1, 1, 2]))]
    for section, count in enumerate(counts):
        for _ in range(count):
            usual = [qtype, qtype, CNAME] if section == 0 else [SOA]
            message = draw(records(message, draw(st.sampled_from([*usual, *usual, *SHAPES]))))
    head = struct.pack(">6H", 0, 0x8180 | draw(st.sampled_from([0, 0, 3])), 1, *counts, 0)
    return head + message.octets[12:], question, "a.xy.b"


@settings(max_examples=400)
@given(responses(), st.booleans())
def test_names_are_what_they_were(response: tuple[bytes, bytes, str], do: bool) -> None:
    data, question, name = response
    try:
        found = answers.read_answer(data, question, name, TERMS, do=do)
    except MalformedAnswerError:
        event("malformed")
        return
    asked = wire.read_query(b"\0\0\1\0\0\1\0\0\0\0\0\0" + question)
    written = b"\0\0" + replies.write_reply(asked, found, b"")
    check_ageing(asked, found)
    if not is_readable(data):  # dnspython reads what isn't passed on as well
        event("read by us alone")
        return
    event(f"passed on: {min(found.answers, 2)}, {found.authorities}")
    theirs = said(data)
    synthesized = [item for item in said(written) if item not in theirs]
    assert all(rdtype == CNAME for _, rdtype, _, _ in synthesized)
    assert not synthesized or any(rdtype == DNAME for _, rdtype, _, _ in theirs)
