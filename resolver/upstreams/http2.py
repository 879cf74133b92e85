"""HTTP/2 as a client speaks it, without sockets: h2, and what it leaves undone.

h2 takes a GOAWAY for the end of everything and refuses what comes after it (python-hyper/h2 issue 1181), while a server
that says it goes on to answer what it has accepted (RFC 9113 section 6.8), as nginx does after each 1,000 requests. So
GOAWAY frames are read here and kept from h2.
"""

from collections.abc import Iterator
from typing import NamedTuple

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RemoteSettingsChanged, StreamEnded, StreamReset, WindowUpdated
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

HEADER_LENGTH = 9  # RFC 9113 section 4.1
MAX_FRAME = 16_384  # octets of payload: what is in force where a client says nothing else (section 6.5.2)
GOAWAY = 7
GOAWAY_LENGTH = 8  # and debug data behind it: section 6.8
STREAM_WINDOW = 1 << 17  # octets: more than any DNS message, so that none waits for us
CONNECTION_WINDOW = 1 << 24
MAX_HEADER_LIST = 1 << 14
CARELESS_STREAMS = 100  # RFC 9113 section 6.5.2: no server should allow fewer, so as many go before it has said
MAX_STREAMS = 1_000
LAST_STREAM = (1 << 31) - 1  # RFC 9113 section 5.1.1


class RemoteProtocolError(Exception):
    """The server broke HTTP/2; the message is for the operator's log."""


class GoAway(NamedTuple):
    """The server takes no more requests."""

    last_stream: int
    """Requests on streams above it were not looked at."""


class Http2:
    """An HTTP/2 connection's frames and flow control. Requests are a header and a body, all of it known."""

    def __init__(self) -> None:
        self._h2 = H2Connection(H2Configuration(client_side=True))
        self._h2.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW)
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self._bodies: dict[int, bytes] = {}
        """By stream, what the server's flow control has held back."""
        self._has_settings = False
        self.goes_away = False
        self._collect()

    @property
    def max_streams(self) -> int:
        """Return how many requests may be under way at a time."""
        if not self._has_settings:
            return CARELESS_STREAMS
        return min(self._h2.remote_settings.max_concurrent_streams, MAX_STREAMS)

    @property
    def is_open(self) -> bool:
        """Tell whether there may be further requests."""
        return not self.goes_away and self._h2.highest_outbound_stream_id < LAST_STREAM

    @property
    def unsent(self) -> int:
        """Return how many octets are to be sent."""
        return len(self._outgoing)

    def outgoing(self) -> bytes:
        """Return the octets that are to be sent next, once."""
        octets = bytes(self._outgoing)
        self._outgoing.clear()
        return octets

    def request(self, headers: list[tuple[str, str]], body: bytes) -> int:
        """Send a request, its body as far as the server takes it now, and return its stream."""
        stream: int = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, headers)
        self._bodies[stream] = body
        self._send_body(stream)
        self._collect()
        return stream

    def cancel(self, stream: int, code: ErrorCodes) -> None:
        """Tell the server that a request's response isn't wanted (any more)."""
        self._bodies.pop(stream, None)
        try:
            self._h2.reset_stream(stream, code)
        except H2Error:
            return  # it is over already
        self._collect()

    def release(self) -> None:
        """Let go of everything: h2's connection holds itself by a table of its methods, and nobody looks for that."""
        self.goes_away = True
        vars(self._h2).clear()

    def receive(self, data: bytes) -> Iterator[Event | GoAway]:
        """Take octets and yield what happens, in order. Raises `RemoteProtocolError`, then or at any later frame."""
        self._incoming += data
        for frame in self._frames():
            if frame[3] == GOAWAY:
                yield self._go_away(frame)
                continue
            try:
                events = self._h2.receive_data(frame)
                for event in events:
                    self._take(event)
            except H2Error as problem:
                self._collect()  # h2's own GOAWAY
                raise RemoteProtocolError(f"it broke HTTP/2: {problem}") from problem
            self._collect()
            yield from events

    def _frames(self) -> Iterator[bytes]:
        incoming = self._incoming
        while len(incoming) >= HEADER_LENGTH:
            length = int.from_bytes(incoming[:3], "big")
            if length > MAX_FRAME:
                raise RemoteProtocolError("it broke HTTP/2: a frame is too large")
            end = HEADER_LENGTH + length
            if len(incoming) < end:
                return
            frame = bytes(incoming[:end])
            del incoming[:end]
            yield frame

    def _go_away(self, frame: bytes) -> GoAway:
        if len(frame) < HEADER_LENGTH + GOAWAY_LENGTH:
            raise RemoteProtocolError("it broke HTTP/2: a GOAWAY is cut short")
        self.goes_away = True
        return GoAway(int.from_bytes(frame[HEADER_LENGTH : HEADER_LENGTH + 4], "big") & LAST_STREAM)

    def _take(self, event: Event) -> None:
        """Do what the protocol itself asks for."""
        if isinstance(event, DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            if event.stream_id in self._bodies:  # answered without being heard out
                self.cancel(event.stream_id, ErrorCodes.NO_ERROR)
        elif isinstance(event, StreamReset):
            self._bodies.pop(event.stream_id, None)
        elif isinstance(event, RemoteSettingsChanged | WindowUpdated):
            self._has_settings = self._has_settings or isinstance(event, RemoteSettingsChanged)
            for stream in list(self._bodies):
                self._send_body(stream)

    def _send_body(self, stream: int) -> None:
        """Send as much of a request's body as flow control lets pass (RFC 9113 section 5.2)."""
        body = self._bodies[stream]
        frame = self._h2.max_outbound_frame_size
        while (size := min(len(body), self._h2.local_flow_control_window(stream), frame)) > 0:
            self._h2.send_data(stream, body[:size], end_stream=size == len(body))
            body = body[size:]
        if body:
            self._bodies[stream] = body
        else:
            del self._bodies[stream]

    def _collect(self) -> None:
        self._outgoing += self._h2.data_to_send()
