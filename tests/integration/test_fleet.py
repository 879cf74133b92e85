"""Real worker processes under a fleet: started, killed, stuck, replaced, told of policies, stopped."""

import asyncio
import logging
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest

from control import fleet as fleets
from control.errors import PublishError
from control.fleet import Fleet, WorkerHandle
from control.publisher import Published
from settings import Settings, from_document
from tests.support import dns_client
from tests.support.processes import is_alive
from tests.support.server import free_port
from tests.unit.policy import build

T = TypeVar("T")


async def eventually(check: Callable[[], T], seconds: float = 30.0) -> T:
    """Wait until the result is true and return it."""
    until = time.monotonic() + seconds
    while not (result := check()):
        assert time.monotonic() < until, f"not within {seconds} s; the last result was {result!r}"
        await asyncio.sleep(0.02)
    return result


class Node:
    """A state directory, the settings of its workers, and policies for them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        for part in ("journal", "policy", "run"):
            (directory / part).mkdir()

    def settings(self, *, workers: int = 2, listen: str = "") -> Settings:
        document: dict[str, Any] = {
            "server": {"listen": [listen or f"127.0.0.1:{self.port}"], "workers": workers, "node": "test-node"},
            "state": {"directory": str(self.directory)},
            "upstream": {"servers": ["udp://127.0.0.1:9"]},
        }
        return from_document(document, self.directory)

    def policy(self, version: int, *blocked: str) -> Published:
        lists = [build.Listed("list", "adult", [build.block(name) for name in blocked])]
        path = build.publish(self.directory / "policy", version=version, lists=lists)
        return Published(version, path, self.directory / "policy" / "index", version, "", "students")

    async def answers(self, name: str) -> set[str]:
        """Return what clients get for a name: from enough ports that every worker is asked."""

        def ask() -> set[str]:
            answers = set()
            for _ in range(12):
                reply = dns_client.udp(("127.0.0.1", self.port), name)
                answers.add(str(reply.answer[0][0]) if reply.answer else reply.rcode().name)
            return answers

        return await asyncio.to_thread(ask)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    directory = tmp_path / "var"
    directory.mkdir()
    return Node(directory)


@asynccontextmanager
async def running(node: Node, published: Published, settings: Settings | None = None) -> AsyncIterator[Fleet]:
    fleet = Fleet(settings or node.settings(), published)
    try:
        await fleet.start()
        yield fleet
    finally:
        await fleet.stop()
        assert not fleet._tasks


def pids(fleet: Fleet) -> list[int]:
    return [worker["pid"] for worker in fleet.status()]


def states(fleet: Fleet) -> list[str]:
    return [worker["state"] for worker in fleet.status()]


def versions(fleet: Fleet) -> list[int]:
    return [worker["policy_version"] for worker in fleet.status()]


def all_serve(fleet: Fleet) -> bool:
    return set(states(fleet)) == {"serving"}


# Starting and dying.


async def test_starts_as_many_workers_as_are_set_and_all_answer(node: Node) -> None:
    async with running(node, node.policy(7, "bad.example")) as fleet:
        assert states(fleet) == ["serving", "serving"]
        assert versions(fleet) == [7, 7]
        assert len(set(pids(fleet))) == 2
        assert await node.answers("www.bad.example") == {"0.0.0.0"}
        started = pids(fleet)
    assert not any(map(is_alive, started))


async def test_killed_worker_is_replaced_while_the_other_serves(node: Node) -> None:
    async with running(node, node.policy(1, "bad.example")) as fleet:
        first, second = pids(fleet)
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: pids(fleet)[0] != first and all_serve(fleet))
        assert pids(fleet)[1] == second
        assert fleet.restarts == 1
        assert await node.answers("bad.example") == {"0.0.0.0"}


async def test_dead_worker_is_not_said_to_serve(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleets, "PAUSE_SECONDS", 1000)
    async with running(node, node.policy(1)) as fleet:
        fleet._workers[0].serving.clear()  # as one that never served, whose successor takes its time
        os.kill(pids(fleet)[0], signal.SIGKILL)
        await eventually(lambda: states(fleet) == ["ended", "serving"])


async def test_workers_that_end_at_once_are_started_at_a_measured_pace(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleets, "PAUSE_SECONDS", 0.4)
    monkeypatch.setattr(fleets, "START_SECONDS", 1.8)
    started: list[WorkerHandle] = []

    class Noted(WorkerHandle):
        def __init__(self, number: int, settings: Settings) -> None:
            super().__init__(number, settings)
            started.append(self)

    monkeypatch.setattr(fleets, "WorkerHandle", Noted)
    fleet = Fleet(node.settings(workers=1), replace(node.policy(1), path=node.directory / "missing.json"))
    with pytest.raises(PublishError, match="not every worker could serve"):
        await fleet.start()
    await eventually(lambda: len(started) >= 2)
    await fleet.stop()
    assert all(later.started - earlier.started >= 0.4 for earlier, later in pairwise(started))


async def test_worker_that_cannot_be_started_is_tried_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory for a process, say: the place must not stay empty for ever."""
    monkeypatch.setattr(fleets, "PAUSE_SECONDS", 0.05)
    failures = [OSError(12, "Cannot allocate memory")] * 3
    real = subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*arguments, **options)

    async with running(node, node.policy(1)) as fleet:
        first = pids(fleet)[0]
        monkeypatch.setattr(subprocess, "Popen", popen)
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: pids(fleet)[0] != first and all_serve(fleet))
        assert not failures


