"""The first start: categories, groups, starter lists, the catalogue, and one admin token."""

import asyncio
from pathlib import Path

from storage import categories, groups, sources, tokens
from storage.database import Database

ACTOR = "first-start"
TOKEN_NAME = "first-admin"  # noqa: S105 - a token's name, not its secret


def is_due(database: Database) -> bool:
    """Tell whether the database is new."""
    with database.reading() as connection:
        return not groups.list_all(connection)


def prepare(database: Database) -> None:
    """Fill a new database; one that another process has filled meanwhile is left as it is."""
    from blocklists import catalogue  # noqa: PLC0415 - as below
    from blocklists.refresh import BUILTIN, Terms, refresh  # noqa: PLC0415 - an HTTP client, which no other start needs

    with database.change(ACTOR) as change:
        if groups.list_all(change.connection):
            return
        for category in catalogue.categories():
            categories.ensure(
                change,
                category.key,
                name=category.name,
                description=category.description,
                clause=category.clause,
                kind=category.kind,
                severity=category.severity,
            )
        for group in catalogue.groups():
            groups.ensure(change, group.name)
            groups.block(change, group.name, group.blocked)
        for starter in catalogue.starters():
            sources.add(
                change,
                starter.key,
                f"{BUILTIN}{starter.key}",
                category=starter.category,
                format="domains",
                starter=True,
            )
        for source in catalogue.sources():
            sources.add(
                change,
                source.key,
                source.location,
                category=source.category,
                mirrors=source.mirrors,
                format=source.format,
                enabled=False,
                interval_seconds=source.interval_seconds,
                licence=source.licence,
                homepage=source.homepage,
            )
    with database.reading() as connection:
        starters = [source for source in sources.list_all(connection) if source.starter]
    asyncio.run(refresh(database, starters, Terms(Path("/")), actor=ACTOR))


def first_token(database: Database) -> str:
    """Make an admin token where there has never been a token; return its secret, which is shown once and kept nowhere.

    Empty otherwise. The last step of a start, so that a start that fails doesn't take the secret with it.
    """
    with database.change(ACTOR) as change:
        if tokens.list_all(change.connection):
            return ""
        _, secret = tokens.create(change, TOKEN_NAME, "admin")
    return secret
