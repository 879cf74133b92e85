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
    qtype = _type_of(qtype)
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


def _type_of(text: str) -> str:
    """Return a query type as it is logged: its name, or ``TYPE65280`` (RFC 3597 section 5) for one without."""
    qtype = text.upper()
    if qtype in QTYPE.reverse:
        return qtype
    digits = qtype.removeprefix("TYPE")
    if digits == qtype or not digits.isascii() or not digits.isdigit() or int(digits) > 65535:
        raise ValueError(f"there is no query type {text[:20]!r}")
    return str(QTYPE.forward.get(int(digits), f"TYPE{int(digits)}"))
