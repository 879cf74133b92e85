"""`refresh`: brings lists up to date, shows how far that is, and says how it went."""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from commands.context import Context, counted, json_option, pass_context, printable, show_list
from commands.progress import Progress
from commands.times import age
from control.errors import ControlError
from control.session import Session
from storage import sources
from storage.database import now
from storage.sources import Source

if TYPE_CHECKING:
    from blocklists.refresh import Outcome

COLUMNS = ("source", "category", "status", "rules", "added", "removed", "rejected", "seconds")


@click.command("refresh")
@click.argument("keys", metavar="[SOURCE]...", nargs=-1)
@click.option(
    "--force",
    is_flag=True,
    help="Fetch and store again what has not changed, too, and take a list however much it shrank or grew.",
)
@json_option
@pass_context
def refresh_command(context: Context, keys: tuple[str, ...], *, force: bool, as_json: bool) -> None:
    """Fetch, parse and store the enabled sources, or the ones named, and bring them into force.

    A source that fails keeps its last good version, and the command exits with 1.
    """
    from blocklists.refresh import Terms, refresh  # noqa: PLC0415 - the HTTP client is for fetching alone

    session = context.session
    with _alone(session, quiet=as_json):  # before the sources are read: another refresh may be at them
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
    problems = [] if (unpublished := _unpublished(session)) is None else [unpublished]
    with session.database.reading() as connection:
        after = {source.key: source for source in sources.list_all(connection)}
    show_outcomes(outcomes, after, as_json=as_json)
    failed = [f"{outcome.source}: {outcome.error}" for outcome in outcomes if outcome.error]
    if failed:
        problems.append(f"{len(failed)} of {len(outcomes)} sources failed: {'; '.join(failed)}")
    if problems:
        click.echo(printable(f"hallmonitor: {'; '.join(problems)}"), err=True)
        sys.exit(1)


@contextmanager
def _alone(session: Session, *, quiet: bool) -> Iterator[None]:
    """Hold off other refreshes of this node; one that goes on may wait for a slow publisher, so people are told."""
    with ExitStack() as held:
        try:
            held.enter_context(session.state.locked("refresh", wait=False))
        except BlockingIOError:
            if not quiet:
                click.echo("Another refresh goes on: waiting for its end.", err=True)
            held.enter_context(session.state.locked("refresh"))
        yield


def _unpublished(session: Session) -> str | None:
    """Bring what was stored into force; return why that can't be: how storing went is told all the same."""
    try:
        session.publish(wait_for_index=True)
    except ControlError as error:
        return f"what was stored is not in force yet: {error}"
    return None


def show_outcomes(outcomes: "Sequence[Outcome]", after: Mapping[str, Source], *, as_json: bool) -> None:
    """Print how each source's refresh went; to people also how it went in all, and what is in force of what failed."""
    rows: list[dict[str, Any]] = [
        {
            "source": outcome.source,
            "category": outcome.category,
            "status": outcome.status,
            "rules": outcome.rules,
            "added": outcome.added,
            "removed": outcome.removed,
            "rejected": dict(outcome.rejected.most_common()),
            "skipped": outcome.skipped,
            "version": after[outcome.source].version if outcome.source in after else None,
            "seconds": round(outcome.seconds, 2),
            "error": outcome.error or None,
        }
        for outcome in outcomes
    ]
    numbers = ("rules", "added", "removed", "seconds")
    show_list(rows, COLUMNS, as_json=as_json, empty="No source is enabled: hallmonitor sources list", numbers=numbers)
    if as_json or not outcomes:
        return
    click.echo()
    click.echo(totals(outcomes))
    for outcome in outcomes:
        for directory, reason in outcome.skipped.items():
            click.echo(printable(f"{outcome.source}: left out {directory}: {reason}"))
        if outcome.error:
            click.echo(printable(f"{outcome.source}: {what_stays(after.get(outcome.source), now())}"))


def totals(outcomes: "Sequence[Outcome]") -> str:
    """Return how a refresh went in all, in a line."""
    statuses = Counter(outcome.status for outcome in outcomes)
    rejected = sum((outcome.rejected for outcome in outcomes), Counter[str]())
    added, removed, rules = (
        sum(getattr(outcome, field) for outcome in outcomes) for field in ("added", "removed", "rules")
    )
    told = [
        ", ".join(f"{statuses[status]} {status}" for status in ("updated", "unchanged", "failed") if statuses[status]),
        f"{counted(rules, 'rule')}, {added:,} added, {removed:,} removed",
    ]
    if rejected:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected.most_common())
        told.append(f"{counted(rejected.total(), 'line')} rejected ({reasons})")
    return "; ".join(told)


def what_stays(source: Source | None, at: int) -> str:
    """Return what is in force of a source whose refresh failed."""
    if source is None:
        return "it was removed"
    if not source.version:
        return "nothing of it was ever loaded"
    rules = counted(source.rules, "rule")
    kept = f"its last good version, {source.version}, of {age(source.last_success_at, at)} with {rules}"
    return f"{kept}, stays" if source.enabled else f"{kept}, is kept; the source is off"
