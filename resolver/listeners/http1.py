"""DNS over HTTPS on HTTP/1.1, without sockets: one request after the other, read and written by h11."""

import h11

from resolver.listeners import doh
from resolver.listeners.doh import Head, RefusedError
from resolver.listeners.framing import NEVER, Message

MOST_HEAD = 16_384  # octets of a request's line and fields


class Http1:
    """One client's HTTP/1.1 connection (RFC 9112)."""

    most_at_once = 1024  # 40 of the smallest requests, 0.1 ms each
    most_in_flight = 1  # RFC 9112 section 9.3.2: answers leave in the order of their requests
    held = 0

    def __init__(self) -> None:
        self.is_over = False
        self.begun = NEVER
        self._now = 0.0
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD)
        self._head: Head | None = None
        self._refusal: RefusedError | None = None
        self._body = bytearray()
        self._output: list[bytes] = []

    def receive(self, data: bytes, now: float) -> None:
        """Take octets from the client."""
        self._now = now
        if self.begun == NEVER:
            self.begun = now
        self._connection.receive_data(data)

    def next_message(self) -> Message | None:
        """Return the next request's query, and answer those before it that carry none."""
        while not self.is_over:
            try:
                event = self._connection.next_event()
                if event is h11.NEED_DATA:
                    self._invite()
                    return None
                if event is h11.PAUSED:
                    return None
                if isinstance(event, h11.ConnectionClosed):
                    self.is_over = True
                elif isinstance(event, h11.EndOfMessage):
                    return Message(self._whole(), None)
                else:
                    self._take(event)
            except RefusedError as refusal:
                self._refuse(refusal)
            except h11.RemoteProtocolError as problem:
                self._refuse(RefusedError(self._status_for(problem)))
        return None

    def _invite(self) -> None:
        """Invite the rest of a request, where the client waits for that. Raises `RefusedError`: it needn't come."""
        if self._connection.they_are_waiting_for_100_continue:  # RFC 9110 section 10.1.1
            if self._refusal is not None:
                raise self._refusal
            self._send(h11.InformationalResponse(status_code=100, headers=[]))

    def _take(self, event: object) -> None:
        """Take a request's head or a part of its body. Raises `RefusedError` when the rest needn't come."""
        if isinstance(event, h11.Request):
            fields = dict(event.headers)
            self._head = Head(
                event.method, event.target, fields.get(b"content-type", b""), fields.get(b"content-length", b"")
            )
            try:
                doh.check(self._head)
            except RefusedError as refusal:
                if refusal.status == 413:
                    raise
                self._refusal = refusal  # told when the request is whole, so that the connection can stay
        elif isinstance(event, h11.Data):
            self._body += event.data
            doh.check_length(len(self._body))

    def _whole(self) -> bytes:
        """Return the query of the request that is whole now. Raises `RefusedError`."""
        head, body, refusal = self._head, bytes(self._body), self._refusal
        assert head is not None
        self._head, self._refusal = None, None
        self._body.clear()
        self.begun = NEVER
        if refusal is not None:
            raise refusal
        return doh.query_of(head, body)

    def reply(self, target: object, reply: bytes) -> None:  # noqa: ARG002 - there is one in flight
        """Answer the request in flight."""
        if not self.is_over:
            self._respond(200, doh.answer_fields(reply), reply)

    def _refuse(self, refusal: RefusedError) -> None:
        if self._connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._respond(refusal.status, refusal.fields)
        else:
            self.is_over = True

    def _respond(self, status: int, fields: doh.Fields, body: bytes = b"") -> None:
        connection = self._connection
        whole = connection.their_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}
        if not whole:  # what is left of the request is not worth reading
            fields = [*fields, (b"connection", b"close")]
        self._send(h11.Response(status_code=status, headers=fields))
        if body:
            self._send(h11.Data(data=body))
        self._send(h11.EndOfMessage())
        if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            connection.start_next_cycle()
            self.begun = self._now if connection.trailing_data[0] else NEVER
        else:
            self.is_over = True

    def _send(self, event: h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage) -> None:
        self._output.append(self._connection.send(event) or b"")

    def _status_for(self, problem: h11.RemoteProtocolError) -> int:
        """Return the status for what h11 can't read: its own, and 414 if not even the first line came to an end."""
        if problem.error_status_hint == 431 and b"\n" not in self._connection.trailing_data[0]:
            return 414
        return problem.error_status_hint

    def output(self) -> bytes:
        """Return the octets that are to be sent now."""
        octets = b"".join(self._output)
        self._output.clear()
        return octets

    def close(self) -> None:
        """TCP's own end says it."""

    def release(self) -> None:
        """Let go of everything."""
        self._body.clear()
