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
from settings import Settings

log = logging.getLogger(__name__)

PUBLISH_SECONDS = 5.0
START_SECONDS = 20.0
STOP_SECONDS = 10.0
SHORT_LIFE_SECONDS = 2.0
PAUSE_SECONDS = 1.0
SILENCE_SECONDS = 15.0


class WorkerHandle:
    """One worker process, seen from the supervisor."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.started = time.monotonic()
        self.serving = asyncio.Event()
        self.policy_version = 0
        self.stopping = False
        self.beat: dict[str, Any] = {}
        self.last_heard = self.started
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "resolver", str(number), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        ours.setblocking(False)
        self._socket = ours
        self._writer: asyncio.StreamWriter | None = None

    def __repr__(self) -> str:
        return f"<WorkerHandle {self.number} pid={self.process.pid} policy={self.policy_version}>"

    async def follow(self, settings: Settings, published: Published, heard: Callable[[], None]) -> None:
        """Start the worker's service and follow what it says, until its channel closes."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket)
        start = {"settings": settings.document, "base": str(settings.base), "policy": str(published.path)}
        self._writer.write(json.dumps(start).encode() + b"\n")
        try:
            while line := await reader.readline():
                self._hear(json.loads(line))
                heard()
        except OSError:
            pass  # killed: the channel is reset
        finally:
            self._writer.close()
        await asyncio.to_thread(self.process.wait)

    def _hear(self, message: dict[str, Any]) -> None:
        self.last_heard = time.monotonic()
        self.policy_version = message["policy"]
        if message["event"] == "serving":
            self.serving.set()
        elif message["event"] == "beat":
            self.beat = message

    def say(self, **message: object) -> None:
        """Tell the worker something; one that is gone hears nothing."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    def status(self) -> dict[str, Any]:
        """Return what is known of the worker."""
        return {
            "number": self.number,
            "pid": self.process.pid,
            "state": "stopping" if self.stopping else "serving" if self.serving.is_set() else "starting",
            "policy_version": self.policy_version,
            "uptime_seconds": round(time.monotonic() - self.started, 1),
            "lookups": self.beat.get("lookups", 0),
            "cached_answers": self.beat.get("cached", 0),
            "in_flight": self.beat.get("in_flight", 0),
            "unlogged": self.beat.get("unlogged", 0),
        }


class Fleet:
    """All workers of this node."""

    def __init__(self, settings: Settings, published: Published) -> None:
        self._settings = settings
        self._published = published
        self._workers: dict[int, WorkerHandle] = {}
        self._tasks: dict[WorkerHandle, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        self.restarts = 0

    async def start(self) -> None:
        """Start every worker and wait until all serve. Raises `PublishError` when one does not."""
        for number in range(self._count()):
            self._spawn(number)
        await self._until(lambda: all(w.serving.is_set() for w in self._workers.values()), START_SECONDS, "serve")

    def _count(self) -> int:
        return self._settings.server.workers or len(os.sched_getaffinity(0))

    def _spawn(self, number: int) -> WorkerHandle:
        worker = self._workers[number] = WorkerHandle(number)
        self._tasks[worker] = asyncio.create_task(self._watch(worker))
        return worker

    async def _watch(self, worker: WorkerHandle) -> None:
        """Follow a worker to its end; unless that was wanted, another takes its place."""
        await worker.follow(self._settings, self._published, self._heard(worker))
        del self._tasks[worker]
        self._changed.set()
        if self._stopping or worker.stopping or self._workers.get(worker.number) is not worker:
            return
        lived = time.monotonic() - worker.started
        log.error(
            "worker %d (pid %d) ended with status %s", worker.number, worker.process.pid, worker.process.returncode
        )
        if lived < SHORT_LIFE_SECONDS:
            await asyncio.sleep(PAUSE_SECONDS)  # whatever ends it at once would end the next one too
        if not self._stopping and self._workers.get(worker.number) is worker:
            self.restarts += 1
            self._spawn(worker.number)

    def _heard(self, worker: WorkerHandle) -> Callable[[], None]:
        def heard() -> None:
            if worker.policy_version < self._published.version:
                # It read the policy before the newest was published.
                worker.say(do="policy", path=str(self._published.path))
            self._changed.set()

        return heard

    async def publish(self, published: Published) -> None:
        """Bring a policy to every worker, and wait until all answer by it. Raises `PublishError`."""
        self._published = published
        for worker in self._workers.values():
            if worker.serving.is_set():
                worker.say(do="policy", path=str(published.path))
        version = published.version
        await self._until(
            lambda: all(w.policy_version >= version for w in self._tasks), PUBLISH_SECONDS, "take the policy"
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

        Raises `PublishError` when one can't, which leaves the old ones that haven't been replaced.
        """
        before, self._settings = self._settings, settings
        wanted = self._count()
        for number in range(max(wanted, len(self._workers))):
            old = self._workers.pop(number, None)
            if number < wanted:
                fresh = self._spawn(number)
                try:
                    await self._until(fresh.serving.is_set, START_SECONDS, "serve")
                except PublishError:
                    self._settings = before
                    if old is not None:
                        self._workers[number] = old
                    await self._stop_worker(fresh)
                    raise
            if old is not None:
                await self._stop_worker(old)

    def replace_silent(self) -> None:
        """Kill workers that have said nothing for long: stuck ones; others take their place."""
        limit = time.monotonic() - SILENCE_SECONDS
        for worker in self._workers.values():
            if worker.last_heard < limit and not worker.stopping:
                log.error("worker %d (pid %d) is stuck and will be replaced", worker.number, worker.process.pid)
                worker.last_heard = time.monotonic()
                worker.process.send_signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Stop every worker: each finishes what is in flight."""
        self._stopping = True
        await asyncio.gather(*(self._stop_worker(worker) for worker in list(self._workers.values())))

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
