"""What the admin API asks of the service that it is part of."""

from typing import Any, Protocol

from querylog.records import Record
from querylog.search import LogQuery


class ControlError(Exception):
    """The service can't do it just now. The message is a sentence for the administrator."""


class Control(Protocol):
    """The running service."""

    async def publish(self, *, wait_for_index: bool = False) -> int:
        """Bring what is stored into force; return the policy version that every local worker has by then.

        What lists hold comes into force with the index, which is compiled in the background: `wait_for_index` waits
        for that too. Raises `ControlError` when a worker didn't take it in time.
        """

    async def status(self) -> dict[str, Any]:
        """Return how the service is: what `hallmonitor status --json` prints."""

    async def lookup(self, name: str, client: str, qtype: str) -> dict[str, Any]:
        """Return what a client would get for a name, and why. Raises `ValueError` for bad input, `ControlError`."""

    async def search_log(self, query: LogQuery) -> tuple[list[Record], str | None]:
        """Return records, newest first, and where the next page begins.

        Raises `querylog.errors.StoreDownError`, `querylog.errors.InvalidQueryError`.
        """
