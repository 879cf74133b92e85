import pytest

from admin_api.presenting import present
from storage.audit import AuditEvent
from storage.exceptions import PolicyException
from storage.groups import Group
from storage.sources import Source
from storage.tokens import Token

TIME = 1_796_137_200_000_000


def test_an_exception_has_the_fields_of_the_contract() -> None:
    exception = PolicyException(
        id=7,
        domain="a.example",
        action="allow",
        match="subtree",
        groups=("staff",),
        clients=(),
        reason="a lesson",
        requested_by="",
        created_by="desk",
        approved_by="desk",
        created_at=TIME,
        expires_at=1,
    )
    assert present(exception) == {
        "id": 7,
        "status": "expired",
        "domain": "a.example",
        "action": "allow",
        "match": "subtree",
        "groups": ["staff"],
        "clients": [],
        "reason": "a lesson",
        "requested_by": "",
        "created_by": "desk",
        "approved_by": "desk",
        "created_at": "2026-12-01T15:00:00Z",
        "expires_at": "1970-01-01T00:00:00.000001Z",
        "revoked_at": None,
        "revoked_by": None,
    }


def test_a_source_keeps_to_itself_what_a_refresh_needs() -> None:
    source = Source(
        id=1,
        key="a",
        location="/a",
        mirrors=(),
        format="auto",
        category="games",
        scope=None,
        enabled=True,
        allow_private=False,
        allow_public_suffix=False,
        interval_seconds=300,
        stale_seconds=900,
        starter=False,
        licence="",
        homepage="",
        etag="e",
        last_success_at=TIME,
    )
    shown = present(source)
    assert not {"id", "etag", "last_modified", "content_hash", "reader", "fetched_from", "writing_ahead"} & set(shown)
    assert (shown["last_success_at"], shown["last_error"]) == ("2026-12-01T15:00:00Z", None)


def test_events_show_times_as_times() -> None:
    event = AuditEvent(1, TIME, "desk", "token.create", "x", None, {"created_at": TIME, "last_used_at": None})
    assert present(event)["after"] == {"created_at": "2026-12-01T15:00:00Z", "last_used_at": None}
    assert present(event)["before"] is None


def test_lists_are_lists() -> None:
    assert present(Group("staff", blocked=("games",)))["blocked"] == ["games"]
    assert present(Token("desk", "admin", TIME))["created_at"] == "2026-12-01T15:00:00Z"


def test_what_has_no_form_is_not_shown() -> None:
    with pytest.raises(TypeError, match="no form for dict"):
        present({"secret": "x"})
