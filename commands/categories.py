"""`categories`: what sources are filed under, and how much each lists."""

from typing import Any

import click

from admin_api.presenting import present
from blocklists.overlaps import Counts, counts
from commands.context import Context, json_option, pass_context, show_done, show_list, show_one
from policy import snapshot as snapshots
from policy.index import CorruptIndexError
from storage import categories, parts, sources
from storage.categories import MAX_SEVERITY, Kind

MOST_SHARED = 3
"""Categories that are named beside one for what they have in common."""

_KINDS = click.Choice([str(kind) for kind in Kind])
_SEVERITY = click.IntRange(1, MAX_SEVERITY)


@click.group("categories")
def categories_group() -> None:
    """Manage what sources are filed under."""


@categories_group.command("list")
@json_option
@pass_context
def list_categories(context: Context, *, as_json: bool) -> None:
    """List the categories, the most severe first, with what each lists and what others list too.

    Rules are those of the enabled sources; names are counted in the index in force, each once.
    """
    with context.session.database.reading() as connection:
        known = categories.list_all(connection)
        rules = sources.count_by_category(connection)
        category_of = {source.id: source.category for source in sources.list_all(connection) if source.enabled}
        feeding: dict[str, set[int]] = {}
        for part in parts.list_all(connection):
            if part.source_id in category_of:
                feeding.setdefault(part.category or category_of[part.source_id], set()).add(part.source_id)
    found = _counted(context)
    rows = [
        present(category)
        | {"sources": len(feeding.get(category.key, ())), "rules": rules.get(category.key, 0)}
        | overlaps(category.key, found)
        for category in known
    ]
    shown = rows if as_json else [row | {"shared_with": _told(row["shared_with"])} for row in rows]
    show_list(
        shown,
        ("key", "name", "kind", "severity", "sources", "rules", "names", "only_here", "shared_with"),
        as_json=as_json,
        empty="There are no categories.",
        numbers=("severity", "sources", "rules", "names", "only_here"),
    )


def _counted(context: Context) -> Counts | None:
    """Return the counts of the index in force; None: there is none."""
    try:
        snapshot = snapshots.read(context.session.state.policy / "current")
    except (OSError, ValueError, KeyError, TypeError, CorruptIndexError):
        return None
    return counts(snapshot.index, {number: source.category for number, source in snapshot.sources.items()})


def overlaps(category: str, found: Counts | None) -> dict[str, Any]:
    """Return how many names a category lists, how many nobody else does, and who has most of the others."""
    if found is None:
        return {"names": None, "only_here": None, "shared_with": None}
    shared = {
        other: number
        for pair, number in found.shared.items()
        if category in pair
        for other in pair
        if other != category
    }
    most = sorted(shared.items(), key=lambda item: (-item[1], item[0]))[:MOST_SHARED]
    return {"names": found.names[category], "only_here": found.only[category], "shared_with": dict(most)}


def _told(shared: dict[str, int] | None) -> str:
    return ", ".join(f"{category} {number:,}" for category, number in (shared or {}).items()) or "-"


@categories_group.command("add")
@click.argument("key")
@click.option("--name", default="", help="What it is called by people.")
@click.option("--description", default="", help="What belongs to it.")
@click.option("--clause", default="", help="The clause of the protocol that it enforces.")
@click.option("--kind", type=_KINDS, default=str(Kind.BLOCK), show_default=True)
@click.option("--severity", type=_SEVERITY, default=500, show_default=True, help="1 is the most severe.")
@json_option
@pass_context
def add_category(context: Context, /, key: str, *, as_json: bool, **fields: Any) -> None:  # noqa: ANN401 - passed on
    """Add a category KEY. Groups don't block it before they are told to."""
    with context.session.change() as change:
        category = categories.add(change, key, **fields)
    show_one(present(category), as_json=as_json)


@categories_group.command("set")
@click.argument("key")
@click.option("--name", help="What it is called by people.")
@click.option("--description", help="What belongs to it.")
@click.option("--clause", help="The clause of the protocol that it enforces.")
@click.option("--kind", type=_KINDS)
@click.option("--severity", type=_SEVERITY, help="1 is the most severe.")
@json_option
@pass_context
def set_category(context: Context, /, key: str, *, as_json: bool, **fields: Any) -> None:  # noqa: ANN401 - passed on
    """Change what is given of a category."""
    if all(value is None for value in fields.values()):
        raise click.UsageError("nothing to set: give --name, --description, --clause, --kind or --severity")
    with context.session.change() as change:
        category = categories.update(change, key, **fields)
    show_one(present(category), as_json=as_json)


@categories_group.command("remove")
@click.argument("key")
@json_option
@pass_context
def remove_category(context: Context, key: str, *, as_json: bool) -> None:
    """Remove a category that no source and no group uses."""
    with context.session.change() as change:
        category = categories.remove(change, key)
    show_done(present(category), f"{key}: removed", as_json=as_json)
