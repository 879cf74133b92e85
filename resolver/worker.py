"""The worker's life: it starts under a supervisor, serves, takes new policies, and stops when it is told.

The control channel is a socket of JSON lines. The supervisor says `start` (settings and policy), `policy` and `stop`;
the worker says `serving`, `policy` and `beat`. When the supervisor is gone the worker serves on for a while, so that a
supervisor's restart costs no answer; it leaves as soon as another supervisor takes over.
"""

import asyncio
import fcntl
import json
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from policy import snapshot as snapshots
from policy.snapshot import Snapshot
from querylog.journal import JournalWriter
from resolver import cache_file
from resolver.engine import Engine, name_asked
from resolver.garbage import Garbage
from resolver.listeners.binding import local_endpoints
from resolver.listeners.limits import Limits
from resolver.listeners.streams import Streams
from resolver.listeners.udp import UdpListener
from resolver.supervised import DRAIN_SECONDS, LONGEST_LINE, ROLE_LOCK, TAKEOVER
from settings import from_document

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
BEAT_SECONDS = 1.0
KEEP_SECONDS = 300.0
"""Between the times that cached answers are brought to disk."""
ORPHAN_SECONDS = 10.0
CLOCK_IS_SET = 1_000_000
"""Microseconds: when the wall clock moves so much within a tick, what was decided by it is decided anew."""
WARMING = 1_000
"""Recent queries that a new index is asked: of 2,000 expressions, the first 100 take 0.5 ms each, later ones 0.02."""
SWITCH_SECONDS = 0.0005
"""How long a thread that makes a policy ready may hold the interpreter, each time that the loop lets go of it."""
DESCRIPTORS = 65_536
"""As many as the service's unit allows: a shell's 1,024 are fewer than `limits.connections` and ports to upstreams."""


class Worker:
    """One data-plane process."""

    def __init__(self, number: int, channel: socket.socket) -> None:
        self._number = number
        self._channel = channel
        self._stopping = asyncio.Event()
        self._udp: list[UdpListener] = []

    async def run(self) -> int:
        """Serve until told to stop; return the exit status, which is not 0 when a bug was the reason to stop."""
        reader, writer = await asyncio.open_connection(sock=self._channel, limit=LONGEST_LINE)
        self._writer = writer
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_on_failure)
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # a terminal's ^C is the supervisor's to handle
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        start = json.loads(await reader.readline() or "null")
        if start is None:
            return 0
        await asyncio.to_thread(int)  # so that there is a thread when no descriptor or memory is left for one
        self._start(start)
        tasks = [asyncio.create_task(task) for task in (self._listen(reader), self._tick(), self._told_to_stop())]
        ended, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
        bugs = [bug for task in ended if (bug := task.exception()) is not None]
        for bug in bugs:  # without its clock or its ears a worker only seems to serve: another takes its place
            log.error("a bug ends this worker", exc_info=bug)
        await self._stop()
        return 1 if bugs else 0

    async def _told_to_stop(self) -> None:
        await self._stopping.wait()

    def _start(self, message: dict[str, Any]) -> None:
        settings = self._settings = from_document(message["settings"], Path(message["base"]), looks_at_files=False)
        run = settings.state.directory / "run"
        self._role = os.open(run / ROLE_LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        fcntl.flock(self._role, fcntl.LOCK_SH)
        self._takeover = run / TAKEOVER
        self._supervisor = _stamp(self._takeover)
        self._journal = JournalWriter(
            settings.state.directory / "journal", node=settings.server.node, worker=self._number
        )
        self._engine = Engine(settings, self._journal, snapshots.read(Path(message["policy"])))
        self._answers = settings.state.directory / "cache" / f"worker-{self._number}.answers"
        self._digest = cache_file.digest_of(settings)
        cache_file.read(self._answers, self._engine.cache, self._digest, settings.cache.stale_seconds)
        limits = Limits(settings.limits.connections, settings.limits.connections_per_client)
        self._streams = Streams(settings.server, self._engine, limits)
        for endpoint in local_endpoints(settings.server.listen):
            self._udp.append(UdpListener(endpoint, self._engine))
        self._streams.start()
        self._expiry = self._engine.snapshot.next_expiry(_now())
        self._keeping = Periodic(KEEP_SECONDS, time.monotonic())
        self._garbage = Garbage(time.monotonic())
        sys.setswitchinterval(SWITCH_SECONDS)
        self._say(event="serving", policy=self._engine.snapshot.version)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Do what the supervisor says, until it is gone."""
        while line := await self._next_line(reader):
            message = json.loads(line)
            if message["do"] == "stop":
                self._stopping.set()
                return
            await self._adopt(Path(message["path"]))
        await self._outlive_supervisor()

    async def _next_line(self, reader: asyncio.StreamReader) -> bytes:
        """Return what the supervisor says next; nothing when it is gone, in the midst of a line perhaps."""
        try:
            line = await reader.readline()
        except OSError:
            return b""
        return line if line.endswith(b"\n") else b""

    async def _adopt(self, path: Path) -> None:
        """Bring a policy into force. It is made ready in a thread, which takes a while: answers go on meanwhile."""
        engine = self._engine
        try:
            snapshot = await asyncio.to_thread(_made_ready, path, engine.snapshot, engine.recent(WARMING))
        except Exception:
            log.exception("the policy at %s can't be read; the last one stays in force", path)
        else:
            self._engine.adopt(snapshot)
            self._expiry = snapshot.next_expiry(_now())
        self._say(event="policy", policy=self._engine.snapshot.version)

    async def _outlive_supervisor(self) -> None:
        """Serve on until another supervisor takes over, or nobody came."""
        log.warning("the supervisor is gone: worker %d serves on for %d s", self._number, ORPHAN_SECONDS)
        until = time.monotonic() + ORPHAN_SECONDS
        while time.monotonic() < until and _stamp(self._takeover) == self._supervisor:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.02)
        self._stopping.set()

    async def _tick(self) -> None:
        """Do what is due: exceptions that end, the disk, clients' connections, a sign of life."""
        now = time.monotonic()
        syncing = Periodic(self._settings.querylog.sync_interval_ms / 1000, now)
        next_beat = now
        lookups = 0
        last_ahead = _now() - int(now * 1_000_000)
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            wall = _now()
            ahead = wall - int(now * 1_000_000)
            if abs(ahead - last_ahead) > CLOCK_IS_SET or (self._expiry and wall >= self._expiry):
                self._engine.forget_numbers()
                self._expiry = self._engine.snapshot.next_expiry(wall)
            last_ahead = ahead
            self._engine.let_go()
            syncing.run(now, self._journal.sync)
            self._keeping.run(now, self._kept)
            if now >= next_beat:
                next_beat = now + BEAT_SECONDS
                self._beat()
                self._garbage.look(now, self._engine.lookups - lookups)
                lookups = self._engine.lookups
                self._streams.look(now)

    def _beat(self) -> None:
        engine = self._engine
        self._say(
            event="beat",
            policy=engine.snapshot.version,
            lookups=engine.lookups,
            cached=engine.cached_answers,
            in_flight=engine.forwarder.in_flight,
            unlogged=self._journal.lost,
            turned_away=engine.turned_away,
            upstreams=engine.forwarder.status(),
        )

    def _kept(self) -> None:
        """Bring the cached answers to disk."""
        cache_file.write(self._answers, self._engine.cache, self._digest)

    def _say(self, **message: object) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def _stop(self) -> None:
        """Finish what is in flight, write the journal out, and let go."""
        for udp in self._udp:
            udp.stop_reading()
        self._streams.stop_accepting()
        until = time.monotonic() + min(self._settings.upstream.deadline_ms / 1000 + 1, DRAIN_SECONDS)
        while self._engine.forwarder.in_flight and time.monotonic() < until:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0.01)
        self._engine.forwarder.give_up()
        self._engine.flush()
        for udp in self._udp:
            udp.close()
        await self._streams.close()
        self._engine.forwarder.close()
        self._journal.close()
        await self._keeping.ended()  # it writes the same file
        self._kept()  # last: if there is no time left for it, only what is a convenience is lost
        self._writer.close()


