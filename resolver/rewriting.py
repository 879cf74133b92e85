"""Answers taken apart into records and written anew: those that hold more, less or other than what is passed on."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from resolver import service_binding, wire
from resolver.addresses import is_private
from resolver.compression import FURTHEST_POINTER, NAMES_IN_DATA, POINTER, MalformedAnswerError, Names, zones_of
from resolver.replies import Answer
from resolver.wire import (
    CLASS_IN,
    HEADER_LENGTH,
    RECORD,
    TTL,
    TYPE_A,
    TYPE_AAAA,
    TYPE_CNAME,
    TYPE_DNAME,
    TYPE_HTTPS,
    TYPE_NSEC,
    TYPE_NSEC3,
    TYPE_RRSIG,
    TYPE_SOA,
    TYPE_SVCB,
)

LONGEST_CHAIN = 16
_KEEPABLE = frozenset({wire.NOERROR, wire.NXDOMAIN})
HEAD = Struct(">HHHH")  # a header behind the ID
ADDRESS_LENGTHS = {TYPE_A: 4, TYPE_AAAA: 16}
SERVICES = {TYPE_SVCB, TYPE_HTTPS}
_PROOFS = {TYPE_NSEC, TYPE_NSEC3}


class Terms(NamedTuple):
    """How answers are read."""

    min_ttl: int
    """Seconds; likewise the other."""
    max_ttl: int
    private_zones: Collection[str] = ()
    """Zones whose names may have private addresses, in lower case."""


class _Record(NamedTuple):
    """One record, taken apart; names are uncompressed octets."""

    owner: bytes
    """In lower case."""
    written: bytes
    """The owner in the case in which it came."""
    rtype: int
    rclass: int
    ttl: int
    data: bytes

    @property
    def covers(self) -> int:
        """Return the type whose set it belongs to: of a signature the one that it signs (RFC 4034 section 3.1.1)."""
        return int.from_bytes(self.data[:2], "big") if self.rtype == TYPE_RRSIG else self.rtype


_Sets = dict[tuple[bytes, int], list[_Record]]
"""Records by their owner and the type that they cover."""


class _Chain(NamedTuple):
    """Where aliases lead."""

    records: list[_Record]
    targets: list[bytes]
    """Names in lower case, the last of them the end."""
    is_too_long: bool = False
    """Whether a name that would come next has no room (RFC 6672 section 2.2)."""


def written_anew(data: bytes, question: bytes, name: str, terms: Terms, *, do: bool) -> Answer:
    """Return what a reply says to a question, as `resolver.answers.read_answer` does; raises what that translates."""
    flags, _, answers, authorities = HEAD.unpack_from(data, 2)
    qname, qtype = question[:-4], question[-4] << 8 | question[-3]
    start = HEADER_LENGTH + len(question)
    # Names that point into the question come out as they are written there: not in the case that only our query had.
    data = data[:HEADER_LENGTH] + question + data[start:]
    records = list(_records(data, start, answers + authorities))
    if not do and qtype != TYPE_RRSIG:  # RFC 4035 section 3.2.1: unless it is signatures that are asked for
        signed = [record for record in records[:answers] if record.rtype == TYPE_RRSIG]
        answers -= len(signed)
        records = [record for record in records if record.rtype != TYPE_RRSIG]
    chain, targets, is_too_long = _chain(records[:answers], qtype, qname)
    end = targets[-1] if targets else qname
    found = [record for record in records[:answers] if record.owner == end and qtype in {record.covers, record.rtype}]
    public = found if is_within_any(name, terms.private_zones) else _without_private(found)
    negative = [] if found else _negative(records[answers:], end)
    proofs = [record for record in records[answers:] if record.covers in _PROOFS] if do else []
    first, second = _even([*chain, *public], terms), _even([*negative, *proofs], terms)
    body, places = _written([*first, *second], _zones_at(qname), start)
    services = [service_binding.target_of(record.data) for record in public if record.rtype in SERVICES]
    is_kept = (found or negative) and is_keepable(flags) and not is_too_long
    return Answer(
        rcode=wire.YXDOMAIN if is_too_long else flags & wire.RCODE_MASK,
        ad=bool(flags & wire.AD) and public == found,
        answers=len(first),
        authorities=len(second),
        body=body,
        ttls=places,
        lifetime=min(sound_ttl(r.ttl, terms) for r in (*chain, *found, *negative, *proofs)) if is_kept else 0,
        targets=(
            *(wire.read_name(target, 0)[0] for target in targets),
            *(target for target in services if target != service_binding.OWNER),
        ),
        is_stripped=bool(found) and not public,
    )


def _records(data: bytes, position: int, count: int) -> Iterator[_Record]:
    names = Names(data)
    for _ in range(count):
        owner, position = names.at(position)
        rtype, rclass, ttl, length = RECORD.unpack_from(data, position)
        position += RECORD.size
        end = position + length
        if rclass != CLASS_IN:  # no query of ours is in another
            raise MalformedAnswerError("a record of another class")
        if end > len(data):
            raise MalformedAnswerError("a record cut short")
        written_out = names.written_out(position, end, rtype) if rtype in NAMES_IN_DATA else data[position:end]
        yield _Record(owner.lower(), owner, rtype, rclass, ttl, written_out)
        position = end


def _chain(answers: Sequence[_Record], qtype: int, qname: bytes) -> _Chain:
    """Return the aliases that lead from a name, and the names that they lead to. Raises `MalformedAnswerError`."""
    sets: _Sets = {}
    for record in answers:
        if record.covers in {TYPE_CNAME, TYPE_DNAME}:
            sets.setdefault((record.owner, record.covers), []).append(record)
    chain: _Sets = {}
    names = [qname]
    is_too_long = False
    while qtype != TYPE_CNAME:
        name = names[-1]
        aliases = sets.get((name, TYPE_CNAME), [])
        target = _target(aliases, TYPE_CNAME)
        zone, meant = _substitute(name, sets)
        if meant:
            chain[zone, TYPE_DNAME] = above = sets[zone, TYPE_DNAME]
            is_too_long = len(meant) > wire.MAX_NAME_OCTETS
            if not target:  # RFC 6672 section 3.1: it comes with the alias that it means, should that lack
                target, aliases = meant, [_Record(name, name, TYPE_CNAME, CLASS_IN, above[0].ttl, meant)]
        if not target or is_too_long:
            break
        if meant not in {b"", target}:
            raise MalformedAnswerError("an alias that isn't the one that its DNAME means")
        if target in names:
            raise MalformedAnswerError("aliases in a circle")
        if len(names) > LONGEST_CHAIN:
            raise MalformedAnswerError("too many aliases")
        chain[name, TYPE_CNAME] = aliases
        names.append(target)
    return _Chain([record for found in chain.values() for record in found], names[1:], is_too_long)


def _substitute(name: bytes, sets: _Sets) -> tuple[bytes, bytes]:
    """Return the zone above a name that has a DNAME, and the name that it means instead; empty: there is none."""
    for zone in zones_of(name)[1:]:  # RFC 6672 section 2.3: it is about what is below it
        if target := _target(sets.get((zone, TYPE_DNAME), []), TYPE_DNAME):
            return zone, name[: -len(zone)] + target
    return b"", b""


def _target(records: Sequence[_Record], rtype: int) -> bytes:
    """Return the name in the data of a set of aliases, in lower case; empty: there is none."""
    targets = {record.data.lower() for record in records if record.rtype == rtype}
    if len(targets) > 1:  # RFC 2181 section 10.1, RFC 6672 section 2.4: nobody could tell which is followed
        raise MalformedAnswerError("several aliases of one name")
    return next(iter(targets), b"")


def _negative(authorities: Sequence[_Record], name: bytes) -> list[_Record]:
    """Return the SOA (and its signature) that says how long a name has nothing, its TTL made that long."""
    zones = frozenset(zones_of(name))
    records = [record for record in authorities if record.covers == TYPE_SOA and record.owner in zones]
    ttls = [min(r.ttl, TTL.unpack_from(r.data, len(r.data) - 4)[0]) for r in records if r.rtype == TYPE_SOA]
    lowest = min(ttls, default=0)
    return [record._replace(ttl=lowest) for record in records] if ttls else []


def _without_private(records: Sequence[_Record]) -> list[_Record]:
    """Return a set without private addresses, and without its signature where something was taken out."""
    public = []
    for record in records:
        if record.rtype in SERVICES and service_binding.has_private_hints(record.data):
            public.append(record._replace(data=service_binding.without_private_hints(record.data)))
        elif record.rtype not in ADDRESS_LENGTHS:
            public.append(record)
        elif len(record.data) != ADDRESS_LENGTHS[record.rtype]:
            raise MalformedAnswerError("an address of the wrong length")
        elif not is_private(record.data):
            public.append(record)
    if public == list(records):
        return public
    return [record for record in public if record.rtype != TYPE_RRSIG]


def _even(records: Sequence[_Record], terms: Terms) -> list[_Record]:
    """Return the records with one TTL a set, the lowest (RFC 2181 section 5.2), within our own bounds."""
    lowest: dict[tuple[bytes, int], int] = {}
    for record in records:
        key = record.owner, record.covers
        lowest[key] = min(lowest.get(key, terms.max_ttl), sound_ttl(record.ttl, terms))
    even = (record._replace(ttl=lowest[record.owner, record.covers]) for record in records)
    return list(dict.fromkeys(even))  # RFC 2181 section 5: a set holds no record twice


def _written(records: Iterable[_Record], known: dict[bytes, int], start: int) -> tuple[bytes, tuple[int, ...]]:
    """Return the records as octets that begin at a place of the message, and where in them their TTLs are.

    An owner that is a known name (in lower case, by its place), an earlier owner or an alias's target is a pointer.
    """
    body = bytearray()
    places = []
    for record in records:
        place = known.setdefault(record.owner, start + len(body))
        if place == start + len(body) or place > FURTHEST_POINTER:
            body += record.written
        else:
            body += (POINTER | place).to_bytes(2, "big")
        places.append(len(body) + 4)
        body += RECORD.pack(record.rtype, record.rclass, record.ttl, len(record.data))
        if record.rtype == TYPE_CNAME:
            known.setdefault(record.data.lower(), start + len(body))
        body += record.data
    if start + len(body) > wire.STREAM_LIMIT:
        raise MalformedAnswerError("an answer that is too long without its pointers")
    return bytes(body), tuple(places)


def behind(first: Answer, answer: Answer, qname: bytes, target: bytes) -> Answer:
    """Return an answer that begins with aliases of the question's name, and goes on with what their target has.

    Nobody vouches for it as a whole (RFC 4035 section 3.2.3: no AD). Raises `MalformedAnswerError` where it is too
    long.
    """
    head, tail = _taken_apart(first, qname), _taken_apart(answer, target)
    records = [*head[: first.answers], *tail[: answer.answers], *head[first.answers :], *tail[answer.answers :]]
    body, places = _written(records, _zones_at(qname), HEADER_LENGTH + len(qname) + 4)
    return answer._replace(
        ad=False,
        answers=first.answers + answer.answers,
        authorities=first.authorities + answer.authorities,
        body=body,
        ttls=places,
    )


def leads_on(answer: Answer, question: bytes) -> bool:
    """Tell whether an answer is aliases alone, of which the last one's target is to be asked for."""
    if not answer.targets or answer.rcode != wire.NOERROR or answer.is_stripped:
        return False
    qtype = question[-4] << 8 | question[-3]
    return not any(record.rtype in {qtype, TYPE_SOA} for record in _taken_apart(answer, question[:-4]))


