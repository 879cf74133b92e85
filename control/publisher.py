"""Publishing: what the database holds becomes an index and a snapshot document on disk, for workers to map.

`current` always names a whole document beside a whole index: each is written under another name and renamed, by one
process at a time.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection

from blocklists.compiling import compile_from
from control.errors import PublishError
from control.state import locked
from policy import snapshot as snapshots
from policy.index import CorruptIndexError, Index
from policy.snapshot import Snapshot
from storage import categories, exceptions, groups, networks, parts, sources
from storage.database import Database, now, read_state

log = logging.getLogger(__name__)

SMALL = 200_000
"""Rules up to which compiling takes less time than starting a process for it."""
KEPT_DOCUMENTS = 3
LOCK = "lock"
LOW_PRIORITY = 10

_OF_CURRENT = ("version", "database", "default_group", "index")
"""What of the document in force tells whether it, or its index, is still right."""


class Published(NamedTuple):
    """A policy on disk."""

    version: int
    path: Path


class Publisher:
    """Keeps the policy directory in step with the database."""

    def __init__(self, database: Database, database_url: str, directory: Path, default_group: str) -> None:
        self._database = database
        self._database_url = database_url
        self._directory = directory
        self.default_group = default_group

    def publish(self) -> Published:
        """Bring the directory to what the database holds now; does nothing where it is so already.

        Raises `PublishError`, `storage.errors.DatabaseDownError`.
        """
        with self._turn():
            return self._publish()

    def _publish(self) -> Published:
        with self._database.reading() as connection:
            state = read_state(connection)
            current = self._current()
            if current and not self._is_whole(current["index"]):
                current = None
            if current and current["version"] == state.policy_version and self._is_ours(current):
                return Published(state.policy_version, self._directory / current["document"])
            document = _document(connection, self.default_group) | {
                "version": state.policy_version,
                "entries_version": state.entries_version,
                "database": self._database.name,
                "index": self._index(connection, state.entries_version, current),
            }
        if self.default_group not in {group["name"] for group in document["groups"]}:
            raise PublishError(f"filter.default_group: there is no group {self.default_group!r}")
        return self._write(document)

    def last(self) -> Published | None:
        """Return the policy that is on disk and can be read; None: there is none."""
        current = self._current()
        if not current:
            return None
        if not self._is_whole(current["index"], verify=True):
            self.forget()
            return None
        return Published(current["version"], self._directory / current["document"])

    def snapshot(self) -> Snapshot:
        """Return the policy on disk. Raises `PublishError` when there is none."""
        try:
            return snapshots.read(self._directory / "current")
        except (OSError, ValueError, KeyError, TypeError, CorruptIndexError) as error:
            raise PublishError(f"there is no policy on disk yet: {error}") from error

    def forget(self) -> None:
        """Take nothing over from what is on disk: it is damaged, or came from another database.

        The files stay until the next policy is there, for workers that may be started meanwhile.
        """
        (self._directory / "current").unlink(missing_ok=True)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other processes from publishing here: each would remove what the other is about to name."""
        try:
            with locked(self._directory / LOCK):
                yield
        except OSError as error:
            raise PublishError(f"the policy can't be written: {error.strerror or error}") from error

    def _current(self) -> dict[str, Any] | None:
        """Return what of the document in force says whether it still holds, and its file's name; None: none is."""
        try:
            path = (self._directory / "current").resolve(strict=True)
            document = json.loads(path.read_text())
            return {key: document[key] for key in _OF_CURRENT} | {"document": path.name}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _is_whole(self, index: str, *, verify: bool = False) -> bool:
        try:
            Index.open(self._directory / index, verify=verify)
        except (CorruptIndexError, OSError) as error:
            log.warning("the index on disk can't be used (%s): it will be compiled again", error)
            return False
        return True

    def _is_ours(self, document: dict[str, Any]) -> bool:
        return bool(document["database"] == self._database.name and document["default_group"] == self.default_group)

    def _index(self, connection: Connection, entries_version: int, current: dict[str, Any] | None) -> str:
        """Return the name of the index's file; compiles it unless the current one is of the same entries."""
        name = f"index-{entries_version}"
        if current and current["database"] == self._database.name and current["index"] == name:
            return name
        path = self._directory / name
        try:
            if sum(source.rules for source in sources.list_all(connection)) <= SMALL:
                compile_from(connection, path)
            else:
                self._compile_apart(path)
        except OSError as error:
            raise PublishError(f"the index can't be written: {error.strerror or error}") from error
        return name

    def _compile_apart(self, path: Path) -> None:
        """Compile in a process of low priority, so that nothing here waits for the interpreter."""
        job = json.dumps({"database": self._database_url, "path": str(path)})
        result = subprocess.run(
            [sys.executable, "-m", "blocklists.compiling"],
            input=job,
            text=True,
            capture_output=True,
            check=False,
            preexec_fn=_be_modest,  # os.nice alone, which is safe after a fork
        )
        if result.returncode:
            reason = result.stderr.strip().splitlines()[-1:] or ["it gave no reason"]
            raise PublishError(f"the index could not be compiled: {reason[0]}")

    def _write(self, document: dict[str, Any]) -> Published:
        path = self._directory / f"policy-{document['version']}.json"
        try:
            _replace(path, json.dumps(document).encode())
            link = self._directory / f".current-{os.getpid()}"
            link.unlink(missing_ok=True)
            link.symlink_to(path.name)
            link.rename(self._directory / "current")
            self._tidy(path)
        except OSError as error:
            raise PublishError(f"the policy can't be written: {error.strerror or error}") from error
        return Published(document["version"], path)

    def _tidy(self, written: Path) -> None:
        """Remove what is neither in force nor was shortly before, and what a killed process left unfinished."""
        others = {path for path in self._directory.glob("policy-*.json") if path != written}
        # The one in force is not told by its time: clocks are set back.
        old = sorted(others, key=lambda path: path.stat().st_mtime_ns)[: 1 - KEPT_DOCUMENTS]
        named = {_index_of(path) for path in {written, *others} - set(old)}
        indexes = [path for path in self._directory.glob("index-*") if path.name not in named]
        for path in (*old, *indexes, *self._directory.glob(".*")):
            path.unlink(missing_ok=True)


