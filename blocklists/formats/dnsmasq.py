"""dnsmasq's configuration, as far as it sinks names: ``address=/a.example/``, ``local=/a.example/`` (dnsmasq(8))."""

import re
from collections.abc import Sequence

from blocklists.formats.reader import LineError, LineReader, Reason, is_sink_address, without_comment
from policy.rules import Rule, Scope, Traits

_LINE = re.compile(r"(address|local|server)\s*=\s*(.*)")


class Dnsmasq(LineReader):
    """Reads the lines of a dnsmasq configuration."""

    def rules(self, text: str) -> Sequence[Rule]:
        """Return a rule for each name between the slashes."""
        line = _LINE.fullmatch(without_comment(text))
        if line is None:
            raise LineError(Reason.SYNTAX)
        directive, value = line.groups()
        first, *names, target = value.split("/") if "/" in value else (value, value)
        if first and directive != "address":
            raise LineError(Reason.FORWARD)  # `server=192.0.2.1`: where all names go
        if first or not names:
            raise LineError(Reason.SYNTAX)
        if target:
            _check(directive, target)
        if "#" in names:  # any name at all
            raise LineError(Reason.WILDCARD)
        return self.rules_of(names, Traits(Scope.SUBTREE))


def _check(directive: str, target: str) -> None:
    """Raise `LineError` when what stands behind the names doesn't sink them."""
    if directive != "address":
        raise LineError(Reason.FORWARD)
    if target == "#":  # the unspecified address of either family
        return
    try:
        sinks = is_sink_address(target)
    except ValueError as error:
        raise LineError(Reason.SYNTAX) from error
    if not sinks:
        raise LineError(Reason.NOT_A_SINK_ADDRESS)
