"""Whatever a client's stream holds, a framing reads it, refuses it or says that it is over: it raises nothing."""

from base64 import urlsafe_b64encode

import dns.message
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import strategies as st

from resolver.listeners.framing import LengthPrefixed
from resolver.listeners.http1 import Http1
from resolver.listeners.http2 import Http2
from tests.fuzz.targets import bring

QUERY = dns.message.make_query("www.example", "A", id=0).to_wire()
TARGET = b"/dns-query?dns=" + urlsafe_b64encode(QUERY).rstrip(b"=")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

streams = st.sampled_from([0, 1, 2, 3, 5, 7, 0x7FFFFFFF])
lengths = st.sampled_from([0, 1, 100, 65_535, 0x7FFFFFFF])
fields = st.lists(
    st.sampled_from(
        [
            (b":method", b"GET"),
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", b"dns.example"),
            (b":path", TARGET),
            (b":path", b"/dns-query"),
            (b"content-type", b"application/dns-message"),
            (b"content-length", b"29"),
            (b"content-length", b"-1"),
            (b"Upper", b"case"),
            (b"te", b"gzip"),
            (b"x\xff", b"\r\n"),
        ]
    ),
    max_size=8,
)
sound = st.sampled_from([(b":method", b"GET"), (b":method", b"POST")]).map(
    lambda method: [method, (b":scheme", b"https"), (b":path", TARGET), (b"content-type", b"application/dns-message")]
)
blocks = st.one_of(st.binary(max_size=30), st.one_of(sound, fields).map(lambda chosen: Encoder().encode(chosen)))
flags = st.lists(st.sampled_from(["END_STREAM", "END_HEADERS", "ACK"]))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Draw a frame, with a stream, flags and a content that may not fit it."""
    kind = draw(st.integers(0, 9))
    stream, number = draw(streams), draw(lengths)
    frame: Frame
    if kind <= 1:
        frame = HeadersFrame(1, draw(blocks))
    elif kind == 2:
        frame = DataFrame(1, draw(st.sampled_from([b"", QUERY, bytes(16_384), bytes(20_000)])))
    else:
        frame = [
            ContinuationFrame(1, b"\x82"),
            PingFrame(0, bytes(8)),
            PriorityFrame(1, depends_on=3, stream_weight=5),
            RstStreamFrame(1, number),
            SettingsFrame(0, {draw(st.integers(0, 9)): number}),
            WindowUpdateFrame(0, max(number, 1)),
            draw(st.sampled_from([GoAwayFrame(0, 0, 0), PushPromiseFrame(1, 2, b"\x82")])),
        ][kind - 3]
    for flag in draw(flags):
        if flag in {defined.name for defined in frame.defined_flags}:
            frame.flags.add(flag)
    octets = bytearray(frame.serialize())
    if kind <= 3 or draw(st.booleans()):
        octets[5:9] = stream.to_bytes(4, "big")
    return bytes(octets)


@given(st.lists(st.binary(min_size=1, max_size=100)))
def test_octets(pieces: list[bytes]) -> None:
    for framing in (LengthPrefixed(), Http1(), Http2()):
        bring(framing, pieces)
    bring(Http2(), [PREFACE, *pieces])


@given(st.lists(frames(), max_size=20))
def test_http2_frames(pieces: list[bytes]) -> None:
    bring(Http2(), [PREFACE + SettingsFrame(0).serialize(), *pieces])
    bring(Http2(), [PREFACE + SettingsFrame(0).serialize() + b"".join(pieces)])


lines = st.sampled_from(
    [
        b"GET " + TARGET + b" HTTP/1.1\r\n",
        b"POST /dns-query HTTP/1.1\r\n",
        b"HEAD /dns-query HTTP/1.0\r\n",
        b"CONNECT a:443 HTTP/1.1\r\n",
        b"Host: dns.example\r\n",
        b"Content-Type: application/dns-message\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Expect: 100-continue\r\n",
        b"\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"abc",
        b": x\r\n",
    ]
)


@given(st.lists(lines, max_size=20))
def test_http1_lines(pieces: list[bytes]) -> None:
    bring(Http1(), pieces)
    bring(Http1(), [b"".join(pieces) or b"\r\n"])
