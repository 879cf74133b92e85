"""Nearly all queries, read and answered as octets: by dnspython, a load of thousands takes too much of a machine.

What isn't as plain as that is left to dnspython, with all that is wrong with it.
"""

import ipaddress

HEADER = 12
LONGEST_NAME = 255  # RFC 1035 section 3.1
LONGEST_LABEL = 63
PAYLOAD = 8192  # as dnspython says

_TYPES = {number.to_bytes(2, "big"): name for number, name in ((1, "A"), (28, "AAAA"), (65, "HTTPS"))}
_OPT = b"\0\0\x29"
"""The root's name and the type, as an OPT record begins (RFC 6891 section 6.1.2)."""
_FLAGS = {bytes(4), b"\0\0\x80\0"}
"""EDNS version 0, without DO and with it."""


def read(query: bytes) -> tuple[str, str] | None:
    """Return the name and type of a plain query: one question of class IN, and an OPT without options or nothing.

    Its labels are of letters, digits and hyphens, its flags are none but RD, AD and CD. None: it is another.
    """
    if len(query) < HEADER + 5 or query[2] & 0xFE or query[3] & 0xCF or query[4:11] != b"\0\1\0\0\0\0\0":
        return None
    labels, position = [], HEADER
    while position < len(query) and (length := query[position]):
        label = query[position + 1 : position + 1 + length]
        if length > LONGEST_LABEL or not label.replace(b"-", b"").isalnum():
            return None
        labels.append(label.decode())
        position += 1 + length
    kind, rest = query[position + 1 : position + 5], query[position + 5 :]
    if not labels or position >= HEADER + LONGEST_NAME or kind[:2] not in _TYPES or kind[2:] != b"\0\1":
        return None
    is_bare = query[11] == 0 and not rest
    has_opt = query[11] == 1 and rest[:3] == _OPT and rest[5:9] in _FLAGS and rest[9:] == b"\0\0"
    return (".".join(labels), _TYPES[kind[:2]]) if is_bare or has_opt else None


def reply(query: bytes, address: str, ttl: int) -> bytes:
    """Return the reply to a plain query, with one address, as dnspython would write it."""
    opt = _OPT + PAYLOAD.to_bytes(2, "big") + bytes(6) if query[11] else b""
    question = query[HEADER : len(query) - len(opt)]
    data = ipaddress.ip_address(address).packed
    record = b"\xc0\x0c" + question[-4:] + ttl.to_bytes(4, "big") + len(data).to_bytes(2, "big") + data
    flags = bytes([0x80 | query[2], 0x80])
    return query[:2] + flags + b"\0\1\0\1\0\0" + query[10:12] + question + record + opt
