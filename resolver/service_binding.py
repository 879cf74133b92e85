"""The data of SVCB and HTTPS records (RFC 9460): where they lead, and the addresses that they hint at."""

from collections.abc import Iterator
from struct import Struct
from struct import error as struct_error

from resolver import wire
from resolver.addresses import is_private

MANDATORY, IPV4HINT, IPV6HINT = 0, 4, 6  # RFC 9460 section 14.3.2
_HINT_LENGTHS = {IPV4HINT: 4, IPV6HINT: 16}
_PARAMETER = Struct(">HH")
_PRIORITY_LENGTH = 2
OWNER = "."
"""The target that stands for the record's owner."""


class BrokenServiceError(Exception):
    """The record's data can't be read."""


def target_of(data: bytes) -> str:
    """Return the name that a record leads to, as text in lower case; `OWNER` for its owner's.

    RFC 9460 section 2.2: the name is not compressed. Raises `BrokenServiceError`.
    """
    return _target(data)[0]


def has_private_hints(data: bytes) -> bool:
    """Tell whether a record hints at a private address. Raises `BrokenServiceError`."""
    return any(_private(key, value) for key, value in _parameters(data))


def without_private_hints(data: bytes) -> bytes:
    """Return a record's data without the private addresses that it hints at. Raises `BrokenServiceError`."""
    parameters = dict(_parameters(data))
    gone = set()
    for key in _HINT_LENGTHS:
        if key in parameters:
            private = _private(key, parameters[key])
            parameters[key] = b"".join(hint for hint in _hints(key, parameters[key]) if hint not in private)
            if not parameters[key]:
                gone.add(key)
    if MANDATORY in parameters:  # RFC 9460 section 8: it lists keys that must be there
        keys = [parameters[MANDATORY][place : place + 2] for place in range(0, len(parameters[MANDATORY]), 2)]
        parameters[MANDATORY] = b"".join(key for key in keys if int.from_bytes(key, "big") not in gone)
        if not parameters[MANDATORY]:
            gone.add(MANDATORY)
    _, end = _target(data)
    kept = [(key, value) for key, value in sorted(parameters.items()) if key not in gone]
    return data[:end] + b"".join(_PARAMETER.pack(key, len(value)) + value for key, value in kept)


def _target(data: bytes) -> tuple[str, int]:
    if len(data) > _PRIORITY_LENGTH and data[_PRIORITY_LENGTH] == 0:
        return OWNER, _PRIORITY_LENGTH + 1
    try:
        return wire.read_name(data, _PRIORITY_LENGTH)
    except (IndexError, wire.MalformedQueryError) as problem:
        raise BrokenServiceError("a target that can't be read") from problem


def _parameters(data: bytes) -> Iterator[tuple[int, bytes]]:
    _, position = _target(data)
    try:
        while position < len(data):
            key, length = _PARAMETER.unpack_from(data, position)
            position += _PARAMETER.size + length
            if position > len(data):
                raise BrokenServiceError("a parameter cut short")
            yield key, data[position - length : position]
    except struct_error as problem:
        raise BrokenServiceError("a parameter cut short") from problem


def _hints(key: int, value: bytes) -> list[bytes]:
    length = _HINT_LENGTHS[key]
    if len(value) % length:
        raise BrokenServiceError("a hint of the wrong length")
    return [value[place : place + length] for place in range(0, len(value), length)]


def _private(key: int, value: bytes) -> set[bytes]:
    return {hint for hint in _hints(key, value) if is_private(hint)} if key in _HINT_LENGTHS else set()
