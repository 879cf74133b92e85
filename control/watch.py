"""What goes on while the service runs: stuck workers replaced, changes published, the index kept up, lists refreshed.

Each is a loop that outlives whatever goes wrong in it. Changes are seen in the database, whoever made them.
"""

import asyncio
import logging

from blocklists.refresh import Terms, refresh
from control.errors import ControlError, NoIndexError
from control.indexing import Indexing
from control.publisher import Publisher
from control.service import Service
from control.state import StateDirectory
from storage import sources
from storage.database import Database, PolicyState, now
from storage.errors import DatabaseDownError

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.25
PUBLISH_RETRY_SECONDS = 1.0
REFRESH_CHECK_SECONDS = 30.0
ACTOR = "schedule"


class Watch:
    """The loops."""

    def __init__(
        self, service: Service, database: Database, publisher: Publisher, indexing: Indexing, state: StateDirectory
    ) -> None:
        self._service = service
        self._database = database
        self._publisher = publisher
        self._indexing = indexing
        self._state = state
        self._said = ""
        """What is wrong, once it has been logged."""

    # Lists.

    async def refresh_due(self) -> None:
        """Refresh each source when its interval has passed."""
        while True:
            try:
                with self._state.locked("refresh", wait=False):
                    await self._refresh_due()
            except BlockingIOError:
                pass  # a command refreshes just now
            except DatabaseDownError:
                pass  # said by `follow_database`
            except Exception:
                log.exception("refreshing failed; it will be tried again")
            await asyncio.sleep(REFRESH_CHECK_SECONDS)

    async def _refresh_due(self) -> None:
        def due() -> list[sources.Source]:
            with self._database.reading() as connection:
                found = sources.due(connection, now())
            return [source for source in found if sources.claim(self._database, source, now())]

        settings = self._service.settings
        outcomes = await refresh(
            self._database,
            await asyncio.to_thread(due),
            Terms.of(settings),
            actor=ACTOR,
        )
        for outcome in outcomes:
            if outcome.error:
                log.warning("%s was not refreshed, its last good version stays: %s", outcome.source, outcome.error)
            else:
                log.info("%s: %d added, %d removed", outcome.source, outcome.added, outcome.removed)

    # Workers.

    async def replace_silent(self) -> None:
        """Replace workers that are stuck."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._service.fleet is not None:
                self._service.fleet.replace_silent()

    # Policy.

    async def follow_database(self) -> None:
        """Publish what changed, and keep the index up with the entries."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self._follow()
            except DatabaseDownError as error:
                self._say(f"{error}; answers go on by the last policy")
            except ControlError as error:
                self._say(f"a policy could not be published, it will be tried again: {error}")
                await asyncio.sleep(PUBLISH_RETRY_SECONDS)
            except Exception:
                log.exception("a policy could not be published; it will be tried again")
                await asyncio.sleep(PUBLISH_RETRY_SECONDS)
            else:
                self._say("")

    async def _follow(self) -> None:
        state, intact = await asyncio.to_thread(self._look)
        published = self._service.published
        if published is None or published.version != state.policy_version or not intact:
            try:
                await self._service.publish_now()
            except NoIndexError:
                self._indexing.keep_up()
                return
        published = self._service.published
        if published is not None and published.entries_version != state.entries_version:
            self._indexing.keep_up()
        elif published is not None:
            self._indexing.settle()

    def _look(self) -> tuple[PolicyState, bool]:
        return self._database.state(), self._publisher.is_intact()

    def _say(self, wrong: str) -> None:
        """Log what is wrong, or that nothing is any more; once."""
        if wrong and wrong != self._said:
            log.error("%s", wrong)
        if self._said and not wrong:
            log.warning("the database answers, and what it holds is published")
        self._said = wrong
