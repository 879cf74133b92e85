"""The supervisor's life: what starts in which order, what goes on meanwhile, and how it all ends.

The one place that wires the parts together. Workers answer by the last policy on disk while the database is down, so a
database keeps nobody from resolving.
"""

import asyncio
import fcntl
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from aiohttp import web

from admin_api import app as admin
from control import first_start, listening
from control.channel import ControlSocket
from control.errors import ControlError, ListenError
from control.fleet import Fleet
from control.indexing import Indexing
from control.publisher import Published, Publisher
from control.service import Service
from control.shipping import Shipping
from control.state import StateDirectory
from control.watch import Watch
from querylog.shipper import Shipper
from querylog.store import open_store
from resolver.supervised import ROLE_LOCK, TAKEOVER
from settings import Settings, SettingsError
from storage.database import Database
from storage.errors import DatabaseDownError

log = logging.getLogger(__name__)

DATABASE_RETRY_SECONDS = 1.0
HANDOVER_SECONDS = 8.0
CANCEL_SECONDS = 0.5

Announce = Callable[[Settings, str], None]
"""Told that the service serves, under which settings, and with which new admin token (empty: none is new)."""


class Supervisor:
    """One node's service."""

    def __init__(self, settings: Settings, reload: Callable[[], Settings]) -> None:
        """Take the settings, and how to read them again. Opens nothing yet."""
        self._settings = settings
        self._reload = reload
        self._state = StateDirectory(settings.state.directory)
        self._database = Database(settings.database_url)
        self._publisher = Publisher(
            self._database, settings.database_url, self._state.policy, settings.filter.default_group
        )
        store = open_store(settings)
        self._shipper = Shipper(self._state.journal, store, settings.server.node)
        self._shipping = Shipping(self._shipper, store, settings.querylog.retention_days)
        self._indexing = Indexing(self._publisher)
        self._service = Service(settings, self._database, self._publisher, self._indexing, store, self._shipping)
        self._watch = Watch(self._service, self._database, self._publisher, self._indexing, self._state)
        self._store = store
        self._stopping = asyncio.Event()
        self._hung_up = asyncio.Event()
        """Set by SIGHUP: the configuration is to be read again."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """What ends the parts that have started, the latest last."""

    async def run(self, announce: Announce) -> None:
        """Serve until SIGTERM or SIGINT. Raises `ControlError` when it can't start."""
        self._state.create()
        with self._state.serving():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stopping.set)
            loop.add_signal_handler(signal.SIGHUP, self._hung_up.set)
            try:
                if await self._start(announce):
                    await self._stopping.wait()
            finally:
                await self._end()

    async def _start(self, announce: Announce) -> bool:
        """Start everything; False when it was told to stop before it was done."""
        listening.try_to_bind("admin.listen", self._settings.admin.listen, socket.SOCK_STREAM)
        if self._nobody_serves():
            listening.check(self._settings.server)
        last = self._publisher.last()
        if last is not None and not await asyncio.to_thread(self._database_answers):
            await self._start_workers(last)
        if not await self._wait_for_database():
            return False
        await self._first_start()
        self._ends.append(self._indexing.stop)
        if not await self._first_publish():
            return False
        self._start_shipping()
        if self._service.fleet is None:
            assert self._service.published is not None
            await self._start_workers(self._service.published)
        await self._start_api()
        await self._start_channel()
        self._keep(self._watch.replace_silent())
        self._keep(self._watch.follow_database())
        self._keep(self._watch.refresh_due())
        self._keep(self._reload_when_told())
        announce(self._settings, await asyncio.to_thread(first_start.first_token, self._database))
        return True

    # Starting, part by part.

    def _nobody_serves(self) -> bool:
        """Tell whether no worker of an earlier supervisor is left."""
        with (self._state.run / ROLE_LOCK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def _database_answers(self) -> bool:
        try:
            self._database.ping()
        except DatabaseDownError:
            return False
        return True

    async def _wait_for_database(self) -> bool:
        """Wait until the database answers and has its schema; False when told to stop meanwhile."""
        said = ""
        while not self._stopping.is_set():
            try:
                await asyncio.to_thread(self._database.migrate)
            except DatabaseDownError as error:
                if str(error) != said:
                    log.warning("waiting for the database: %s", error)
                    said = str(error)
                await self._rest(DATABASE_RETRY_SECONDS)
            else:
                if said:
                    log.warning("the database answers")
                return True
        return False

    async def _first_start(self) -> None:
        if await asyncio.to_thread(first_start.is_due, self._database):
            self._publisher.forget()  # a policy on disk would be another database's
            await asyncio.to_thread(first_start.prepare, self._database)

    async def _first_publish(self) -> bool:
        """Publish what is stored, which takes long where there is no index; False when told to stop meanwhile."""
        publishing = asyncio.create_task(self._service.publish())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({publishing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not publishing.done():
            publishing.cancel()
            return False
        publishing.result()
        return True

    async def _start_workers(self, published: Published) -> None:
        """Start the workers, once those of an earlier supervisor have left."""
        (self._state.run / TAKEOVER).write_text(f"{time.time_ns()}\n")
        until = time.monotonic() + HANDOVER_SECONDS
        while not self._nobody_serves():
            if time.monotonic() > until:
                raise ControlError("workers of an earlier run still serve and do not leave")
            await asyncio.sleep(0.01)
        listening.check(self._settings.server)
        listening.warn(self._settings.server)
        fleet = Fleet(self._settings, published)
        self._ends.append(fleet.stop)
        await fleet.start()
        self._service.fleet = fleet

    def _start_shipping(self) -> None:
        self._shipping.start()

        async def end() -> None:
            await asyncio.to_thread(self._shipping.stop)

        # Shipping ends after the workers, whose last records it brings to the store.
        self._ends.insert(0, end)

    async def _start_api(self) -> None:
        runner = web.AppRunner(
            admin.build(self._database, self._service, self._settings), access_log=None, handle_signals=False
        )
        await runner.setup()
        self._ends.append(runner.cleanup)
        endpoint = self._settings.admin.listen
        try:
            await web.TCPSite(runner, endpoint.host, endpoint.port).start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ListenError(f"admin.listen: {endpoint} can't be used: {reason}") from error

    async def _start_channel(self) -> None:
        async def publish() -> dict[str, Any]:
            return {"policy_version": await self._service.publish()}

        async def publish_entries() -> dict[str, Any]:
            return {"policy_version": await self._service.publish(wait_for_index=True)}

        async def flush() -> dict[str, Any]:
            await self._service.flush()
            return {"flushed": True}

        handlers = {
            "publish": publish,
            "publish_entries": publish_entries,
            "flush": flush,
            "status": self._service.status,
        }
        channel = ControlSocket(self._state.control_socket, handlers)
        await channel.start()
        self._ends.append(channel.close)

    # While it serves.

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _rest(self, seconds: float) -> None:
        """Wait, but no longer than until the service stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _reload_when_told(self) -> None:
        """Read the configuration again after each SIGHUP, one after the other."""
        while True:
            await self._hung_up.wait()
            self._hung_up.clear()
            await self._reload_settings()

    async def _reload_settings(self) -> None:
        """Take the configuration file as it is now; one that is wrong changes nothing."""
        try:
            settings = await asyncio.to_thread(self._reload)
            old = self._settings
            if (settings.state, settings.database, settings.admin) != (old.state, old.database, old.admin):
                log.warning("state, database and admin settings take effect at the next start")
            listening.check(settings.server, old.server)
            listening.warn(settings.server)
            await self._take(settings)
        except SettingsError as error:
            for problem in error.problems:
                log.error("the configuration was not taken: %s", problem)  # noqa: TRY400 - the operator's, not a bug
        except (ControlError, DatabaseDownError) as error:
            log.error("the configuration was not taken: %s", error)  # noqa: TRY400 - the operator's, not a bug
        except Exception:
            log.exception("the configuration was not taken")
        else:
            log.info("the configuration was read again")

    async def _take(self, settings: Settings) -> None:
        """Bring settings into force, first what can be found wrong before a worker is replaced."""
        assert self._service.fleet is not None
        before = self._publisher.default_group
        self._publisher.default_group = settings.filter.default_group
        try:
            await self._service.publish()
            await self._service.fleet.replace_all(settings)
        except Exception:
            self._publisher.default_group = before
            await self._service.publish()
            raise
        self._settings = self._service.settings = settings

    async def _end(self) -> None:
        """End what has started, the latest first."""
        while self._tasks:
            # Again, should one be lost: asyncio.wait_for may swallow a cancellation that comes as its wait ends.
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=CANCEL_SECONDS)
        while self._ends:
            try:
                await self._ends.pop()()
            except Exception:
                log.exception("a part did not end as it should")
        self._store.close()
        self._database.close()


def serve(settings: Settings, reload: Callable[[], Settings], announce: Announce) -> None:
    """Run the service. Raises `ControlError` when it can't start."""

    async def main() -> None:
        await Supervisor(settings, reload).run(announce)

    asyncio.run(main())
