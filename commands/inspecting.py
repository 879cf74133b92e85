"""`sources inspect`: what a list would do before anybody trusts it, and what it would change."""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blocklists.errors import BlocklistError, FetchError
from commands.context import Context, json_option, pass_context, show_list, show_one

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMATS = ("auto", "hosts", "domains", "wildcard", "adblock", "dnsmasq", "rpz", "unbound", "ut1")
BUILTIN = "builtin:"
SHOWN = 10
"""Names that people are shown; JSON has them all."""

format_option = click.option("--format", "list_format", type=click.Choice(FORMATS), default="auto", show_default=True)
scope_option = click.option(
    "--scope", type=click.Choice(["exact", "subtree"]), help="What a name alone on its line covers."
)
private_option = click.option("--allow-private", is_flag=True, help="Fetch from private addresses too.")
suffix_option = click.option("--allow-public-suffix", is_flag=True, help="Take names like co.uk for what they say.")


def absolute(location: str) -> str:
    """Return a location as it is found from anywhere: a path on the command line starts at the working directory."""
    if "://" in location or location.startswith(BUILTIN):
        return location
    return os.path.abspath(location)  # noqa: PTH100 - Path.absolute keeps what lies between two dots


@click.command("inspect")
@click.argument("locations", metavar="LOCATION...", nargs=-1, required=True)
@format_option
@scope_option
@private_option
@suffix_option
@click.option("--summary", is_flag=True, help="Counts alone.")
@click.option("--compare", "against", metavar="SOURCE", help="Compare with this source, wherever it has its list from.")
@json_option
@pass_context
def inspect_sources(
    context: Context,
    locations: tuple[str, ...],
    *,
    list_format: str,
    scope: str | None,
    allow_private: bool,
    allow_public_suffix: bool,
    summary: bool,
    against: str | None,
    as_json: bool,
) -> None:
    """Show what lists would do, without storing anything.

    For the location of a source, or with --compare, also what its next refresh would change, whether it would be
    refused, and which names that are often asked for and which exceptions it is about.
    """
    from commands.comparing import compare  # noqa: PLC0415 - as below

    options: dict[str, Any] = {"format": list_format, "scope": scope, "allow_public_suffix": allow_public_suffix}
    failed = False
    for location in locations:
        try:
            data = asyncio.run(_fetch(absolute(location), allow_private=allow_private))
            report = _look(data, whole=as_json and not summary, **options)
            compared = compare(context, absolute(location), data, against)
        except BlocklistError as error:
            failed = True
            where = "" if isinstance(error, FetchError) else f"{location}: "  # those name it themselves
            click.echo(f"hallmonitor: {where}{error}", err=True)
            continue
        report |= {"location": location} | ({} if compared is None else {"compared": compared})
        if as_json:
            show_one(report, as_json=True)
        else:
            _show(report)
    sys.exit(1 if failed else 0)


async def _fetch(location: str, *, allow_private: bool) -> bytes:
    """Return a list's text, or an archive as it comes."""
    from blocklists.catalogue import starter_text  # noqa: PLC0415 - as below
    from blocklists.fetching import Fetched, fetch  # noqa: PLC0415 - the HTTP client is for fetching alone

    if location.startswith(BUILTIN):
        return starter_text(location.removeprefix(BUILTIN)).encode()
    fetched = await fetch(location, base=Path.cwd(), allow_private=allow_private, archive=True)
    assert isinstance(fetched, Fetched)
    return fetched.data


def _look(data: bytes, *, whole: bool, format: str, **options: Any) -> dict[str, Any]:  # noqa: A002, ANN401 - passed on
    """Return what a list or an archive holds: every rule, or how many of which kind."""
    from blocklists import inspecting  # noqa: PLC0415 - with the HTTP client
    from blocklists.listing import UT1  # noqa: PLC0415 - likewise
    from blocklists.reading import LIMIT, read  # noqa: PLC0415 - likewise
    from blocklists.unpacking import is_archive, members, unpack  # noqa: PLC0415 - likewise

    if read(data, format=format, **options).format == UT1:
        report = inspecting.inspect_archive if whole else inspecting.summarise_archive
        return report("", lambda: members(data, LIMIT), **options)
    text = unpack(data, LIMIT) if is_archive(data, LIMIT) else data
    return (inspecting.inspect if whole else inspecting.summarise)("", text, format=format, **options)


def _show(report: dict[str, Any]) -> None:
    """Print a summary for people."""
    directories, compared = report.pop("directories", None), report.pop("compared", None)
    show_one(report | ({} if compared is None else _told(compared)), as_json=False)
    if directories:
        click.echo()
        columns = ("directory", "category", "rules", "rejected", "skipped")
        show_list(directories, columns, as_json=False, empty="", numbers=("rules", "rejected"))


def _told(compared: "Mapping[str, Any]") -> dict[str, Any]:
    """Return a comparison in words."""
    changes = [
        f"{compared[field]:,} {field}" for field in ("added", "removed", "unchanged") if compared[field] is not None
    ]
    told = {"against": f"{compared['against']}: {', '.join(changes) or 'nothing to compare'}"}
    told["refused"] = f"yes: {compared['refused']}" if compared["refused"] else "no"
    names = compared["top_lookups"]
    if names:
        some = [f"{name['name']} ({name['lookups']:,})" for name in names[:SHOWN]]
        told["often asked for"] = ", ".join(some) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    if compared["exceptions"]:
        told["exceptions"] = ", ".join(f"{e['id']} ({e['action']} {e['domain']})" for e in compared["exceptions"])
    return told
