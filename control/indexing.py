"""Indexing in the background: an index is compiled whenever the entries have changed, one at a time.

Knows nothing of workers: the index that it puts in force raises the policy version, which `watch` sees as any other
change.
"""

import asyncio
import logging
import time
from typing import Any

from control.errors import ControlError, PublishError
from control.publisher import Publisher
from storage.errors import DatabaseDownError

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 300.0
"""After a failure, and at most: each that follows doubles it."""


class Indexing:
    """Compiles, and remembers how it went."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._task: asyncio.Task[str] | None = None
        self._error = ""
        """Why the last attempt failed; empty: it did not."""
        self._pause = FIRST_PAUSE_SECONDS
        self._rests_until = 0.0
        self._stopping = False

    def keep_up(self) -> None:
        """Begin to compile, unless that goes on already or has just failed. Call it while the index is behind."""
        if time.monotonic() >= self._rests_until:
            self._begin()

    def settle(self) -> None:
        """Forget what failed before: the index is up with the entries."""
        if self._error:
            log.warning("the index is up with the lists again")
        self._error, self._pause = "", FIRST_PAUSE_SECONDS

    async def catch_up(self) -> None:
        """Wait until the index in force holds what was stored before the call. Raises `PublishError` with why not."""
        if self._task is not None:  # it may have begun before that was stored
            await asyncio.wait([self._task])
        error = await asyncio.shield(self._begin())
        if error:
            raise PublishError(error)

    async def stop(self) -> None:
        """Give up what goes on."""
        self._stopping = True
        self._publisher.stop()
        if self._task is not None:
            await asyncio.wait([self._task])

    def status(self) -> dict[str, Any]:
        """Return how it goes."""
        return {"compiling": self._task is not None, "error": self._error or None}

    def _begin(self) -> asyncio.Task[str]:
        if self._task is None:
            self._task = asyncio.create_task(self._compile())
        return self._task

    async def _compile(self) -> str:
        """Compile, where that is necessary; return why it failed."""
        try:
            await asyncio.to_thread(self._publisher.compile)
        except (ControlError, DatabaseDownError) as error:
            self._failed(str(error))
        except Exception as error:
            log.exception("the index could not be compiled")
            self._failed(f"the index could not be compiled: {type(error).__name__}: {error}")
        else:
            self.settle()
        finally:
            self._task = None
        return self._error

    def _failed(self, error: str) -> None:
        if not self._stopping:
            log.error("%s; it will be tried again in %g s", error, self._pause)
        self._error = error
        self._rests_until = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
