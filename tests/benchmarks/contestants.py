"""The servers that are measured side by side, with their logs on or off, each with its own form of the same block list.

All forward what they don't know to the same upstream, listen on 127.0.0.1 and are pinned to one CPU.
"""

import re
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from tests.benchmarks.cpus import CLIENT_CPU, SERVER_CPU, pinned
from tests.benchmarks.programs import compiled
from tests.support import processes
from tests.support.dns_client import Address, dig
from tests.support.server import HallMonitor, free_port

START_SECONDS = 30.0
CACHED_ANSWERS = 100_000
ENOUGH_CACHED_ANSWERS = 400_000
"""More than a scenario brings: a full cache costs dnsmasq thirty times as much."""
IN_FLIGHT = 4096


class Contestant(ABC):
    """One server: started once, loaded many times."""

    kind: ClassVar[str]
    name: str
    """The kind, and how it is set up."""
    address: Address

    @abstractmethod
    def start(self) -> None:
        """Run the server until it answers, with the block list in force. Raises `RuntimeError`."""

    @abstractmethod
    def answering_pids(self) -> list[int]:
        """Return the processes that answer."""

    def all_pids(self) -> list[int]:
        """Return these and all that work behind them."""
        return self.answering_pids()

    @abstractmethod
    def settle(self) -> None:
        """Return once nothing is left to do for what was answered."""

    @abstractmethod
    def close(self) -> None:
        """End the server."""


