"""What a list holds, as JSON objects: for a look at it before it becomes a source. Stores nothing."""

from collections import Counter
from typing import Any

from blocklists.listing import AUTO, Listing, Parsed, Rejection, read_list
from policy.rules import Traits


def inspect(
    location: str,
    data: bytes,
    format: str = AUTO,  # noqa: A002 - the word of the command line and of the contract
    *,
    scope: str | None = None,
    allow_public_suffix: bool = False,
) -> dict[str, Any]:
    """Return every rule and every rejected line of a list. Raises `ListError`."""
    listing = read_list(data, format=format, scope=scope, allow_public_suffix=allow_public_suffix)
    rules, rejected = [], []
    for item in listing:
        if isinstance(item, Parsed):
            rules.append(_rule(item))
        else:
            rejected.append({"line": item.line, "text": item.text, "reason": item.reason.value})
    return {"location": location, "format": listing.format, "rules": rules, "rejected": rejected}


def summarise(
    location: str,
    data: bytes,
    format: str = AUTO,  # noqa: A002 - the word of the command line and of the contract
    *,
    scope: str | None = None,
    allow_public_suffix: bool = False,
) -> dict[str, Any]:
    """Return how many rules and rejected lines a list has, and of which kinds. Raises `ListError`."""
    listing = read_list(data, format=format, scope=scope, allow_public_suffix=allow_public_suffix)
    return {"location": location, "format": listing.format, **_counts(listing)}


def _rule(item: Parsed) -> dict[str, Any]:
    name, traits, pattern = item.rule
    return {
        "line": item.line,
        **({"regex": name} if pattern else {"name": name, "scope": traits.scope.value}),
        "action": traits.action.value,
        "important": traits.important,
        "types": list(traits.types) or None,
        "except": list(traits.unless),
    }


def _counts(listing: Listing) -> dict[str, Any]:
    traits: Counter[tuple[Traits, bool]] = Counter()
    reasons: Counter[str] = Counter()
    for item in listing:
        if isinstance(item, Rejection):
            reasons[item.reason.value] += 1
        else:
            traits[item.rule.traits, item.rule.pattern] += 1
    scopes: Counter[str] = Counter()
    actions: Counter[str] = Counter()
    for (kind, pattern), count in traits.items():
        scopes["regex" if pattern else kind.scope.value] += count
        actions[kind.action.value] += count
    return {
        "rules": traits.total(),
        "rejected": reasons.total(),
        "scopes": dict(scopes),
        "actions": dict(actions),
        "reasons": dict(reasons),
    }
