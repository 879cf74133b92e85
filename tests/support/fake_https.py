"""The HTTP/2 side of a fake upstream: requests in, responses out, as well or badly as the test says (RFC 8484, 9113).

Written on h2's server side, so that what our client sends is judged by another than itself. Knows no socket:
`tests.support.fake_upstream` has it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    RequestReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes, Settings

MAX_FRAME = 16_384


@dataclass
class Manners:
    """How a server treats requests; may be changed while it serves."""

    status: int = 200
    content_type: str = "application/dns-message"
    headers: list[tuple[str, str]] = field(default_factory=list)
    """Further ones, ``content-length`` among them."""
    settings: dict[SettingCodes, int] = field(default_factory=dict)
    """What the server allows, told at the start of a connection."""
    resets: list[ErrorCodes] = field(default_factory=list)
    """The next requests are reset with these, one each."""
    frame: int = MAX_FRAME
    """Octets of a body in one frame."""
    informs: bool = False
    """Whether a 103 comes before a response, and trailers behind it."""


@dataclass
class Request:
    """One request as it came."""

    headers: dict[str, str]
    stream: int
    body: bytes = b""


Answer = Callable[[int, bytes], None]
"""Takes a stream, and the query that came on it."""


class HttpServer:
    """One client's connection, as the server sees it."""

    def __init__(self, manners: Manners, answer: Answer) -> None:
        self._manners = manners
        self._answer = answer
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._h2.local_settings = Settings(client=False, initial_values=manners.settings)
        self._h2.initiate_connection()
        self._requests: dict[int, Request] = {}
        self._unsent: dict[int, bytes] = {}
        self.requests: list[Request] = []
        """All of them, whole or not, oldest first."""
        self.cancelled: list[int] = []
        """Streams that the client reset."""
        self.most_at_once = 0

    def receive(self, data: bytes) -> None:
        """Take what the client sent. Raises `h2.exceptions.ProtocolError` when it breaks the rules."""
        for event in self._h2.receive_data(data):
            if isinstance(event, RequestReceived):
                headers = {str(name): str(value) for name, value in event.headers}
                self._requests[event.stream_id] = Request(headers, event.stream_id)
                self.requests.append(self._requests[event.stream_id])
                self.most_at_once = max(self.most_at_once, len(self._requests))
            elif isinstance(event, DataReceived):
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self._request(event.stream_id).body += event.data
            elif isinstance(event, StreamEnded):
                self._asked(self._request(event.stream_id))
            elif isinstance(event, StreamReset):
                self.cancelled.append(event.stream_id)
                self._requests.pop(event.stream_id, None)
                self._unsent.pop(event.stream_id, None)
            elif isinstance(event, WindowUpdated | SettingsAcknowledged):
                for stream in list(self._unsent):
                    self._send_body(stream)

    def respond(self, stream: int, body: bytes) -> None:
        """Answer a request; one that is over is passed over."""
        if self._requests.pop(stream, None) is None:
            return
        manners = self._manners
        if manners.informs:
            self._h2.send_headers(stream, [(":status", "103")])
        headers = [(":status", str(manners.status)), ("content-type", manners.content_type), *manners.headers]
        self._h2.send_headers(stream, headers, end_stream=not body)
        if body:
            self._unsent[stream] = body
            self._send_body(stream)

    def reset(self, stream: int, code: ErrorCodes) -> None:
        """Give a request up."""
        if self._requests.pop(stream, None) is not None:
            self._h2.reset_stream(stream, code)

    def outgoing(self) -> bytes:
        """Return what is to be sent."""
        return self._h2.data_to_send()

    def _request(self, stream: int) -> Request:
        """Return what came on a stream; one that was answered without being heard out counts no more."""
        return self._requests.get(stream) or Request({}, stream)

    def _asked(self, request: Request) -> None:
        if request.stream not in self._requests:
            return
        if self._manners.resets:
            self.reset(request.stream, self._manners.resets.pop(0))
        else:
            self._answer(request.stream, request.body)

    def _send_body(self, stream: int) -> None:
        body = self._unsent[stream]
        ends = not self._manners.informs
        while (size := min(len(body), self._manners.frame, self._h2.local_flow_control_window(stream))) > 0:
            self._h2.send_data(stream, body[:size], end_stream=ends and size == len(body))
            body = body[size:]
        self._unsent[stream] = body
        if not body:
            del self._unsent[stream]
            if not ends:
                self._h2.send_headers(stream, [("server-timing", "total")], end_stream=True)


def go_away(last_stream: int, code: ErrorCodes = ErrorCodes.NO_ERROR) -> bytes:
    """Return a GOAWAY frame (RFC 9113 section 6.8), after which h2's own server side would say nothing more."""
    payload = last_stream.to_bytes(4, "big") + int(code).to_bytes(4, "big")
    return len(payload).to_bytes(3, "big") + b"\x07\0" + bytes(4) + payload
