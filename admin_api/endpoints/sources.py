"""`/sources`: where lists come from, what each held when, and which hold a name."""

import asyncio
from collections.abc import Mapping

from sqlalchemy import Connection

from admin_api import forms, listings
from admin_api.presenting import present
from admin_api.routing import IN_PAGES, PREFIX, Call, Reply, Route, page_of
from admin_api.times import parse_time
from storage import checks, loading, sources, versions
from storage.checks import MAX_LOCATION
from storage.database import Change
from storage.sources import (
    DAY_SECONDS,
    MAX_INTERVAL_SECONDS,
    MAX_MIRRORS,
    MAX_STALE_SECONDS,
    MIN_INTERVAL_SECONDS,
    STALE_INTERVALS,
    Format,
    ListScope,
    Source,
)
from storage.tokens import Role
from storage.versions import Version

_INTERVAL = "How often it is fetched."
_CATEGORY = forms.text("The key of the category that it feeds.", example="games", limit=63)
_SCHEDULE: Mapping[str, forms.Field] = {
    "mirrors": forms.texts(
        "Where the same list is to be had when the location fails, the first one first.",
        example=["https://mirror.example/games.txt"],
        limit=MAX_MIRRORS,
    ),
    "interval_seconds": forms.whole(_INTERVAL, low=MIN_INTERVAL_SECONDS, high=MAX_INTERVAL_SECONDS),
    "stale_seconds": forms.whole(
        f"How old its last success may grow before it counts as stale; {STALE_INTERVALS} intervals if nothing is said.",
        low=MIN_INTERVAL_SECONDS,
        high=MAX_STALE_SECONDS,
    ),
}
_NEW: Mapping[str, forms.Field] = {
    "key": forms.text("What it is called in commands.", example="district-games", required=True, limit=63),
    "location": forms.text(
        "A URL, or a path on the server.", example="https://lists.example/games.txt", required=True, limit=MAX_LOCATION
    ),
    "category": forms.text("The key of the category that it feeds.", example="games", required=True, limit=63),
    **_SCHEDULE,
    "interval_seconds": forms.whole(
        _INTERVAL, low=MIN_INTERVAL_SECONDS, high=MAX_INTERVAL_SECONDS, default=DAY_SECONDS
    ),
    "format": forms.choice(Format, "How it is written.", default=Format.AUTO),
    "scope": forms.choice(ListScope, "What a name alone on its line means, where the format leaves it open."),
    "enabled": forms.flag("Whether it counts.", default=True),
    "allow_private": forms.flag("Whether it may be fetched from a private address.", default=False),
    "allow_public_suffix": forms.flag("Whether it may list public suffixes.", default=False),
    "licence": forms.text("Under which licence it is published.", example="CC BY-SA 4.0"),
    "homepage": forms.text("Where it is described.", example="https://lists.example/", limit=MAX_LOCATION),
}
_CHANGES: Mapping[str, forms.Field] = {"enabled": forms.flag("Whether it counts."), "category": _CATEGORY, **_SCHEDULE}


async def list_sources(call: Call) -> Reply:
    """List sources by key."""
    return page_of(call, [present(found) for found in await call.read(sources.list_all)])


async def get_source(call: Call) -> Reply:
    """Show one."""
    return Reply(present(await call.read(lambda connection: sources.get(connection, call.path("key")))))


async def add_source(call: Call) -> Reply:
    """Add one."""

    def work(change: Change) -> Source:
        values = dict(call.form.values)
        return sources.add(change, values.pop("key"), values.pop("location"), **values)

    added, version = await call.change(work)
    location = f"{PREFIX}/sources/{added.key}"
    return Reply(present(added) | {"policy_version": version}, 201, {"Location": location})


async def update_source(call: Call) -> Reply:
    """Enable, disable, file under another category, or set when and where it is fetched."""

    def work(change: Change) -> Source:
        key, values = call.path("key"), dict(call.form.values)
        category, enabled = values.pop("category", None), values.pop("enabled", None)
        found = sources.update(change, key, **values)
        if category is not None:
            found = sources.set_category(change, key, category)
        if enabled is not None:
            found = (sources.enable if enabled else sources.disable)(change, key)
        return found

    changed, version = await call.change(work)
    return Reply(present(changed) | {"policy_version": version})


async def remove_source(call: Call) -> Reply:
    """Remove one with all its entries; the rows go when the service looks after its lists next."""
    removed, version = await call.change(lambda change: sources.remove(change, call.path("key")))
    return Reply(present(removed) | {"policy_version": version})


async def list_versions(call: Call) -> Reply:
    """List what a source held when, the newest first."""

    def work(connection: Connection) -> list[Version]:
        return versions.of_source(connection, sources.get(connection, call.path("key")).id)

    return page_of(call, [present(found) for found in await call.read(work)])


async def roll_back_source(call: Call) -> Reply:
    """Bring back an earlier version."""
    call.form.finish()
    to = call.form.values.get("to")
    restored = await asyncio.to_thread(loading.rollback, call.api.database, call.path("key"), call.actor, to)
    return Reply(present(restored) | {"policy_version": await call.publish_lists(restored)})


async def search_sources(call: Call) -> Reply:
    """Find the lists that hold a name."""
    name, at = call.query["name"], call.query.get("at")
    return page_of(call, await call.read(lambda connection: listings.holding(connection, name, at=at)))


_SOURCES = f"{PREFIX}/sources"
_SOURCE = f"{_SOURCES}/{{key}}"

ROUTES = (
    Route(
        "GET",
        _SOURCES,
        list_sources,
        "List the sources and how their last refresh went.",
        "SourcePage",
        Role.VIEWER,
        query=IN_PAGES,
    ),
    Route(
        "GET",
        f"{_SOURCES}/search",  # before the next, which would take it for a key
        search_sources,
        "Find the lists that hold a name or a parent of it, now or at an earlier time, enabled or not.",
        "ListingPage",
        Role.VIEWER,
        query={
            **IN_PAGES,
            "name": forms.parameter("The name.", checks.domain, required=True),
            "at": forms.parameter(
                "What was listed then; now if not given.", parse_time, schema={"format": "date-time"}
            ),
        },
    ),
    Route("GET", _SOURCE, get_source, "Show a source.", "Source", Role.VIEWER),
    Route(
        "POST",
        _SOURCES,
        add_source,
        "Add a source; the next refresh fetches it.",
        "ChangedSource",
        Role.ADMIN,
        status=201,
        body=_NEW,
    ),
    Route(
        "PATCH",
        _SOURCE,
        update_source,
        "Enable or disable a source, file it under another category, or change where and when it is fetched.",
        "ChangedSource",
        Role.ADMIN,
        body=_CHANGES,
    ),
    Route("DELETE", _SOURCE, remove_source, "Remove a source and all its entries.", "ChangedSource", Role.ADMIN),
    Route(
        "GET",
        f"{_SOURCE}/versions",
        list_versions,
        "List what a source held when, the newest first.",
        "SourceVersionPage",
        Role.VIEWER,
        query=IN_PAGES,
    ),
    Route(
        "POST",
        f"{_SOURCE}/rollback",
        roll_back_source,
        "Bring back what a source held before. What its publisher has now stays out until that changes.",
        "ChangedSource",
        Role.ADMIN,
        body={"to": forms.whole("The version; the one before if not given.", low=1, high=2**31 - 1)},
        body_is_optional=True,
    ),
)