def _document(connection: Connection, default_group: str) -> dict[str, Any]:
    enabled = {source.id: source for source in sources.list_all(connection) if source.enabled}
    severity = {category.key: category.severity for category in categories.list_all(connection)}
    return {
        "default_group": default_group,
        "groups": [
            {
                "name": group.name,
                "mode": group.mode,
                "addresses": group.addresses,
                "blocked": sorted(group.blocked, key=lambda key: severity[key]),
            }
            for group in groups.list_all(connection)
        ],
        "categories": [
            {"key": category.key, "kind": category.kind, "clause": category.clause}
            for category in categories.list_all(connection)
        ],
        "sources": [
            {
                "id": part.id,
                "key": enabled[part.source_id].key,
                "category": part.category or enabled[part.source_id].category,
            }
            for part in parts.list_all(connection)
            if part.source_id in enabled
        ],
        "networks": [{"cidr": n.cidr, "group": n.group} for n in networks.list_all(connection)],
        "exceptions": [
            {
                "id": exception.id,
                "domain": exception.domain,
                "action": exception.action,
                "match": exception.match,
                "groups": exception.groups,
                "clients": exception.clients,
                "expires_at": exception.expires_at,
            }
            for exception in exceptions.live(connection, now())
        ],
    }


def _index_of(document: Path) -> str:
    try:
        return str(json.loads(document.read_text())["index"])
    except (ValueError, KeyError, TypeError):  # damaged: nobody can use it
        return ""


def _replace(path: Path, data: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def _be_modest() -> None:
    os.nice(LOW_PRIORITY)
