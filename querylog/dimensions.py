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


class FiledDecision(NamedTuple):
    """A decision in its three parts."""

    key: str
    rule: str
    outcome: Outcome

    @classmethod
    def of(cls, decision: Decision) -> "FiledDecision":
        """Take a decision apart."""
        qname, qtype, verdict, category, source, rule, exception_id, version, rcode, upstream, cached = decision
        outcome = Outcome(qtype, verdict, category, source, exception_id, version, rcode, upstream, cached)
        return cls(key_of(qname), rule, outcome)

    @property
    def decision(self) -> Decision:
        """The decision whole."""
        qtype, verdict, category, source, exception_id, version, rcode, upstream, cached = self.outcome
        name = name_of(self.key)
        return Decision(
            name, qtype, verdict, category, source, self.rule, exception_id, version, rcode, upstream, bool(cached)
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
