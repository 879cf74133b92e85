"""Wildcard lists: ``*.a.example`` or ``.a.example`` blocks the name and all below it.

A name without star or dot before it is listed for itself alone.
"""

from collections.abc import Sequence

from blocklists.formats.reader import LineError, LineReader, Reason, without_comment
from policy.rules import Rule, Scope, Traits


class Wildcard(LineReader):
    """Reads a wildcard list."""

    def rules(self, text: str) -> Sequence[Rule]:
        """Return the rule for the line's name."""
        text = without_comment(text)
        if len(text.split()) > 1:
            raise LineError(Reason.SYNTAX)
        name = text.removeprefix("*").removeprefix(".")
        if name == text:
            return (Rule(self.name(text), Traits(Scope.EXACT)),)
        if not name or text.startswith("*") != text.startswith("*."):
            raise LineError(Reason.WILDCARD)
        return (Rule(self.name(name), Traits(Scope.SUBTREE)),)
