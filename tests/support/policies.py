"""Databases that hold a policy: the default groups, a source and what it lists; and snapshots asked about names."""

from collections.abc import Iterable
from ipaddress import ip_address

from policy.decide import decide
from policy.rules import Action, Rule, Scope, Traits
from policy.snapshot import Snapshot
from storage import categories, entries, groups, sources
from storage.database import Change, Database
from storage.sources import Source

SUBTREE = Traits(Scope.SUBTREE, Action.BLOCK)
GROUPS = ("students", "staff", "guests")
MOMENT = 1_700_000_000_000_000  # no exception in these tests ends before


def set_up(database: Database, *names: str) -> Source:
    """Add the default groups, which block `adult`, and the source `list` of that category, which lists the names."""
    with database.change("set-up") as change:
        categories.ensure(change, "adult", clause="IV.a")
        for group in GROUPS:
            groups.add(change, group)
            groups.block(change, group, ["adult"])
        source = sources.add(change, "list", "/lists/list.txt", category="adult")
    with database.change("set-up") as change:
        fill(change, source, names)
    return source


def fill(change: Change, source: Source, names: Iterable[str]) -> None:
    """Let a source list exactly these names, each with all below it, as a refresh would. First in its change."""
    found = entries.replace(change, source.id, [Rule(name, SUBTREE) for name in names])
    sources.record_success(
        change,
        source.id,
        etag="",
        last_modified="",
        content_hash="",
        rules=found.added + found.unchanged,
        rejected=0,
        added=found.added,
        removed=found.removed,
    )


def verdict(snapshot: Snapshot, name: str, client: str = "192.0.2.1", qtype: str = "A") -> str:
    """Return what a client would get for a name."""
    return decide(snapshot, snapshot.scope_of(ip_address(client)), name, qtype, MOMENT).verdict
