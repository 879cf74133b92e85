"""`groups`, `networks` and `exceptions`: who may reach what."""

import time

import click

from admin_api.presenting import present
from commands.context import Context, json_option, pass_context, show_done, show_list, show_one
from commands.times import parse_expiry
from storage import exceptions, groups, networks
from storage.database import now


@click.group("groups")
def groups_group() -> None:
    """Manage groups of clients, and what is blocked for each."""


@groups_group.command("list")
@json_option
@pass_context
def list_groups(context: Context, *, as_json: bool) -> None:
    """List the groups."""
    with context.session.database.reading() as connection:
        found = [present(group) for group in groups.list_all(connection)]
    show_list(found, ("name", "mode", "addresses", "blocked"), as_json=as_json, empty="There are no groups.")


@groups_group.command("add")
@click.argument("name")
@json_option
@pass_context
def add_group(context: Context, name: str, *, as_json: bool) -> None:
    """Add a group, which blocks nothing yet."""
    with context.session.change() as change:
        group = groups.add(change, name)
    show_one(present(group), as_json=as_json)


@groups_group.command("set")
@click.argument("group")
@click.option("--mode", type=click.Choice(["null", "nxdomain", "nodata", "refused", "address"]))
@click.option("--address", "addresses", multiple=True, metavar="IP", help="What mode address answers; may be repeated.")
@json_option
@pass_context
def set_group(context: Context, group: str, *, mode: str | None, addresses: tuple[str, ...], as_json: bool) -> None:
    """Set how blocked names are answered to a GROUP."""
    if mode is None and not addresses:
        raise click.UsageError("nothing to set: give --mode or --address")
    with context.session.change() as change:
        changed = groups.update(change, group, mode=mode, addresses=addresses or None)
    show_one(present(changed), as_json=as_json)


@groups_group.command("block")
@click.argument("group")
@click.argument("keys", metavar="CATEGORY...", nargs=-1, required=True)
@json_option
@pass_context
def block(context: Context, group: str, keys: tuple[str, ...], *, as_json: bool) -> None:
    """Block categories for a GROUP."""
    with context.session.change() as change:
        changed = groups.block(change, group, keys)
    show_one(present(changed), as_json=as_json)


@groups_group.command("unblock")
@click.argument("group")
@click.argument("keys", metavar="CATEGORY...", nargs=-1, required=True)
@json_option
@pass_context
def unblock(context: Context, group: str, keys: tuple[str, ...], *, as_json: bool) -> None:
    """Stop blocking categories for a GROUP."""
    with context.session.change() as change:
        changed = groups.unblock(change, group, keys)
    show_one(present(changed), as_json=as_json)


@click.group("networks")
def networks_group() -> None:
    """Which addresses belong to which group; the longest prefix wins."""


@networks_group.command("list")
@json_option
@pass_context
def list_networks(context: Context, *, as_json: bool) -> None:
    """List the networks."""
    with context.session.database.reading() as connection:
        found = [present(network) for network in networks.list_all(connection)]
    show_list(found, ("cidr", "group", "site"), as_json=as_json, empty="None: every client is in the default group.")


@networks_group.command("add")
@click.argument("cidr")
@click.option("--group", required=True)
@click.option("--site", default="", help="Where it is, for people.")
@json_option
@pass_context
def add_network(context: Context, cidr: str, *, group: str, site: str, as_json: bool) -> None:
    """Put the addresses of CIDR into a group."""
    with context.session.change() as change:
        network = networks.add(change, cidr, group, site)
    show_one(present(network), as_json=as_json)


@networks_group.command("remove")
@click.argument("cidr")
@json_option
@pass_context
def remove_network(context: Context, cidr: str, *, as_json: bool) -> None:
    """Take a network out."""
    with context.session.change() as change:
        network = networks.remove(change, cidr)
    show_done(present(network), f"{network.cidr}: removed", as_json=as_json)


@click.group("exceptions")
def exceptions_group() -> None:
    """Names let through or blocked, whatever the lists say."""


@exceptions_group.command("list")
@click.option("--status", type=click.Choice([str(status) for status in exceptions.Status]), help="Only those.")
@json_option
@pass_context
def list_exceptions(context: Context, *, status: str | None, as_json: bool) -> None:
    """List the exceptions, the newest first; ended ones too."""
    wanted = exceptions.Status(status) if status else None
    found = []
    with context.session.database.reading() as connection:
        cursor = None
        while True:
            page = exceptions.list_page(connection, now(), status=wanted, cursor=cursor)
            found += [present(exception) for exception in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
    columns = ("id", "domain", "action", "match", "groups", "clients", "status", "expires_at", "reason", "approved_by")
    show_list(found, columns, as_json=as_json, empty="There are no exceptions.")


@exceptions_group.command("add")
@click.argument("domain")
@click.option("--action", type=click.Choice(["allow", "block"]), required=True)
@click.option("--match", type=click.Choice(["subtree", "exact"]), default="subtree", show_default=True)
@click.option("--group", "group_names", multiple=True, metavar="G", help="For this group; may be repeated.")
@click.option(
    "--client", "clients", multiple=True, metavar="CIDR", help="For this address or network; may be repeated."
)
@click.option("--reason", required=True)
@click.option("--requested-by", default="", metavar="WHO")
@click.option("--expires", metavar="TIME|DURATION", help="2026-12-01T15:00:00Z, or 45m, 2h, 7d from now.")
@json_option
@pass_context
def add_exception(
    context: Context,
    domain: str,
    *,
    action: str,
    match: str,
    group_names: tuple[str, ...],
    clients: tuple[str, ...],
    reason: str,
    requested_by: str,
    expires: str | None,
    as_json: bool,
) -> None:
    """Let DOMAIN through, or block it; for everyone unless groups or clients are given."""
    expires_at = parse_expiry(expires, time.time_ns() // 1000) if expires else None
    with context.session.change() as change:
        exception = exceptions.add(
            change,
            domain=domain,
            action=action,
            match=match,
            groups=group_names,
            clients=clients,
            reason=reason,
            requested_by=requested_by,
            expires_at=expires_at,
        )
        version = change.policy_version
    show_one(present(exception) | {"policy_version": version}, as_json=as_json)


@exceptions_group.command("revoke")
@click.argument("number", metavar="ID", type=int)
@json_option
@pass_context
def revoke_exception(context: Context, number: int, *, as_json: bool) -> None:
    """End an exception now; its history stays."""
    with context.session.change() as change:
        exception = exceptions.revoke(change, number)
    show_done(present(exception), f"{number}: revoked ({exception.action} {exception.domain})", as_json=as_json)
