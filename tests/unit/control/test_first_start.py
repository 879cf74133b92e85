"""What a new database is filled with, once."""

from blocklists import catalogue
from control import first_start
from storage import audit, categories, entries, groups, sources, tokens
from storage.database import Database


def test_fills_a_new_database_with_what_ships(sqlite_database: Database) -> None:
    assert first_start.is_due(sqlite_database)
    first_start.prepare(sqlite_database)
    assert not first_start.is_due(sqlite_database)
    with sqlite_database.reading() as connection:
        assert {group.name for group in groups.list_all(connection)} == {"students", "staff", "guests"}
        assert len(categories.list_all(connection)) == len(catalogue.categories())
        found = sources.list_all(connection)
        assert {source.key for source in found if not source.starter} == {s.key for s in catalogue.sources()}
        assert not any(source.enabled for source in found if not source.starter)
        for source in found:
            if source.starter:
                assert source.enabled
                assert entries.count(connection, source.id) == source.rules > 0
                assert source.last_error == ""
        assert not tokens.list_all(connection)


def test_a_database_that_another_process_filled_meanwhile_stays_as_it_is(sqlite_database: Database) -> None:
    """Two nodes over one database, started for the first time at once."""
    first_start.prepare(sqlite_database)
    with sqlite_database.reading() as connection:
        before = audit.list_page(connection).items
    first_start.prepare(sqlite_database)
    with sqlite_database.reading() as connection:
        assert audit.list_page(connection).items == before


def test_first_token_is_made_once_and_works(sqlite_database: Database) -> None:
    secret = first_start.first_token(sqlite_database)
    assert secret.startswith("hm_")
    assert first_start.first_token(sqlite_database) == ""
    with sqlite_database.reading() as connection:
        [token] = tokens.list_all(connection)
    assert (token.name, token.role) == (first_start.TOKEN_NAME, "admin")
    with sqlite_database.reading() as connection:
        found = tokens.authenticate(connection, secret)
    assert found is not None
    assert found.name == token.name


def test_no_first_token_where_there_has_ever_been_one(sqlite_database: Database) -> None:
    """One who revoked every token meant it."""
    with sqlite_database.change("test") as change:
        tokens.create(change, "old", "viewer")
    with sqlite_database.change("test") as change:
        tokens.revoke(change, "old")
    assert first_start.first_token(sqlite_database) == ""
