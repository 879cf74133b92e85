"""Shipping in the background: a thread of low priority that brings journals to the store."""

import logging
import os
import threading
import time
from typing import Any

from querylog.errors import StoreDownError
from querylog.shipper import Shipper, ShipReport
from querylog.store import LogStore

log = logging.getLogger(__name__)

REST_SECONDS = 0.25
RETRY_SECONDS = 1.0
RETENTION_SECONDS = 3600.0
LOW_PRIORITY = 10


class Shipping:
    """Ships until it is stopped; whoever must see every record written so far calls `flush`."""

    def __init__(self, shipper: Shipper, store: LogStore, retention_days: int) -> None:
        self.rows = 0
        """Rows shipped since the start."""
        self.down: str = ""
        """Why the store can't be written; empty: it can."""
        self._shipper = shipper
        self._store = store
        self._retention_days = retention_days
        self._report: ShipReport | None = None
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        # On Linux a thread has a priority of its own: answers come first.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
        next_retention = 0.0
        while not self._ended.is_set():
            rest = REST_SECONDS
            try:
                with self._turn:
                    if self._ship():
                        rest = 0.0
                if time.monotonic() >= next_retention:
                    next_retention = time.monotonic() + RETENTION_SECONDS
                    self._store.drop_older_than(self._retention_days)
            except StoreDownError:
                rest = RETRY_SECONDS
            except Exception:
                log.exception("shipping failed; it will be tried again")
                rest = RETRY_SECONDS
            self._ended.wait(rest)

    def _ship(self) -> int:
        try:
            self._report = self._shipper.ship_once()
        except StoreDownError as error:
            if not self.down:
                log.error("the log can't be stored (%s): journals wait", error)  # noqa: TRY400 - a state, not a bug
            self.down = str(error)
            raise
        if self.down:
            log.warning("the log can be stored again")
            self.down = ""
        self.rows += self._report.rows
        return self._report.rows

    def flush(self) -> None:
        """Ship everything that was journaled before the call. Raises `querylog.errors.StoreDownError`."""
        with self._turn:
            while self._ship():
                pass

    def stop(self) -> None:
        """Ship what is left and end; what can't be shipped stays in the journal."""
        self._ended.set()
        self._thread.join()
        try:
            self.flush()
        except StoreDownError as error:
            log.warning("the journal keeps what could not be stored: %s", error)
        finally:
            self._shipper.close()  # whoever ships next need not wait for this process's end

    def status(self) -> dict[str, Any]:
        """Return how shipping is doing."""
        report = self._report
        return {
            "backlog_bytes": report.backlog_bytes if report else 0,
            "segments": report.segments if report else 0,
            "shipped_rows": self.rows,
            "store": self.down or "ok",
        }
