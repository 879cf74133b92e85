"""Upstreams' answers: read, without what wasn't asked for, and without what must not come from outside.

What is passed on is the question's own chain of aliases and what stands at its end (RFC 2181 section 5.4.1), and of a
negative answer its SOA and proofs. Nearly every answer is just that, in the form that compression gives it: it is
walked once, and its octets are used as they came. Any other is taken apart and written anew (`resolver.rewriting`).

Whatever octets come in, `read_answer` returns or raises `MalformedAnswerError`.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from struct import Struct
from struct import error as struct_error

from resolver import service_binding, wire
from resolver.addresses import is_private
from resolver.compression import FURTHEST_POINTER, NAMES_IN_DATA, POINTER, MalformedAnswerError, check_end, names_in
from resolver.replies import Answer
from resolver.rewriting import (
    ADDRESS_LENGTHS,
    HEAD,
    LONGEST_CHAIN,
    SERVICES,
    Terms,
    is_keepable,
    is_within,
    sound_ttl,
    written_anew,
)
from resolver.service_binding import BrokenServiceError
from resolver.wire import AD, CLASS_IN, HEADER_LENGTH, RCODE_MASK, RECORD, TTL, TYPE_CNAME, TYPE_SOA, new

_CHECKED = {*ADDRESS_LENGTHS, *SERVICES, *NAMES_IN_DATA}
# RFC 1035 section 4.1.4: an owner that stands elsewhere, first of all where the question's name does.
_QUESTION_NAME = POINTER | HEADER_LENGTH
_POINTED_RECORD = Struct(">HHHIH")


class _UncommonError(Exception):
    """The answer isn't made as nearly every one is."""


def read_answer(data: bytes, question: bytes, name: str, terms: Terms, *, do: bool) -> Answer:
    """Return what an upstream's reply says to a question. Raises `MalformedAnswerError`.

    The reply is known to hold that question, whose name is in lower case and is given as text besides.
    """
    try:
        try:
            return _as_it_came(data, question, name, terms)
        except _UncommonError:
            return written_anew(data, question, name, terms, do=do)
    except (IndexError, struct_error, wire.MalformedQueryError, BrokenServiceError) as problem:
        raise MalformedAnswerError("a record that can't be read") from problem


def _as_it_came(data: bytes, question: bytes, name: str, terms: Terms) -> Answer:
    """Walk the records, each owned by the question's name or by the alias before it. Raises `_UncommonError`."""
    flags, _, answers, authorities = HEAD.unpack_from(data, 2)
    start = position = HEADER_LENGTH + len(question)
    qtype = question[-4] << 8 | question[-3]
    owner, set_ttl = _QUESTION_NAME, -1
    places: list[int] = []
    ttls: list[int] = []
    targets: list[str] = []
    known: dict[int, bytes] = {}
    for _ in range(answers):
        owned_by, rtype, rclass, ttl, length = _POINTED_RECORD.unpack_from(data, position)
        is_alias = rtype == TYPE_CNAME != qtype
        if owned_by != owner or rclass != CLASS_IN or not (rtype == qtype or (is_alias and set_ttl < 0)):
            raise _UncommonError
        places.append(position + 6 - start)
        ttls.append(ttl)
        position += 12
        if is_alias:
            targets.append(_alias(data, position, length, [name, *targets], known))
            owner = POINTER | position
        else:
            if ttl != set_ttl >= 0:  # RFC 2181 section 5.2: the records of a set have one TTL
                raise _UncommonError
            set_ttl = ttl
            if rtype in _CHECKED:  # most are: what is not has nothing to look for
                _check(rtype, data, position, position + length, targets, known)
        position += length
    is_negative = set_ttl < 0 and authorities > 0
    if is_negative:
        place, ttl, position = _soa(data, position, targets[-1] if targets else name, authorities, known)
        places.append(place - start)
        ttls.append(ttl)
    if position > len(data):
        raise MalformedAnswerError("a record cut short")
    body, lifetime = data[start:position], 0
    if is_negative or (ttls and not terms.min_ttl <= min(ttls) <= max(ttls) <= terms.max_ttl):
        ttls = [sound_ttl(ttl, terms) for ttl in ttls]
        body = _with_ttls(body, places, ttls)
    if (is_negative or set_ttl >= 0) and is_keepable(flags):
        lifetime = min(ttls)
    rcode, ad, authorities = flags & RCODE_MASK, flags & AD != 0, 1 if is_negative else 0
    return new(Answer, (rcode, ad, answers, authorities, body, tuple(places), lifetime, tuple(targets), False))


def _check(rtype: int, message: bytes, position: int, end: int, targets: list[str], known: dict[int, bytes]) -> None:
    """Look at data that may lead somewhere. Raises `_UncommonError` where it must not be passed on as it is."""
    if rtype in NAMES_IN_DATA:
        _check_names(rtype, message, position, end, known)
        return
    data = message[position:end]
    if rtype in ADDRESS_LENGTHS:
        if len(data) != ADDRESS_LENGTHS[rtype]:
            raise MalformedAnswerError("an address of the wrong length")
        if is_private(data):
            raise _UncommonError
        return
    target = service_binding.target_of(data)
    if target != service_binding.OWNER:
        targets.append(target)
    if service_binding.has_private_hints(data):
        raise _UncommonError


def _check_names(rtype: int, data: bytes, position: int, end: int, known: dict[int, bytes]) -> None:
    """Read the names in a record's data to their end. Raises `_UncommonError`, `MalformedAnswerError`."""
    position, count, behind_names = names_in(data, position, rtype)
    for _ in range(count):
        _, position = _lasting_name(data, position, known)
    check_end(position, end, behind_names)


