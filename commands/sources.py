"""`sources`: where lists come from, how they are, what each held when, and which hold a name."""

from typing import Any

import click
from sqlalchemy import Connection

from admin_api import listings
from admin_api.presenting import present
from admin_api.times import format_time
from commands.context import Context, counted, json_option, pass_context, printable, show_done, show_list, show_one
from commands.inspecting import absolute, format_option, inspect_sources, private_option, scope_option, suffix_option
from commands.times import age, parse_past
from storage import categories, checks, loading, sources, versions
from storage.database import now
from storage.errors import InvalidError
from storage.sources import MAX_INTERVAL_SECONDS, MAX_STALE_SECONDS, MIN_INTERVAL_SECONDS, STALE_INTERVALS, Source
from storage.versions import Version

SHORT_HASH = 12

_INTERVAL = click.IntRange(MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS)
_STALE = click.IntRange(MIN_INTERVAL_SECONDS, MAX_STALE_SECONDS)
mirror_option = click.option(
    "--mirror", "mirrors", multiple=True, metavar="URL", help="Where else it is to be had; may be repeated."
)
stale_option = click.option(
    "--stale-after",
    type=_STALE,
    metavar="SECONDS",
    help=f"How long without a good refresh until it counts as stale; {STALE_INTERVALS} intervals if not given.",
)


@click.group("sources")
def sources_group() -> None:
    """Where lists come from."""


sources_group.add_command(inspect_sources)


@sources_group.command("list")
@json_option
@pass_context
def list_sources(context: Context, *, as_json: bool) -> None:
    """List every source and how it is: ok, stale, failing, never loaded, rolled back, or off."""
    at = now()
    with context.session.database.reading() as connection:
        known = sources.list_all(connection)
        states = {source.key: state_of(source, at, restored=_is_restored(connection, source)) for source in known}
    rows = [present(source) | {"state": states[source.key]} for source in known]
    if not as_json:
        rows = [row | {"updated": age(source.last_success_at, at)} for row, source in zip(rows, known, strict=True)]
    show_list(
        rows,
        ("key", "category", "state", "rules", "rejected", "updated", "last_error"),
        as_json=as_json,
        empty="There are no sources.",
        numbers=("rules", "rejected"),
    )


def state_of(source: Source, at: int, *, restored: bool) -> str:
    """Return how a source is, in a word: of several that hold, what should be seen to first."""
    states = {
        "off": not source.enabled,
        "never loaded": not source.version,
        "stale": source.is_stale(at),
        "failing": source.last_error != "",
        "rolled back": restored,
    }
    return next((state for state, holds in states.items() if holds), "ok")


def _is_restored(connection: Connection, source: Source) -> bool:
    """Tell whether what a source lists now was brought back."""
    version = versions.get(connection, source.id, source.version) if source.enabled and source.version else None
    return version is not None and version.restored is not None


@sources_group.command("add")
@click.argument("key")
@click.argument("location")
@click.option("--category", required=True)
@click.option("--create-category", is_flag=True, help="Add the category if it isn't there.")
@format_option
@scope_option
@private_option
@suffix_option
@mirror_option
@click.option("--interval", type=_INTERVAL, metavar="SECONDS", default=86_400, show_default=True)
@stale_option
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
    mirrors: tuple[str, ...],
    interval: int,
    stale_after: int | None,
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
            absolute(location),
            category=category,
            mirrors=mirrors,
            format=list_format,
            scope=scope,
            allow_private=allow_private,
            allow_public_suffix=allow_public_suffix,
            interval_seconds=interval,
            stale_seconds=stale_after,
        )
    show_one(present(source), as_json=as_json)


@sources_group.command("set")
@click.argument("key")
@click.option("--category", help="What it is filed under.")
@mirror_option
@click.option("--no-mirrors", is_flag=True, help="Forget the mirrors.")
@click.option("--interval", type=_INTERVAL, metavar="SECONDS")
@stale_option
@json_option
@pass_context
def set_source(
    context: Context,
    key: str,
    *,
    category: str | None,
    mirrors: tuple[str, ...],
    no_mirrors: bool,
    interval: int | None,
    stale_after: int | None,
    as_json: bool,
) -> None:
    """Change what a source is filed under, or where and when it is fetched."""
    if mirrors and no_mirrors:
        raise click.UsageError("--mirror and --no-mirrors contradict each other")
    if not (category or mirrors or no_mirrors or interval or stale_after):
        raise click.UsageError("nothing to set: give --category, --mirror, --no-mirrors, --interval or --stale-after")
    with context.session.change() as change:
        source = sources.update(
            change,
            key,
            mirrors=mirrors if mirrors or no_mirrors else None,
            interval_seconds=interval,
            stale_seconds=stale_after,
        )
        if category:
            source = sources.set_category(change, key, category)
    show_one(present(source), as_json=as_json)