# Policies.


async def test_published_policy_is_everywhere_when_publish_returns(node: Node) -> None:
    async with running(node, node.policy(1)) as fleet:
        assert await node.answers("bad.example") == {"SERVFAIL"}
        await fleet.publish(node.policy(2, "bad.example"))
        assert versions(fleet) == [2, 2]
        assert await node.answers("bad.example") == {"0.0.0.0"}


async def test_policy_of_a_lower_version_is_waited_for_too(node: Node) -> None:
    """Workers were started by what was on disk, and the database that came up then is another one."""
    async with running(node, node.policy(40, "bad.example")) as fleet:
        await fleet.publish(node.policy(3, "worse.example"))
        assert versions(fleet) == [3, 3]
        assert await node.answers("worse.example") == {"0.0.0.0"}


async def test_worker_that_does_not_take_a_policy_in_time_is_told_and_catches_up(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleets, "PUBLISH_SECONDS", 0.3)
    async with running(node, node.policy(1)) as fleet:
        stuck = pids(fleet)[1]
        os.kill(stuck, signal.SIGSTOP)
        try:
            with pytest.raises(PublishError, match=r"not every worker could take the policy within 0\.3 s"):
                await fleet.publish(node.policy(2))
        finally:
            os.kill(stuck, signal.SIGCONT)
        await eventually(lambda: versions(fleet) == [2, 2])
        assert pids(fleet)[1] == stuck


async def test_policy_that_cannot_be_read_is_tried_again_at_each_beat_and_no_oftener(
    node: Node, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fleets, "PUBLISH_SECONDS", 0.5)
    async with running(node, node.policy(1, "bad.example"), node.settings(workers=1)) as fleet:
        later = node.policy(2, "worse.example")
        aside = later.path.rename(later.path.with_suffix(".aside"))
        beats = fleet._workers[0].beat
        with pytest.raises(PublishError):
            await fleet.publish(later)
        said: list[str] = []

        def tries() -> int:
            said.append(capfd.readouterr().err)
            return "".join(said).count("can't be read")

        await eventually(lambda: tries() and fleet._workers[0].beat is not beats)
        assert tries() <= 10  # a loop would have made thousands
        assert await node.answers("bad.example") == {"0.0.0.0"}  # the last one stays in force
        aside.rename(later.path)
        await eventually(lambda: versions(fleet) == [2])


async def test_worker_that_starts_while_a_policy_is_published_gets_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleets, "PUBLISH_SECONDS", fleets.START_SECONDS)  # it starts as slowly as the machine is
    async with running(node, node.policy(1)) as fleet:
        first = pids(fleet)[0]
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: pids(fleet)[0] != first)
        await fleet.publish(node.policy(2, "bad.example"))
        await eventually(lambda: all_serve(fleet) and versions(fleet) == [2, 2])
        assert await node.answers("bad.example") == {"0.0.0.0"}


# Stuck workers.


