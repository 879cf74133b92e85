"""Hosts files: an address, then the names that it is for (hosts(5)).

A line blocks each of its names, and none below them, when the address leads nowhere.
"""

from collections.abc import Sequence

from blocklists.formats.reader import LineError, LineReader, Reason, is_sink_address, without_comment
from policy.rules import Rule, Scope, Traits

# What operating systems put in their own hosts files.
LOCAL_NAMES = frozenset(
    {
        *("localhost", "localhost.localdomain", "local", "localdomain", "broadcasthost"),
        *("localhost4", "localhost4.localdomain4", "localhost6", "localhost6.localdomain6"),
        *("ip6-localhost", "ip6-loopback", "ip6-localnet", "ip6-mcastprefix"),
        *("ip6-allnodes", "ip6-allrouters", "ip6-allhosts"),
        *("loopback", "ipv6-localhost", "ipv6-loopback", "ipv6-localnet", "ipv6-mcastprefix"),
        *("ipv6-allnodes", "ipv6-allrouters", "ipv6-allhosts"),
    }
)


class Hosts(LineReader):
    """Reads a hosts file."""

    def __init__(self, *, scope: Scope | None = None, allow_public_suffix: bool = False) -> None:
        """Take how far a name reaches, if not to itself alone, and whether public suffixes may be named."""
        super().__init__(scope=scope, allow_public_suffix=allow_public_suffix)
        self._traits = Traits(scope or Scope.EXACT)

    def rules(self, text: str) -> Sequence[Rule]:
        """Return a rule for each name behind the address."""
        address, *names = without_comment(text).split()
        try:
            sinks = is_sink_address(address)
        except ValueError as error:
            raise LineError(Reason.SYNTAX) from error
        if not names:
            raise LineError(Reason.NO_NAME)
        if not sinks:
            local = all(map(_is_local, names))
            raise LineError(Reason.LOCAL_NAME if local else Reason.NOT_A_SINK_ADDRESS)
        if len(names) == 1:
            return (Rule(self.name(names[0]), self._traits),)
        return self.rules_of(names, self._traits)

    def name(self, text: str) -> str:
        """Return a name's normal form, if it isn't this computer's own."""
        if _is_local(text):
            raise LineError(Reason.LOCAL_NAME)
        return super().name(text)


def _is_local(name: str) -> bool:
    return name.lower().removesuffix(".") in LOCAL_NAMES
