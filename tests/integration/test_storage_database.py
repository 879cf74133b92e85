"""The database itself: schema, locks, power cuts, and what happens while it is away."""

import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage import groups, migrations, schema
from storage.database import Database
from storage.errors import DatabaseDownError
from tests.support.postgres import PostgresServer
from tests.support.processes import eventually

MIGRATE = "import sys; from storage.database import Database; d = Database(sys.argv[1]); d.migrate(); d.close()"


def test_the_migrations_make_the_schema(database: Database) -> None:
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        keys = sqlalchemy.inspect(connection).get_pk_constraint("entries")
    assert keys["constrained_columns"] == ["part_id", "key", "traits_id", "since"]
    assert keys["name"] in {None, "pk_entries"}  # SQLite names none


def test_the_schema_names_the_newest_revision() -> None:
    """Else each command would have Alembic look for what is missing."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.REVISION


def test_migrating_again_changes_nothing(database: Database) -> None:
    with database.change("desk") as change:
        groups.add(change, "staff")
    state = database.state()
    database.migrate()
    assert database.state() == state


def test_processes_that_migrate_together_agree(empty_database_url: str) -> None:
    """Two nodes on one Postgres, or the service and a command on one file, start at the same moment."""
    started = [subprocess.Popen([sys.executable, "-W", "error", "-c", MIGRATE, empty_database_url]) for _ in range(4)]
    assert [process.wait(60) for process in started] == [0, 0, 0, 0]
    database = Database(empty_database_url)
    assert database.state() == (1, 1)
    database.close()


def test_changes_run_one_after_another(database: Database) -> None:
    def change(number: int) -> int:
        with database.change("desk") as change:
            groups.add(change, f"group-{number}")
            return change.policy_version

    before = database.state().policy_version
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(change, range(24)))
    assert sorted(versions) == list(range(before + 1, before + 25))
    assert database.state().policy_version == before + 24


def test_readers_do_not_wait_for_a_change(database: Database) -> None:
    with database.change("desk") as change:
        groups.add(change, "staff")
        with database.reading() as connection:
            assert groups.list_all(connection) == []
        assert database.state().policy_version < change.policy_version


def test_a_change_that_touches_nothing_takes_no_lock(database: Database) -> None:
    with database.change("refresh"), database.change("desk") as change:
        groups.add(change, "staff")
    with database.reading() as connection:
        assert groups.names(connection) == {"staff"}


def test_a_database_that_answers(database: Database) -> None:
    database.ping()
    assert "hallmonitor" in database.name or "test_" in database.name


class TestSQLite:
    def test_a_change_outlives_a_power_cut(self, sqlite_database: Database) -> None:
        with sqlite_database.change("desk") as change:
            settings = {
                name: change.connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}

    def test_the_file_is_not_for_everyone(self, tmp_path: Path) -> None:
        path = tmp_path / "hallmonitor.db"
        database = Database(f"sqlite:///{path}")
        database.migrate()
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        database.close()
        assert set(modes) >= {"hallmonitor.db", "hallmonitor.db-wal"}
        assert all(mode & 0o137 == 0 for mode in modes.values())

    def test_closing_leaves_one_file(self, sqlite_database: Database, tmp_path: Path) -> None:
        with sqlite_database.change("desk") as change:
            groups.add(change, "staff")
        sqlite_database.close()
        assert [file.name for file in tmp_path.iterdir()] == ["hallmonitor.db"]

    def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path}/missing/hallmonitor.db")
        with pytest.raises(DatabaseDownError, match="unable to open database file"):
            database.ping()
        database.close()

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        path = tmp_path / "hallmonitor.db"
        path.write_bytes(b"not a database at all" * 100)
        database = Database(f"sqlite:///{path}")
        with pytest.raises(DatabaseDownError, match="not a database"):
            database.migrate()
        database.close()

    def test_a_database_without_its_schema(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path}/hallmonitor.db")
        with pytest.raises(DatabaseDownError, match="no such table"):
            database.state()
        database.close()

    def test_two_wait_for_each_other(self, sqlite_database: Database) -> None:
        entered, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with sqlite_database.change("first") as change:
                groups.add(change, "staff")
                entered.set()
                leave.wait(10)

        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(hold)
            assert entered.wait(10)
            threading.Timer(0.1, leave.set).start()
            with sqlite_database.change("second") as change:
                assert groups.names(change.connection) == {"staff"}
            first.result(10)


@pytest.mark.postgres
class TestPostgres:
    def test_nobody_there(self, postgres_server: PostgresServer) -> None:
        database = Database("postgresql://hall:s3cret@127.0.0.1:1/monitor")
        with pytest.raises(DatabaseDownError) as raised:
            database.ping()
        database.close()
        assert "s3cret" not in str(raised.value)
        assert "\n" not in str(raised.value)
        assert "postgresql://hall:***@127.0.0.1:1/monitor" in str(raised.value)

    def test_no_such_database(self, postgres_server: PostgresServer) -> None:
        database = Database(postgres_server.url("nothing"))
        with pytest.raises(DatabaseDownError, match='database "nothing" does not exist'):
            database.migrate()
        database.close()

    def test_a_server_that_comes_back(self) -> None:
        """A restart costs no request once the server is there again."""
        with PostgresServer() as server:
            database = Database(server.create_database())
            database.migrate()
            server.stop()
            with pytest.raises(DatabaseDownError), database.change("desk") as change:
                groups.add(change, "staff")
            server.start()
            with database.change("desk") as change:
                groups.add(change, "staff")
            database.close()

    def test_a_server_that_goes_away_in_the_middle(self) -> None:
        with PostgresServer() as server:
            database = Database(server.create_database())
            database.migrate()
            with pytest.raises(DatabaseDownError):
                self.change_and_stop(database, server)
            server.start()
            with database.reading() as connection:
                assert groups.names(connection) == set()
            database.close()

    def test_who_waits_for_a_turn_when_the_server_goes_is_told_so_and_no_more(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with PostgresServer() as server:
            url = server.create_database()
            holding, waiting = Database(url), Database(url)
            with pytest.raises(DatabaseDownError):
                self.stop_while_another_waits(holding, waiting, server, url)
            holding.close()
            waiting.close()
        assert caplog.messages == []

    def stop_while_another_waits(self, holding: Database, waiting: Database, server: PostgresServer, url: str) -> None:
        def wait_for_a_turn() -> None:
            with waiting.steps():
                raise AssertionError("there was no turn to have")

        with ThreadPoolExecutor(1) as others, holding.steps() as steps:
            waits = others.submit(wait_for_a_turn)
            with psycopg.connect(url, autocommit=True) as watching:
                eventually(lambda: watching.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall())
            server.stop()
            with pytest.raises(DatabaseDownError):
                waits.result()
            with steps.reading():
                pass

    def change_and_stop(self, database: Database, server: PostgresServer) -> None:
        with database.change("desk") as change:
            groups.add(change, "staff")
            server.stop()
            groups.add(change, "guests")


def test_opening_a_connection_leaves_the_locks_of_others_alone(tmp_path: Path) -> None:
    """Without them the next process to leave takes itself for the last, and SQLite's -wal along."""
    path = tmp_path / "hallmonitor.db"
    database = Database(f"sqlite:///{path}")
    try:
        database.migrate()
        with database.reading() as one:
            groups.names(one)
            before = locks_on(path)
            with database.reading() as two:
                groups.names(two)
            assert before
            assert locks_on(path) == before
    finally:
        database.close()


def locks_on(path: Path) -> list[list[str]]:
    """Return the kernel's locks on a file: kind, mode, process, and from where to where."""
    inode = str(path.stat().st_ino)
    found = [line.split()[1:] for line in Path("/proc/locks").read_text().splitlines()]
    return [[*lock[:5], *lock[6:]] for lock in found if lock[-3].rpartition(":")[2] == inode]
