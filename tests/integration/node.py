"""A node for tests: worker processes driven over their control channels, as the supervisor would."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.fake_upstream import FakeUpstream
from tests.support.server import free_port
from tests.unit.policy.build import Listed, block, publish
from tests.unit.resolver.bench import Logged, logged

ROOT = str(Path(__file__).parents[2])
SECONDS = 30.0
BLOCKED = [Listed("ut1-adult", "adult", [block("bad.example")])]
PATIENCE = {"try_timeout_ms": 3000, "failover_ms": 3000, "deadline_ms": 4000}
"""Of an upstream: a machine that stands still for a second has no query sent twice, which tests count."""


class WorkerProcess:
    """One worker and the supervisor's end of its channel."""

    def __init__(self, number: int, directory: Path, errors: Path, environ: Mapping[str, str] | None = None) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(SECONDS)
        self.channel = ours
        self._lines = ours.makefile("rb")
        self._errors = errors.open("ab")
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "resolver", str(number), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=self._errors,
                cwd=directory,
                env=os.environ | {"PYTHONPATH": ROOT} | dict(environ or {}),
            )

    def say(self, **message: object) -> None:
        self.channel.sendall(json.dumps(message).encode() + b"\n")

    def hear(self, event: str) -> dict[str, Any]:
        """Return the next message of this kind. Fails when the channel ends first."""
        for line in self._lines:
            message: dict[str, Any] = json.loads(line)
            if message["event"] == event:
                return message
        raise AssertionError(f"the worker left without saying {event}")

    def adopt(self, path: Path) -> int:
        """Bring it another policy; return the version that it then answers by."""
        self.say(do="policy", path=str(path))
        version: int = self.hear("policy")["policy"]
        return version

    def abandon(self) -> None:
        """Close the channel, as a supervisor's death does."""
        self._lines.close()
        self.channel.close()

    def wait(self, seconds: float = 20.0) -> int:
        return self.process.wait(seconds)

    def close(self) -> None:
        self.abandon()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._errors.close()


class Node:
    """A state directory, a policy and an upstream, on which workers are started.

    Keys of the section `upstream` are laid over those that every node has.
    """

    def __init__(self, directory: Path, upstream: FakeUpstream, /, **document: Any) -> None:
        self.directory = directory
        self.upstream = upstream
        self.state = directory / "var"
        (self.state / "run").mkdir(parents=True)
        self.port = free_port()
        self.server = ("127.0.0.1", self.port)
        self.document: dict[str, Any] = {
            "server": {"listen": [f"127.0.0.1:{self.port}", f"[::1]:{self.port}"], "node": "node-1"},
        } | document
        self.document["upstream"] = {"servers": [upstream.url]} | PATIENCE | document.get("upstream", {})
        self.environ: dict[str, str] = {}
        """What workers that are started from now on have in their environment."""
        self.workers: list[WorkerProcess] = []

    def publish(self, version: int = 1, **parts: Any) -> Path:
        return publish(self.state / "policy", version=version, **({"lists": BLOCKED} | parts))

    def start(self, number: int = 0, policy: Path | None = None) -> WorkerProcess:
        """Start a worker; it serves when this returns."""
        worker = WorkerProcess(number, self.directory, self.directory / "errors", self.environ)
        self.workers.append(worker)
        path = policy or self.publish()
        worker.say(settings=self.document, base=str(self.directory), policy=str(path))
        worker.hear("serving")
        return worker

    @property
    def journal(self) -> Path:
        return self.state / "journal"

    @property
    def records(self) -> list[Logged]:
        return logged(self.journal)

    @property
    def errors(self) -> str:
        return (self.directory / "errors").read_text()
