"""The answers that a blocked name gets, by the group's mode.

The records' owner is always the question's name, so an answer depends on the group and the type alone and is
built once.
"""

from functools import lru_cache
from ipaddress import ip_address

from policy.snapshot import Group
from resolver import records
from resolver.replies import Answer
from resolver.wire import NOERROR, NXDOMAIN, REFUSED, TYPE_A, TYPE_AAAA

_RCODES = {"nxdomain": NXDOMAIN, "refused": REFUSED}
_NULL = ("0.0.0.0", "::")  # noqa: S104 - an answer, not a socket to bind


@lru_cache(maxsize=4096)
def sink(group: Group, qtype: int, ttl: int) -> Answer:
    """Return what a blocked name is answered to members of a group; the TTL in seconds."""
    found = [records.record(qtype, ip_address(address).packed, ttl) for address in _addresses(group, qtype)]
    rcode = _RCODES.get(group.mode, NOERROR)
    return records.answer(found, [] if found or group.mode == "refused" else [records.soa(ttl)], ttl=ttl, rcode=rcode)


def _addresses(group: Group, qtype: int) -> list[str]:
    version = {TYPE_A: 4, TYPE_AAAA: 6}.get(qtype)
    offered = {"null": _NULL, "address": group.addresses}.get(group.mode, ())
    return [address for address in offered if ip_address(address).version == version]
