"""The schema's history, one revision a file in `versions/`, run by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

# Any number will do, as long as every version of this program asks for the same one.
_ADVISORY_LOCK = 0x484D_0001


def upgrade(connection: Connection) -> None:
    """Run what is missing, inside the connection's transaction.

    On SQLite that transaction is the one writer; on Postgres an advisory lock makes other nodes wait.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")  # the first node may take its time
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
