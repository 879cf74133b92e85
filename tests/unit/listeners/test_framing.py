"""Messages behind their lengths: RFC 1035 section 4.2.2, RFC 7766 section 8."""

from hypothesis import given
from hypothesis import strategies as st

from resolver.listeners.framing import NEVER, LengthPrefixed, Message
from resolver.wire import framed


def messages_of(framing: LengthPrefixed) -> list[bytes]:
    found = []
    while (message := framing.next_message()) is not None:
        found.append(message.data)
    return found


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_however_a_stream_is_cut_its_messages_are_the_same(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(framed, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    framing, found = LengthPrefixed(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if start < end:
            framing.receive(stream[start:end], 1.0)
        found += messages_of(framing)
    assert found == messages
    assert framing.begun == NEVER


def test_the_longest_message_may_come_octet_by_octet() -> None:
    framing, message = LengthPrefixed(), bytes(65_535)
    for octet in framed(message):
        assert framing.next_message() is None
        framing.receive(bytes([octet]), 1.0)
    assert messages_of(framing) == [message]


def test_a_message_begins_with_its_first_octet_or_when_the_one_before_it_was_whole() -> None:
    framing = LengthPrefixed()
    assert framing.begun == NEVER
    framing.receive(b"\0", 5.0)
    framing.next_message()
    framing.receive(b"\1", 6.0)
    framing.next_message()
    assert framing.begun == 5.0
    framing.receive(b"a\0", 9.0)
    assert framing.next_message() == Message(b"a", None)
    assert framing.next_message() is None
    assert framing.begun == 9.0
    framing.receive(b"\0", 10.0)
    assert messages_of(framing) == [b""]
    assert framing.begun == NEVER


def test_replies_leave_together_each_behind_its_length() -> None:
    framing = LengthPrefixed()
    framing.reply(None, b"abc")
    framing.reply(None, b"de")
    assert framing.output() == b"\0\3abc\0\2de"
    assert framing.output() == b""
