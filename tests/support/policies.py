"""Databases that hold a policy: the default groups, a source and what it lists; and snapshots asked about names."""

from collections.abc import Iterable
from ipaddress import ip_address

from policy.decide import decide
from policy.rules import Action, Rule, Scope, Traits
from policy.snapshot import Snapshot
from storage import categories, groups, sources
from storage.database import Database
from storage.sources import Source
from tests.support.configuration import list_rules

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
    fill(database, source, names)
    return source


def fill(database: Database, source: Source, names: Iterable[str]) -> None:
    """Let a source list exactly these names, each with all below it, as a refresh would."""
    list_rules(database, source.id, [Rule(name, SUBTREE) for name in names])


def verdict(snapshot: Snapshot, name: str, client: str = "192.0.2.1", qtype: str = "A") -> str:
    """Return what a client would get for a name."""
    return decide(snapshot, snapshot.scope_of(ip_address(client)), name, qtype, MOMENT).verdict
