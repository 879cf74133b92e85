"""Publishing: what the database holds becomes a document and an index on disk, for workers to map.

`current` names the document in force, and that its index: whole files, each written under another name and renamed,
which stay as they are for as long as anyone may read them. A policy version stands for one document: where another
index or another default group comes into force, the version rises for it.

Changes of configuration are published at once, with the index in force. An index is compiled beside that, by one
process at a time, in a directory that is nobody else's.
"""

import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from control import document as documents
from control.compiling import Compiler
from control.errors import NoIndexError, PublishError
from control.state import locked
from policy import snapshot as snapshots
from policy.index import CorruptIndexError, Index
from policy.snapshot import Snapshot
from storage.database import Database, read_state

log = logging.getLogger(__name__)

ACTOR = "publisher"
KEPT_DOCUMENTS = 3
KEPT_SECONDS = 10.0
"""For how long a document stays at least: a worker may have been told to start by it."""
LOOK_SECONDS = 0.1
CURRENT, LOCK = "current", "lock"
WORKPLACE, WORKPLACE_LOCK = "compiling", "compiling.lock"


@dataclass(frozen=True)
class Published:
    """A policy on disk, and what tells whether it is still the right one."""

    version: int
    path: Path
    index: Path
    entries_version: int
    """Which entries the index holds."""
    database: str
    default_group: str