class Periodic:
    """Work in a thread now and then, as on a disk that may be slow: nobody waits for it, and it never runs twice."""

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds = seconds
        self._due = now + seconds
        self._running: asyncio.Future[None] | None = None

    def run(self, now: float, work: Callable[[], None]) -> None:
        """Begin the work if it is due and the last has ended."""
        if now >= self._due and (self._running is None or self._running.done()):
            self._due = now + self._seconds
            self._running = asyncio.get_running_loop().run_in_executor(None, work)
            self._running.add_done_callback(_tell_of_bug)

    async def ended(self) -> None:
        """Wait for the end of work that is under way, however it ends."""
        if self._running is not None:
            await asyncio.wait([self._running])


def _tell_of_bug(work: asyncio.Future[None]) -> None:
    if not work.cancelled() and (bug := work.exception()) is not None:
        log.error("work in a thread failed, and will be tried again", exc_info=bug)


def _on_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tell of a callback's failure; without memory, end: what couldn't be read would fail again, for ever."""
    if isinstance(context.get("exception"), MemoryError):
        with suppress(MemoryError):
            log.error("no memory is left: this worker ends")
        os._exit(1)  # as if killed: each lookup that was answered is in the journal
    loop.default_exception_handler(context)


def _made_ready(path: Path, last: Snapshot, asked: list[bytes]) -> Snapshot:
    """Read a policy. A new index is asked what clients ask, before they do: its automata learn while they match."""
    snapshot = snapshots.read(path, last)
    if snapshot.index is not last.index:
        for octets in asked:
            snapshot.index.match(name_asked(octets))
    return snapshot


def _now() -> int:
    return time.time_ns() // 1000


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def main(arguments: list[str]) -> None:
    """Run one worker: its number, and the descriptor of its control channel."""
    number, descriptor = map(int, arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format=f"%(asctime)s worker {number}: %(levelname)s %(message)s"
    )
    allowed, possible = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed, min(possible, DESCRIPTORS)), possible))
    channel = socket.socket(fileno=descriptor)
    channel.setblocking(False)
    sys.exit(asyncio.run(Worker(number, channel).run()))
