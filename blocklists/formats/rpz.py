"""Response policy zones: a zone file whose owners are what to look for, and whose records are what to do.

As in draft-vixie-dnsop-dns-rpz-00; of its triggers QNAME alone (section 4.1), of its actions NXDOMAIN, NODATA, DROP
and PASSTHRU (section 3), and local addresses, which keep the true answer from the client just as well.
"""

import re
from collections.abc import Sequence
from ipaddress import ip_address

from dnslib import QTYPE

from blocklists.formats.reader import LineError, LineReader, Reason, without_comment
from policy.rules import Action, Rule, Scope, Traits

_ACTIONS = {
    ".": Action.BLOCK,
    "*.": Action.BLOCK,
    "rpz-drop.": Action.BLOCK,
    "rpz-passthru.": Action.ALLOW,
}
_OTHER_TRIGGERS = frozenset({"rpz-ip", "rpz-nsdname", "rpz-nsip", "rpz-client-ip"})
_CLASSES = frozenset({"IN", "CH", "HS"})
_TTL = re.compile(r"(?:\d++[smhdw]?)++", re.IGNORECASE)
_SPECIAL = re.compile(r'[;()"]')
_PIECE = re.compile(r""""(?:[^"\\]|\\.)*+"?|;.*|[()]|[^\s;()"]+""")
_MAX_SOA_LINES = 20  # a parenthesis that is never closed must not swallow the zone


class Rpz(LineReader):
    """Reads a response policy zone."""

    indented = True  # RFC 1035 section 5.1: a line that begins with a blank has the last line's owner

    def __init__(self, *, scope: Scope | None = None, allow_public_suffix: bool = False) -> None:
        """Take whether public suffixes may be named; the scope is each rule's own."""
        super().__init__(scope=scope, allow_public_suffix=allow_public_suffix)
        # Names with a trailing dot, where the file tells what they are relative to.
        self._apex = ""
        self._origin = ""
        self._owner: str | None = None
        self._soa_lines_left = 0

    def skips(self, text: str) -> bool:
        """Tell whether a line is a comment."""
        return text[0] == ";" or super().skips(text)

    def rules(self, text: str) -> Sequence[Rule]:
        """Return the rule of the line's record, none for what makes it a zone."""
        indented = text[0].isspace()
        if indented and self.skips(text[1:]):
            return ()
        fields, opens, closes = _fields(text)
        if self._is_of_soa(fields, closes=closes) or not (fields or opens or closes):
            return ()
        if fields and fields[0].startswith("$"):
            self._follow(fields)
            return ()
        rdtype, data = self._record(fields, indented=indented)
        if rdtype == "SOA":
            self._start_of_authority()
            self._soa_lines_left = _MAX_SOA_LINES if opens and not closes else 0
            return ()
        name = self._trigger()
        if not name:  # a record of the zone itself
            return ()
        if opens != closes:
            raise LineError(Reason.SYNTAX)
        if name.removesuffix(".").rpartition(".")[2] in _OTHER_TRIGGERS:
            raise LineError(Reason.TRIGGER)
        action = _action(rdtype, data)
        if name.startswith("*."):
            return (Rule(self.name(name[2:]), Traits(Scope.SUBDOMAINS, action)),)
        return (Rule(self.name(name), Traits(Scope.EXACT, action)),)

    def _is_of_soa(self, fields: list[str], *, closes: bool) -> bool:
        """Tell whether a line goes on with an SOA record: in its parenthesis, and no record itself."""
        if not self._soa_lines_left:
            return False
        if not closes and (_typed(fields) or _typed(fields[1:])):  # the parenthesis was forgotten
            self._soa_lines_left = 0
            return False
        self._soa_lines_left = 0 if closes else self._soa_lines_left - 1
        return True

    def _follow(self, directive: list[str]) -> None:
        """Follow a directive of the zone file (RFC 1035 section 5.1, RFC 2308 section 4)."""
        keyword = directive[0].upper()
        if keyword == "$TTL":
            return
        if keyword != "$ORIGIN" or len(directive) != 2:
            raise LineError(Reason.SYNTAX)
        self._origin = self._absolute(directive[1].lower())
        self._apex = self._apex or self._origin.removeprefix(".")

    def _record(self, fields: list[str], *, indented: bool) -> tuple[str, list[str]]:
        """Return a record's type and data; a line without an owner has the last one's."""
        if not fields:  # a parenthesis alone
            raise LineError(Reason.SYNTAX)
        typed = _typed(fields) if indented else None
        if typed is None:
            typed = _typed(fields[1:])
            ownerless = None if typed else _typed(fields)  # though it is not indented: what else could it be?
            if ownerless is None:
                self._owner = self._absolute(fields[0].lower())
            typed = typed or ownerless
        if typed is None or self._owner is None:
            raise LineError(Reason.SYNTAX)
        return typed

    def _absolute(self, name: str) -> str:
        if name == "@":
            return self._origin
        if name.endswith(".") or not self._origin:
            return name
        return f"{name}.{self._origin.removeprefix('.')}"

    def _start_of_authority(self) -> None:
        if self._owner and self._owner.endswith(".") and self._owner != ".":
            self._apex = self._owner

    def _trigger(self) -> str:
        """Return what the owner stands for: it without the zone's name, empty for the zone itself.

        Raises `LineError` for what lies outside of the zone: a name server leaves that out.
        """
        assert self._owner is not None  # a record has one
        if self._owner == self._apex:
            return ""
        if self._apex and self._owner.endswith(f".{self._apex}"):
            return self._owner[: -len(self._apex) - 1]
        if self._apex and self._owner.endswith("."):
            raise LineError(Reason.SYNTAX)
        return self._owner


def _fields(text: str) -> tuple[list[str], bool, bool]:
    """Return a line's fields, without comments, and whether it opens a parenthesis and closes one."""
    text = without_comment(text)
    if not _SPECIAL.search(text):
        return text.split(), False, False
    pieces = _PIECE.findall(text)
    fields = [piece for piece in pieces if piece[0] not in "();"]
    return fields, "(" in pieces, ")" in pieces


def _typed(fields: list[str]) -> tuple[str, list[str]] | None:
    """Return type and data of a record without its owner, None where no type stands in its place."""
    for place, field in enumerate(fields[:3]):
        if field.upper() in QTYPE.reverse:
            return field.upper(), fields[place + 1 :]
        if field.upper() not in _CLASSES and not _TTL.fullmatch(field):
            return None
    return None


def _action(rdtype: str, data: list[str]) -> Action:
    """Return what a record does to the names that it is for. Raises `LineError` when it is something else."""
    if rdtype not in {"CNAME", "A", "AAAA"}:
        raise LineError(Reason.ACTION)
    if len(data) != 1:
        raise LineError(Reason.SYNTAX)
    if rdtype == "CNAME":
        if data[0].lower() not in _ACTIONS:
            raise LineError(Reason.ACTION)
        return _ACTIONS[data[0].lower()]
    try:
        address = ip_address(data[0])
    except ValueError as error:
        raise LineError(Reason.SYNTAX) from error
    if (address.version == 4) != (rdtype == "A"):
        raise LineError(Reason.SYNTAX)
    return Action.BLOCK
