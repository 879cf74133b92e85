"""Builders for what a configuration database holds."""

from storage import categories, groups, sources
from storage.database import Change, Database
from storage.sources import Source


def add_source(change: Change, key: str, *, category: str = "adult", **fields: object) -> Source:
    """Add a source, and its category where that isn't there yet."""
    categories.ensure(change, category)
    return sources.add(change, key, f"/lists/{key}.txt", category=category, **fields)  # type: ignore[arg-type] # the test's


def add_groups(database: Database, *names: str) -> None:
    """Add groups that block nothing."""
    with database.change("set-up") as change:
        for name in names:
            groups.add(change, name)