class OneProcess(Contestant):
    """A server that is one process, started with one command."""

    def __init__(self, directory: Path, upstream: Address, blocked: Sequence[str], *, logs: bool = True) -> None:
        self.logs = logs
        """Whether it writes down what it is asked."""
        self.name = self.kind if logs else f"{self.kind}, log off"
        self.directory = directory / re.sub(r"\W+", "-", self.name.lower())
        self.directory.mkdir()
        self.upstream = upstream
        self.blocked = blocked
        self.address = ("127.0.0.1", free_port())
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Write what the server needs and return how it is started, in the foreground."""

    def start(self) -> None:
        """Run the command until it answers."""
        with (self.directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [*pinned(SERVER_CPU), *self.command()], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        until = time.monotonic() + START_SECONDS
        while not dig(self.address, "start.known.example", seconds=1).status:
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.name} does not answer: {(self.directory / 'output').read_text()}")
            time.sleep(0.1)

    def answering_pids(self) -> list[int]:
        """Return the process."""
        assert self._process is not None
        return [self._process.pid]

    def settle(self) -> None:
        """Return at once: these write their logs before they answer."""

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


class Floor(OneProcess):
    """The C echo: what the kernel alone costs."""

    kind = "C echo"

    def command(self) -> list[str]:
        """Run the compiled program."""
        return [str(compiled(self.directory, "echo")), str(self.address[1])]


class Unbound(OneProcess):
    """Unbound, its log of queries and replies in a file."""

    kind = "Unbound"
    program = "unbound"

    @classmethod
    def version(cls) -> str:
        """Return ``1.17.1``, say."""
        return version_of(cls.program, "-V")

    def command(self) -> list[str]:
        """Write its configuration."""
        path = self.directory / "unbound.conf"
        host, port = self.upstream
        lines = [
            "server:",
            *("do-daemonize: no", 'username: ""', 'chroot: ""', 'directory: ""', 'pidfile: ""', "num-threads: 1"),
            *(f"interface: {self.address[0]}", f"port: {self.address[1]}", "do-not-query-localhost: no"),
            *("use-syslog: no", f'logfile: "{self.directory / "log"}"'),
            *(("log-queries: yes", "log-replies: yes") if self.logs else ()),
            *('module-config: "iterator"', "msg-cache-size: 64m", "rrset-cache-size: 128m", "so-rcvbuf: 4m"),
            *(f"outgoing-range: {2 * IN_FLIGHT}", f"num-queries-per-thread: {IN_FLIGHT}"),
            *(f'local-zone: "{name}" always_null' for name in self.blocked),
            *("forward-zone:", 'name: "."', f"forward-addr: {host}@{port}", "remote-control:", "control-enable: no"),
        ]
        path.write_text("\n".join(lines) + "\n")
        return [self.program, "-c", str(path)]


class Dnsmasq(OneProcess):
    """dnsmasq, its log of queries in a file."""

    kind = "dnsmasq"
    program = "dnsmasq"

    @classmethod
    def version(cls) -> str:
        """Return ``2.90``, say."""
        return version_of(cls.program, "--version")

    def command(self) -> list[str]:
        """Write its configuration."""
        path = self.directory / "dnsmasq.conf"
        host, port = self.upstream
        lines = [
            *("keep-in-foreground", "bind-interfaces", "no-resolv", "no-hosts", "pid-file=", "user="),
            *(f"listen-address={self.address[0]}", f"port={self.address[1]}", f"server={host}#{port}"),
            *(("log-queries", f"log-facility={self.directory / 'log'}") if self.logs else ()),
            *(f"cache-size={ENOUGH_CACHED_ANSWERS}", f"dns-forward-max={IN_FLIGHT}"),
            *(f"address=/{name}/#" for name in self.blocked),
        ]
        path.write_text("\n".join(lines) + "\n")
        return [self.program, f"--conf-file={path}"]


class Ours(Contestant):
    """Hall Monitor with one worker: supervisor, worker and shipping share the CPU."""

    kind = name = "Hall Monitor"

    def __init__(self, directory: Path, upstream: Address, blocked: Sequence[str]) -> None:
        self.blocked = blocked
        self._server = HallMonitor(
            directory / "hall-monitor",
            upstreams=[f"udp://{upstream[0]}:{upstream[1]}"],
            settings={"cache": {"entries": CACHED_ANSWERS}},
            prefix=pinned(SERVER_CPU),
        )
        self.address = self._server.dns

    @staticmethod
    def version() -> str:
        """Return ``0.1.0``, say."""
        return version("dns-hallmonitor")

    def start(self) -> None:
        """Serve, and take the block list as a source."""
        self._server.start()
        names = self._server.directory / "blocked.txt"
        names.write_text("\n".join(self.blocked) + "\n")
        run = self._server.hallmonitor
        run("sources", "add", "bench", str(names), "--category", "bench", "--create-category", "--format", "domains")
        run("groups", "block", "students", "bench")
        run("refresh", "bench")

    def answering_pids(self) -> list[int]:
        """Return the worker."""
        return self._server.worker_pids()

    def all_pids(self) -> list[int]:
        """Return the worker and the supervisor, which ships the journal."""
        return self._server.pids()

    def settle(self) -> None:
        """Return once every row is in the database: a search brings what is still in the journal there first."""
        self._server.hallmonitor("logs", "search", "--limit", "1", "--json")

    def close(self) -> None:
        """End every process of it."""
        self._server.close()


class Upstream:
    """The name server behind them all, on the client's CPU: echo.c, which answers for any name."""

    def __init__(self, directory: Path) -> None:
        self.address: Address = ("127.0.0.1", free_port())
        self._command = [*pinned(CLIENT_CPU), str(compiled(directory, "echo")), str(self.address[1]), "answer"]
        self.start()

    def start(self) -> None:
        """Run it until it answers; it must not run."""
        self._process = subprocess.Popen(self._command)
        processes.eventually(lambda: dig(self.address, "start.known.example", seconds=1).status)

    def stall(self) -> None:
        """Have it stand still: what it is asked waits for `go_on`."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it answer again."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def version_of(*command: str) -> str:
    """Return the version that a command tells."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    found = re.search(r"[Vv]ersion (\S+)", done.stdout + done.stderr)
    return found[1] if found else "unknown"
