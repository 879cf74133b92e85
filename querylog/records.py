"""The log record, and its two dimensions: who asked, and what was decided.

A lookup is four numbers: when, which client, which decision, how long. Clients and decisions are defined once in
each journal segment and named by number afterwards, so a cached answer is logged in 20 bytes.
"""

from struct import Struct
from typing import NamedTuple

LOOKUP = Struct("<QIII")
"""A lookup in the journal: time (microseconds since the epoch, UTC), client, decision, duration (microseconds)."""

VERDICTS = ("allowed", "blocked", "exception", "safe_search", "local", "refused", "malformed", "failed")


class Client(NamedTuple):
    """Who asked, and how."""

    client: str
    """Address, as text."""
    group: str
    transport: str
    """``udp``, ``tcp``, ``tls`` or ``https``."""


class Decision(NamedTuple):
    """What was asked, what came of it, and why."""

    qname: str
    """Normal form: lower case, no trailing dot; ``.`` for the root; octets outside a host name's as \\DDD."""
    qtype: str
    verdict: str
    category: str
    """Empty where none decided; likewise source, rule and upstream."""
    source: str
    rule: str
    exception_id: int
    """0 where none decided."""
    policy_version: int
    rcode: str
    upstream: str
    cached: bool


class Record(NamedTuple):
    """One log record whole, as a search returns it. The field order is the contract's."""

    time: int
    """Microseconds since the epoch, UTC."""
    node: str
    client: str
    group: str
    qname: str
    qtype: str
    transport: str
    verdict: str
    category: str
    source: str
    rule: str
    exception_id: int
    policy_version: int
    rcode: str
    upstream: str
    cached: bool
    duration_us: int


# A definition is its fields joined by NUL, which no field holds: names are escaped, the rest is ours.


def encode_client(client: Client) -> bytes:
    """Return a client's definition as bytes."""
    return "\0".join(client).encode()


def decode_client(data: bytes) -> Client:
    """Return the client of `encode_client`'s bytes. Raises `ValueError` when they are none."""
    address, group, transport = data.decode().split("\0")
    return Client(address, group, transport)


_DECISION_FORM = "%s\0%s\0%s\0%s\0%s\0%s\0%d\0%d\0%s\0%s\0%d"  # a third of what joining the parts costs


def encode_decision(decision: Decision) -> bytes:
    """Return a decision's definition as bytes."""
    return (_DECISION_FORM % decision).encode()


def encode_decision_tail(decision: Decision) -> bytes:
    """Return what follows name and type in a decision's bytes: the same for most of the names that are asked for."""
    return encode_decision(decision._replace(qname="", qtype=""))[1:]


def decode_decision(data: bytes) -> Decision:
    """Return the decision of `encode_decision`'s bytes. Raises `ValueError` when they are none."""
    fields = data.decode().split("\0")
    qname, qtype, verdict, category, source, rule, exception_id, version, rcode, upstream, cached = fields
    return Decision(
        qname,
        qtype,
        verdict,
        category,
        source,
        rule,
        int(exception_id),
        int(version),
        rcode,
        upstream,
        cached == "1",
    )