def _lasting_name(data: bytes, start: int, known: dict[int, bytes]) -> tuple[bytes, int]:
    """Return a name written out, and where it ends, if it is the same when TTLs are counted down, which stand anywhere.

    It may point to the question's name and to names that were read like this before, which are known by where they
    begin, or to a label in them. Nothing else is followed, so that no chain of pointers costs more than its length.
    Raises `_UncommonError`, `MalformedAnswerError`, `IndexError`.
    """
    position = start
    begins = []
    while 0 < (length := data[position]) <= wire.MAX_LABEL_OCTETS:
        begins.append(position)
        position += 1 + length
    end, rest = position + 1, b"\0"
    if length:
        if length < POINTER >> 8:
            raise MalformedAnswerError("an unknown kind of label")
        there = (length << 8 | data[end]) & FURTHEST_POINTER
        end += 1
        if there not in known:
            known[there] = _in_question(data, there)
        rest = known[there]
    name = data[start:position] + rest
    if len(name) > wire.MAX_NAME_OCTETS:
        raise MalformedAnswerError("a name that is too long")
    for begin in begins:
        known[begin] = name[begin - start :]
    return name, end


def _in_question(data: bytes, there: int) -> bytes:
    """Return what is at a place of the question's name, which has no pointer. Raises `_UncommonError`."""
    position = HEADER_LENGTH
    while position < there and (length := data[position]):
        position += 1 + length
    if position != there:
        raise _UncommonError
    while length := data[position]:
        position += 1 + length
    return data[there : position + 1]


def _alias(data: bytes, position: int, length: int, before: Sequence[str], known: dict[int, bytes]) -> str:
    """Return an alias's target as text. Raises `MalformedAnswerError` for one too many, or one that was there."""
    if position > FURTHEST_POINTER:
        raise _UncommonError
    octets, end = _lasting_name(data, position, known)
    if end != position + length:
        raise MalformedAnswerError("a name that isn't as long as its record")
    target, _ = wire.read_name(octets, 0)
    if target in before:
        raise MalformedAnswerError("aliases in a circle")
    if len(before) > LONGEST_CHAIN:
        raise MalformedAnswerError("too many aliases")
    return target


def _soa(data: bytes, position: int, name: str, authorities: int, known: dict[int, bytes]) -> tuple[int, int, int]:
    """Return where the TTL of a negative answer's SOA is, how long it holds, and where the record ends."""
    if authorities > 1:
        raise _UncommonError
    owner, position = _lasting_name(data, position, known)
    rtype, rclass, ttl, length = RECORD.unpack_from(data, position)
    if rtype != TYPE_SOA or rclass != CLASS_IN or not is_within(name, wire.read_name(owner, 0)[0]):
        raise _UncommonError
    end = position + RECORD.size + length
    _check_names(TYPE_SOA, data, position + RECORD.size, end, known)
    # RFC 2308 sections 3 and 5: so that whoever caches our copy lets go of it as soon.
    return position + 4, min(ttl, TTL.unpack_from(data, end - 4)[0]), end


def read_rcode(data: bytes, rcode: int) -> tuple[int, tuple[int, str]]:
    """Return a reply's whole response code (RFC 6891 section 6.1.3), and the extended error to tell of it (RFC 8914).

    For replies without an answer, few enough to be walked to their end. What can't be read adds nothing.
    """
    code, said = wire.EDE_NO_REACHABLE_AUTHORITY, "the upstream said "
    with suppress(IndexError, struct_error, wire.MalformedQueryError):
        for ttl, options in _opt_records(data):
            rcode |= ttl >> 24 << 4
            code = next(
                (int.from_bytes(v[:2], "big") for o, v in options if o == wire.OPTION_EDE and len(v) >= 2), code
            )
    return rcode, (code, said + (wire.RCODE_NAMES.get(rcode) or str(rcode)))


def has_opt(data: bytes) -> bool:
    """Tell whether a reply has an OPT record, as none has whose server knows no EDNS (RFC 6891 section 7)."""
    with suppress(IndexError, struct_error, wire.MalformedQueryError):
        return next(_opt_records(data), None) is not None
    return False


def _opt_records(data: bytes) -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    _, questions, *counts = wire.COUNTS.unpack_from(data, 2)
    position = HEADER_LENGTH
    for _ in range(questions):
        position = wire.skip_name(data, position) + 4
    for _ in range(sum(counts)):
        position = wire.skip_name(data, position)
        rtype, _, ttl, length = RECORD.unpack_from(data, position)
        position += RECORD.size + length
        if rtype == wire.TYPE_OPT:
            yield ttl, list(wire.options_of(data[position - length : position]))


def aged(body: bytes, places: Sequence[int], seconds: int) -> bytes:
    """Return an answer's records with their TTLs counted down (RFC 1035 section 3.2.1)."""
    return _with_ttls(body, places, [max(0, TTL.unpack_from(body, place)[0] - seconds) for place in places])


def with_ttl(body: bytes, places: Sequence[int], ttl: int) -> bytes:
    """Return an answer's records with this TTL, in seconds."""
    return _with_ttls(body, places, [ttl] * len(places))


def _with_ttls(body: bytes, places: Sequence[int], ttls: Sequence[int]) -> bytes:
    changed = bytearray(body)
    for place, ttl in zip(places, ttls, strict=True):
        TTL.pack_into(changed, place, ttl)
    return bytes(changed)
