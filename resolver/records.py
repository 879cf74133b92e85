"""Answers of our own making, as octets behind the question: sinkholes, local records, names that never leave.

dnslib writes the data. Owners point to the question's name, or stand uncompressed: where they will be isn't known.
"""

from collections.abc import Iterable, Sequence
from struct import Struct

from dnslib import RR
from dnslib.label import DNSBuffer

from resolver.replies import Answer
from resolver.wire import CLASS_IN, NOERROR, RECORD, TYPE_SOA, name_octets

QUESTION_NAME = b"\xc0\x0c"  # RFC 1035 section 4.1.4: a pointer to the question's name
_SOA_NUMBERS = Struct(">IIIII")


def record(rtype: int, data: bytes, ttl: int, owner: bytes = QUESTION_NAME) -> bytes:
    """Return one record; the TTL in seconds."""
    return owner + RECORD.pack(rtype, CLASS_IN, ttl, len(data)) + data


def soa(ttl: int, owner: bytes = QUESTION_NAME) -> bytes:
    """Return the SOA that makes an empty answer cacheable (RFC 2308 section 3), for so many seconds."""
    names = name_octets("hallmonitor.invalid") + name_octets("nobody.invalid")
    return record(TYPE_SOA, names + _SOA_NUMBERS.pack(1, 3600, 600, 86400, ttl), ttl, owner)


def data_of(rdtype: str, text: str) -> bytes:
    """Return a record's data from its form in a zone file, names uncompressed. Raises `ValueError`."""
    try:
        (found,) = RR.fromZone(f". 0 IN {rdtype} {text}\n")
        buffer = DNSBuffer()
        buffer.encode_name = buffer.encode_name_nocompress
        found.rdata.pack(buffer)
    # dnslib lets whatever goes wrong in its parser through.
    except Exception as problem:
        raise ValueError(f"{text!r} can't be read as the data of {rdtype}") from problem
    return bytes(buffer.data)


def answer(records: Sequence[bytes], authority: Iterable[bytes] = (), *, ttl: int, rcode: int = NOERROR) -> Answer:
    """Return an answer of records, which nobody vouches for (RFC 4035 section 3.2.3: no AD)."""
    second = list(authority)
    body = b"".join([*records, *second])
    return Answer(rcode, ad=False, answers=len(records), authorities=len(second), body=body, ttls=(), lifetime=ttl)
