"""What a client would get for a name, and why: the same decision as a worker's, told in words."""

import time
from ipaddress import ip_address
from typing import Any

from dnslib import QTYPE

from policy.decide import Verdict, decide_way
from policy.names import normalise
from policy.snapshot import ClientScope, Snapshot
from resolver.local import LocalNames


def explain(snapshot: Snapshot, local: LocalNames, name: str, client: str, qtype: str) -> dict[str, Any]:
    """Return the contract's lookup object. Raises `ValueError` for a name, address or type that is none."""
    wanted = normalise(name)
    address = ip_address(client)
    qtype = _type_of(qtype)
    scope = snapshot.scope_of(address)
    verdict = _verdict(snapshot, scope, local, wanted, qtype)
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


def _verdict(snapshot: Snapshot, scope: ClientScope, local: LocalNames, name: str, qtype: str) -> Verdict:
    """Decide as `resolver.stages` does: special names, then exceptions, then what is ours, then lists."""
    found = local.find(name, _number_of(qtype))
    if found is not None and not found.is_ours:
        return Verdict(found.verdict, rule=found.rule)
    names = (name, *found.targets) if found is not None else (name,)
    verdict = decide_way(snapshot, scope, names, qtype, time.time_ns() // 1000, local.is_ours)
    if found is None or found.alias or verdict.is_blocked:
        return verdict
    return Verdict(found.verdict, rule=found.rule)


def _number_of(qtype: str) -> int:
    return int(QTYPE.reverse[qtype]) if qtype in QTYPE.reverse else int(qtype.removeprefix("TYPE"))


def _type_of(text: str) -> str:
    """Return a query type as it is logged: its name, or ``TYPE65280`` (RFC 3597 section 5) for one without."""
    qtype = text.upper()
    if qtype in QTYPE.reverse:
        return qtype
    digits = qtype.removeprefix("TYPE")
    if digits == qtype or not digits.isascii() or not digits.isdigit() or int(digits) > 65535:
        raise ValueError(f"there is no query type {text[:20]!r}")
    return str(QTYPE.forward.get(int(digits), f"TYPE{int(digits)}"))
