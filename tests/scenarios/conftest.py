"""Workers on loopback sockets, with an upstream that does what the test says: one a module, or one of a test's own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node import Node
from tests.support.fake_upstream import FakeUpstream

StartNode = Callable[..., Node]


@contextmanager
def serving(node: Node, policy: dict[str, Any]) -> Iterator[Node]:
    """Have one worker serve under a policy; whatever it is sent, nothing in it may fail."""
    node.start(policy=node.publish(**policy))
    try:
        yield node
    finally:
        for worker in node.workers:
            worker.close()
    assert "Traceback" not in node.errors


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[Node]:
    """Give a worker that blocks ``bad.example``, for the tests that only ask."""
    with serving(Node(tmp_path_factory.mktemp("node"), upstream), {}) as made:
        yield made


@pytest.fixture
def start_node(tmp_path: Path, upstream: FakeUpstream) -> Iterator[StartNode]:
    """Give what starts a worker with settings, and parts of a policy (`tests.unit.policy.build.document`).

    Keys of the section `server` are laid over those that every node has.
    """
    with ExitStack() as stack:

        def start(
            policy: dict[str, Any] | None = None, *, server: dict[str, Any] | None = None, **document: Any
        ) -> Node:
            made = Node(tmp_path / f"node-{len(list(tmp_path.iterdir()))}", upstream, **document)
            made.document["server"].update(server or {})
            return stack.enter_context(serving(made, policy or {}))

        yield start
