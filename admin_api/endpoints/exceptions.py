"""`/exceptions`: names let through or blocked, in force when the reply is there."""

from collections.abc import Mapping

from admin_api import forms
from admin_api.presenting import present
from admin_api.routing import PREFIX, Call, Reply, Route, page
from policy.rules import Action
from storage import checks, exceptions
from storage.database import Change, now
from storage.exceptions import MAX_CLIENTS, MAX_GROUPS, Match, PolicyException, Status
from storage.tokens import Role

_REVISABLE: Mapping[str, forms.Field] = {
    "groups": forms.texts("The groups that it is for.", example=["staff"], limit=MAX_GROUPS),
    "clients": forms.texts(
        "The addresses and networks that it is for. With no group and no client it is for everyone.",
        example=["10.1.2.0/24"],
        limit=MAX_CLIENTS,
    ),
    "requested_by": forms.text("Who asked for it.", example="Ms Lee"),
    "expires_at": forms.time_or_never("When it ends by itself; null: never."),
}
_REASON = "Why, for whoever reads the audit."
_NEW: Mapping[str, forms.Field] = {
    "domain": forms.text("The name.", example="example.org", required=True, limit=1000),
    "action": forms.choice(Action, "Whether the name is let through or blocked.", required=True),
    "match": forms.choice(Match, "The name and all below it, or the name alone.", default=Match.SUBTREE),
    "reason": forms.text(_REASON, example="A lesson on elections", required=True),
    **_REVISABLE,
}
_REVISION: Mapping[str, forms.Field] = {"reason": forms.text(_REASON, example="A project"), **_REVISABLE}


def _domain(text: str) -> str:
    return checks.domain(text)


async def create_exception(call: Call) -> Reply:
    """Add an exception."""

    def work(change: Change) -> PolicyException:
        return exceptions.add(change, **call.form.values)

    added, version = await call.change(work)
    location = f"{PREFIX}/exceptions/{added.id}"
    return Reply(present(added) | {"policy_version": version}, 201, {"Location": location})


async def list_exceptions(call: Call) -> Reply:
    """List exceptions, the newest first."""
    return page(await call.read(lambda connection: exceptions.list_page(connection, now(), **call.query)), present)


async def get_exception(call: Call) -> Reply:
    """Show one."""
    return Reply(present(await call.read(lambda connection: exceptions.get(connection, call.number("id")))))


async def update_exception(call: Call) -> Reply:
    """Change what may change."""
    changed, version = await call.change(
        lambda change: exceptions.update(change, call.number("id"), **call.form.values)
    )
    return Reply(present(changed) | {"policy_version": version})


async def revoke_exception(call: Call) -> Reply:
    """End one now."""
    revoked, version = await call.change(lambda change: exceptions.revoke(change, call.number("id")))
    return Reply(present(revoked) | {"policy_version": version})


_ONE = f"{PREFIX}/exceptions/{{id}}"

ROUTES = (
    Route(
        "POST",
        f"{PREFIX}/exceptions",
        create_exception,
        "Add an exception; when the reply is there, it is in force on every worker.",
        "ChangedException",
        Role.APPROVER,
        status=201,
        body=_NEW,
    ),
    Route(
        "GET",
        f"{PREFIX}/exceptions",
        list_exceptions,
        "List exceptions, ended ones too, the newest first.",
        "ExceptionPage",
        Role.VIEWER,
        query={
            "status": forms.chosen(Status, "Only those."),
            "domain": forms.parameter("Only those for exactly this name.", _domain),
            "cursor": forms.numbered_cursor(),
            "limit": forms.limited(default=100, maximum=1000),
        },
    ),
    Route("GET", _ONE, get_exception, "Show an exception.", "Exception", Role.VIEWER),
    Route(
        "PATCH",
        _ONE,
        update_exception,
        "Change an exception's reason, scope, requester or end; what isn't given stays.",
        "ChangedException",
        Role.APPROVER,
        body=_REVISION,
    ),
    Route(
        "DELETE",
        _ONE,
        revoke_exception,
        "Revoke an exception now. It stays in the list, with who revoked it and when.",
        "ChangedException",
        Role.APPROVER,
    ),
)