@sources_group.command("remove")
@click.argument("key")
@json_option
@pass_context
def remove_source(context: Context, key: str, *, as_json: bool) -> None:
    """Remove a source and everything that it lists."""
    session = context.session
    with session.change() as change:
        source = sources.remove(change, key)
    loading.clear_away(session.database)
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
        said = (
            f"{counted(source.rules, 'rule')} loaded"
            if source.version
            else f"hallmonitor refresh {source.key} loads it"
        )
        show_done(present(source), f"{source.key}: enabled, {said}", as_json=as_json)


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


@sources_group.command("history")
@click.argument("key")
@json_option
@pass_context
def show_history(context: Context, key: str, *, as_json: bool) -> None:
    """List what a source held when, the newest first."""
    with context.session.database.reading() as connection:
        found = versions.of_source(connection, sources.get(connection, key).id)
    rows = [present(version) for version in found]
    if not as_json:
        rows = [row | {"content_hash": row["content_hash"][:SHORT_HASH]} for row in rows]
    show_list(
        rows,
        ("number", "at", "rules", "added", "removed", "rejected", "restored", "actor", "content_hash"),
        as_json=as_json,
        empty=f"{key}: never loaded",
        numbers=("number", "rules", "added", "removed", "rejected", "restored"),
    )


@sources_group.command("rollback")
@click.argument("key")
@click.option("--to", type=click.IntRange(1, 2**31 - 1), metavar="VERSION", help="The one before if not given.")
@json_option
@pass_context
def roll_back(context: Context, key: str, *, to: int | None, as_json: bool) -> None:
    """Bring back what a source held before; `sources history` lists that.

    What its publisher has now stays out until the publisher changes it, or `refresh --force KEY` takes it.
    """
    session = context.session
    with session.database.reading() as connection:
        before = sources.get(connection, key)
    source = loading.rollback(session.database, key, session.actor, to)
    session.publish(wait_for_index=True)
    with session.database.reading() as connection:
        restored = versions.get(connection, source.id, source.version)
    show_done(present(source), f"{key}: {_said(before, source, restored)}", as_json=as_json)


def _said(before: Source, source: Source, restored: Version | None) -> str:
    if restored is None or source.version == before.version:
        return f"nothing to bring back: that version holds the same {counted(source.rules, 'rule')} as the one in force"
    rules = counted(restored.rules, "rule")
    return (
        f"version {restored.restored} is back in force, as version {source.version}: {rules}, "
        f"{restored.added:,} back and {restored.removed:,} gone. What its publisher has now stays out until it changes"
    )


@sources_group.command("search")
@click.argument("name")
@click.option("--at", metavar="TIME", help="What was listed then: 2026-12-01T15:00:00Z, 2026-12-01, or 2h, 7d ago.")
@json_option
@pass_context
def search_sources(context: Context, name: str, *, at: str | None, as_json: bool) -> None:
    """Find every list that holds NAME or a parent of it, enabled or not, and since when."""
    wanted, then = checks.domain(name), None if at is None else parse_past(at, now(), "--at")
    with context.session.database.reading() as connection:
        found = listings.holding(connection, wanted, at=then)
        unknown = [] if then is None else listings.unknown_at(connection, then)
    if not as_json:
        click.echo(printable(_found(wanted, then, found)))
    if found or as_json:
        columns = ("source", "directory", "category", "rule", "action", "enabled", "since", "version")
        show_list(found, columns, as_json=as_json, empty="")
    if unknown:
        click.echo(f"hallmonitor: what these held then is no longer known: {', '.join(unknown)}", err=True)


def _found(name: str, then: int | None, found: list[dict[str, Any]]) -> str:
    number = len({row["source"] for row in found})
    lists = counted(number, "list") if number else "no list"
    return f"{name} is on {lists}" if then is None else f"{name} was on {lists} at {format_time(then)}"
