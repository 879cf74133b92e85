"""What repositories return, without any database behind it."""

from dataclasses import replace

import pytest

from policy.rules import Action, Rule, Scope, Traits
from storage.database import Database
from storage.errors import InvalidError, NotFoundError
from storage.exceptions import PolicyException, Status
from storage.loading import rows_of
from storage.tokens import Role

LIVE = PolicyException(
    id=1,
    domain="a.example",
    action="allow",
    match="subtree",
    groups=(),
    clients=(),
    reason="a lesson",
    requested_by="",
    created_by="desk",
    approved_by="desk",
    created_at=0,
    expires_at=100,
)


@pytest.mark.parametrize(
    ("exception", "status"),
    [
        (LIVE, Status.ACTIVE),
        (replace(LIVE, expires_at=None), Status.ACTIVE),
        (replace(LIVE, expires_at=51), Status.ACTIVE),
        (replace(LIVE, expires_at=50), Status.EXPIRED),
        (replace(LIVE, revoked_at=10), Status.REVOKED),
        (replace(LIVE, expires_at=50, revoked_at=10), Status.REVOKED),
    ],
)
def test_an_exception_ends_at_its_time_or_when_it_is_revoked(exception: PolicyException, status: Status) -> None:
    assert exception.status(50) is status


def test_each_role_includes_the_ones_below() -> None:
    rows = [[role.includes(other) for other in Role] for role in Role]
    assert rows == [[True, False, False], [True, True, False], [True, True, True]]


def test_rows_carry_a_key_and_the_number_of_their_traits() -> None:
    allow = Traits(Scope.SUBTREE, Action.ALLOW)
    rules = [Rule("www.a.example"), Rule("b.example", allow), Rule(r"^ad\d", pattern=True), Rule("c.example", Traits())]
    numbers = {Traits(): 3, allow: 7}
    rows = list(rows_of(5, rules, numbers.__getitem__))
    assert rows == [(5, "example.a.www.", 3), (5, "example.b.", 7), (5, r"/^ad\d/", 3), (5, "example.c.", 3)]


@pytest.mark.parametrize("expression", ["a\0b", "é" * 1300])
def test_an_expression_that_no_index_holds_is_refused(expression: str) -> None:
    with pytest.raises(InvalidError, match="can't be stored"):
        list(rows_of(1, [Rule(expression, pattern=True)], lambda _: 1))


def test_a_missing_thing_is_named() -> None:
    assert str(NotFoundError("source", "ut1")) == "there is no source 'ut1'"
    assert str(NotFoundError("exception", 7)) == "there is no exception 7"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("mysql://db/x", "unknown kind of database 'mysql'"),
        ("var/hallmonitor.db", "not a database URL"),
        ("sqlite:///relative.db", "must be absolute"),
        ("sqlite://", "must be absolute"),
    ],
)
def test_only_two_kinds_of_url_are_taken(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Database(url)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_password_is_never_shown(scheme: str) -> None:
    database = Database(f"{scheme}://hall:s3cret@db.example/monitor")
    assert database.name == "postgresql://hall:***@db.example/monitor"
    assert "s3cret" not in repr(database)
    assert not database.is_sqlite
