"""The modifiers of an adblock rule: what stands behind its ``$``.

A resolver can honour a few; a rule with any other means less than its name says, and is no rule here.
"""

import re
from typing import NamedTuple

from dnslib import QTYPE

from blocklists.formats.reader import LineError, Reason, normal_name

# The whole of what they ask for is what a resolver does anyway.
_AS_IF_ABSENT = frozenset({"all", "document", "doc"})
_NUMBERED_TYPE = re.compile(r"TYPE([0-9]{1,5})")  # RFC 3597 section 5
_LARGEST_TYPE = 0xFFFF


class Modifiers(NamedTuple):
    """What a rule's modifiers say."""

    important: bool = False
    badfilter: bool = False
    types: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()


def parse_modifiers(text: str) -> Modifiers:
    """Return what modifiers say, comma between them. Raises `LineError` when one can't be honoured."""
    found: dict[str, str] = {}
    for modifier in text.split(","):
        name, equals, value = modifier.partition("=")
        name = name.lower()
        takes_value = name in {"dnstype", "denyallow"}
        if takes_value != bool(value) or (equals and not value) or found.get(name, value) != value:
            raise LineError(Reason.MODIFIER)
        if not takes_value and name not in {"important", "badfilter", *_AS_IF_ABSENT}:
            raise LineError(Reason.MODIFIER)
        found[name] = value
    return Modifiers(
        "important" in found,
        "badfilter" in found,
        _types(found["dnstype"]) if "dnstype" in found else (),
        _unless(found["denyallow"]) if "denyallow" in found else (),
    )


def _types(value: str) -> tuple[str, ...]:
    """Return the types as the log writes them; all of them or none bear the ``~`` of what is left out."""
    negated = value.startswith("~")
    types = []
    for text in value.split("|"):
        if text.startswith("~") != negated:
            raise LineError(Reason.MODIFIER)
        types.append(("~" if negated else "") + _type(text.removeprefix("~").upper()))
    return tuple(dict.fromkeys(types))


def _type(text: str) -> str:
    if text in QTYPE.reverse:
        return text
    numbered = _NUMBERED_TYPE.fullmatch(text)
    if numbered is None or int(numbered[1]) > _LARGEST_TYPE:
        raise LineError(Reason.MODIFIER)
    number = int(numbered[1])
    return str(QTYPE.forward.get(number) or f"TYPE{number}")


def _unless(value: str) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(normal_name(name) for name in value.split("|")))
    except LineError as error:
        raise LineError(Reason.MODIFIER) from error
