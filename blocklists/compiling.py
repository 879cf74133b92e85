"""Compiling from the database, in this process or as a job of its own: ``python -m blocklists.compiling``.

The job reads one line ``{"database": URL, "path": FILE}`` from standard input, so that no secret shows among the
processes. It ends when standard input does: with whoever asked for it.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from sqlalchemy import Connection

from blocklists.compiler import Compiled, compile_index
from storage import entries
from storage.database import Database, read_state
from storage.errors import StorageError

LOW_PRIORITY = 10


def compile_from(connection: Connection, path: Path) -> Compiled:
    """Write the index of every source's entries, as this connection's transaction sees them.

    Disabled sources are in it, so that enabling one takes no compiling: the snapshot says which count.
    """
    return compile_index(path, entries.iterate(connection), entries.traits(connection))


def work(job: str) -> int:
    """Do one job and return the entries version that it saw. Raises `DatabaseDownError`, `OSError`."""
    wanted = json.loads(job)
    database = Database(wanted["database"])
    try:
        with database.reading() as connection:
            compile_from(connection, Path(wanted["path"]))
            return read_state(connection).entries_version
    finally:
        database.close()


def main() -> None:
    """Do the job that standard input holds; the last line of the output says what came of it."""
    os.nice(LOW_PRIORITY)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ^C is for whoever asked
    job = sys.stdin.readline()
    threading.Thread(target=_end_when_nobody_waits, args=(sys.stdin.fileno(),), daemon=True).start()
    try:
        print(work(job))  # noqa: T201 - the answer
    except StorageError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(error.strerror or str(error))


def _end_when_nobody_waits(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
