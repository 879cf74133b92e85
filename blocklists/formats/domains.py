"""Plain lists of names, one a line: each blocks the name and all below it, which is what category lists mean."""

from collections.abc import Sequence

from blocklists.formats.reader import LineError, LineReader, Reason, without_comment
from policy.rules import Rule, Scope, Traits


class Domains(LineReader):
    """Reads a plain list."""

    def __init__(self, *, scope: Scope | None = None, allow_public_suffix: bool = False) -> None:
        """Take how far a name reaches, if not to all below it, and whether public suffixes may be named."""
        super().__init__(scope=scope, allow_public_suffix=allow_public_suffix)
        self._traits = Traits(scope or Scope.SUBTREE)

    def rules(self, text: str) -> Sequence[Rule]:
        """Return the rule for the line's name."""
        if len(text.split()) > 1:
            text = without_comment(text)
            if len(text.split()) > 1:
                raise LineError(Reason.SYNTAX)
        return (Rule(self.name(text), self._traits),)
