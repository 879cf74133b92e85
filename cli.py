"""The command line: puts the commands together, and turns what went wrong into one line and an exit code."""

import gc

# What is loaded below stays. To look through it for garbage, while it loads and when the process ends, takes a third of
# the time of most commands.
gc.disable()

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from blocklists.errors import BlocklistError
from commands.access import tokens_group
from commands.categories import categories_group
from commands.context import Context, printable
from commands.logs import logs_group
from commands.policy import exceptions_group, groups_group, networks_group
from commands.refreshing import refresh_command
from commands.serving import check, lookup, serve, status
from commands.sources import sources_group
from control.errors import ControlError
from querylog.errors import QuerylogError
from settings import SettingsError
from storage.errors import StorageError

gc.freeze()
gc.enable()

FAILED, INTERRUPTED = 1, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The configuration file; default $HALLMONITOR_CONFIG, ./hallmonitor.toml, /etc/hallmonitor/hallmonitor.toml.",
)
@click.version_option(package_name="dns-hallmonitor", prog_name="hallmonitor")
@click.pass_context
def hallmonitor(context: click.Context, config: Path | None) -> None:
    """Hall Monitor: a DNS resolver for a school district that filters by category and logs every lookup."""
    context.obj = Context(config)
    context.call_on_close(context.obj.close)


for command in (
    serve,
    refresh_command,
    lookup,
    status,
    check,
    sources_group,
    categories_group,
    groups_group,
    networks_group,
    exceptions_group,
    tokens_group,
    logs_group,
):
    hallmonitor.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Exits with 0 when it is done, 1 when it failed, 2 when it was called wrongly."""
    try:
        hallmonitor.main(arguments, prog_name="hallmonitor", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except SettingsError as error:
        _fail(*error.problems)
    except (ControlError, StorageError, BlocklistError, QuerylogError, ValueError, OSError) as error:
        _fail(str(error))


def _fail(*reasons: str) -> NoReturn:
    for reason in reasons:
        click.echo(f"hallmonitor: {printable(reason)}", err=True)
    sys.exit(FAILED)


if __name__ == "__main__":
    main()
