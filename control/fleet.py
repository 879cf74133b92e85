"""The workers: started, watched, replaced, told of each policy, stopped."""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from control.errors import PublishError
from control.publisher import Published
from resolver.supervised import DRAIN_SECONDS, LONGEST_LINE
from settings import Settings

log = logging.getLogger(__name__)

PUBLISH_SECONDS = 5.0
START_SECONDS = 20.0
STOP_SECONDS = DRAIN_SECONDS + 5.0
"""Time for the lookups in flight, and then for clients that read slowly and for the disk."""
PAUSE_SECONDS = 1.0
SILENCE_SECONDS = 6.0


class WorkerHandle:
    """One worker process, seen from the supervisor."""

    def __init__(self, number: int, settings: Settings) -> None:
        """Start the process. Raises `OSError` when it can't be."""
        self.number = number
        self.settings = settings
        self.started = time.monotonic()
        self.serving = asyncio.Event()
        self.policy_version = 0
        self.stopping = False
        self.beat: dict[str, Any] = {}
        self.last_heard = self.started
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [sys.executable, "-m", "resolver", str(number), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
        except OSError:
            ours.close()
            raise
        ours.setblocking(False)
        self._socket = ours
        self._writer: asyncio.StreamWriter | None = None

    def __repr__(self) -> str:
        return f"<WorkerHandle {self.number} pid={self.process.pid} policy={self.policy_version}>"

    async def follow(self, published: Published, heard: Callable[[str], None]) -> None:
        """Start the worker's service and follow what it says, until its channel closes; `heard` is told each event."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=LONGEST_LINE)
        base = str(self.settings.base)
        start = {"settings": self.settings.document, "base": base, "policy": str(published.path)}
        self._writer.write(json.dumps(start).encode() + b"\n")
        try:
            while (line := await reader.readline()).endswith(b"\n"):  # else it was killed, in the midst of one perhaps
                heard(self._hear(json.loads(line)))
        except OSError:
            pass  # killed: the channel is reset
        except Exception:  # it serves on for a while without us, and then another takes its place
            log.exception("what worker %d (pid %d) says can't be read: it is let go", self.number, self.process.pid)
        finally:
            self._writer.close()
        await asyncio.to_thread(self.process.wait)

    def _hear(self, message: dict[str, Any]) -> str:
        self.last_heard = time.monotonic()
        self.policy_version = message["policy"]
        event: str = message["event"]
        if event == "serving":
            self.serving.set()
        elif event == "beat":
            self.beat = message
        return event

    def say(self, **message: object) -> None:
        """Tell the worker something; one that is gone hears nothing."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    def status(self) -> dict[str, Any]:
        """Return what is known of the worker."""
        return {
            "number": self.number,
            "pid": self.process.pid,
            "state": self._state(),
            "policy_version": self.policy_version,
            "uptime_seconds": round(time.monotonic() - self.started, 1),
            "lookups": self.beat.get("lookups", 0),
            "cached_answers": self.beat.get("cached", 0),
            "in_flight": self.beat.get("in_flight", 0),
            "unlogged": self.beat.get("unlogged", 0),
            "turned_away": self.beat.get("turned_away", 0),
        }

    def _state(self) -> str:
        if self.process.returncode is not None:
            return "ended"
        if self.stopping:
            return "stopping"
        return "serving" if self.serving.is_set() else "starting"


class Fleet:
    """All workers of this node."""

    def __init__(self, settings: Settings, published: Published) -> None:
        self._settings = settings
        self._published = published
        self._workers: dict[int, WorkerHandle] = {}
        self._tasks: dict[WorkerHandle, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        self._looked = 0.0
        self.restarts = 0

    async def start(self) -> None:
        """Start every worker and wait until all serve. Raises `PublishError` when one does not, or `OSError`."""
        for number in range(_count(self._settings)):
            self._workers[number] = self._spawn(number, self._settings)
        await self._until(lambda: all(w.serving.is_set() for w in self._workers.values()), START_SECONDS, "serve")

    def _spawn(self, number: int, settings: Settings) -> WorkerHandle:
        worker = WorkerHandle(number, settings)
        self._tasks[worker] = asyncio.create_task(self._watch(worker))
        return worker

    async def _watch(self, worker: WorkerHandle) -> None:
        """Follow a worker to its end; unless that was wanted, another takes its place."""
        try:
            await worker.follow(self._published, self._heard(worker))
        finally:
            del self._tasks[worker]
            self._changed.set()
        log.log(
            logging.INFO if worker.stopping else logging.ERROR,
            "worker %d (pid %d) ended with status %s",
            worker.number,
            worker.process.pid,
            worker.process.returncode,
        )
        # Whatever ended it before it served would end the next one too.
        pause = 0.0 if worker.serving.is_set() else PAUSE_SECONDS
        while self._is_missed(worker):
            await asyncio.sleep(pause)
            if self._is_missed(worker):
                pause = PAUSE_SECONDS
                self._replace_ended(worker)

    def _is_missed(self, worker: WorkerHandle) -> bool:
        """Tell whether a worker that has ended has left a place empty."""
        return not self._stopping and self._workers.get(worker.number) is worker

    def _replace_ended(self, worker: WorkerHandle) -> None:
        try:
            self._workers[worker.number] = self._spawn(worker.number, worker.settings)
            self.restarts += 1
        except OSError as error:
            log.error("worker %d can't be started, it will be tried again: %s", worker.number, error)  # noqa: TRY400 - the system's, not a bug

    def _heard(self, worker: WorkerHandle) -> Callable[[str], None]:
        def heard(event: str) -> None:
            # It read the policy before the newest was published; or could not read that, which a beat tries again.
            if event != "policy" and worker.policy_version != self._published.version:
                worker.say(do="policy", path=str(self._published.path))
            self._changed.set()

        return heard

    async def publish(self, published: Published) -> None:
        """Bring a policy to every worker, and wait until all answer by it. Raises `PublishError`."""
        self._published = published
        version = published.version
        for worker in self._tasks:
            if worker.serving.is_set() and worker.policy_version != version:
                worker.say(do="policy", path=str(published.path))
        await self._until(
            lambda: all(w.policy_version == version for w in self._tasks if not w.stopping),
            PUBLISH_SECONDS,
            "take the policy",
        )

    async def _until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise PublishError(f"not every worker could {what} within {seconds:g} s") from None

    async def replace_all(self, settings: Settings) -> None:
        """Put workers under new settings in the place of the old, one by one: each serves before another leaves.

        Raises `PublishError` when one can't, or `OSError`; that leaves the old ones that haven't been replaced.
        """
        wanted = _count(settings)
        for number in range(wanted):
            await self._replace(number, settings)
        for number in [number for number in self._workers if number >= wanted]:
            await self._stop_worker(self._workers.pop(number))
        self._settings = settings

    async def _replace(self, number: int, settings: Settings) -> None:
        """Put a new worker in a place once it serves; until then the old one keeps it."""
        fresh = self._spawn(number, settings)
        try:
            await self._until(lambda: fresh.serving.is_set() or fresh not in self._tasks, START_SECONDS, "serve")
        except PublishError:
            await self._stop_worker(fresh)
            raise
        if fresh not in self._tasks:
            raise PublishError(f"worker {number} ended before it served")
        old, self._workers[number] = self._workers.get(number), fresh
        if old is not None:
            await self._stop_worker(old)

    def replace_silent(self) -> None:
        """Kill workers that have said nothing for long: stuck ones; others take their place. Call it often.

        One that starts has longer: it says nothing before it serves, and would be killed each time on a slow machine.
        """
        now = time.monotonic()
        slept, self._looked = now - self._looked > SILENCE_SECONDS / 2, now
        if slept:  # it was this process that stood still, and perhaps the workers with it: they get their time again
            for worker in self._tasks:
                worker.last_heard = now
        for worker in self._tasks:
            patience = SILENCE_SECONDS if worker.serving.is_set() else START_SECONDS
            if worker.last_heard < now - patience and not worker.stopping:
                log.error("worker %d (pid %d) is stuck and will be replaced", worker.number, worker.process.pid)
                worker.last_heard = now
                worker.process.send_signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Stop every worker: each finishes what is in flight."""
        self._stopping = True
        await asyncio.gather(*map(self._stop_worker, list(self._tasks)))

    async def _stop_worker(self, worker: WorkerHandle) -> None:
        worker.stopping = True
        worker.say(do="stop")
        task = self._tasks.get(worker)
        if task is None:
            return
        _, running = await asyncio.wait([task], timeout=STOP_SECONDS)
        if running:
            log.error("worker %d did not stop and is killed", worker.number)
            worker.process.kill()
            await asyncio.wait([task], timeout=STOP_SECONDS)

    def status(self) -> list[dict[str, Any]]:
        """Return what is known of each worker."""
        return [worker.status() for _, worker in sorted(self._workers.items())]

    def upstreams(self) -> list[dict[str, Any]]:
        """Return how each upstream is doing, as the workers see it taken together."""
        seen: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for worker in self._workers.values():
            for upstream in worker.beat.get("upstreams", ()):
                seen.setdefault((upstream["zone"], upstream["upstream"]), []).append(upstream)
        return [
            {
                "upstream": name,
                "zone": zone,
                "trusted": all(found["trusted"] for found in each),
                "latency_ms": max(found["latency_ms"] for found in each),
                "failures": sum(found["failures"] for found in each),
            }
            for (zone, name), each in sorted(seen.items())
        ]


def _count(settings: Settings) -> int:
    return settings.server.workers or len(os.sched_getaffinity(0))
