"""The servers that are measured side by side, each with its log on and its own form of the same block list.

All forward what they don't know to the same upstream, listen on 127.0.0.1 and are pinned to one CPU.
"""

import os
import re
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from tests.support import processes
from tests.support.dns_client import Address, dig
from tests.support.server import HallMonitor, free_port

START_SECONDS = 30.0
# What each may keep: more than a run brings, since a full cache costs dnsmasq thirty times as much.
CACHED_ANSWERS = 100_000
IN_FLIGHT = 4096
HERE = Path(__file__).parent

_CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, CLIENT_CPU = _CPUS[0], _CPUS[-1]


def pinned(cpu: int) -> list[str]:
    """Return the command that runs another on one CPU alone."""
    return ["taskset", "--cpu-list", str(cpu)]


class Contestant(ABC):
    """One server: started once, loaded many times."""

    name: ClassVar[str]
    forwards: ClassVar[bool] = True
    """Whether it can answer names that it must ask for."""
    address: Address

    @abstractmethod
    def version(self) -> str:
        """Return the version as the command tells it."""

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

    def __init__(self, directory: Path, upstream: Address, blocked: Sequence[str]) -> None:
        self.directory = directory / self.name.lower().replace(" ", "-")
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

    name = "C echo"
    forwards = False

    def __init__(self, directory: Path, upstream: Address, blocked: Sequence[str], program: Path) -> None:
        super().__init__(directory, upstream, blocked)
        self._program = program

    def version(self) -> str:
        """Return nothing: it has none."""
        return "no log, no cache"

    def command(self) -> list[str]:
        """Run the compiled program."""
        return [str(self._program), str(self.address[1])]


class Unbound(OneProcess):
    """Unbound with its log of queries and replies in a file."""

    name = "Unbound"

    def version(self) -> str:
        """Return ``1.17.1``, say."""
        return version_of("unbound", "-V")

    def command(self) -> list[str]:
        """Write its configuration."""
        path = self.directory / "unbound.conf"
        host, port = self.upstream
        lines = [
            "server:",
            *("do-daemonize: no", 'username: ""', 'chroot: ""', 'directory: ""', 'pidfile: ""', "num-threads: 1"),
            *(f"interface: {self.address[0]}", f"port: {self.address[1]}", "do-not-query-localhost: no"),
            *("use-syslog: no", f'logfile: "{self.directory / "log"}"', "log-queries: yes", "log-replies: yes"),
            *('module-config: "iterator"', "msg-cache-size: 64m", "rrset-cache-size: 128m", "so-rcvbuf: 4m"),
            *(f"outgoing-range: {2 * IN_FLIGHT}", f"num-queries-per-thread: {IN_FLIGHT}"),
            *(f'local-zone: "{name}" always_null' for name in self.blocked),
            *("forward-zone:", 'name: "."', f"forward-addr: {host}@{port}", "remote-control:", "control-enable: no"),
        ]
        path.write_text("\n".join(lines) + "\n")
        return ["unbound", "-c", str(path)]


class Dnsmasq(OneProcess):
    """dnsmasq with its log of queries in a file."""

    name = "dnsmasq"

    def version(self) -> str:
        """Return ``2.90``, say."""
        return version_of("dnsmasq", "--version")

    def command(self) -> list[str]:
        """Write its configuration."""
        path = self.directory / "dnsmasq.conf"
        host, port = self.upstream
        lines = [
            *("keep-in-foreground", "bind-interfaces", "no-resolv", "no-hosts", "pid-file=", "user="),
            *(f"listen-address={self.address[0]}", f"port={self.address[1]}", f"server={host}#{port}"),
            *("log-queries", f"log-facility={self.directory / 'log'}"),
            *(f"cache-size={CACHED_ANSWERS}", f"dns-forward-max={IN_FLIGHT}"),
            *(f"address=/{name}/#" for name in self.blocked),
        ]
        path.write_text("\n".join(lines) + "\n")
        return ["dnsmasq", f"--conf-file={path}"]


class Ours(Contestant):
    """Hall Monitor with one worker: supervisor, worker and shipping share the CPU."""

    name = "Hall Monitor"

    def __init__(self, directory: Path, upstream: Address, blocked: Sequence[str]) -> None:
        self.blocked = blocked
        self._server = HallMonitor(
            directory / "hall-monitor",
            upstreams=[f"udp://{upstream[0]}:{upstream[1]}"],
            settings={"cache": {"entries": CACHED_ANSWERS}},
            prefix=pinned(SERVER_CPU),
        )
        self.address = self._server.dns

    def version(self) -> str:
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


def compile_echo(directory: Path) -> Path | None:
    """Compile echo.c and return the program; None: there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    program = directory / "echo"
    subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / "echo.c")], check=True)
    return program


class Upstream:
    """The name server behind them all, on the client's CPU: the C one, or Unbound where there is no compiler."""

    def __init__(self, directory: Path, program: Path | None) -> None:
        self.address: Address = ("127.0.0.1", free_port())
        port = str(self.address[1])
        if program is not None:
            command = [str(program), port, "answer"]
        else:
            path = directory / "upstream.conf"
            path.write_text(
                f'server:\ndo-daemonize: no\nusername: ""\nchroot: ""\ndirectory: ""\npidfile: ""\nuse-syslog: no\n'
                f"interface: 127.0.0.1\nport: {port}\nso-rcvbuf: 4m\n"
                f'local-zone: "example." redirect\nlocal-data: "example. 3600 A 192.0.2.1"\n'
                f'local-data: "example. 3600 AAAA 2001:db8::1"\nremote-control:\ncontrol-enable: no\n'
            )
            command = ["unbound", "-c", str(path)]
        self._process = subprocess.Popen([*pinned(CLIENT_CPU), *command])
        processes.eventually(lambda: dig(self.address, "start.known.example", seconds=1).status)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


def version_of(*command: str) -> str:
    """Return the version that a command tells."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    found = re.search(r"[Vv]ersion (\S+)", done.stdout + done.stderr)
    return found[1] if found else "unknown"
