"""`refresh`, `sources` and `categories`: the lists, where they come from, and what they are filed under."""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from admin_api.presenting import present
from blocklists.errors import BlocklistError, ListError
from commands.context import Context, json_option, pass_context, show_done, show_list, show_one
from commands.progress import Progress
from storage import categories, sources
from storage.errors import InvalidError

if TYPE_CHECKING:
    from blocklists.refresh import Outcome

FORMATS = ("auto", "hosts", "domains", "wildcard", "adblock", "dnsmasq", "rpz", "unbound", "ut1")
format_option = click.option("--format", "list_format", type=click.Choice(FORMATS), default="auto", show_default=True)
scope_option = click.option(
    "--scope", type=click.Choice(["exact", "subtree"]), help="What a name alone on its line covers."
)
private_option = click.option("--allow-private", is_flag=True, help="Fetch from private addresses too.")
suffix_option = click.option("--allow-public-suffix", is_flag=True, help="Take names like co.uk for what they say.")


@click.command("refresh")
@click.argument("keys", metavar="[SOURCE]...", nargs=-1)
@click.option("--force", is_flag=True, help="Fetch and store again what has not changed, too.")
@json_option
@pass_context
def refresh_command(context: Context, keys: tuple[str, ...], *, force: bool, as_json: bool) -> None:
    """Fetch, parse and store the enabled sources, or the ones named, and bring them into force.

    A source that fails keeps its last good version, and the command exits with 1.
    """
    from blocklists.refresh import Terms, refresh  # noqa: PLC0415 - the HTTP client is for fetching alone

    session = context.session
    with session.state.locked("refresh"):  # before the sources are read: another refresh may be at them
        with session.database.reading() as connection:
            everything = sources.list_all(connection)
            chosen = [sources.get(connection, key) for key in dict.fromkeys(keys)] or [
                s for s in everything if s.enabled
            ]
        with Progress([source.key for source in chosen], quiet=as_json) as progress:
            outcomes = asyncio.run(
                refresh(
                    session.database,
                    chosen,
                    Terms.of(session.settings),
                    actor=session.actor,
                    force=force,
                    progress=progress.report,
                )
            )
    session.publish(wait_for_index=True)
    _show_outcomes(outcomes, as_json=as_json)
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        names = "; ".join(f"{outcome.source}: {outcome.error}" for outcome in failed)
        click.echo(
            f"hallmonitor: {len(failed)} of {len(outcomes)} sources failed and keep their last good version: {names}",
            err=True,
        )
        sys.exit(1)


def _show_outcomes(outcomes: "list[Outcome]", *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "source": outcome.source,
            "category": outcome.category,
            "status": outcome.status,
            "rules": outcome.rules,
            "added": outcome.added,
            "removed": outcome.removed,
            "rejected": dict(outcome.rejected.most_common()),
            "seconds": round(outcome.seconds, 2),
            "error": outcome.error or None,
        }
        for outcome in outcomes
    ]
    columns = ("source", "category", "status", "rules", "added", "removed", "rejected", "seconds")
    show_list(rows, columns, as_json=as_json, empty="No source is enabled: hallmonitor sources list")


@click.group("sources")
def sources_group() -> None:
    """Where lists come from."""


@sources_group.command("list")
@json_option
@pass_context
def list_sources(context: Context, *, as_json: bool) -> None:
    """List every source, with how its last refresh went."""
    with context.session.database.reading() as connection:
        found = [present(source) for source in sources.list_all(connection)]
    columns = ("key", "category", "format", "enabled", "rules", "rejected", "last_success_at", "last_error")
    show_list(found, columns, as_json=as_json, empty="There are no sources.")


@sources_group.command("add")
@click.argument("key")
@click.argument("location")
@click.option("--category", required=True)
@click.option("--create-category", is_flag=True, help="Add the category if it isn't there.")
@format_option
@scope_option
@private_option
@suffix_option
@click.option("--interval", type=click.IntRange(min=300), metavar="SECONDS", default=86_400, show_default=True)
@json_option
@pass_context
def add_source(
    context: Context,
    key: str,
    location: str,
    *,
    category: str,
    create_category: bool,
    list_format: str,
    scope: str | None,
    allow_private: bool,
    allow_public_suffix: bool,
    interval: int,
    as_json: bool,
) -> None:
    """Add a source KEY that is fetched from LOCATION, a URL or a path; `refresh KEY` loads it."""
    with context.session.change() as change:
        if create_category:
            categories.ensure(change, category)
        elif not categories.exists(change.connection, category):
            raise InvalidError("category", f"there is no category {category!r}; --create-category adds it")
        source = sources.add(
            change,
            key,
            _absolute(location),
            category=category,
            format=list_format,
            scope=scope,
            allow_private=allow_private,
            allow_public_suffix=allow_public_suffix,
            interval_seconds=interval,
        )
    show_one(present(source), as_json=as_json)


