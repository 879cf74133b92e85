"""What every transport to an upstream shares: how a query is told from others, and how a reply is matched to it.

A reply is an exchange's when its ID, opcode and question are, and it comes from where the query went (RFC 5452 section
9, RFC 1035 section 4.1.1).
Anything else that arrives is ignored, and the wait goes on.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from resolver.wire import FORMERR, HEADER_LENGTH, NOTIMP, RCODE_MASK

if TYPE_CHECKING:
    from resolver.upstreams.exchange import Exchange
    from resolver.upstreams.server import Server

Received = Callable[["Exchange", "Server", bytes], None]
Lost = Callable[["Exchange", "Server"], None]
Exchanged = tuple["Exchange", "Server", bytes]
"""An exchange, whom it asks, and the question as it was sent."""


class Transport(Protocol):
    """A way to one upstream."""

    def send(self, exchange: "Exchange", server: "Server") -> bool:
        """Send the exchange's query; False when the network refuses it at once."""

    def close(self) -> None:
        """Let go of every socket."""


KIND, RESPONSE = 0xF8, 0x80
"""A message's QR and opcode, as bits of its third octet: what they are in a response to a query."""
ONE = b"\0\1"
"""How many questions a message has."""
_NO_QUESTION = b"\0" * 8


def with_question(data: bytes, question: bytes) -> bytes:
    """Return a refusal of a whole query, a header and nothing else, with the question; other messages as they are.

    What an old server can't read it doesn't repeat. All that such a reply leads to is that the query is sent once more
    in another way, so it needs to prove no more than its ID.
    """
    is_bare = len(data) == HEADER_LENGTH and data.endswith(_NO_QUESTION)
    if is_bare and data[3] & RCODE_MASK in {FORMERR, NOTIMP}:
        return data[:4] + ONE + data[6:] + question
    return data


def answers_question(data: bytes, question: bytes) -> bool:
    """Tell whether a message is a response to a question whose name is in lower case."""
    return (
        len(data) >= HEADER_LENGTH and data[2] & KIND == RESPONSE and data[4:6] == ONE and asks_the_same(data, question)
    )


def asks_the_same(data: bytes, question: bytes) -> bool:
    """Tell whether a message's question is this one, whose name is in lower case."""
    asked = data[HEADER_LENGTH : HEADER_LENGTH + len(question)]
    return asked == question or (asked[:-4].lower() == question[:-4] and asked[-4:] == question[-4:])
