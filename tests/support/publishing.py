"""Publishers of a test's own, and what changes under them."""

import os
from pathlib import Path

from control.publisher import KEPT_SECONDS, Published, Publisher
from storage import exceptions, sources
from storage.database import Database
from tests.support.policies import fill


def make(database: Database, directory: Path, *, url: str = "", default_group: str = "students") -> Publisher:
    """Return a publisher, as another process would have it."""
    return Publisher(database, url or database.name, directory, default_group)


def whole(publisher: Publisher) -> Published:
    """Publish with an index of what is stored."""
    publisher.compile()
    return publisher.publish()


def touch(database: Database, reason: str = "a lesson") -> None:
    """Change the policy, and no entry."""
    with database.change("test") as change:
        exceptions.add(change, domain="good.example", action="allow", reason=reason)


def relist(database: Database, *names: str) -> None:
    """Change the entries: the one source lists these names."""
    with database.reading() as connection:
        [source] = sources.list_all(connection)
    fill(database, source, names)


def grow_old(directory: Path) -> None:
    """Let every document be older than any that is kept for its age."""
    for path in directory.glob("policy-*"):
        written = path.stat().st_mtime - 2 * KEPT_SECONDS
        os.utime(path, (written, written))
