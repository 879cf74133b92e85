"""A command's hold on the state: the database, the policy and the log, with or without a running service.

What a command changes is in force in a running service when the command ends: it asks the service to publish. Without
one it publishes itself, so that the next start and `lookup` see it.
"""

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

from control import first_start
from control.channel import ANSWER_SECONDS, ask
from control.compiling import COMPILE_SECONDS
from control.errors import ControlError, NoIndexError
from control.publisher import Publisher
from control.service import index_status, lists_status
from control.state import StateDirectory
from policy.snapshot import Snapshot
from querylog.journal import segments
from querylog.shipper import Shipper
from querylog.store import LogStore, open_store
from settings import Settings
from storage.database import Change, Database
from storage.errors import DatabaseDownError

LONGEST_WAIT_SECONDS = ANSWER_SECONDS + 2 * COMPILE_SECONDS
"""One index may be in work already when another is asked for."""


class Session:
    """One command's use of the state; close it."""

    def __init__(self, settings: Settings, tell: Callable[[str], None]) -> None:
        """Open the state directory, made anew where there is none. `tell` is given what the operator must know.

        Raises `control.errors.StateError`.
        """
        self.settings = settings
        self.state = StateDirectory(settings.state.directory)
        self.state.create()
        self._database = Database(settings.database_url)
        self._publisher = Publisher(
            self._database, settings.database_url, self.state.policy, settings.filter.default_group
        )
        self._store: LogStore | None = None
        self._tell = tell
        with suppress(DatabaseDownError):  # what the running service or the disk can tell needs no database
            self.database.ping()

    @cached_property
    def database(self) -> Database:
        """Return the database, brought up to date, and filled where it is new.

        Raises `storage.errors.DatabaseDownError`.
        """
        self._database.migrate()
        if first_start.is_due(self._database):
            self._publisher.forget()
            first_start.prepare(self._database)
            secret = first_start.first_token(self._database)
            if secret:
                self._tell(f"A new database was set up. Its admin token, shown this once: {secret}")
        return self._database

    @property
    def actor(self) -> str:
        """Return who makes the changes, for the audit."""
        try:
            return f"cli:{getpass.getuser()}"
        except (KeyError, OSError):
            return f"cli:{os.getuid()}"

    @contextmanager
    def change(self) -> Iterator[Change]:
        """Make one change, and bring it into force when it is done."""
        with self.database.change(self.actor) as change:
            yield change
        self.publish()

    def publish(self, *, wait_for_index: bool = False) -> int:
        """Bring the configuration that is stored into force; return its policy version.

        Entries that were stored are in force only when the index holds them: `wait_for_index` waits for that, and
        without a running service compiles it. Raises `control.errors.ControlError`, `DatabaseDownError`.
        """
        request, seconds = ("publish_entries", LONGEST_WAIT_SECONDS) if wait_for_index else ("publish", ANSWER_SECONDS)
        answer = ask(self.state.control_socket, request, seconds)
        if answer:
            return int(answer["policy_version"])
        if wait_for_index:
            self._publisher.compile()
        try:
            return self._publisher.publish().version
        except NoIndexError:
            self._publisher.compile()
            return self._publisher.publish().version

    def snapshot(self) -> Snapshot:
        """Return the policy in force: the last one, where nothing newer can be published.

        Raises `control.errors.ControlError`, `storage.errors.DatabaseDownError` where there is none.
        """
        try:
            self.publish()
        except (ControlError, DatabaseDownError) as error:
            if self._publisher.last() is None:
                raise
            self._tell(f"hallmonitor: {error}; told by the last policy")
        return self._publisher.snapshot()

    @property
    def log(self) -> LogStore:
        """Return the log's store."""
        if self._store is None:
            self._store = open_store(self.settings)
        return self._store

    def flush_log(self) -> None:
        """Bring what workers have written so far to the store. Raises `querylog.errors.StoreDownError`."""
        if ask(self.state.control_socket, "flush") is None and not self.state.is_served():
            with Shipper(self.state.journal, self.log, self.settings.server.node) as shipper:
                while shipper.ship_once().rows:
                    pass

    def status(self) -> dict[str, Any]:
        """Return how the service is, or how things are without it."""
        answer = ask(self.state.control_socket, "status")
        if answer is not None:
            return answer
        serves = self.state.is_served()
        if serves:
            path = self.state.control_socket
            self._tell(
                f"hallmonitor: the service can't be asked: nobody listens at {path}; it starts, ends, or lost that"
            )
        waiting = segments(self.state.journal)
        return {
            "serving": serves,
            "node": self.settings.server.node,
            "policy_version": self.database.state().policy_version,
            "workers": [],
            "index": self._index_status(),
            "lists": lists_status(self.database),
            "journal": {
                "backlog_bytes": sum(path.stat().st_size for path in waiting),
                "segments": len(waiting),
            },
        }

    def _index_status(self) -> dict[str, Any]:
        last = self._publisher.last()
        found = index_status(last, self._publisher.snapshot() if last else None)
        return found | {"compiling": False, "error": None}

    def close(self) -> None:
        """Let go of everything."""
        if self._store is not None:
            self._store.close()
        self._database.close()
