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
_MAX_SOA_LINES = 20  # a parenthesis that is never closed must not swallow the zone


class Rpz(LineReader):
    """Reads a response policy zone."""

    def __init__(self, *, scope: Scope | None = None, allow_public_suffix: bool = False) -> None:
        """Take whether public suffixes may be named; the scope is each rule's own."""
        super().__init__(scope=scope, allow_public_suffix=allow_public_suffix)
        # Names with a trailing dot; empty until the file tells them.
        self._apex = ""
        self._origin = ""
        self._owner = ""
        self._soa_lines_left = 0

    def skips(self, text: str) -> bool:
        """Tell whether a line is a comment."""
        return text[0] == ";" or super().skips(text)

    def rules(self, text: str) -> Sequence[Rule]:
        """Return the rule of the line's record, none for what makes it a zone."""
        text = without_comment(text).partition(";")[0].rstrip()
        if self._soa_lines_left:
            self._soa_lines_left = 0 if ")" in text else self._soa_lines_left - 1
            return ()
        fields = text.split()
        if fields[0].startswith("$"):
            self._follow(fields)
            return ()
        rdtype, data = self._record(fields)
        if rdtype == "SOA":
            self._start_of_authority(data)
            return ()
        name = self._trigger()
        if not name:  # a record of the zone itself
            return ()
        if name.removesuffix(".").rpartition(".")[2] in _OTHER_TRIGGERS:
            raise LineError(Reason.TRIGGER)
        action = _action(rdtype, data)
        if name.startswith("*."):
            return (Rule(self.name(name[2:]), Traits(Scope.SUBDOMAINS, action)),)
        return (Rule(self.name(name), Traits(Scope.EXACT, action)),)

    def _follow(self, directive: list[str]) -> None:
        """Follow a directive of the zone file (RFC 1035 section 5.1, RFC 2308 section 4)."""
        keyword = directive[0].upper()
        if keyword == "$TTL":
            return
        if keyword != "$ORIGIN" or len(directive) != 2:
            raise LineError(Reason.SYNTAX)
        self._origin = self._absolute(directive[1].lower())
        self._apex = self._apex or self._origin.removeprefix(".")

    def _record(self, fields: list[str]) -> tuple[str, list[str]]:
        """Return a record's type and data; a line without an owner has the last one's."""
        typed = _typed(fields)
        if typed is None:
            self._owner = self._absolute(fields[0].lower())
            typed = _typed(fields[1:])
        if typed is None:
            raise LineError(Reason.SYNTAX)
        return typed

    def _absolute(self, name: str) -> str:
        if name == "@":
            return self._origin
        if name.endswith(".") or not self._origin:
            return name
        return f"{name}.{self._origin.removeprefix('.')}"

    def _start_of_authority(self, data: list[str]) -> None:
        if self._owner.endswith(".") and self._owner != ".":
            self._apex = self._owner
        if "(" in "".join(data) and ")" not in "".join(data):
            self._soa_lines_left = _MAX_SOA_LINES

    def _trigger(self) -> str:
        """Return what the owner stands for: it without the zone's name, empty for the zone itself."""
        if self._owner == self._apex:
            return ""
        if self._apex and self._owner.endswith(f".{self._apex}"):
            return self._owner[: -len(self._apex) - 1]
        return self._owner


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
