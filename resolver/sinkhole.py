"""The answers that a blocked name gets, by the group's mode.

The records' owner is always the question's name, so an answer depends on the group and the type alone and is
built once.
"""

from functools import lru_cache
from ipaddress import ip_address
from struct import Struct

from dnslib.label import DNSBuffer, DNSLabel

from policy.snapshot import Group
from resolver.wire import CLASS_IN, NOERROR, NXDOMAIN, REFUSED, TYPE_A, TYPE_AAAA, TYPE_SOA, Answer

_OWNER_AND_FIXED = Struct(">HHHIH")
_SOA_NUMBERS = Struct(">IIIII")
_QUESTION_NAME = 0xC00C  # RFC 1035 section 4.1.4: a pointer to the question's name
_RCODES = {"nxdomain": NXDOMAIN, "refused": REFUSED}
_NULL = ("0.0.0.0", "::")  # noqa: S104 - an answer, not a socket to bind


@lru_cache(maxsize=4096)
def sink(group: Group, qtype: int, ttl: int) -> Answer:
    """Return what a blocked name is answered to members of a group; the TTL in seconds."""
    records = [_address_record(address, ttl) for address in _addresses(group, qtype)]
    rcode = _RCODES.get(group.mode, NOERROR)
    authority = [] if records or group.mode == "refused" else [_soa_record(ttl)]
    return Answer(
        rcode,
        ad=False,  # RFC 4035 section 3.2.3: nobody vouches for an answer that was made up
        answers=len(records),
        authorities=len(authority),
        body=b"".join(records + authority),
        ttls=(),
        lifetime=ttl,
    )


def _addresses(group: Group, qtype: int) -> list[str]:
    version = {TYPE_A: 4, TYPE_AAAA: 6}.get(qtype)
    offered = {"null": _NULL, "address": group.addresses}.get(group.mode, ())
    return [address for address in offered if ip_address(address).version == version]


def _address_record(address: str, ttl: int) -> bytes:
    packed = ip_address(address).packed
    return _record(TYPE_A if len(packed) == 4 else TYPE_AAAA, packed, ttl)


def _soa_record(ttl: int) -> bytes:
    """Return the SOA that makes an empty answer cacheable (RFC 2308 section 3) for as long as a block is."""
    rdata = DNSBuffer()
    # Not compressed: where these octets will stand in a message isn't known here.
    rdata.encode_name_nocompress(DNSLabel("hallmonitor.invalid"))
    rdata.encode_name_nocompress(DNSLabel("nobody.invalid"))
    rdata.append(_SOA_NUMBERS.pack(1, 3600, 600, 86400, ttl))
    return _record(TYPE_SOA, bytes(rdata.data), ttl)


def _record(rtype: int, rdata: bytes, ttl: int) -> bytes:
    return _OWNER_AND_FIXED.pack(_QUESTION_NAME, rtype, CLASS_IN, ttl, len(rdata)) + rdata
