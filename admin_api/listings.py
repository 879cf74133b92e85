"""Which lists hold a name, now or at an earlier time: told alike by the API and on the command line.

What was listed then is as the versions of each list say. Which sources were enabled then they don't: `enabled` is of
today.
"""

from typing import Any

from sqlalchemy import Connection

from admin_api.times import format_time
from policy.index import covers
from storage import entries, parts, sources, versions


def holding(connection: Connection, name: str, *, at: int | None = None) -> list[dict[str, Any]]:
    """Return an object for each rule that covers a name in normal form, the nearest first, patterns last.

    ``since`` is None where that is longer ago than versions are remembered. `at` is in microseconds since the epoch.
    """
    found = [listing for listing in entries.holding(connection, name, at=at) if covers(listing.rule, name)]
    if not found:
        return []
    known = {source.id: source for source in sources.list_all(connection)}
    part_of = {part.id: part for part in parts.list_all(connection)}
    then = None if at is None else versions.in_force(connection, at)
    shown = []
    for listing in found:
        source, part = known[listing.source_id], part_of[listing.part_id]
        brought_by = versions.get(connection, source.id, listing.since)
        shown.append(
            {
                "source": source.key,
                "directory": part.name or None,
                "category": part.category or source.category,
                "rule": str(listing.rule),
                "action": str(listing.rule.traits.action),
                "enabled": source.enabled,
                "since": None if brought_by is None else format_time(brought_by.at),
                "version": source.version if then is None else then[source.id],
            }
        )
    return shown


def unknown_at(connection: Connection, at: int) -> list[str]:
    """Return the keys of sources that held something at a time of which nothing is remembered any more."""
    found = []
    for source in sources.list_all(connection):
        oldest = versions.oldest(connection, source.id)
        if oldest is not None and oldest.number > 1 and oldest.at > at:
            found.append(source.key)
    return found
