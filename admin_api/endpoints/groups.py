"""`/groups` and `/networks`: who belongs together, and what is blocked for them."""

from collections.abc import Callable

from admin_api import forms
from admin_api.presenting import present
from admin_api.routing import IN_PAGES, PREFIX, Call, Reply, Route, page_of
from storage import groups, networks
from storage.database import Change
from storage.groups import MAX_ADDRESSES, Group, Mode
from storage.networks import Network
from storage.tokens import Role


async def list_groups(call: Call) -> Reply:
    """List groups by name."""
    return page_of(call, [present(found) for found in await call.read(groups.list_all)])


async def get_group(call: Call) -> Reply:
    """Show one."""
    return Reply(present(await call.read(lambda connection: groups.get(connection, call.path("name")))))


async def add_group(call: Call) -> Reply:
    """Add one."""
    added, version = await call.change(lambda change: groups.add(change, call.form.values["name"]))
    return Reply(present(added) | {"policy_version": version}, 201, {"Location": f"{PREFIX}/groups/{added.name}"})


async def update_group(call: Call) -> Reply:
    """Set how blocked names are answered."""

    def work(change: Change) -> Group:
        return groups.update(change, call.path("name"), **call.form.values)

    return await _changed(call, work)


async def block_category(call: Call) -> Reply:
    """Block a category."""
    return await _changed(call, lambda change: groups.block(change, call.path("name"), [call.path("category")]))


async def unblock_category(call: Call) -> Reply:
    """Stop blocking a category."""
    return await _changed(call, lambda change: groups.unblock(change, call.path("name"), [call.path("category")]))


async def list_networks(call: Call) -> Reply:
    """List networks."""
    return page_of(call, [present(found) for found in await call.read(networks.list_all)])


async def add_network(call: Call) -> Reply:
    """Put a network into a group."""

    def work(change: Change) -> Network:
        values = call.form.values
        return networks.add(change, values["cidr"], values["group"], values.get("site", ""))

    added, version = await call.change(work)
    return Reply(present(added) | {"policy_version": version}, 201, {"Location": f"{PREFIX}/networks/{added.cidr}"})


async def get_network(call: Call) -> Reply:
    """Show one."""
    return Reply(present(await call.read(lambda connection: networks.get(connection, call.path("cidr")))))


async def remove_network(call: Call) -> Reply:
    """Take a network out of its group."""
    return await _changed(call, lambda change: networks.remove(change, call.path("cidr")))


async def _changed(call: Call, work: Callable[[Change], Group | Network]) -> Reply:
    changed, version = await call.change(work)
    return Reply(present(changed) | {"policy_version": version})


_GROUPS, _NETWORKS = f"{PREFIX}/groups", f"{PREFIX}/networks"
_BLOCKED = f"{_GROUPS}/{{name}}/blocked/{{category}}"
_NETWORK = f"{_NETWORKS}/{{cidr:.+}}"  # a network's slash stands in the path, escaped or not

ROUTES = (
    Route("GET", _GROUPS, list_groups, "List the groups.", "GroupPage", Role.VIEWER, query=IN_PAGES),
    Route("GET", f"{_GROUPS}/{{name}}", get_group, "Show a group.", "Group", Role.VIEWER),
    Route(
        "POST",
        _GROUPS,
        add_group,
        "Add a group, which blocks nothing yet.",
        "ChangedGroup",
        Role.ADMIN,
        status=201,
        body={"name": forms.text("Its name.", example="library", required=True, limit=63)},
    ),
    Route(
        "PATCH",
        f"{_GROUPS}/{{name}}",
        update_group,
        "Set how a blocked name is answered to a group.",
        "ChangedGroup",
        Role.ADMIN,
        body={
            "mode": forms.choice(Mode, "How a blocked name is answered."),
            "addresses": forms.texts(
                "What mode `address` answers with; it needs one at least.",
                example=["192.0.2.1", "2001:db8::1"],
                limit=MAX_ADDRESSES,
            ),
        },
    ),
    Route("PUT", _BLOCKED, block_category, "Block a category for a group.", "ChangedGroup", Role.ADMIN),
    Route("DELETE", _BLOCKED, unblock_category, "Stop blocking a category for a group.", "ChangedGroup", Role.ADMIN),
    Route("GET", _NETWORKS, list_networks, "List the networks.", "NetworkPage", Role.VIEWER, query=IN_PAGES),
    Route(
        "POST",
        _NETWORKS,
        add_network,
        "Put a network into a group; of several that hold a client, the longest prefix counts.",
        "ChangedNetwork",
        Role.ADMIN,
        status=201,
        body={
            "cidr": forms.text("An address or a network.", example="10.1.0.0/16", required=True, limit=64),
            "group": forms.text("The group's name.", example="staff", required=True, limit=63),
            "site": forms.text("Where it is, for people.", example="North High"),
        },
    ),
    Route("GET", _NETWORK, get_network, "Show a network.", "Network", Role.VIEWER),
    Route("DELETE", _NETWORK, remove_network, "Take a network out of its group.", "ChangedNetwork", Role.ADMIN),
)
