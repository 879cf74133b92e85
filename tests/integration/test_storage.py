"""The repositories, each on SQLite and on Postgres."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from policy.rules import Rule
from storage import audit, categories, exceptions, groups, networks, sources, tokens
from storage.audit import AuditEvent
from storage.database import Change, Database, PolicyState
from storage.errors import ConflictError, InvalidError, NotFoundError, StorageError
from storage.exceptions import Match, PolicyException, Status
from storage.sources import Seen
from tests.support.configuration import SEEN, add_groups, add_source, list_rules

HOUR = 3_600_000_000


def events(database: Database) -> list[AuditEvent]:
    """Return all events, oldest first."""
    with database.reading() as connection:
        return list(reversed(audit.list_page(connection, limit=1000).items))


def add_exception(database: Database, domain: str = "a.example", **fields: Any) -> PolicyException:
    values: dict[str, Any] = {"action": "allow", "reason": "a lesson", **fields}
    with database.change("desk") as change:
        return exceptions.add(change, domain=domain, **values)


def test_a_change_that_fails_leaves_nothing(database: Database) -> None:
    before = database.state()
    with contextlib.suppress(RuntimeError), database.change("desk") as change:
        groups.add(change, "staff")
        raise RuntimeError
    assert database.state() == before
    assert events(database) == []


def test_a_version_rises_once_a_change_however_much_it_holds(database: Database) -> None:
    version, entries_version = database.state()
    with database.change("desk") as change:
        assert change.policy_version == version
        groups.add(change, "staff")
        groups.add(change, "guests")
        assert change.policy_version == version + 1
    assert database.state() == PolicyState(version + 1, entries_version)


def test_a_reader_sees_one_moment(database: Database) -> None:
    with database.reading() as connection:
        assert groups.list_all(connection) == []
        add_groups(database, "staff")
        assert groups.list_all(connection) == []
    with database.reading() as connection:
        assert [group.name for group in groups.list_all(connection)] == ["staff"]


class TestCategories:
    def test_added_and_listed_by_severity(self, database: Database) -> None:
        with database.change("desk") as change:
            categories.add(change, "games", name="Games", severity=700)
            added = categories.add(change, "adult", name="Adult", clause="4.1", severity=1, description="for adults")
        with database.reading() as connection:
            assert [category.key for category in categories.list_all(connection)] == ["adult", "games"]
            assert categories.get(connection, "adult") == added
        assert [event.action for event in events(database)] == ["category.add", "category.add"]

    def test_ensured_once(self, database: Database) -> None:
        with database.change("desk") as change:
            first = categories.ensure(change, "adult", name="Adult")
            assert categories.ensure(change, "adult", name="Other") == first
        assert len(events(database)) == 1

    def test_a_name_is_its_key_where_none_is_given(self, database: Database) -> None:
        with database.change("desk") as change:
            assert categories.add(change, "adult").name == "adult"

    def test_every_problem_at_once(self, database: Database) -> None:
        with pytest.raises(InvalidError) as raised, database.change("desk") as change:
            categories.add(change, "No Key", name="x" * 501, kind="deny", severity=0)
        assert [problem.field for problem in raised.value.problems] == ["key", "name", "kind", "severity"]

    def test_twice_is_a_conflict(self, database: Database) -> None:
        with database.change("desk") as change:
            categories.add(change, "adult")
            with pytest.raises(ConflictError, match="already"):
                categories.add(change, "adult")


class TestGroups:
    def test_blocking_is_told_and_audited(self, database: Database) -> None:
        add_groups(database, "students")
        with database.change("desk") as change:
            categories.add(change, "games")
            categories.add(change, "adult")
            group = groups.block(change, "students", ["games", "adult", "games"])
            assert group.blocked == ("adult", "games")
            assert groups.unblock(change, "students", ["games"]).blocked == ("adult",)
        with database.reading() as connection:
            assert [group.blocked for group in groups.list_all(connection)] == [("adult",)]
        last = events(database)[-1]
        assert (last.actor, last.action, last.target) == ("desk", "group.unblock", "students")
        assert last.before is not None
        assert last.after is not None
        assert (last.before["blocked"], last.after["blocked"]) == (["adult", "games"], ["adult"])

    def test_what_is_so_already_is_no_change(self, database: Database) -> None:
        add_groups(database, "students")
        with database.change("desk") as change:
            categories.add(change, "adult")
            groups.block(change, "students", ["adult"])
        state, seen = database.state(), len(events(database))
        with database.change("desk") as change:
            groups.block(change, "students", ["adult"])
            groups.update(change, "students", mode="null")
            groups.ensure(change, "students")
            groups.unblock(change, "students", [])
        assert database.state() == state
        assert len(events(database)) == seen

    def test_unblocking_what_is_not_blocked_is_no_error(self, database: Database) -> None:
        add_groups(database, "students")
        with database.change("desk") as change:
            categories.add(change, "adult")
            assert groups.unblock(change, "students", ["adult"]).blocked == ()

    def test_a_category_that_allows_has_nothing_to_block(self, database: Database) -> None:
        add_groups(database, "students")
        with database.change("desk") as change:
            categories.add(change, "learning", kind="allow")
            with pytest.raises(InvalidError, match="allows"):
                groups.block(change, "students", ["learning"])

    @pytest.mark.parametrize("act", [groups.block, groups.unblock])
    def test_group_and_category_must_exist(
        self, database: Database, act: Callable[[Change, str, list[str]], groups.Group]
    ) -> None:
        add_groups(database, "students")
        with database.change("desk") as change:
            with pytest.raises(NotFoundError, match="no group 'nobody'"):
                act(change, "nobody", [])
            with pytest.raises(NotFoundError, match="no category 'nothing'"):
                act(change, "students", ["nothing"])

    def test_mode_address_has_addresses_and_no_other_has(self, database: Database) -> None:
        add_groups(database, "students")
        with database.change("desk") as change:
            group = groups.update(change, "students", mode="address", addresses=["192.0.2.1", "2001:DB8::1"])
            assert (group.mode, group.addresses) == ("address", ("192.0.2.1", "2001:db8::1"))
            assert groups.update(change, "students", addresses=["192.0.2.9"]).addresses == ("192.0.2.9",)
            assert groups.update(change, "students", mode="address").addresses == ("192.0.2.9",)
            assert groups.update(change, "students", mode="nxdomain") == groups.Group("students", "nxdomain")
        with database.reading() as connection:
            assert groups.get(connection, "students").mode == "nxdomain"

    @pytest.mark.parametrize(
        ("values", "field"),
        [
            ({"mode": "address"}, "addresses"),
            ({"mode": "address", "addresses": []}, "addresses"),
            ({"mode": "address", "addresses": ["sink.example"]}, "addresses"),
            ({"addresses": ["192.0.2.1"]}, "addresses"),
            ({"mode": "drop"}, "mode"),
            ({"mode": "address", "addresses": [f"192.0.2.{n}" for n in range(17)]}, "addresses"),
        ],
    )
    def test_wrong_settings_are_refused(self, database: Database, values: dict[str, Any], field: str) -> None:
        add_groups(database, "students")
        with pytest.raises(InvalidError) as raised, database.change("desk") as change:
            groups.update(change, "students", **values)
        assert raised.value.field == field

    def test_a_name_is_taken_once(self, database: Database) -> None:
        add_groups(database, "students")
        with database.change("desk") as change:
            with pytest.raises(ConflictError):
                groups.add(change, "students")
            with pytest.raises(InvalidError):
                groups.add(change, "Students!")


class TestNetworks:
    def test_they_may_overlap_and_are_removed_by_any_spelling(self, database: Database) -> None:
        add_groups(database, "staff", "students")
        with database.change("desk") as change:
            networks.add(change, "10.0.0.0/8", "students")
            networks.add(change, "10.1.0.0/16", "staff", site="North High")
            networks.add(change, "2001:DB8:1::/48", "staff")
        with database.reading() as connection:
            assert [network.cidr for network in networks.list_all(connection)] == [
                "10.0.0.0/8",
                "10.1.0.0/16",
                "2001:db8:1::/48",
            ]
        with database.change("desk") as change:
            assert networks.remove(change, "2001:0db8:0001::/48").group == "staff"
        with database.reading() as connection:
            assert len(networks.list_all(connection)) == 2
        assert events(database)[-1].before == {"cidr": "2001:db8:1::/48", "group": "staff", "site": ""}

    def test_one_group_a_network(self, database: Database) -> None:
        add_groups(database, "staff", "students")
        with database.change("desk") as change:
            networks.add(change, "192.0.2.7", "students")
            with pytest.raises(ConflictError, match="in group 'students' already"):
                networks.add(change, "192.0.2.7/32", "staff")

    def test_every_problem_at_once(self, database: Database) -> None:
        with pytest.raises(InvalidError) as raised, database.change("desk") as change:
            networks.add(change, "10.1.2.3/8", "nobody", site="\0")
        assert [problem.field for problem in raised.value.problems] == ["cidr", "site", "group"]

    @pytest.mark.parametrize("cidr", ["192.0.2.0/24", "nonsense"])
    def test_what_is_not_there_is_not_removed(self, database: Database, cidr: str) -> None:
        with pytest.raises(NotFoundError), database.change("desk") as change:
            networks.remove(change, cidr)


class TestExceptions:
    def test_stored_in_normal_form(self, database: Database) -> None:
        add_groups(database, "staff")
        version = database.state().policy_version
        with database.change("desk") as change:
            added = exceptions.add(
                change,
                domain="Bücher.Example.",
                action="allow",
                match="exact",
                groups=["staff", "staff"],
                clients=["192.0.2.7", "10.1.0.0/16"],
                reason=" a lesson ",
                requested_by="Ms Lee",
                expires_at=change.now + HOUR,
            )
            assert change.policy_version == version + 1
        with database.reading() as connection:
            assert exceptions.get(connection, added.id) == added
        assert (added.domain, added.match) == ("xn--bcher-kva.example", Match.EXACT)
        assert (added.groups, added.clients) == (("staff",), ("192.0.2.7/32", "10.1.0.0/16"))
        assert (added.reason, added.requested_by) == ("a lesson", "Ms Lee")
        assert (added.created_by, added.approved_by) == ("desk", "desk")
        assert added.expires_at == added.created_at + HOUR
        [*_, event] = events(database)
        assert (event.actor, event.action, event.target, event.before) == (
            "desk",
            "exception.create",
            str(added.id),
            None,
        )
        assert event.after is not None
        assert event.after["clients"] == ["192.0.2.7/32", "10.1.0.0/16"]
        assert event.time == added.created_at

    def test_every_problem_at_once(self, database: Database) -> None:
        with pytest.raises(InvalidError) as raised, database.change("desk") as change:
            exceptions.add(
                change,
                domain="not a name",
                action="deny",
                match="subdomains",
                groups=["nobody"],
                clients=["10.0.0.1/8"],
                reason=" ",
                requested_by="\0",
                expires_at=change.now,
            )
        assert [problem.field for problem in raised.value.problems] == [
            "domain",
            "action",
            "match",
            "groups",
            "clients",
            "reason",
            "requested_by",
            "expires_at",
        ]
        assert events(database) == []

    def test_live_are_those_in_force(self, database: Database) -> None:
        forever = add_exception(database, "forever.example")
        soon = add_exception(database, "soon.example", expires_at=forever.created_at + HOUR)
        revoked = add_exception(database, "revoked.example")
        with database.change("boss") as change:
            exceptions.revoke(change, revoked.id)
        with database.reading() as connection:
            now = forever.created_at + 1
            assert exceptions.live(connection, now) == [forever, soon]
            assert exceptions.live(connection, now + HOUR) == [forever]

    def test_found_by_status_and_domain(self, database: Database) -> None:
        forever = add_exception(database, "a.example")
        soon = add_exception(database, "a.example", expires_at=forever.created_at + HOUR)
        revoked = add_exception(database, "b.example")
        with database.change("boss") as change:
            exceptions.revoke(change, revoked.id)
        now = forever.created_at + 2 * HOUR

        def ids(**filters: Any) -> list[int]:
            with database.reading() as connection:
                return [found.id for found in exceptions.list_page(connection, now, **filters).items]

        assert ids() == [revoked.id, soon.id, forever.id]
        assert ids(status=Status.ACTIVE) == [forever.id]
        assert ids(status=Status.EXPIRED) == [soon.id]
        assert ids(status=Status.REVOKED) == [revoked.id]
        assert ids(domain="a.example") == [soon.id, forever.id]

    def test_paged_without_gap_or_double(self, database: Database) -> None:
        added = [add_exception(database, f"n{number}.example").id for number in range(5)]
        seen: list[int] = []
        cursor: int | None = None
        with database.reading() as connection:
            for _ in range(3):
                page = exceptions.list_page(connection, 0, cursor=cursor, limit=2)
                seen += [found.id for found in page.items]
                cursor = page.next_cursor
        assert seen == sorted(added, reverse=True)
        assert cursor is None

    @pytest.mark.parametrize("limit", [0, -1, 1001])
    def test_a_page_has_bounds(self, database: Database, limit: int) -> None:
        with database.reading() as connection, pytest.raises(InvalidError, match="from 1 to 1000"):
            exceptions.list_page(connection, 0, limit=limit)

    def test_updated_where_something_is_given(self, database: Database) -> None:
        add_groups(database, "staff")
        added = add_exception(database, groups=["staff"], requested_by="Ms Lee")
        with database.change("boss") as change:
            limited = exceptions.update(change, added.id, expires_at=change.now + HOUR)
            assert limited.expires_at == change.now + HOUR
            assert (limited.groups, limited.reason) == (("staff",), "a lesson")
            changed = exceptions.update(
                change,
                added.id,
                expires_at=None,
                reason="a project",
                groups=[],
                clients=["192.0.2.1"],
                requested_by="Mr Ode",
            )
        assert (changed.expires_at, changed.reason, changed.requested_by) == (None, "a project", "Mr Ode")
        assert (changed.groups, changed.clients) == ((), ("192.0.2.1/32",))
        assert (changed.domain, changed.approved_by) == ("a.example", "desk")
        assert [event.action for event in events(database)[-2:]] == ["exception.update", "exception.update"]

    def test_an_update_that_changes_nothing_is_none(self, database: Database) -> None:
        added = add_exception(database)
        state = database.state()
        with database.change("boss") as change:
            assert exceptions.update(change, added.id) == added
            assert exceptions.update(change, added.id, reason="a lesson") == added
        assert database.state() == state
        assert len(events(database)) == 1

    def test_a_wrong_update_names_every_problem(self, database: Database) -> None:
        added = add_exception(database)
        with pytest.raises(InvalidError) as raised, database.change("boss") as change:
            exceptions.update(
                change,
                added.id,
                expires_at=1,
                reason="",
                groups=["nobody"],
                clients=["x"],
                requested_by="x" * 501,
            )
        fields = [problem.field for problem in raised.value.problems]
        assert fields == ["expires_at", "reason", "groups", "clients", "requested_by"]

    def test_revoked_once_and_kept(self, database: Database) -> None:
        added = add_exception(database)
        with database.change("boss") as change:
            revoked = exceptions.revoke(change, added.id)
            assert (revoked.revoked_at, revoked.revoked_by) == (change.now, "boss")
        state = database.state()
        with database.change("other") as change:
            assert exceptions.revoke(change, added.id) == revoked
        assert database.state() == state
        with pytest.raises(ConflictError, match="is revoked"), database.change("boss") as change:
            exceptions.update(change, added.id, reason="again")
        assert [event.action for event in events(database)] == ["exception.create", "exception.revoke"]

    @pytest.mark.parametrize("exception_id", [0, -1, 1, 2**63 - 1, 2**63, 10**30])
    def test_a_number_that_is_none_of_ours_is_not_found(self, database: Database, exception_id: int) -> None:
        with database.change("desk") as change:
            for act in (exceptions.update, exceptions.revoke):
                with pytest.raises(NotFoundError):
                    act(change, exception_id)

    def test_lists_are_bounded(self, database: Database) -> None:
        clients = [f"10.0.{number // 256}.{number % 256}" for number in range(1001)]
        with pytest.raises(InvalidError, match="more than 1000"):
            add_exception(database, clients=clients)


class TestTokens:
    def test_a_secret_opens_and_is_not_kept(self, database: Database) -> None:
        with database.change("cli") as change:
            token, secret = tokens.create(change, "desk", "approver")
        assert secret.startswith("hm_")
        assert len(secret) == 46
        with database.reading() as connection:
            assert tokens.authenticate(connection, secret) == token
            assert tokens.authenticate(connection, secret[:-1]) is None
            assert tokens.authenticate(connection, "hm_\ud800") is None
            assert tokens.list_all(connection) == [token]
        assert secret not in repr(events(database))
        assert "secret" not in repr(events(database))

    def test_tokens_raise_no_version(self, database: Database) -> None:
        state = database.state()
        with database.change("cli") as change:
            tokens.create(change, "desk", "admin")
            tokens.revoke(change, "desk")
        assert database.state() == state
        assert [event.action for event in events(database)] == ["token.create", "token.revoke"]

    def test_revoked_for_good(self, database: Database) -> None:
        with database.change("cli") as change:
            _, secret = tokens.create(change, "desk", "admin")
            revoked = tokens.revoke(change, "desk")
            assert tokens.revoke(change, "desk") == revoked
            assert tokens.authenticate(change.connection, secret) is None
            with pytest.raises(ConflictError, match="stands in the audit"):
                tokens.create(change, "desk", "viewer")

    @pytest.mark.parametrize(("name", "role", "field"), [("De sk", "admin", "name"), ("desk", "root", "role")])
    def test_name_and_role_are_checked(self, database: Database, name: str, role: str, field: str) -> None:
        with pytest.raises(InvalidError) as raised, database.change("cli") as change:
            tokens.create(change, name, role)
        assert raised.value.field == field

    def test_unknown_is_not_revoked(self, database: Database) -> None:
        with pytest.raises(NotFoundError), database.change("cli") as change:
            tokens.revoke(change, "nobody")

    def test_use_is_noted_once_a_minute(self, database: Database) -> None:
        with database.change("cli") as change:
            token, secret = tokens.create(change, "desk", "viewer")

        def use(now: int) -> int | None:
            with database.reading() as connection:
                found = tokens.authenticate(connection, secret)
            assert found is not None
            tokens.note_use(database, found, now)
            with database.reading() as connection:
                return tokens.list_all(connection)[0].last_used_at

        minute = 60_000_000
        start = token.created_at
        assert use(start) == start
        assert use(start + minute - 1) == start
        assert use(start + minute) == start + minute
        assert [event.action for event in events(database)] == ["token.create"]

    def test_noting_a_use_never_waits(self, sqlite_database: Database) -> None:
        with sqlite_database.change("cli") as change:
            token, _ = tokens.create(change, "desk", "viewer")
        with sqlite_database.change("refresh") as change:
            groups.add(change, "staff")
            tokens.note_use(sqlite_database, token, change.now)
        with sqlite_database.reading() as connection:
            assert tokens.list_all(connection)[0].last_used_at is None


class TestSources:
    def test_added_with_nothing_fetched(self, database: Database) -> None:
        with database.change("desk") as change:
            added = add_source(change, "ut1-adult", format="domains", scope="exact", licence="CC BY-SA 4.0")
            version = change.policy_version
        assert (added.format, added.scope, added.enabled) == ("domains", "exact", True)
        assert (added.rules, added.last_attempt_at, added.last_error) == (0, None, "")
        with database.reading() as connection:
            assert sources.get(connection, "ut1-adult") == added
            assert sources.list_all(connection) == [added]
        assert database.state().policy_version == version
        assert database.state().entries_version == 1

    def test_every_problem_at_once(self, database: Database) -> None:
        with pytest.raises(InvalidError) as raised, database.change("desk") as change:
            sources.add(
                change,
                "No Key",
                "",
                category="nothing",
                format="csv",
                scope="subdomains",
                interval_seconds=1,
                licence="\0",
                homepage="x" * 2001,
            )
        assert {problem.field for problem in raised.value.problems} == {
            "key",
            "location",
            "category",
            "format",
            "scope",
            "interval_seconds",
            "licence",
            "homepage",
        }

    def test_a_key_is_taken_once(self, database: Database) -> None:
        with database.change("desk") as change:
            add_source(change, "a")
            with pytest.raises(ConflictError):
                add_source(change, "a")

    def test_enabling_is_policy_and_spares_the_index(self, database: Database) -> None:
        with database.change("desk") as change:
            add_source(change, "a")
        before = database.state()
        with database.change("desk") as change:
            assert not sources.disable(change, "a").enabled
        assert database.state() == PolicyState(before.policy_version + 1, before.entries_version)
        with database.change("desk") as change:
            sources.disable(change, "a")
        assert database.state().policy_version == before.policy_version + 1
        with database.change("desk") as change:
            assert sources.enable(change, "a").enabled
        assert [event.action for event in events(database)[-2:]] == ["source.disable", "source.enable"]

    @pytest.mark.parametrize("location", ["ftp://lists.example/a", "file:///etc/passwd"])
    def test_locations_that_are_never_fetched_are_refused(self, database: Database, location: str) -> None:
        with database.change("desk") as change:
            categories.ensure(change, "adult")
            with pytest.raises(InvalidError, match="not from"):
                sources.add(change, "a", location, category="adult")

    def test_another_category_is_policy_but_no_other_index(self, database: Database) -> None:
        with database.change("desk") as change:
            add_source(change, "a")
            categories.add(change, "games")
        before = database.state()
        with database.change("desk") as change:
            assert sources.set_category(change, "a", "games").category == "games"
            sources.set_category(change, "a", "games")
            with pytest.raises(InvalidError):
                sources.set_category(change, "a", "nothing")
        assert database.state() == PolicyState(before.policy_version + 1, before.entries_version)

    def test_a_number_is_never_given_twice(self, database: Database) -> None:
        with database.change("desk") as change:
            first = add_source(change, "a")
            sources.remove(change, "a")
            assert add_source(change, "a").id > first.id

    @pytest.mark.parametrize("act", [sources.remove, sources.enable, sources.disable])
    def test_unknown_is_not_found(self, database: Database, act: Callable[[Change, str], sources.Source]) -> None:
        with pytest.raises(NotFoundError), database.change("desk") as change:
            act(change, "nothing")

    def test_a_refresh_that_worked_is_remembered(self, database: Database) -> None:
        with database.change("desk") as change:
            added = add_source(change, "a")
        seen = Seen("https://lists.example/a", '"1"', "", "ab", 1)
        list_rules(database, added.id, [Rule("a.example"), Rule("b.example")], seen)
        with database.reading() as connection:
            after = sources.get(connection, "a")
        assert after.last_success_at == after.last_attempt_at
        assert (after.seen, after.rules, after.version) == (seen, 2, 1)
        [*_, event] = events(database)
        assert (event.action, event.target) == ("source.refresh", "a")
        assert event.after == {"version": 1, "rules": 2, "rejected": 0, "added": 2, "removed": 0}
        told = len(events(database))
        list_rules(database, added.id, [Rule("a.example"), Rule("b.example")], seen)
        assert len(events(database)) == told
        with database.reading() as connection:
            assert sources.count_by_category(connection) == {"adult": 2}

    def test_a_refresh_of_a_source_that_is_gone(self, database: Database) -> None:
        with pytest.raises(NotFoundError), database.change("refresh") as change:
            sources.record_success(change, 99, SEEN, rejected=0)
        sources.record_failure(database, 99, "gone", 1)
        with database.reading() as connection:
            assert sources.list_all(connection) == []

    def test_a_failure_keeps_what_was_good(self, database: Database) -> None:
        with database.change("desk") as change:
            added = add_source(change, "a")
            sources.record_success(change, added.id, SEEN, rejected=3)
        state = database.state()
        sources.record_failure(database, added.id, "no answer\x00 from lists.example", 5)
        with database.reading() as connection:
            after = sources.get(connection, "a")
        assert after.last_error == "no answer  from lists.example"
        assert (after.last_attempt_at, after.rejected, after.seen) == (5, 3, SEEN)
        assert database.state() == state

    def test_due_by_interval_and_sooner_after_a_failure(self, database: Database) -> None:
        with database.change("desk") as change:
            daily = add_source(change, "daily")
            often = add_source(change, "often", interval_seconds=300)
            add_source(change, "off", enabled=False)

        def due(now_seconds: int) -> list[str]:
            with database.reading() as connection:
                return [source.key for source in sources.due(connection, now_seconds * 1_000_000)]

        assert due(0) == ["daily", "often"]
        sources.record_failure(database, daily.id, "no answer", 0)
        sources.record_failure(database, often.id, "no answer", 0)
        assert due(299) == []
        assert due(300) == ["often"]
        assert due(900) == ["daily", "often"]
        with database.change("refresh") as change:
            sources.record_success(change, daily.id, SEEN, rejected=0)
            tried = change.now // 1_000_000
        assert "daily" not in due(tried + 86_399)
        assert "daily" in due(tried + 86_401)


class TestAudit:
    def test_found_by_who_what_and_when(self, database: Database) -> None:
        add_groups(database, "staff")
        added = add_exception(database)
        audit.note(database, "viewer-1", "log.search", "lookups", {"client": "192.0.2.1"})

        def found(**filters: Any) -> list[str]:
            with database.reading() as connection:
                return [event.action for event in audit.list_page(connection, **filters).items]

        assert found() == ["log.search", "exception.create", "group.add"]
        assert found(actor="viewer-1") == ["log.search"]
        assert found(action="group.add") == ["group.add"]
        assert found(target="staff") == ["group.add"]
        assert found(since=added.created_at) == ["log.search", "exception.create"]
        assert found(until=added.created_at) == ["group.add"]
        assert found(limit=1) == ["log.search"]

    def test_a_note_raises_no_version(self, database: Database) -> None:
        state = database.state()
        audit.note(database, "viewer-1", "log.search", "lookups", {"client": "192.0.2.1"})
        assert database.state() == state
        [event] = events(database)
        assert (event.before, event.after) == (None, {"client": "192.0.2.1"})


def test_every_error_is_a_storage_error() -> None:
    for kind in (InvalidError, NotFoundError, ConflictError):
        assert issubclass(kind, StorageError)