class Publisher:
    """Keeps the policy directory in step with the database."""

    def __init__(self, database: Database, database_url: str, directory: Path, default_group: str) -> None:
        self._database = database
        self._directory = directory
        self._compiler = Compiler(database, database_url)
        self.default_group = default_group
        self._seen: tuple[Published, object] | None = None
        """What was in force here at last, and the marks of its files."""
        self._known: dict[object, Published] = {}
        """Documents by the marks of their files: reading thousands of exceptions takes its time."""
        self._opened: Index | None = None
        """The index that was read whole at last."""
        self._damage = ""
        """What was said last of an index that is damaged."""

    def publish(self) -> Published:
        """Bring the document in force to what the database holds now; does nothing where it is so already.

        The index stays. Raises `NoIndexError` where there is none yet, `PublishError`, `DatabaseDownError`.
        """
        with self._turn():
            found = self._in_force()
            if not self._is_current(found) or found.default_group != self.default_group:
                return self._put_in_force(found.index, found.entries_version)
            with self._database.reading() as connection:
                version = read_state(connection).policy_version
                if version == found.version:
                    return self._remember(found)
                document = self._document(connection, version, found.index, found.entries_version)
            return self._name(document, self._write(document))

    def compile(self) -> None:
        """Put an index in force of what is stored now; does nothing where the one in force is such.

        Takes from moments to minutes, and no one else's time. Raises `PublishError`, `DatabaseDownError`.
        """
        with self._workplace() as place:
            if self._is_compiled():
                return
            entries_version = self._compiler.compile(place)
            if not self._is_whole(place):
                raise PublishError("the index could not be compiled: what was written can't be read")
            index = self._directory / f"index-{entries_version}-{secrets.token_hex(4)}"
            with self._turn():
                place.rename(index)
                self._put_in_force(index, entries_version)

    def stop(self) -> None:
        """Give up what is being compiled, and begin nothing any more."""
        self._compiler.stop()

    def last(self) -> Published | None:
        """Return the last policy on disk that can be read, whichever database it came from; None: there is none."""
        return next((found for found in self._documents() if self._is_whole(found.index)), None)

    def snapshot(self) -> Snapshot:
        """Return the policy on disk. Raises `PublishError` when there is none."""
        try:
            document = json.loads((self._directory / CURRENT).read_text())
            return snapshots.from_document(document, self._open(self._directory / document["index"]))
        except (OSError, ValueError, KeyError, TypeError, CorruptIndexError) as error:
            raise PublishError(f"there is no policy on disk yet: {error}") from error

    def is_intact(self) -> bool:
        """Tell whether the files in force are those that were published last. Costs next to nothing."""
        seen = self._seen
        return seen is not None and self._marks(seen[0]) == seen[1]

    def forget(self) -> None:
        """Take nothing over from what is on disk: it came from another database.

        The files stay until the next policy is there, for workers that may be started meanwhile.
        """
        (self._directory / CURRENT).unlink(missing_ok=True)
        self._seen = None

    # One at a time.

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other processes from publishing here: each would remove what the other is about to name."""
        try:
            with locked(self._directory / LOCK):
                yield
        except OSError as error:
            raise PublishError(f"the policy can't be written: {error.strerror or error}") from error

    @contextmanager
    def _workplace(self) -> Iterator[Path]:
        """Keep other processes from compiling here; give the path to compile to, with nothing beside it."""
        place = self._directory / WORKPLACE
        with ExitStack() as held:
            try:
                while not _taken(held, self._directory / WORKPLACE_LOCK):
                    if self._compiler.stopped.wait(LOOK_SECONDS):
                        raise PublishError("the index is not compiled: the service stops")
                shutil.rmtree(place, ignore_errors=True)  # what a killed process left
                place.mkdir(exist_ok=True)
            except OSError as error:
                raise PublishError(f"the index can't be written: {error.strerror or error}") from error
            try:
                yield place / "index"
            finally:
                shutil.rmtree(place, ignore_errors=True)

    # What is there.

    def _in_force(self) -> Published:
        """Return the policy in force, or the last whole one where that is damaged. Raises `NoIndexError`."""
        seen = self._seen
        if seen is not None and self.is_intact():
            return seen[0]
        for found in (*self._documents(), *([seen[0]] if seen else [])):
            if found.database == self._database.name and self._is_whole(found.index):
                return found
        raise NoIndexError("there is no index on disk yet")

    def _is_compiled(self) -> bool:
        try:
            return self._in_force().entries_version == self._database.state().entries_version
        except NoIndexError:
            return False

    def _documents(self) -> Iterator[Published]:
        """Yield the documents that can be read: the one in force first, then earlier ones. None where none is."""
        current = self._directory / CURRENT
        if not os.path.lexists(current):
            return
        first = Path(os.path.realpath(current))
        for path in (first, *sorted(self._directory.glob("policy-*.json"), key=_written_at, reverse=True)):
            found = self._read(path)
            if found is not None:
                yield found

    def _read(self, path: Path) -> Published | None:
        try:
            mark = _mark(path)
            if mark not in self._known:
                self._known[mark] = self._told_by(json.loads(path.read_text()), path)
            return self._known[mark]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def _told_by(self, document: dict[str, Any], path: Path) -> Published:
        index = self._directory / document["index"]
        told = (document[key] for key in ("entries_version", "database", "default_group"))
        return Published(document["version"], path, index, *told)

    def _is_whole(self, index: Path) -> bool:
        try:
            self._open(index)
        except (CorruptIndexError, OSError) as error:
            damage = f"the index on disk can't be used ({error}): it will be compiled again"
            if damage != self._damage:  # until that is done it is looked at several times a second
                log.warning("%s", damage)
            self._damage = damage
            return False
        return True

    def _open(self, path: Path) -> Index:
        """Return an index, which is read whole when it is first opened. Raises `CorruptIndexError`, `OSError`."""
        opened = self._opened
        if opened is None or not opened.is_of(path):
            self._opened = opened = Index.open(path)
        return opened

    def _is_current(self, found: Published) -> bool:
        """Tell whether a document is the one that `current` names, and can be read."""
        current = os.path.realpath(self._directory / CURRENT)
        return current == os.path.realpath(found.path) and self._read(found.path) == found

    def _marks(self, published: Published) -> object:
        """Return what changes with the files that are in force. Equals nothing where one is not there."""
        try:
            return os.path.realpath(self._directory / CURRENT), _mark(published.path), _mark(published.index)
        except OSError:
            return object()

    def _remember(self, published: Published) -> Published:
        self._seen = published, self._marks(published)
        return published

    # What is written.

    def _put_in_force(self, index: Path, entries_version: int) -> Published:
        """Publish under a version of its own."""
        with self._database.change(ACTOR) as change:
            change.policy_changed()
            document = self._document(change.connection, change.policy_version, index, entries_version)
            unfinished = self._write(document)
        return self._name(document, unfinished)

    def _document(self, connection: Connection, version: int, index: Path, entries_version: int) -> dict[str, Any]:
        document = documents.build(connection, self.default_group)
        if self.default_group not in {group["name"] for group in document["groups"]}:
            raise PublishError(f"filter.default_group: there is no group {self.default_group!r}")
        told = {"version": version, "index": index.name, "entries_version": entries_version}
        return told | document | {"database": self._database.name}

    def _write(self, document: dict[str, Any]) -> Path:
        unfinished = self._directory / f".policy-{os.getpid()}"
        with unfinished.open("w") as file:
            file.write(json.dumps(document))
            file.flush()
            os.fsync(file.fileno())
        return unfinished

    def _name(self, document: dict[str, Any], unfinished: Path) -> Published:
        """Put a document that is written in force."""
        path = self._directory / f"policy-{document['version']}.json"
        unfinished.rename(path)
        link = self._directory / f".current-{os.getpid()}"
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
        link.rename(self._directory / CURRENT)
        published = self._known[_mark(path)] = self._told_by(document, path)
        self._tidy(path)
        self._damage = ""
        return self._remember(published)

    def _tidy(self, written: Path) -> None:
        """Remove what is neither in force nor was shortly before, and what a killed process left unfinished."""
        # The one in force is not told by its time: clocks are set back.
        others = sorted({*self._directory.glob("policy-*.json")} - {written}, key=_written_at)
        old = [path for path in others[: 1 - KEPT_DOCUMENTS] if not 0 <= time.time() - _written_at(path) < KEPT_SECONDS]
        kept = {path: found for path in {written, *others} - set(old) if (found := self._read(path))}
        self._known = {_mark(path): found for path, found in kept.items()}
        indexes = {*self._directory.glob("index-*")} - {found.index for found in kept.values()}
        for path in (*old, *indexes, *self._directory.glob(".*")):
            path.unlink(missing_ok=True)


def _mark(path: Path) -> tuple[Path, int, int, int]:
    """Return what tells a file from another, and from what it was."""
    found = path.stat()
    return path, found.st_ino, found.st_size, found.st_mtime_ns


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it is gone
        return 0.0


def _taken(held: ExitStack, lock: Path) -> bool:
    try:
        held.enter_context(locked(lock, wait=False))
    except BlockingIOError:
        return False
    return True
