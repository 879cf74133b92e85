"""`serve`, `status`, `check` and `lookup`: the service, and what it would do."""

import json
import logging
import sys
from collections.abc import Callable
from typing import TypeVar

import click
from rich.text import Text

from commands.context import Context, cell, console, json_option, pass_context, show_list, show_one
from control.explain import explain
from control.listening import contradictions, misnamed, unproved
from policy.names import normalise
from resolver.local import LocalNames
from settings import Settings, SettingsError
from storage import checks

T = TypeVar("T")

BLOCKED_EXAMPLE, ALLOWED_EXAMPLE = "pokerstars.com", "wikipedia.org"


@click.command()
@pass_context
def serve(context: Context) -> None:
    """Answer DNS queries, log them, and serve the admin API, until stopped."""
    from control.supervisor import serve as run  # noqa: PLC0415 - the web server is for this command alone

    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s supervisor: %(levelname)s %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    run(context.settings, context.read_settings, _announce)


def _announce(settings: Settings, secret: str) -> None:
    host, port = settings.server.listen[0]
    api = f"http://{settings.admin.listen}/api/v1"
    token = secret or "$TOKEN"
    click.echo("Hall Monitor serves.")
    click.echo(f"  DNS    {', '.join(map(str, settings.server.listen))} (UDP and TCP)")
    click.echo(f"  API    {api}")
    click.echo(f"  State  {settings.state.directory}")
    click.echo(f"  Asks   {', '.join(map(str, settings.upstream.servers))}")
    if secret:
        click.echo(
            "  Lists  the starter: a few well-known names a category, to see filtering work. It is no protection;"
        )
        click.echo("         enable real lists with: hallmonitor sources list; hallmonitor sources enable KEY")
        click.echo(f"\nAdmin token, shown this once: {secret}")
    click.echo("\nTry:")
    click.echo(f"  dig @{host} -p {port} {BLOCKED_EXAMPLE}     # sunk")
    click.echo(f"  dig @{host} -p {port} {ALLOWED_EXAMPLE}      # answered")
    click.echo(f"  curl -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' {api}/exceptions \\")
    body = json.dumps({"domain": BLOCKED_EXAMPLE, "action": "allow", "reason": "statistics lesson"})
    click.echo(f"    -d '{body}'     # lifts the block")
    sys.stdout.flush()


@click.command()
@json_option
@pass_context
def status(context: Context, *, as_json: bool) -> None:
    """Show workers, lists, the policy's version and the journal's backlog."""
    found = context.session.status()
    if as_json:
        click.echo(json.dumps(found))
        return
    workers, upstreams = found.pop("workers"), found.pop("upstreams", [])
    lists = found["lists"]
    failing, stale = lists.pop("failing"), lists.pop("stale", [])
    lists.pop("by_source", None)  # which `sources list` shows
    for part in ("index", "lists", "journal"):
        found[part] = {key.replace("_", " "): value for key, value in found.get(part, {}).items()}
    troubles = {"failing": [f"{source['source']} ({source['error']})" for source in failing], "stale": stale}
    show_one(found | troubles, as_json=False)
    if workers:
        click.echo()
        show_list(workers, _OF_WORKERS, as_json=False, empty="")
    if upstreams:
        click.echo()
        show_list(upstreams, _OF_UPSTREAMS, as_json=False, empty="")


@click.command()
@json_option
@pass_context
def check(context: Context, *, as_json: bool) -> None:
    """Validate the configuration and report everything that is wrong with it at once."""
    problems: list[str] = []
    warnings: list[str] = []
    file = context.config_file
    try:
        server = context.read_settings().server
        problems = list(contradictions(server)) or list(misnamed(server))
        warnings = [] if problems else list(unproved(server))
    except SettingsError as error:
        problems = error.problems
    found = {"valid": not problems, "file": str(file) if file else None, "problems": problems, "warnings": warnings}
    for warning in [] if as_json else warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(found))
    elif not problems:
        click.echo(f"{file or 'no file: every key has its default'}: valid")
    else:
        for problem in problems:
            click.echo(problem, err=True)
        number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        click.echo(f"hallmonitor: {number} in {file or 'the environment'}", err=True)
    sys.exit(1 if problems else 0)


@click.command()
@click.argument("name")
@click.option("--client", default="127.0.0.1", show_default=True, metavar="IP", help="The client that would ask.")
@click.option("--type", "qtype", default="A", show_default=True, metavar="T", help="The query type.")
@json_option
@pass_context
def lookup(context: Context, name: str, *, client: str, qtype: str, as_json: bool) -> None:
    """Tell what a client would get for NAME, and why."""
    wanted = normalise(name)
    address = _option(checks.address, client, "--client")
    snapshot, settings = context.session.snapshot(), context.session.settings
    local = LocalNames(settings.local.records, settings.upstream.zones)
    found = _option(lambda text: explain(snapshot, local, wanted, address, text), qtype, "--type")
    if as_json:
        click.echo(json.dumps(found))
        return
    who = f"{found['name']} for {found['client']} ({found['group']}): "
    console().print(Text.assemble(cell(who), (found["verdict"], "bold")))
    show_one({key: found[key] for key in _REASONS if found[key] is not None}, as_json=False)


def _option(read: Callable[[str], T], text: str, option: str) -> T:
    """Read the value of an option. Raises `click.UsageError` where it is none."""
    try:
        return read(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from error


_OF_WORKERS = (
    *("number", "pid", "state", "policy_version", "lookups", "cached_answers", "in_flight"),
    *("unlogged", "turned_away"),
)
_OF_UPSTREAMS = ("upstream", "zone", "trusted", "latency_ms", "failures")
_REASONS = ("category", "source", "rule", "clause", "exception_id", "policy_version")
