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
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from policy import snapshot as snapshots
from policy.snapshot import Snapshot
from querylog.journal import JournalWriter
from resolver.engine import Engine, name_asked
from resolver.garbage import Garbage
from resolver.listeners import TcpListener, UdpListener, local_endpoints
from settings import from_document

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
BEAT_SECONDS = 1.0
ORPHAN_SECONDS = 10.0
WARMING = 1_000
"""Recent queries that a new index is asked: of 2,000 expressions, the first 100 take 0.5 ms each, later ones 0.02."""
SWITCH_SECONDS = 0.0005
"""How long a thread that makes a policy ready may hold the interpreter, each time that the loop lets go of it."""
LONGEST_LINE = 16 << 20
ROLE_LOCK = "serving.lock"
"""Each worker holds it shared; a supervisor that takes over waits for it, and holds it while it starts its own."""
TAKEOVER = "takeover"
"""A file whose change tells orphaned workers to leave."""


class Worker:
    """One data-plane process."""

    def __init__(self, number: int, channel: socket.socket) -> None:
        self._number = number
        self._channel = channel
        self._stopping = asyncio.Event()
        self._udp: list[UdpListener] = []
        self._tcp: list[TcpListener] = []

    async def run(self) -> None:
        """Serve until told to stop."""
        reader, writer = await asyncio.open_connection(sock=self._channel, limit=LONGEST_LINE)
        self._writer = writer
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # a terminal's ^C is the supervisor's to handle
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        start = json.loads(await reader.readline() or "null")
        if start is None:
            return
        await self._start(start)
        tasks = [asyncio.create_task(self._listen(reader)), asyncio.create_task(self._tick())]
        await self._stopping.wait()
        for task in tasks:
            task.cancel()
        await self._stop()

    async def _start(self, message: dict[str, Any]) -> None:
        settings = self._settings = from_document(message["settings"], Path(message["base"]))
        run = settings.state.directory / "run"
        self._role = os.open(run / ROLE_LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        fcntl.flock(self._role, fcntl.LOCK_SH)
        self._takeover = run / TAKEOVER
        self._supervisor = _stamp(self._takeover)
        self._journal = JournalWriter(
            settings.state.directory / "journal", node=settings.server.node, worker=self._number
        )
        self._engine = Engine(settings, self._journal, snapshots.read(Path(message["policy"])))
        connections: Counter[str] = Counter()
        for endpoint in local_endpoints(settings.server.listen):
            self._udp.append(UdpListener(endpoint, self._engine))
            self._tcp.append(TcpListener(endpoint, self._engine, connections))
        for listener in self._tcp:
            await listener.start()
        self._expiry = self._engine.snapshot.next_expiry(_now())
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
        try:
            return await reader.readline()
        except OSError:
            return b""

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
        """Do what is due: exceptions that end, the disk, idle connections, a sign of life."""
        loop = asyncio.get_running_loop()
        next_sync = next_beat = time.monotonic()
        lookups = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self._expiry and _now() >= self._expiry:
                self._engine.forget_numbers()
                self._expiry = self._engine.snapshot.next_expiry(_now())
            self._engine.let_go()
            now = time.monotonic()
            if now >= next_sync:
                next_sync = now + self._settings.querylog.sync_interval_ms / 1000
                await loop.run_in_executor(None, self._journal.sync)
            if now >= next_beat:
                next_beat = now + BEAT_SECONDS
                self._beat()
                self._garbage.look(now, self._engine.lookups - lookups)
                lookups = self._engine.lookups
                for listener in self._tcp:
                    listener.drop_idle()

    def _beat(self) -> None:
        engine = self._engine
        self._say(
            event="beat",
            policy=engine.snapshot.version,
            lookups=engine.lookups,
            cached=engine.cached_answers,
            in_flight=engine.forwarder.in_flight,
            unlogged=self._journal.lost,
        )

    def _say(self, **message: object) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def _stop(self) -> None:
        """Finish what is in flight, write the journal out, and let go."""
        for udp in self._udp:
            udp.stop_reading()
        for tcp in self._tcp:
            tcp.stop_accepting()
        until = time.monotonic() + self._settings.upstream.deadline_ms / 1000 + 1
        while self._engine.forwarder.in_flight and time.monotonic() < until:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0.01)
        self._engine.flush()
        for udp in self._udp:
            udp.close()
        for tcp in self._tcp:
            tcp.close()
        self._engine.forwarder.close()
        self._journal.close()
        self._writer.close()


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
    channel = socket.socket(fileno=descriptor)
    channel.setblocking(False)
    asyncio.run(Worker(number, channel).run())
