"""Clients and decisions as the stores file them, once for each day, and the records they make with a lookup.

A decision is filed as its name, its rule and an outcome. There are few outcomes, since what else a decision has comes
in few combinations; so it takes half the space. Names are filed under their keys (`policy.names.key_of`), so that a
subtree is a range of keys.
"""

from typing import NamedTuple

from policy.names import key_of, name_of
from querylog.errors import DamagedSegmentError
from querylog.journal import Definition, Kind
from querylog.records import Client, Decision, Record, decode_client, decode_decision


class Outcome(NamedTuple):
    """What a decision has beside its name and its rule."""

    qtype: str
    verdict: str
    category: str
    source: str
    exception_id: int
    policy_version: int
    rcode: str
    upstream: str
    cached: bool


def taken_apart(decision: Decision) -> tuple[str, str, tuple[object, ...]]:
    """Return a decision as the key of its name, its rule, and its outcome: the fields of an `Outcome`, in a hurry."""
    return key_of(decision[0]), decision[5], decision[1:5] + decision[6:]


def put_together(key: str, rule: str, outcome: Outcome) -> Decision:
    """Return the decision that was taken apart."""
    qtype, verdict, category, source, exception_id, version, rcode, upstream, cached = outcome
    return Decision(
        name_of(key), qtype, verdict, category, source, rule, exception_id, version, rcode, upstream, bool(cached)
    )


def decoded(segment: str, definition: Definition) -> Client | Decision:
    """Return what a definition defines. Raises `DamagedSegmentError` when it can't be read."""
    try:
        decode = decode_client if definition.kind == Kind.CLIENT else decode_decision
        return decode(definition.data)
    except ValueError as problem:
        raise DamagedSegmentError(segment, f"definition {definition.number} can't be read") from problem


def record_of(time: int, node: str, client: Client, decision: Decision, duration_us: int) -> Record:
    """Return the record of a lookup."""
    return Record(
        time,
        node,
        client.client,
        client.group,
        decision.qname,
        decision.qtype,
        client.transport,
        decision.verdict,
        decision.category,
        decision.source,
        decision.rule,
        decision.exception_id,
        decision.policy_version,
        decision.rcode,
        decision.upstream,
        decision.cached,
        duration_us,
    )
