"""What a list or an archive of lists holds, as JSON objects: for a look before it becomes a source. Stores nothing."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from blocklists.listing import AUTO, UT1, Parsed, Rejection, read_list
from blocklists.ut1 import ArchivePart, Members, read_archive
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
    rules, rejected = _shown(listing)
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
    return {"location": location, "format": listing.format, **_Counts(listing).shown()}


def inspect_archive(
    location: str, members: Members, *, scope: str | None = None, allow_public_suffix: bool = False
) -> dict[str, Any]:
    """Return every rule and every rejected line of a UT1 archive, each with its file and its directory's category.

    The category is None for the source's own. Raises `ListError`.
    """
    rules: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    skipped = []
    for part in read_archive(members, scope=scope, allow_public_suffix=allow_public_suffix):
        if part.skipped:
            skipped.append({"directory": part.name, "reason": part.skipped})
        for file in part.files:
            of_file = {"file": file.file, "category": part.category}
            for shown, found in zip((rules, rejected), _shown(file), strict=True):
                shown += [item | of_file for item in found]
    return {"location": location, "format": UT1, "rules": rules, "rejected": rejected, "skipped": skipped}


def summarise_archive(
    location: str, members: Members, *, scope: str | None = None, allow_public_suffix: bool = False
) -> dict[str, Any]:
    """Return how many rules and rejected lines a UT1 archive has, in all and by directory. Raises `ListError`."""
    counts = _Counts()
    directories = []
    for part in read_archive(members, scope=scope, allow_public_suffix=allow_public_suffix):
        own = _Counts(part)
        counts.add(own)
        directories.append(_directory(part, own))
    return {"location": location, "format": UT1, **counts.shown(), "directories": directories}


def _directory(part: ArchivePart, counts: "_Counts") -> dict[str, Any]:
    return {
        "directory": part.name,
        "category": part.category,
        "skipped": part.skipped or None,
        "rules": counts.traits.total(),
        "rejected": counts.reasons.total(),
        "reasons": dict(counts.reasons),
    }


def _shown(items: Iterable[Parsed | Rejection]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rules and the rejections."""
    rules, rejected = [], []
    for item in items:
        if isinstance(item, Parsed):
            rules.append(_rule(item))
        else:
            rejected.append({"line": item.line, "text": item.text, "reason": item.reason.value})
    return rules, rejected


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


class _Counts:
    """Rules by what they do, and rejections by their reasons."""

    def __init__(self, items: Iterable[Parsed | Rejection] = ()) -> None:
        self.traits: Counter[tuple[Traits, bool]] = Counter()
        self.reasons: Counter[str] = Counter()
        last, pattern, count = Traits(), False, 0
        for item in items:
            if isinstance(item, Rejection):
                self.reasons[item.reason.value] += 1
                continue
            rule = item.rule
            if rule.traits is not last or rule.pattern is not pattern:
                # Most follow one with the very same object, and hashing one costs more than the rest.
                self._took(last, pattern, count)
                last, pattern, count = rule.traits, rule.pattern, 0
            count += 1
        self._took(last, pattern, count)

    def _took(self, traits: Traits, pattern: bool, count: int) -> None:
        if count:
            self.traits[traits, pattern] += count

    def add(self, other: "_Counts") -> None:
        """Count what another counted, too."""
        self.traits += other.traits
        self.reasons += other.reasons

    def shown(self) -> dict[str, Any]:
        """Return the counts as they are shown."""
        scopes: Counter[str] = Counter()
        actions: Counter[str] = Counter()
        for (kind, pattern), count in self.traits.items():
            scopes["regex" if pattern else kind.scope.value] += count
            actions[kind.action.value] += count
        return {
            "rules": self.traits.total(),
            "rejected": self.reasons.total(),
            "scopes": dict(scopes),
            "actions": dict(actions),
            "reasons": dict(self.reasons),
        }
