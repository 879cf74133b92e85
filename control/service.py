"""What the running service does when it is asked: publish, tell how it is, explain a name, search the log."""

import asyncio
import os
import time
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from admin_api.times import format_time
from control.errors import ControlError, NoIndexError
from control.explain import explain
from control.fleet import Fleet
from control.indexing import Indexing
from control.publisher import Published, Publisher
from control.shipping import Shipping
from policy.snapshot import Snapshot
from querylog.records import Record
from querylog.search import LogQuery
from querylog.store import LogStore
from resolver.local import LocalNames
from settings import Settings
from storage import sources
from storage.database import Database, now
from storage.errors import DatabaseDownError

DISTRIBUTION = "dns-hallmonitor"


class Service:
    """The parts that run, and what others may ask of them."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        publisher: Publisher,
        indexing: Indexing,
        store: LogStore,
        shipping: Shipping,
    ) -> None:
        self.settings = settings
        self.fleet: Fleet | None = None
        self.published: Published | None = None
        self._database = database
        self._publisher = publisher
        self._indexing = indexing
        self._store = store
        self._shipping = shipping
        self._snapshot: Snapshot | None = None
        self._publishing = asyncio.Lock()
        self._started = time.monotonic()

    async def publish(self, *, wait_for_index: bool = False) -> int:
        """Bring the configuration that is stored to every worker; return the policy version that is live then.

        Entries that are stored come with the index, which is compiled in the background: `wait_for_index` waits until
        those are in force too. Raises `ControlError`, `storage.errors.DatabaseDownError`.
        """
        if wait_for_index:
            await self._indexing.catch_up()
        try:
            return await self.publish_now()
        except NoIndexError:
            await self._indexing.catch_up()
            return await self.publish_now()

    async def publish_now(self) -> int:
        """Bring what is stored to every worker with the index that there is. Raises `NoIndexError` where none is."""
        async with self._publishing:
            published = await asyncio.to_thread(self._publisher.publish)
            group = self._publisher.default_group
            if published != self.published or self._snapshot is None or self._snapshot.default_group != group:
                self._snapshot = await asyncio.to_thread(self._publisher.snapshot)
            self.published = published
            if self.fleet is not None:
                await self.fleet.publish(published)
            return published.version

    async def lookup(self, name: str, client: str, qtype: str) -> dict[str, Any]:
        """Return the lookup object of the contract. Raises `ValueError` for bad input."""
        if self._snapshot is None:
            raise ControlError("no policy is loaded yet")
        local = LocalNames(self.settings.local.records, self.settings.upstream.zones)
        return explain(self._snapshot, local, name, client, qtype)

    async def search_log(self, query: LogQuery) -> tuple[list[Record], str | None]:
        """Return records, those of a moment ago included, and where the next page begins.

        Raises `querylog.errors.StoreDownError`, `querylog.errors.InvalidQueryError`.
        """
        await self.flush()
        page = await asyncio.to_thread(self._store.search, query)
        return page.records, page.cursor

    async def flush(self) -> None:
        """Ship everything that workers have written so far. Raises `querylog.errors.StoreDownError`."""
        await asyncio.to_thread(self._shipping.flush)

    async def status(self) -> dict[str, Any]:
        """Return how the service is."""
        workers = self.fleet.status() if self.fleet else []
        return {
            "serving": True,
            "node": self.settings.server.node,
            "version": version(DISTRIBUTION),
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "listen": [str(endpoint) for endpoint in self.settings.server.listen],
            "policy_version": self.published.version if self.published else 0,
            "workers": workers,
            "worker_restarts": self.fleet.restarts if self.fleet else 0,
            "upstreams": self.fleet.upstreams() if self.fleet else [],
            "index": index_status(self.published, self._snapshot) | self._indexing.status(),
            "lists": await asyncio.to_thread(lists_status, self._database),
            "journal": self._shipping.status() | {"unlogged": sum(worker["unlogged"] for worker in workers)},
        }


def index_status(published: Published | None, snapshot: Snapshot | None) -> dict[str, Any]:
    """Return which index is in force, and how large it is."""
    octets = 0
    if published is not None:
        with suppress(OSError):
            octets = published.index.stat().st_size
    return {
        "entries_version": published.entries_version if published else 0,
        "names": snapshot.index.names if snapshot else 0,
        "octets": octets,
    }


def lists_status(database: Database) -> dict[str, Any]:
    """Return how the lists are, or that the database can't tell."""
    try:
        with database.reading() as connection:
            enabled = [source for source in sources.list_all(connection) if source.enabled]
    except DatabaseDownError as error:
        return {
            "database": str(error),
            "sources": None,
            "rules": None,
            "failing": [],
            "stale": [],
            "by_source": [],
        }
    at = now()
    by_source = [
        {
            "source": source.key,
            "rules": source.rules,
            "last_success_at": None if source.last_success_at is None else format_time(source.last_success_at),
            "stale": source.is_stale(at),
        }
        for source in enabled
    ]
    return {
        "database": "ok",
        "sources": len(enabled),
        "rules": sum(source.rules for source in enabled),
        "failing": [{"source": source.key, "error": source.last_error} for source in enabled if source.last_error],
        "stale": [source["source"] for source in by_source if source["stale"]],
        "by_source": by_source,
    }
