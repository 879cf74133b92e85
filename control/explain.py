"""What a client would get for a name, and why: the same decision as a worker's, told in words."""

import time
from ipaddress import ip_address
from typing import Any

from dnslib import QTYPE

from policy.decide import decide
from policy.names import normalise
from policy.snapshot import Snapshot


def explain(snapshot: Snapshot, name: str, client: str, qtype: str) -> dict[str, Any]:
    """Return the contract's lookup object. Raises `ValueError` for a name, address or type that is none."""
    wanted = normalise(name)
    address = ip_address(client)
    qtype = qtype.upper()
    if qtype not in QTYPE.reverse and not (qtype.startswith("TYPE") and qtype[4:].isdigit()):
        raise ValueError(f"there is no query type {qtype[:20]!r}")
    scope = snapshot.scope_of(address)
    verdict = decide(snapshot, scope, wanted, qtype, time.time_ns() // 1000)
    return {
        "name": wanted,
        "client": str(address),
        "group": scope.group.name,
        "verdict": verdict.verdict,
        "category": verdict.category or None,
        "source": verdict.source or None,
        "rule": verdict.rule or None,
        "clause": verdict.clause or None,
        "exception_id": verdict.exception_id or None,
        "policy_version": snapshot.version,
    }
