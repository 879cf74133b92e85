"""Unbound's configuration, as far as it blocks or allows zones: ``local-zone: "a.example" always_nxdomain``.

The types of zones are unbound.conf(5)'s.
"""

import re
from collections.abc import Sequence

from blocklists.formats.reader import LineError, LineReader, Reason, without_comment
from policy.rules import Action, Rule, Scope, Traits

_LINE = re.compile(r"""local-zone\s*:\s*+(["']?)([^"'\s]*)\1\s+(["']?)([a-z_]+)\3""")
_LOCAL_DATA = re.compile(r"local-data(-ptr)?\s*:.*")
_SECTION = re.compile(r"(server|view)\s*:")

_BLOCK, _ALLOW = Traits(Scope.SUBTREE), Traits(Scope.SUBTREE, Action.ALLOW)
_TRAITS = {
    **dict.fromkeys(("always_nxdomain", "always_null", "always_refuse", "always_nodata", "always_deny"), _BLOCK),
    **dict.fromkeys(("static", "redirect", "refuse", "deny", "inform_deny"), _BLOCK),
    **dict.fromkeys(("transparent", "always_transparent"), _ALLOW),
}


class Unbound(LineReader):
    """Reads the lines of an Unbound configuration."""

    def rules(self, text: str) -> Sequence[Rule]:
        """Return the rule for the line's zone."""
        text = without_comment(text)
        line = _LINE.fullmatch(text)
        if line is None:
            if _SECTION.fullmatch(text):
                return ()
            raise LineError(Reason.ACTION if _LOCAL_DATA.fullmatch(text) else Reason.SYNTAX)
        name, zone_type = line[2], line[4]
        if zone_type not in _TRAITS:
            raise LineError(Reason.ACTION)
        return (Rule(self.name(name), _TRAITS[zone_type]),)
