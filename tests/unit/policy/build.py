"""Policies for tests: lists and exceptions in, a snapshot read back from disk out, as a worker would read it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from blocklists.compiler import Entry, compile_index
from policy import snapshot as snapshots
from policy.index import Index
from policy.names import key_of
from policy.rules import Action, Rule, Scope, Traits
from policy.snapshot import Snapshot

NOW = 1_700_000_000_000_000
"""Microseconds since the epoch: any moment does, so long as it is always the same."""

CLAUSES = {"adult": "IV.a", "gambling": "IV.b", "advertising": "IV.c"}
ALLOW_CATEGORY = "schoolwork"
"""The one category whose sources let names through."""


class Listed(NamedTuple):
    """A source: what it is filed under and what it says."""

    key: str
    category: str
    rules: Sequence[Rule]


def block(
    name: str,
    scope: Scope = Scope.SUBTREE,
    *,
    important: bool = False,
    types: tuple[str, ...] = (),
    unless: tuple[str, ...] = (),
    pattern: bool = False,
) -> Rule:
    return Rule(name, Traits(scope, Action.BLOCK, important, types, unless), pattern)


def allow(
    name: str,
    scope: Scope = Scope.SUBTREE,
    *,
    important: bool = False,
    types: tuple[str, ...] = (),
    unless: tuple[str, ...] = (),
    pattern: bool = False,
) -> Rule:
    return Rule(name, Traits(scope, Action.ALLOW, important, types, unless), pattern)


def group(
    name: str, blocked: Iterable[str] = tuple(CLAUSES), *, mode: str = "null", addresses: Iterable[str] = ()
) -> dict[str, Any]:
    return {"name": name, "mode": mode, "addresses": list(addresses), "blocked": list(blocked)}


def exception(
    number: int,
    domain: str,
    action: str = "allow",
    *,
    match: str = "subtree",
    groups: Iterable[str] = (),
    clients: Iterable[str] = (),
    expires_at: int | None = None,
) -> dict[str, Any]:
    return {
        "id": number,
        "domain": domain,
        "action": action,
        "match": match,
        "groups": list(groups),
        "clients": list(clients),
        "expires_at": expires_at,
    }


def index_of(path: Path, rules: Iterable[tuple[int, Rule]]) -> Index:
    """Compile rules, each with its source's number, and map the file."""
    write_index(path, rules)
    return Index.open(path)


def write_index(path: Path, rules: Iterable[tuple[int, Rule]]) -> None:
    """Compile rules, each with its source's number, in the order that the database would give them."""
    numbers: dict[Traits, int] = {}
    entries: list[Entry] = []
    for source, rule in rules:
        key = f"/{rule.name}/" if rule.pattern else key_of(rule.name)
        entries.append((key, source, numbers.setdefault(rule.traits, 7 + 3 * len(numbers))))
    entries.sort()
    compile_index(path, entries, {number: traits for traits, number in numbers.items()})


def document(
    *,
    version: int = 1,
    lists: Sequence[Listed] = (),
    groups: Sequence[Mapping[str, Any]] = (group("students"), group("staff", ["adult"]), group("guests")),
    networks: Mapping[str, str] = {},
    exceptions: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the document that the supervisor publishes, as plain JSON; its default group is `students`."""
    categories = [{"key": key, "kind": "block", "clause": clause} for key, clause in CLAUSES.items()]
    return {
        "version": version,
        "default_group": "students",
        "groups": list(groups),
        "categories": [*categories, {"key": ALLOW_CATEGORY, "kind": "allow", "clause": ""}],
        "sources": [
            {"id": number, "key": listed.key, "category": listed.category} for number, listed in enumerate(lists, 1)
        ],
        "networks": [{"cidr": cidr, "group": name} for cidr, name in networks.items()],
        "exceptions": list(exceptions),
    }


def publish(directory: Path, *, version: int = 1, lists: Sequence[Listed] = (), **parts: Any) -> Path:
    """Write an index and its document beside it; return the document's path."""
    directory.mkdir(parents=True, exist_ok=True)
    index = directory / f"names-{version}.index"
    write_index(index, [(number, rule) for number, listed in enumerate(lists, 1) for rule in listed.rules])
    path = directory / f"policy-{version}.json"
    path.write_text(json.dumps(document(version=version, lists=lists, **parts) | {"index": index.name}))
    return path


def policy(directory: Path, **parts: Any) -> Snapshot:
    """Return the snapshot of a policy that `publish` wrote."""
    return snapshots.read(publish(directory, **parts))
