"""DNS over HTTPS on HTTP/2, without sockets: streams side by side, read and written by h2.

What one client can make us keep is bounded by the windows and limits below; what it can make us do, by `patience`.

h2 takes a GOAWAY for the end of everything (python-hyper/h2 issue 1181), and a stream too many for the connection's
fault. Neither is (RFC 9113 sections 6.8 and 5.1.2), so both are seen to here.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings

from resolver.listeners import doh
from resolver.listeners.doh import Head, RefusedError
from resolver.listeners.framing import NEVER, Message
from resolver.wire import STREAM_LIMIT

if TYPE_CHECKING:
    from hyperframe.frame import Frame, GoAwayFrame

MOST_STREAMS = 128
MOST_HEADER_LIST = 16_384  # octets, as RFC 9113 section 6.5.2 counts them
STREAM_WINDOW = STREAM_LIMIT + 1  # so that a body which is too large shows it
CONNECTION_WINDOW = 2 * STREAM_WINDOW  # what all bodies that aren't whole yet can hold together
PATIENCE = 256
"""Frames that ask for nothing, as resets and pings, which are borne before the first answer, or since a quiet time."""
PATIENCE_FOR_AN_ANSWER = 4
"""Those that a sound client may send along with a request: two window updates, a priority, a reset."""


class Http2:
    """One client's HTTP/2 connection (RFC 9113)."""

    most_at_once = 1024  # a hundred of the smallest frames, 0.1 ms each
    most_in_flight = MOST_STREAMS

    def __init__(self) -> None:
        self._is_ended = False
        self._goes_away = False
        """Whether the client has said so: what it has asked for is answered, and that is all."""
        self.patience = PATIENCE
        self._connection = _connection()
        self._requests: dict[int, _Request] = {}
        """Those that aren't whole, by their streams, the oldest first."""
        self._whole: deque[Message] = deque()
        self._in_flight: set[int] = set()
        self._held: dict[int, bytes] = {}
        """What is left of answers that wait for their windows, by their streams."""
        self._now = 0.0

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more can be read or answered."""
        return self._is_ended or (
            self._goes_away and not (self._requests or self._whole or self._in_flight or self._held)
        )

    @property
    def begun(self) -> float:
        """Return when the oldest request began that isn't whole yet."""
        return next((request.begun for request in self._requests.values()), NEVER)

    @property
    def held(self) -> int:
        """Return the octets of answers that wait for their windows."""
        return sum(map(len, self._held.values())) if self._held else 0

    def receive(self, data: bytes, now: float) -> None:
        """Take octets from the client."""
        if self._is_ended:
            return
        self._now = now
        try:
            for event in self._connection.receive_data(data):
                self._take(event)
        except ProtocolError:  # h2 has written the GOAWAY that says so
            self._is_ended = True
        if self.patience < 0 and not self._is_ended:
            self._end(ErrorCodes.ENHANCE_YOUR_CALM)

    def _take(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._begin(event)
            case DataReceived():
                self._add(event)
            case StreamEnded():
                self._finish(event.stream_id or 0)
            case StreamReset():
                self.patience -= 1
                self._forget(event.stream_id)
            case WindowUpdated() | RemoteSettingsChanged():
                self.patience -= 1
                self._send_held()
            case ConnectionTerminated():
                self.patience -= 1
                self._goes_away = True
            case _:  # pings, priorities, frames that nobody knows
                self.patience -= 1

    def _begin(self, event: RequestReceived) -> None:
        fields = dict(event.headers or [])
        head = Head(
            fields.get(b":method", b""),
            fields.get(b":path", b""),
            fields.get(b"content-type", b""),
            fields.get(b"content-length", b""),
        )
        stream = event.stream_id or 0
        if len(self._requests) + len(self._in_flight) + len(self._held) >= MOST_STREAMS:
            self.patience -= 1
            if self._is_open(stream):
                self._connection.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
            return
        self._requests[stream] = _Request(head, self._now)
        try:
            doh.check(head)
        except RefusedError as refusal:
            self._refuse(stream, refusal, is_whole=event.stream_ended is not None)

    def _add(self, event: DataReceived) -> None:
        stream = event.stream_id or 0
        octets = event.flow_controlled_length or 0
        request = self._requests.get(stream)
        if request is None or request.is_refused:
            self.patience -= 1
            self._acknowledge(octets, stream)
            return
        if event.stream_ended is None:  # a message in many small parts costs more than it is worth
            self.patience -= 1
        request.body.extend(event.data or b"")
        # Room for what padding took comes back at once, for the body when it is whole: so the windows bound them all.
        self._acknowledge(octets - len(event.data or b""), stream)
        try:
            doh.check_length(len(request.body))
        except RefusedError as refusal:
            self._refuse(stream, refusal, is_whole=event.stream_ended is not None)

    def _finish(self, stream: int) -> None:
        """Take a request that is whole."""
        request = self._requests.get(stream)
        if request is None or request.is_refused:
            self._requests.pop(stream, None)
            return
        try:
            data = doh.query_of(request.head, bytes(request.body))
        except RefusedError as refusal:
            self._refuse(stream, refusal, is_whole=True)
            return
        self._forget(stream)
        self._in_flight.add(stream)
        self._whole.append(Message(data, stream))

    def _refuse(self, stream: int, refusal: RefusedError, *, is_whole: bool) -> None:
        """Say at once that a request carries no query; what is still to come of it is read and thrown away.

        RFC 9113 section 8.1 would have its stream reset, but clients take what h2 answers to their next frame, another
        reset, for a failure.
        """
        request = self._requests[stream]
        self._forget(stream)
        self._respond(stream, refusal.status, refusal.fields)
        if not is_whole and self._is_open(stream):
            self._requests[stream] = _Request(request.head, request.begun, is_refused=True)

    def _forget(self, stream: int | None) -> None:
        """Keep nothing of a stream any more."""
        if stream is None:
            return
        request = self._requests.pop(stream, None)
        if request is not None:
            self._acknowledge(len(request.body), stream)
        self._in_flight.discard(stream)
        self._held.pop(stream, None)

    def _acknowledge(self, octets: int, stream: int) -> None:
        if octets:
            try:
                self._connection.acknowledge_received_data(octets, stream)
            except StreamClosedError:  # the connection's window is open again all the same
                return

    def next_message(self) -> Message | None:
        """Return the next whole request's query, whether its client still waits or not: it reached us."""
        return self._whole.popleft() if self._whole else None

    def reply(self, target: object, reply: bytes) -> None:
        """Answer a request; one whose stream was reset is passed over."""
        if target not in self._in_flight or self._is_ended:
            return
        assert isinstance(target, int)
        self._in_flight.remove(target)
        self.patience = min(PATIENCE, self.patience + PATIENCE_FOR_AN_ANSWER)
        self._respond(target, 200, doh.answer_fields(reply), reply)

    def _is_open(self, stream: int) -> bool:
        """Tell whether a stream can take an answer: h2 reads on before we hear of a reset."""
        known = self._connection.streams.get(stream)
        return known is not None and not known.closed

    def _respond(self, stream: int, status: int, fields: doh.Fields, body: bytes = b"") -> None:
        if not self._is_open(stream):
            return
        self._connection.send_headers(stream, [(b":status", b"%d" % status), *fields], end_stream=not body)
        if body:
            self._held[stream] = body
            self._send_held_of(stream)

    def _send_held(self) -> None:
        for stream in list(self._held):
            self._send_held_of(stream)

    def _send_held_of(self, stream: int) -> None:
        """Send as much of an answer as its windows and frames take (RFC 9113 section 5.2)."""
        connection, body = self._connection, self._held.pop(stream)
        while body and self._is_open(stream):
            octets = min(connection.local_flow_control_window(stream), connection.max_outbound_frame_size)
            if octets <= 0:
                self._held[stream] = body
                return
            part, body = body[:octets], body[octets:]
            connection.send_data(stream, part, end_stream=not body)

    def output(self) -> bytes:
        """Return the octets that are to be sent now."""
        return self._connection.data_to_send()

    def close(self) -> None:
        """Say that no request after the last one was looked at (RFC 9113 section 6.8)."""
        if not self._is_ended:
            self._end(ErrorCodes.NO_ERROR)

    def _end(self, code: ErrorCodes) -> None:
        self._connection.close_connection(code)
        self._is_ended = True

    def release(self) -> None:
        """Let go of everything: h2's connection holds itself by a table of its methods, and nobody looks for that."""
        vars(self._connection).clear()


@dataclass(slots=True)
class _Request:
    """A request that isn't whole."""

    head: Head
    begun: float
    body: bytearray = field(default_factory=bytearray)
    is_refused: bool = False


class _Connection(H2Connection):
    """h2's, made to remember fewer of the streams that ended: 64 Ki of them take 6 MB."""

    MAX_CLOSED_STREAMS = 256

    def _receive_goaway_frame(self, _frame: "GoAwayFrame") -> "tuple[list[Frame], list[Event]]":
        """Tell of a GOAWAY and no more; h2's own closes the connection, and throws away what is to be sent."""
        return [], [ConnectionTerminated()]


def _connection() -> H2Connection:
    """Return h2's connection under our limits, its first words written."""
    connection = _Connection(H2Configuration(client_side=False))
    limits = {
        SettingCodes.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
        SettingCodes.MAX_HEADER_LIST_SIZE: MOST_HEADER_LIST,
        SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        SettingCodes.ENABLE_CONNECT_PROTOCOL: 0,
    }
    connection.local_settings = Settings(client=False, initial_values=limits)  # as initial ones they bind at once
    connection.decoder.max_header_list_size = MOST_HEADER_LIST
    connection.initiate_connection()
    # They are sent. From now on h2 leaves it to us which streams are too many: it has counted all that one `receive`
    # brought before we hear of the first.
    unchecked = limits | {SettingCodes.MAX_CONCURRENT_STREAMS: MOST_STREAMS + Http2.most_at_once}
    connection.local_settings = Settings(client=False, initial_values=unchecked)
    connection.increment_flow_control_window(CONNECTION_WINDOW - 65_535)  # RFC 9113 section 6.9.2
    return connection
