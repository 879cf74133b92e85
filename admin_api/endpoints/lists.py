"""`/categories` and `/sources`: what is filtered, and where the lists come from."""

from collections.abc import Mapping

from admin_api import forms
from admin_api.presenting import present
from admin_api.routing import PREFIX, Call, Reply, Route, whole_list
from storage import categories, sources
from storage.categories import MAX_SEVERITY, Category, Kind
from storage.checks import MAX_LOCATION
from storage.database import Change
from storage.sources import DAY_SECONDS, MAX_INTERVAL_SECONDS, MIN_INTERVAL_SECONDS, Format, ListScope, Source
from storage.tokens import Role

_NEW_CATEGORY: Mapping[str, forms.Field] = {
    "key": forms.text("What it is called in commands.", example="gambling", required=True, limit=63),
    "name": forms.text("What it is called by people.", example="Gambling"),
    "description": forms.text("What belongs to it.", example="Betting and casinos"),
    "clause": forms.text("The clause of the protocol that it enforces.", example="4.2"),
    "kind": forms.choice(Kind, "Whether its sources are for blocking or for allowing.", default=Kind.BLOCK),
    "severity": forms.whole("1 is the most severe.", low=1, high=MAX_SEVERITY, default=500),
}
_NEW_SOURCE: Mapping[str, forms.Field] = {
    "key": forms.text("What it is called in commands.", example="district-games", required=True, limit=63),
    "location": forms.text(
        "A URL, or a path on the server.", example="https://lists.example/games.txt", required=True, limit=MAX_LOCATION
    ),
    "category": forms.text("The key of the category that it feeds.", example="games", required=True, limit=63),
    "format": forms.choice(Format, "How it is written.", default=Format.AUTO),
    "scope": forms.choice(ListScope, "What a name alone on its line means, where the format leaves it open."),
    "enabled": forms.flag("Whether it counts.", default=True),
    "allow_private": forms.flag("Whether it may be fetched from a private address.", default=False),
    "allow_public_suffix": forms.flag("Whether it may list public suffixes.", default=False),
    "interval_seconds": forms.whole(
        "How often it is fetched.", low=MIN_INTERVAL_SECONDS, high=MAX_INTERVAL_SECONDS, default=DAY_SECONDS
    ),
    "licence": forms.text("Under which licence it is published.", example="CC BY-SA 4.0"),
    "homepage": forms.text("Where it is described.", example="https://lists.example/", limit=MAX_LOCATION),
}


async def list_categories(call: Call) -> Reply:
    """List categories, the most severe first."""
    return whole_list([present(found) for found in await call.read(categories.list_all)])


async def get_category(call: Call) -> Reply:
    """Show one."""
    return Reply(present(await call.read(lambda connection: categories.get(connection, call.path("key")))))


async def add_category(call: Call) -> Reply:
    """Add one."""

    def work(change: Change) -> Category:
        values = dict(call.form.values)
        return categories.add(change, values.pop("key"), **values)

    added, version = await call.change(work)
    location = f"{PREFIX}/categories/{added.key}"
    return Reply(present(added) | {"policy_version": version}, 201, {"Location": location})


async def list_sources(call: Call) -> Reply:
    """List sources by key."""
    return whole_list([present(found) for found in await call.read(sources.list_all)])


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
    """Enable, disable, or file under another category."""

    def work(change: Change) -> Source:
        key, values = call.path("key"), call.form.values
        found = sources.get(change.connection, key)
        if "category" in values:
            found = sources.set_category(change, key, values["category"])
        if "enabled" in values:
            found = (sources.enable if values["enabled"] else sources.disable)(change, key)
        return found

    changed, version = await call.change(work)
    return Reply(present(changed) | {"policy_version": version})


async def remove_source(call: Call) -> Reply:
    """Remove one with all its entries."""
    removed, version = await call.change(lambda change: sources.remove(change, call.path("key")))
    return Reply(present(removed) | {"policy_version": version})


_CATEGORIES, _SOURCES = f"{PREFIX}/categories", f"{PREFIX}/sources"

ROUTES = (
    Route("GET", _CATEGORIES, list_categories, "List the categories.", "CategoryPage", Role.VIEWER),
    Route("GET", f"{_CATEGORIES}/{{key}}", get_category, "Show a category.", "Category", Role.VIEWER),
    Route(
        "POST",
        _CATEGORIES,
        add_category,
        "Add a category.",
        "ChangedCategory",
        Role.ADMIN,
        status=201,
        body=_NEW_CATEGORY,
    ),
    Route(
        "GET", _SOURCES, list_sources, "List the sources and how their last refresh went.", "SourcePage", Role.VIEWER
    ),
    Route("GET", f"{_SOURCES}/{{key}}", get_source, "Show a source.", "Source", Role.VIEWER),
    Route(
        "POST",
        _SOURCES,
        add_source,
        "Add a source; the next refresh fetches it.",
        "ChangedSource",
        Role.ADMIN,
        status=201,
        body=_NEW_SOURCE,
    ),
    Route(
        "PATCH",
        f"{_SOURCES}/{{key}}",
        update_source,
        "Enable or disable a source, or let it feed another category.",
        "ChangedSource",
        Role.ADMIN,
        body={
            "enabled": forms.flag("Whether it counts."),
            "category": forms.text("The key of the category that it feeds.", example="games", limit=63),
        },
    ),
    Route(
        "DELETE",
        f"{_SOURCES}/{{key}}",
        remove_source,
        "Remove a source and all its entries.",
        "ChangedSource",
        Role.ADMIN,
    ),
)
