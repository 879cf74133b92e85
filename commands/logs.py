"""`logs`: finding and following what was looked up."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

import click

from commands.context import Context, cell, json_option, pass_context, show_list
from commands.times import parse_past
from querylog.errors import InvalidQueryError
from querylog.records import Record
from querylog.search import MAX_LIMIT, LogQuery, record_to_json
from querylog.store import LogStore
from storage import audit

FOLLOW_SECONDS = 0.3
COLUMNS = ("time", "client", "group", "qname", "qtype", "verdict", "category", "rcode", "duration_us")


def filters(function: click.decorators.FC) -> click.decorators.FC:
    """Add the options that say which records are wanted."""
    for option in (
        click.option(
            "--verdict", metavar="V", help="allowed, blocked, exception, local, refused, malformed or failed."
        ),
        click.option("--subtree", metavar="NAME", help="This name and all below it."),
        click.option("--name", metavar="NAME", help="Exactly this name."),
        click.option("--client", metavar="IP|CIDR", help="A client, or a network of them."),
    ):
        function = option(function)
    return function


@click.group("logs")
def logs_group() -> None:
    """Find what was looked up."""


@logs_group.command("search")
@filters
@click.option("--since", metavar="TIME", help="2026-12-01T15:00:00Z, 2026-12-01, or 15m, 2h, 7d ago.")
@click.option("--until", metavar="TIME", help="Likewise; not included.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@json_option
@pass_context
def search(
    context: Context,
    *,
    client: str | None,
    name: str | None,
    subtree: str | None,
    verdict: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show records, the newest first; all that was answered before the search is among them."""
    now = time.time_ns() // 1000
    query = _query(
        client=client,
        name=name,
        subtree=subtree,
        verdict=verdict,
        since=parse_past(since, now, "--since") if since else None,
        until=parse_past(until, now, "--until") if until else None,
        limit=min(limit, MAX_LIMIT),
    )
    context.session.flush_log()
    _note_view(context, query)
    records = islice(_pages(context.session.log, query), limit)
    show_list(map(record_to_json, records), COLUMNS, as_json=as_json, empty="Nothing was found.")


def _query(**options: Any) -> LogQuery:  # noqa: ANN401 - passed on
    """Return the query that options ask for. Raises `click.UsageError` where they ask for nothing that could be."""
    try:
        return LogQuery.of(**options)
    except InvalidQueryError as error:
        raise click.UsageError(f"--{error}") from error


def _pages(log: LogStore, query: LogQuery) -> Iterator[Record]:
    """Yield all that a query wants, a page at a time."""
    while True:
        page = log.search(query)
        yield from page.records
        if page.cursor is None:
            return
        query = replace(query, cursor=page.cursor)


def _note_view(context: Context, query: LogQuery) -> None:
    """Log who looked for what in the log: every view of it is itself logged."""
    wanted = {key: value for key, value in asdict(query).items() if value is not None}
    audit.note(context.session.database, context.session.actor, "log.search", "lookups", wanted)


@logs_group.command("tail")
@filters
@json_option
@pass_context
def tail(
    context: Context,
    *,
    client: str | None,
    name: str | None,
    subtree: str | None,
    verdict: str | None,
    as_json: bool,
) -> None:
    """Follow lookups as they are logged, until interrupted."""
    query = _query(client=client, name=name, subtree=subtree, verdict=verdict)
    _note_view(context, query)
    log = context.session.log
    position = log.follow(query, None).position
    while True:
        news = log.follow(query, position)
        position = news.position
        if news.missed:
            click.echo("hallmonitor: more was logged than can be followed; logs search finds it", err=True)
        for record in news.records:
            click.echo(json.dumps(record_to_json(record)) if as_json else _line(record))
        sys.stdout.flush()
        time.sleep(FOLLOW_SECONDS)


def _line(record: Record) -> str:
    fields = record_to_json(record)
    return "  ".join(cell(fields[column]) for column in COLUMNS)
