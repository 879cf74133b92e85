"""What one line of a list means, once it is understood."""

from enum import StrEnum
from typing import NamedTuple


class Scope(StrEnum):
    """Which names a rule covers."""

    EXACT = "exact"  # the name alone: a hosts file's line
    SUBTREE = "subtree"  # the name and everything below it
    SUBDOMAINS = "subdomains"  # everything below the name, not the name: an RPZ wildcard


class Action(StrEnum):
    """What a rule does to the names it covers."""

    BLOCK = "block"
    ALLOW = "allow"


class Traits(NamedTuple):
    """All of a rule but its name. Rules of one list share a handful of these."""

    scope: Scope = Scope.SUBTREE
    action: Action = Action.BLOCK
    important: bool = False
    """Wins over allow rules of lists (``$important``)."""
    types: tuple[str, ...] = ()
    """Query types it applies to, or with ``~`` before each those it does not; empty: all."""
    unless: tuple[str, ...] = ()
    """Subtrees that it lets through (``$denyallow``), in normal form."""


class Rule(NamedTuple):
    """One rule: a name in normal form (or an RE2 pattern over it) and its traits."""

    name: str
    """The name; for a pattern the expression, without its slashes."""
    traits: Traits = Traits()
    pattern: bool = False

    def __str__(self) -> str:
        """Write the rule in adblock's notation, which has a form for each kind of rule."""
        scope, action, important, types, unless = self.traits
        if self.pattern:
            body = f"/{self.name}/"
        elif scope is Scope.EXACT:
            body = self.name
        elif scope is Scope.SUBTREE:
            body = f"||{self.name}^"
        else:
            body = f"*.{self.name}"
        modifiers = ["important"] if important else []
        if types:
            modifiers.append("dnstype=" + "|".join(types))
        if unless:
            modifiers.append("denyallow=" + "|".join(unless))
        return ("@@" if action is Action.ALLOW else "") + body + ("$" + ",".join(modifiers) if modifiers else "")