def _taken_apart(answer: Answer, qname: bytes) -> list[_Record]:
    question = qname + bytes(4)
    message = bytes(HEADER_LENGTH) + question + answer.body
    return list(_records(message, HEADER_LENGTH + len(question), answer.answers + answer.authorities))


def _zones_at(qname: bytes) -> dict[bytes, int]:
    """Return where the question's name and those above it stand; the root is as short as a pointer to it."""
    return {zone: HEADER_LENGTH + len(qname) - len(zone) for zone in zones_of(qname)[:-1]}


# What both ways use.


def is_within(name: str, zone: str) -> bool:
    """Tell whether a name is the zone's or below it; the root's, ``.``, has them all."""
    return zone in {".", name} or name.endswith("." + zone)


def is_within_any(name: str, zones: Iterable[str]) -> bool:
    """Tell whether a name is in one of the zones."""
    return any(is_within(name, zone) for zone in zones)


def is_keepable(flags: int) -> bool:
    """Tell whether a reply with these flags may be cached."""
    return flags & wire.RCODE_MASK in _KEEPABLE


def sound_ttl(ttl: int, terms: Terms) -> int:
    """Return a TTL within our bounds, in seconds."""
    if ttl >= 0x80000000:  # RFC 2181 section 8: with the top bit set it is 0
        return terms.min_ttl
    return min(max(ttl, terms.min_ttl), terms.max_ttl)
