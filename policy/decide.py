"""Who wins: from a name and a client's scope to a `Verdict`, and the same for a name with all that it leads to.

From first to last: a live exception; the categories that the group blocks, the most severe first; otherwise allowed.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from policy.index import Match
from policy.names import is_within
from policy.rules import Action, Rule, Traits
from policy.snapshot import ClientScope, Snapshot


class Verdict(NamedTuple):
    """What was decided, and what decided it. Text is empty and the id 0 where nothing did."""

    verdict: str
    """``allowed``, ``blocked`` or ``exception`` (allowed by one)."""
    category: str = ""
    source: str = ""
    rule: str = ""
    clause: str = ""
    exception_id: int = 0

    @property
    def is_blocked(self) -> bool:
        """Tell whether the name is sunk."""
        return self.verdict == "blocked"

    def by_way_of(self, name: str) -> "Verdict":
        """Return what this, decided about a name, means for another that leads there."""
        return self._replace(rule=f"{self.rule} by way of {name}")


ALLOWED = Verdict("allowed")
PREFIX_DISCOVERY = "ipv4only.arpa"
"""By its addresses hosts learn how they reach IPv4 (RFC 7050, RFC 8880 section 7): no list may say what those are."""

IsOurs = Callable[[str], bool]
"""Tells of a name whether it is the district's own: lists are about other people's."""


def decide(
    snapshot: Snapshot, scope: ClientScope, name: str, qtype: str, now: int, is_ours: IsOurs | None = None
) -> Verdict:
    """Decide a name in normal form; the type as text, the time in microseconds since the epoch."""
    exception = scope.exception_for(name, now) if scope.has_exceptions else None
    if exception is not None:
        rule = exception.domain if exception.exact else f"||{exception.domain}^"
        if exception.allows:
            return Verdict("exception", rule=f"@@{rule}", exception_id=exception.id)
        return Verdict("blocked", rule=rule, exception_id=exception.id)
    matches = snapshot.index.match(name)
    if not matches or is_within(name, PREFIX_DISCOVERY) or (is_ours is not None and is_ours(name)):
        return ALLOWED
    return _by_lists(snapshot, scope, _applying(matches, name, qtype))


def decide_way(
    snapshot: Snapshot,
    scope: ClientScope,
    names: Sequence[str],
    qtype: str,
    now: int,
    is_ours: IsOurs | None = None,
    known: Verdict | None = None,
) -> Verdict:
    """Decide a lookup by its name, which is the first, and by those to which that leads; `known`: the verdict on it.

    What lets the name through covers where it leads: an exception all of it, and what lists say as far as they reach.
    """
    name, *targets = names
    verdict = decide(snapshot, scope, name, qtype, now, is_ours) if known is None else known
    if verdict.verdict != "allowed":
        return verdict
    for target in targets:
        there = decide(snapshot, scope, target, qtype, now, is_ours)
        if there.is_blocked and not there.exception_id:
            there = verdict = _covered(snapshot, scope, name, target, qtype)
        if there.is_blocked:
            return there.by_way_of(target)
    return verdict


def _covered(snapshot: Snapshot, scope: ClientScope, name: str, target: str, qtype: str) -> Verdict:
    """Decide by lists what a name leads to, which they block by itself, or return what of the name lifts that.

    An allow rule does so within its own category there as well, and a source of an allow category in all of them.
    """
    covering = [
        match
        for match in _applying(snapshot.index.match(name), name, qtype)
        if match.rule.traits.action is Action.ALLOW or _is_of_allow_category(snapshot, match)
    ]
    return _by_lists(snapshot, scope, [*_applying(snapshot.index.match(target), target, qtype), *covering])


def blocked_among(rules: list[Rule]) -> Rule | None:
    """Return the rule by which a list alone blocks a name that its rules cover, for whatever type; None: it doesn't."""
    matches = [Match(rule, 0) for rule in rules]
    blocks = [match for match in matches if match.rule.traits.action is Action.BLOCK]
    allows = [match for match in matches if match.rule.traits.action is Action.ALLOW and not match.rule.traits.types]
    if not blocks or _overriding(allows, blocks):
        return None
    return _strongest(blocks).rule


def _applying(matches: list[Match], name: str, qtype: str) -> list[Match]:
    return [match for match in matches if _applies(match.rule.traits, name, qtype)]


def _is_of_allow_category(snapshot: Snapshot, match: Match) -> bool:
    source = snapshot.sources.get(match.source)
    return source is not None and snapshot.categories[source.category].kind == "allow"


def _by_lists(snapshot: Snapshot, scope: ClientScope, matches: list[Match]) -> Verdict:
    """Decide by categories: one blocks when a source of it blocks and nothing allows."""
    sources, categories = snapshot.sources, snapshot.categories
    blocks: dict[str, list[Match]] = {}
    allows: dict[str, list[Match]] = {}
    everywhere: list[Match] = []  # allowed by a category that allows: acts on all
    for match in matches:
        source = sources.get(match.source)
        if source is None:  # disabled or removed since the index was compiled
            continue
        category = categories[source.category]
        if category.kind == "allow":
            everywhere.append(match)
        else:
            side = allows if match.rule.traits.action is Action.ALLOW else blocks
            side.setdefault(category.key, []).append(match)
    lifted: Match | None = None
    for key in scope.group.blocked:
        if key not in blocks:
            continue
        allow = _overriding(allows.get(key, []) + everywhere, blocks[key])
        if allow is None:
            return _verdict("blocked", _strongest(blocks[key]), snapshot)
        lifted = lifted or allow
    return _verdict("allowed", lifted, snapshot) if lifted else ALLOWED


def _overriding(allows: list[Match], blocks: list[Match]) -> Match | None:
    """Return the allow rule that lifts the blocks: any does, but only an important one lifts an important block."""
    if any(match.rule.traits.important for match in blocks):
        allows = [match for match in allows if match.rule.traits.important]
    return _strongest(allows) if allows else None


def _strongest(matches: list[Match]) -> Match:
    """Return the rule to name: an important one, then one for a name, then the longest."""
    return max(matches, key=lambda m: (m.rule.traits.important, not m.rule.pattern, len(m.rule.name)))


def _verdict(verdict: str, match: Match, snapshot: Snapshot) -> Verdict:
    source = snapshot.sources[match.source]
    clause = snapshot.categories[source.category].clause
    return Verdict(verdict, source.category, source.key, str(match.rule), clause)


def _applies(traits: Traits, name: str, qtype: str) -> bool:
    """Tell whether a rule that covers the name holds for the type and spares no subtree around the name."""
    if traits.types:
        others = traits.types[0].startswith("~")
        if (f"~{qtype}" in traits.types) if others else (qtype not in traits.types):
            return False
    return not any(is_within(name, subtree) for subtree in traits.unless)
