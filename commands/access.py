"""`tokens`: who may use the admin API."""

import json

import click

from admin_api.presenting import present
from commands.context import Context, json_option, pass_context, show_done, show_list
from storage import tokens


@click.group("tokens")
def tokens_group() -> None:
    """Tokens of the admin API."""


@tokens_group.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice([str(role) for role in tokens.Role]), required=True)
@json_option
@pass_context
def create(context: Context, name: str, *, role: str, as_json: bool) -> None:
    """Make a token; its secret is shown this once."""
    with context.session.database.change(context.session.actor) as change:
        token, secret = tokens.create(change, name, role)
    if as_json:
        click.echo(json.dumps({"name": token.name, "role": token.role, "token": secret}))
    else:
        click.echo(f"{token.name} ({token.role}), shown this once: {secret}")


@tokens_group.command("list")
@json_option
@pass_context
def list_tokens(context: Context, *, as_json: bool) -> None:
    """List the tokens, revoked ones too."""
    with context.session.database.reading() as connection:
        found = [present(token) for token in tokens.list_all(connection)]
    columns = ("name", "role", "created_at", "last_used_at", "revoked_at")
    show_list(found, columns, as_json=as_json, empty="There are no tokens.")


@tokens_group.command("revoke")
@click.argument("name")
@json_option
@pass_context
def revoke(context: Context, name: str, *, as_json: bool) -> None:
    """Revoke a token; it works no more from now on."""
    with context.session.database.change(context.session.actor) as change:
        token = tokens.revoke(change, name)
    show_done(present(token), f"{name}: revoked", as_json=as_json)
