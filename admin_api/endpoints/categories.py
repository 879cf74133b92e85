"""`/categories`: what sources are filed under, and which clause of the protocol each enforces."""

from collections.abc import Mapping

from admin_api import forms
from admin_api.presenting import present
from admin_api.routing import IN_PAGES, PREFIX, Call, Reply, Route, page_of
from storage import categories
from storage.categories import MAX_SEVERITY, Category, Kind
from storage.database import Change
from storage.tokens import Role

_CHANGES: Mapping[str, forms.Field] = {
    "name": forms.text("What it is called by people.", example="Gambling"),
    "description": forms.text("What belongs to it.", example="Betting and casinos"),
    "clause": forms.text("The clause of the protocol that it enforces.", example="4.2"),
    "kind": forms.choice(Kind, "Whether its sources are for blocking or for allowing."),
    "severity": forms.whole("1 is the most severe.", low=1, high=MAX_SEVERITY),
}
_NEW: Mapping[str, forms.Field] = {
    "key": forms.text("What it is called in commands.", example="gambling", required=True, limit=63),
    **_CHANGES,
    "kind": forms.choice(Kind, "Whether its sources are for blocking or for allowing.", default=Kind.BLOCK),
    "severity": forms.whole("1 is the most severe.", low=1, high=MAX_SEVERITY, default=500),
}


async def list_categories(call: Call) -> Reply:
    """List categories, the most severe first."""
    return page_of(call, [present(found) for found in await call.read(categories.list_all)])


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


async def update_category(call: Call) -> Reply:
    """Set what is given."""
    changed, version = await call.change(lambda change: categories.update(change, call.path("key"), **call.form.values))
    return Reply(present(changed) | {"policy_version": version})


async def remove_category(call: Call) -> Reply:
    """Remove one that nothing uses."""
    removed, version = await call.change(lambda change: categories.remove(change, call.path("key")))
    return Reply(present(removed) | {"policy_version": version})


_CATEGORIES = f"{PREFIX}/categories"
_CATEGORY = f"{_CATEGORIES}/{{key}}"

ROUTES = (
    Route("GET", _CATEGORIES, list_categories, "List the categories.", "CategoryPage", Role.VIEWER, query=IN_PAGES),
    Route("GET", _CATEGORY, get_category, "Show a category.", "Category", Role.VIEWER),
    Route("POST", _CATEGORIES, add_category, "Add a category.", "ChangedCategory", Role.ADMIN, status=201, body=_NEW),
    Route("PATCH", _CATEGORY, update_category, "Change a category.", "ChangedCategory", Role.ADMIN, body=_CHANGES),
    Route(
        "DELETE",
        _CATEGORY,
        remove_category,
        "Remove a category that no source and no group uses.",
        "ChangedCategory",
        Role.ADMIN,
        conflicts=True,
    ),
)
