"""Names in upstreams' messages: out of their compression (RFC 1035 section 4.1.4), and where they stand in data."""

from resolver.wire import HEADER_LENGTH, MAX_LABEL_OCTETS, MAX_NAME_OCTETS, TYPE_NSEC, TYPE_RRSIG, TYPE_SOA

POINTER, FURTHEST_POINTER = 0xC000, 0x3FFF  # RFC 1035 section 4.1.4
_SIGNATURE_HEAD = 18  # octets: RFC 4034 section 3.1
_SOA_NUMBERS = 20  # octets: RFC 1035 section 3.3.13
ANYTHING = -1
_TYPE_NAPTR = 35
# Whose data may hold compressed names (RFC 3597 section 4), or did though it must not (RFC 4034 sections 3.1.7 and
# 4.1.1): how many octets are before those names, how many names there are, and how many octets are behind them.
NAMES_IN_DATA = {
    **dict.fromkeys((2, 3, 4, 5, 7, 8, 9, 12, 39), (0, 1, 0)),  # NS, MD, MF, CNAME, MB, MG, MR, PTR, DNAME
    **dict.fromkeys((14, 17), (0, 2, 0)),  # MINFO, RP
    **dict.fromkeys((15, 18, 21, 36), (2, 1, 0)),  # MX, AFSDB, RT, KX
    26: (2, 2, 0),  # PX
    33: (6, 1, 0),  # SRV
    _TYPE_NAPTR: (4, 1, 0),
    TYPE_SOA: (0, 2, _SOA_NUMBERS),
    **dict.fromkeys((30, TYPE_NSEC), (0, 1, ANYTHING)),  # NXT
    **dict.fromkeys((24, TYPE_RRSIG), (_SIGNATURE_HEAD, 1, ANYTHING)),  # SIG
}


class MalformedAnswerError(Exception):
    """The upstream's message can't be read, or its aliases lead nowhere."""


class Names:
    """A message's names.

    Each label and pointer is read once, whatever leads there: so what a message costs is bounded by its length, not
    by the chains of pointers in it.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._known: dict[int, tuple[bytes, int]] = {}
        """Names written out, and where they end, by where they begin."""

    def at(self, start: int) -> tuple[bytes, int]:
        """Return a name written out, and where it ends. Raises `MalformedAnswerError`, `IndexError`."""
        data, known = self._data, self._known
        places = []
        position = lowest = start
        while position not in known:
            length = data[position]
            if not length:
                known[position] = b"\0", position + 1
                break
            places.append(position)
            if length <= MAX_LABEL_OCTETS:
                position += 1 + length
                continue
            if length < POINTER >> 8:
                raise MalformedAnswerError("an unknown kind of label")
            # RFC 1035 section 4.1.4: a pointer is to a prior occurrence, so that no name goes in circles.
            position = (length << 8 | data[position + 1]) & FURTHEST_POINTER
            if not HEADER_LENGTH <= position < lowest:
                raise MalformedAnswerError("a pointer that doesn't lead back")
            lowest = position
        name, end = known[position]
        for place in reversed(places):
            length = data[place]
            if length > MAX_LABEL_OCTETS:
                end = place + 2
            else:
                name = data[place : place + 1 + length] + name
                if len(name) > MAX_NAME_OCTETS:
                    raise MalformedAnswerError("a name that is too long")
            known[place] = name, end
        return name, end

    def written_out(self, position: int, end: int, rtype: int) -> bytes:
        """Return the data of a record of `NAMES_IN_DATA` with the names in it written out."""
        begin, count, behind_names = names_in(self._data, position, rtype)
        parts = [self._data[position:begin]]
        position = begin
        for _ in range(count):
            name, position = self.at(position)
            parts.append(name)
        check_end(position, end, behind_names)
        return b"".join((*parts, self._data[position:end]))


def names_in(data: bytes, position: int, rtype: int) -> tuple[int, int, int]:
    """Return where the names in a record's data begin, how many there are, and what must be behind them."""
    before, count, behind_names = NAMES_IN_DATA[rtype]
    position += before
    if rtype == _TYPE_NAPTR:  # RFC 3403 section 4.1: behind three strings
        for _ in range(3):
            position += 1 + data[position]
    return position, count, behind_names


def check_end(position: int, end: int, behind_names: int) -> None:
    """Check that as much data as may be is behind its names. Raises `MalformedAnswerError`."""
    if position > end or (behind_names != ANYTHING and end - position != behind_names):
        raise MalformedAnswerError("names that are shorter or longer than their record")


def zones_of(name: bytes) -> list[bytes]:
    """Return an uncompressed name, and each that it is below, from the longest to the root."""
    zones = []
    position = 0
    while length := name[position]:
        zones.append(name[position:])
        position += 1 + length
    return [*zones, b"\0"]