async def test_stuck_worker_is_killed_and_replaced_and_no_other(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(node, node.policy(1)) as fleet:
        stuck, other = pids(fleet)
        monkeypatch.setattr(fleets, "SILENCE_SECONDS", 4)
        os.kill(stuck, signal.SIGSTOP)

        def replaced() -> bool:
            fleet.replace_silent()
            return pids(fleet)[0] != stuck and all_serve(fleet)

        await eventually(replaced)
        assert not is_alive(stuck)
        assert pids(fleet)[1] == other


async def test_worker_that_takes_long_to_start_is_not_taken_for_stuck(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(node, node.policy(1)) as fleet:
        slow = fleet._workers[0]
        slow.serving.clear()  # as one that reads a large policy still
        fleet.replace_silent()
        slow.last_heard = time.monotonic() - fleets.SILENCE_SECONDS - 5
        fleet.replace_silent()
        assert caplog.messages == []
        slow.last_heard = time.monotonic() - fleets.START_SECONDS - 5
        fleet.replace_silent()
        assert f"worker 0 (pid {slow.process.pid}) is stuck and will be replaced" in caplog.text
        await eventually(lambda: pids(fleet)[0] != slow.process.pid and all_serve(fleet))


async def test_workers_are_not_taken_for_stuck_when_it_was_the_supervisor_that_slept(node: Node) -> None:
    """A paused virtual machine stops them all: killing every worker on its return would be an outage."""
    async with running(node, node.policy(1)) as fleet:
        before = pids(fleet)
        fleet.replace_silent()
        fleet._looked -= 1000
        for worker in fleet._workers.values():
            worker.last_heard -= 1000
        fleet.replace_silent()
        heard = [worker.beat for worker in fleet._workers.values()]
        await eventually(lambda: all(w.beat is not b for w, b in zip(fleet._workers.values(), heard, strict=True)))
        assert pids(fleet) == before
        assert all_serve(fleet)


# New settings.


async def test_all_are_replaced_and_the_number_of_workers_follows_the_settings(node: Node) -> None:
    async with running(node, node.policy(1, "bad.example")) as fleet:
        before = pids(fleet)
        await fleet.replace_all(node.settings(workers=3))
        assert states(fleet) == ["serving"] * 3
        assert not set(pids(fleet)) & set(before)
        await fleet.replace_all(node.settings(workers=1))
        assert states(fleet) == ["serving"]
        assert len(fleet._tasks) == 1
        assert not any(map(is_alive, before))
        assert await node.answers("bad.example") == {"0.0.0.0"}


async def test_settings_under_which_no_worker_serves_leave_the_old_ones(node: Node) -> None:
    """192.0.2.1 is nobody's address (RFC 5737)."""
    async with running(node, node.policy(1, "bad.example")) as fleet:
        before = pids(fleet)
        with pytest.raises(PublishError, match="worker 0 ended before it served"):
            await fleet.replace_all(node.settings(listen="192.0.2.1:5353"))
        assert pids(fleet) == before
        assert all_serve(fleet)
        assert len(fleet._tasks) == 2  # nothing of the attempt is left
        os.kill(before[0], signal.SIGKILL)
        await eventually(lambda: pids(fleet)[0] != before[0] and all_serve(fleet))
        assert await node.answers("bad.example") == {"0.0.0.0"}  # restarted under the settings that work


async def test_worker_that_dies_during_a_failing_replacement_is_replaced_all_the_same(node: Node) -> None:
    async with running(node, node.policy(1)) as fleet:
        first = pids(fleet)[0]
        replacing = asyncio.create_task(fleet.replace_all(node.settings(listen="192.0.2.1:5353")))
        await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(PublishError):
            await replacing
        await eventually(lambda: pids(fleet)[0] != first and all_serve(fleet))


async def test_policy_published_during_a_replacement_reaches_old_and_new(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleets, "PUBLISH_SECONDS", fleets.START_SECONDS)  # new ones start as slowly as the machine is
    async with running(node, node.policy(1)) as fleet:
        replacing = asyncio.create_task(fleet.replace_all(node.settings()))
        await asyncio.sleep(0)
        await fleet.publish(node.policy(2, "bad.example"))
        assert await node.answers("bad.example") == {"0.0.0.0"}
        await replacing
        await eventually(lambda: versions(fleet) == [2, 2])


# The end.


async def test_stop_lets_workers_end_by_themselves(node: Node) -> None:
    async with running(node, node.policy(1)) as fleet:
        handles = list(fleet._workers.values())
        await fleet.stop()
        assert [handle.process.returncode for handle in handles] == [0, 0]
    assert fleet.restarts == 0


async def test_worker_that_does_not_stop_is_killed(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fleets, "STOP_SECONDS", 0.5)
    async with running(node, node.policy(1)) as fleet:
        stuck = fleet._workers[0]
        stuck.process.send_signal(signal.SIGSTOP)
        with caplog.at_level(logging.ERROR):
            await fleet.stop()
        assert stuck.process.returncode == -signal.SIGKILL
    assert "worker 0 did not stop and is killed" in caplog.text
