"""Queries over HTTPS to an upstream: POST requests on one HTTP/2 connection (RFC 8484).

A response is an exchange's because it comes on its stream; its question must be the exchange's as well. The ID is 0 in
all queries (RFC 8484 section 4.1). Nothing in a request tells one client or worker from another.
"""

from collections import deque

from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

from resolver.upstreams.conversation import Conversation, Tried, Try
from resolver.upstreams.http2 import GoAway, Http2, RemoteProtocolError
from resolver.upstreams.matching import answers_question
from resolver.upstreams.persistent import PersistentTransport
from resolver.wire import STREAM_LIMIT
from setting_values import DEFAULT_PORTS, UpstreamAddress

MEDIA_TYPE = "application/dns-message"  # RFC 8484 section 6
MAX_QUEUED = 2_048
NO_ID = b"\0\0"


class HttpsTransport(PersistentTransport):
    """Queries over HTTP/2 and TLS."""

    required_protocol = "h2"  # RFC 9113 section 3.2

    def conversation(self) -> Conversation:
        """Return an HTTP/2 connection without requests."""
        return Requests(self._address)


class Requests:
    """The queries that wait on one HTTP/2 connection: those on streams, and those that wait for one."""

    def __init__(self, address: UpstreamAddress) -> None:
        self.fault = ""
        self._http2 = Http2()
        self._headers = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", authority(address)),
            (":path", address.path),
            ("accept", MEDIA_TYPE),
            ("content-type", MEDIA_TYPE),
        ]
        self._streams: dict[int, _Response] = {}
        self._queue: deque[Try] = deque()

    @property
    def is_open(self) -> bool:
        """Tell whether the server takes further requests."""
        return not self.fault and self._http2.is_open

    @property
    def waiting(self) -> int:
        """Return how many tries may still be answered."""
        return len(self._streams) + len(self._queue)

    @property
    def unsent(self) -> int:
        """Return how many octets are to be sent."""
        return self._http2.unsent

    def ask(self, attempt: Try) -> bool:
        """Take a try; False when too many wait for a stream, and it hasn't waited on another connection before."""
        if len(self._queue) >= MAX_QUEUED and not attempt.is_second:
            return False
        self._queue.append(attempt)
        self._request()
        return True

    def outgoing(self) -> bytes:
        """Return the octets that are to be sent next, once."""
        return self._http2.outgoing()

    def receive(self, data: bytes) -> list[Tried]:
        """Take what the server said and return which tries it ended."""
        outcomes: list[Tried] = []
        try:
            for event in self._http2.receive(data):
                if isinstance(event, GoAway):
                    outcomes += self._gone_away(event)
                elif isinstance(event, ResponseReceived | DataReceived | StreamEnded | StreamReset):
                    response = self._streams.get(event.stream_id)
                    outcome = response.take(event) if response is not None else None
                    if outcome is not None:
                        self._conclude(event, outcome)
                        outcomes.append(outcome)
        except RemoteProtocolError as problem:
            self.fault = str(problem)
        else:
            self._request()
        return outcomes

    def forget(self, before: float) -> None:
        """Drop tries asked before a time whose exchanges are over, so that others get their streams."""
        for stream, response in list(self._streams.items()):
            if response.attempt.at < before and response.attempt.exchange.finished:
                del self._streams[stream]
                self._http2.cancel(stream, ErrorCodes.CANCEL)
        self._request()

    def owed(self) -> list[Try]:
        """Return the tries that have got no answer yet, oldest first."""
        return [*(response.attempt for response in self._streams.values()), *self._queue]

    def leave(self) -> list[Try]:
        """Return the tries that got no answer, and forget them."""
        attempts = self.owed()
        self._streams.clear()
        self._queue.clear()
        self._http2.release()
        return attempts

    def _request(self) -> None:
        """Send what waits, as far as the server allows requests beside each other (RFC 9113 section 5.1.2)."""
        while self._queue and self.is_open and len(self._streams) < self._http2.max_streams:
            attempt = self._queue.popleft()
            if not attempt.exchange.finished:
                body = NO_ID + attempt.exchange.wire(attempt.server)
                stream = self._http2.request([*self._headers, ("content-length", str(len(body)))], body)
                self._streams[stream] = _Response(attempt)

    def _conclude(self, event: ResponseReceived | DataReceived | StreamEnded | StreamReset, outcome: Tried) -> None:
        del self._streams[event.stream_id]
        if outcome.reply is None and isinstance(event, ResponseReceived | DataReceived) and not event.stream_ended:
            self._http2.cancel(event.stream_id, ErrorCodes.CANCEL)

    def _gone_away(self, event: GoAway) -> list[Tried]:
        """Give back the requests that the server didn't look at (RFC 9113 section 6.8)."""
        unseen = [stream for stream in self._streams if stream > event.last_stream]
        attempts = [*(self._streams.pop(stream).attempt for stream in unseen), *self._queue]
        self._queue.clear()
        return [Tried(attempt, None, may_go_again=True) for attempt in attempts]


class _Response:
    """What has come of one request's response."""

    def __init__(self, attempt: Try) -> None:
        self.attempt = attempt
        self._body = bytearray()

    def take(self, event: ResponseReceived | DataReceived | StreamEnded | StreamReset) -> Tried | None:
        """Return the outcome once it stands."""
        if isinstance(event, ResponseReceived):
            fault = fault_of(dict(event.headers))
            return self._lost(fault) if fault else None
        if isinstance(event, DataReceived):
            self._body += event.data
            return self._lost("its answer is too long") if len(self._body) > STREAM_LIMIT else None
        if isinstance(event, StreamReset):
            if event.error_code == ErrorCodes.REFUSED_STREAM:  # RFC 9113 section 8.7: it wasn't looked at
                return Tried(self.attempt, None, may_go_again=True)
            return self._lost(f"it reset the request (HTTP/2 error {int(event.error_code)})")
        body = bytes(self._body)
        if answers_question(body, self.attempt.exchange.question):
            return Tried(self.attempt, body)
        return self._lost("its answer is not to the question")

    def _lost(self, reason: str) -> Tried:
        return Tried(self.attempt, None, reason=reason)


def fault_of(headers: dict[bytes, bytes]) -> str:
    """Return why a response with these headers holds no answer; empty: it may."""
    status = headers.get(b":status", b"")
    if status != b"200":  # RFC 8484 section 4.2.1: a DNS answer of any kind comes with a success
        return f"it answers with HTTP status {status.decode('ascii', 'replace')}"
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != MEDIA_TYPE.encode():
        return f"it answers with content of the type {media_type.decode('ascii', 'replace')!r}"
    length = int(headers.get(b"content-length", b"0"))  # h2 has checked that it is a number, and checks the body by it
    return "its answer is too long" if length > STREAM_LIMIT else ""


def authority(address: UpstreamAddress) -> str:
    """Return what a request calls the server (RFC 9113 section 8.3.1)."""
    host = address.name or (f"[{address.host}]" if ":" in address.host else address.host)
    return host if address.port == DEFAULT_PORTS["https"] else f"{host}:{address.port}"
