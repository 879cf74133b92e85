"""How a worker ends when it has a bug, when its supervisor dies in the midst of a word, and what it leaves on disk."""

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from resolver.worker import Periodic
from tests.integration.node import Node
from tests.support.dns_client import udp


def test_a_bug_in_what_only_seems_to_go_on_is_told_and_ends_the_worker(node: Node) -> None:
    """It has answered, and everything of that is on disk; its status says that it didn't mean to end."""
    worker = node.start()
    udp(node.server, "a.example")
    worker.say(do="policy")  # without a path
    assert worker.wait() == 1
    assert node.errors.count("Traceback") == node.errors.count("KeyError: 'path'") == 1
    assert "a bug ends this worker" in node.errors
    assert [record.decision.qname for record in node.records] == ["a.example"]


def test_a_bug_in_the_tick_ends_the_worker(node: Node, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from resolver.engine import Engine\n"
        "def let_go(engine):\n"
        "    raise RuntimeError('a bug in the tick')\n"
        "Engine.let_go = let_go\n"
    )
    node.environ = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    assert node.start().wait() == 1
    assert node.errors.count("Traceback") == node.errors.count("RuntimeError: a bug in the tick") == 1


def test_a_supervisor_that_dies_while_it_speaks_is_outlived(node: Node) -> None:
    worker = node.start()
    worker.channel.sendall(b'{"do": "pol')
    worker.abandon()
    assert udp(node.server, "a.example").answer
    assert worker.wait() == 0
    assert "the supervisor is gone" in node.errors
    assert "Traceback" not in node.errors


@pytest.mark.parametrize(("filter_", "is_known"), [({}, True), ({"private_zones": ["vendor.example"]}, False)])
def test_answers_on_disk_end_with_the_settings_that_they_were_given_under(
    node: Node, filter_: dict[str, Any], is_known: bool
) -> None:
    first = node.start()
    udp(node.server, "a.example")
    first.say(do="stop")
    assert first.wait() == 0
    node.document |= {"filter": filter_}
    node.start()
    udp(node.server, "a.example")
    assert (len(node.upstream.asked("a.example")) == 1) is is_known
    assert ("are of other settings" in node.errors) is not is_known


async def test_the_end_of_periodic_work_can_be_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait()
        raise RuntimeError("a bug in the work")

    periodic = Periodic(1.0, now=0.0)
    await periodic.ended()
    periodic.run(1.0, work)
    await asyncio.to_thread(begun.wait)
    ended = asyncio.create_task(periodic.ended())
    await asyncio.sleep(0)
    assert not ended.done()
    with caplog.at_level(logging.ERROR):
        may_end.set()
        await ended
    assert "RuntimeError: a bug in the work" in caplog.text
