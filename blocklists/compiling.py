"""Compiling from the database, in this process or as a job of its own: ``python -m blocklists.compiling``.

The job reads ``{"database": URL, "path": FILE}`` from standard input, so that no secret shows among the processes.
"""

import json
import sys
from pathlib import Path

from sqlalchemy import Connection

from blocklists.compiler import Compiled, compile_index
from storage import entries
from storage.database import Database


def compile_from(connection: Connection, path: Path) -> Compiled:
    """Write the index of every source's entries, as this connection's transaction sees them.

    Disabled sources are in it, so that enabling one takes no compiling: the snapshot says which count.
    """
    return compile_index(path, entries.iterate(connection), entries.traits(connection))


def main() -> None:
    """Do one job from standard input."""
    job = json.load(sys.stdin)
    database = Database(job["database"])
    try:
        with database.reading() as connection:
            compile_from(connection, Path(job["path"]))
    finally:
        database.close()


if __name__ == "__main__":
    main()
