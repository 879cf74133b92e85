"""What goes over the channel between a fleet and its workers: beats that are long, words that nobody understands."""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control.fleet import Fleet, WorkerHandle
from control.publisher import Published
from settings import Settings, from_document
from tests.support import behaviours
from tests.support.dns_client import query, udp_socket
from tests.support.fake_upstream import FakeUpstream
from tests.support.server import free_port
from tests.unit.policy import build

ZONES = 600
LIMIT_OF_ASYNCIO = 1 << 16
SECONDS = 20.0


async def eventually(check: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not check():  # noqa: ASYNC110 - a process has no event
            await asyncio.sleep(0.02)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for part in ("journal", "policy", "run"):
        (tmp_path / part).mkdir()
    return tmp_path


def settings(directory: Path, upstream: dict[str, Any], port: int = 0) -> Settings:
    server = {"listen": [f"127.0.0.1:{port or free_port()}"], "workers": 1, "node": "test-node"}
    document = {"server": server, "state": {"directory": str(directory)}, "upstream": upstream}
    return from_document(document, directory)


def published(directory: Path) -> Published:
    path = build.publish(directory / "policy", version=1)
    return Published(1, path, directory / "policy" / "index", 1, "", "students")


async def test_a_beat_that_tells_of_hundreds_of_zones_is_heard(directory: Path) -> None:
    zones = {f"zone{number}.district.example": ["udp://127.0.0.2:5399"] for number in range(ZONES)}
    upstream = {"servers": ["udp://127.0.0.1:9"], "zones": zones}
    fleet = Fleet(settings(directory, upstream), published(directory))
    await fleet.start()
    try:
        worker = fleet._workers[0]
        await eventually(lambda: worker.beat or worker.process.returncode is not None)
        assert len(json.dumps(worker.beat)) > LIMIT_OF_ASYNCIO
        assert len(fleet.upstreams()) == ZONES + 1
        assert fleet.restarts == 0
    finally:
        await fleet.stop()


class Babbler:
    """Stands for a worker's process that serves, and then says something else."""

    def __init__(self, words: bytes) -> None:
        self.pid, self.returncode = 4711, 0
        self._words = words

    def start(self, _command: object, *, pass_fds: list[int], **_: object) -> "Babbler":
        channel = socket.socket(fileno=socket.dup(pass_fds[0]))
        self._thread = threading.Thread(target=self._speak, args=(channel,))
        self._thread.start()
        return self

    def _speak(self, channel: socket.socket) -> None:
        with channel, channel.makefile("rb") as told:
            told.readline()
            channel.sendall(b'{"event": "serving", "policy": 1}\n' + self._words)

    def wait(self) -> int:
        self._thread.join()
        return 0


@pytest.mark.parametrize(
    ("words", "is_told"),
    [
        (b"no JSON\n", True),
        (b'{"event": "beat"}\n', True),
        (b"[]\n", True),
        (b'{"event": "be', False),
        (b"", False),
    ],
    ids=["no JSON", "a part is missing", "another kind", "killed while it spoke", "gone"],
)
async def test_words_that_can_not_be_read_are_told_and_a_death_is_not(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, words: bytes, is_told: bool
) -> None:
    monkeypatch.setattr("subprocess.Popen", Babbler(words).start)
    worker = WorkerHandle(0, settings(directory, {"servers": ["udp://127.0.0.1:9"]}))
    events: list[str] = []
    with caplog.at_level(logging.ERROR):
        await worker.follow(published(directory), events.append)
    assert events == ["serving"]
    assert ("what worker 0 (pid 4711) says can't be read" in caplog.text) is is_told


async def test_a_worker_that_waits_for_a_silent_upstream_ends_by_itself(directory: Path) -> None:
    """Upstreams may take 30 s by the settings; whoever stops workers doesn't wait for so long, and they know it."""
    port = free_port()
    with FakeUpstream() as upstream, udp_socket(("127.0.0.1", port)) as client:
        upstream.default = behaviours.silent
        slow = {"servers": [upstream.url], "deadline_ms": 30_000, "try_timeout_ms": 10_000}
        fleet = Fleet(settings(directory, slow, port), published(directory))
        await fleet.start()
        worker = fleet._workers[0]
        client.send(query("silent.example").to_wire())
        await eventually(lambda: upstream.asked("silent.example"))
        await fleet.stop()
    assert worker.process.returncode == 0