def _absolute(location: str) -> str:
    """Return a location as it is found from anywhere: a path on the command line starts at the working directory."""
    from blocklists.refresh import BUILTIN  # noqa: PLC0415 - as above

    if "://" in location or location.startswith(BUILTIN):
        return location
    return os.path.abspath(location)  # noqa: PTH100 - Path.absolute keeps what lies between two dots


@sources_group.command("remove")
@click.argument("key")
@json_option
@pass_context
def remove_source(context: Context, key: str, *, as_json: bool) -> None:
    """Remove a source and everything that it lists."""
    with context.session.change() as change:
        source = sources.remove(change, key)
    show_done(present(source), f"{key}: removed", as_json=as_json)


@sources_group.command("enable")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@json_option
@pass_context
def enable_sources(context: Context, keys: tuple[str, ...], *, as_json: bool) -> None:
    """Let sources count; `refresh` loads those that have never been."""
    with context.session.change() as change:
        enabled = [sources.enable(change, key) for key in keys]
    for source in enabled:
        show_done(present(source), f"{source.key}: enabled, {source.rules} rules loaded", as_json=as_json)


@sources_group.command("disable")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@json_option
@pass_context
def disable_sources(context: Context, keys: tuple[str, ...], *, as_json: bool) -> None:
    """Keep sources but let them count no more."""
    with context.session.change() as change:
        disabled = [sources.disable(change, key) for key in keys]
    for source in disabled:
        show_done(present(source), f"{source.key}: disabled", as_json=as_json)


@sources_group.command("inspect")
@click.argument("locations", metavar="LOCATION...", nargs=-1, required=True)
@format_option
@scope_option
@private_option
@suffix_option
@click.option("--summary", is_flag=True, help="Counts alone.")
@json_option
def inspect_sources(
    locations: tuple[str, ...],
    *,
    list_format: str,
    scope: str | None,
    allow_private: bool,
    allow_public_suffix: bool,
    summary: bool,
    as_json: bool,
) -> None:
    """Show what lists would do, without storing anything."""
    failed = False
    for location in locations:
        try:
            report = asyncio.run(
                _inspect(
                    _absolute(location),
                    list_format=list_format,
                    scope=scope,
                    allow_private=allow_private,
                    allow_public_suffix=allow_public_suffix,
                    summary=summary or not as_json,
                )
            )
        except BlocklistError as error:
            failed = True
            where = f"{location}: " if isinstance(error, ListError) else ""  # the others name it themselves
            click.echo(f"hallmonitor: {where}{error}", err=True)
            continue
        show_one(report | {"location": location}, as_json=as_json)
    sys.exit(1 if failed else 0)


async def _inspect(
    location: str,
    *,
    list_format: str,
    allow_private: bool,
    summary: bool,
    **options: Any,  # noqa: ANN401 - passed on
) -> dict[str, Any]:
    from blocklists.fetching import Fetched, fetch  # noqa: PLC0415 - the HTTP client is for fetching alone
    from blocklists.inspecting import inspect, summarise  # noqa: PLC0415 - likewise

    fetched = await fetch(location, base=Path.cwd(), allow_private=allow_private, etag=None, last_modified=None)
    assert isinstance(fetched, Fetched)
    report = summarise if summary else inspect
    return report(location, fetched.data, format=list_format, **options)


@click.group("categories")
def categories_group() -> None:
    """Show what sources are filed under."""


@categories_group.command("list")
@json_option
@pass_context
def list_categories(context: Context, *, as_json: bool) -> None:
    """List the categories, the most severe first, with how many rules each holds."""
    with context.session.database.reading() as connection:
        counts = sources.count_by_category(connection)
        found = [
            present(category) | {"rules": counts.get(category.key, 0)} for category in categories.list_all(connection)
        ]
    show_list(found, ("key", "name", "kind", "severity", "rules", "clause"), as_json=as_json, empty="None.")
