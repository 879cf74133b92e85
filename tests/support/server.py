"""The installed `hallmonitor` command: a server of a test's own, and the commands and API calls against it.

Each server has a directory with its configuration, state and output, and ports that were free. When it is closed,
every process that it started is gone.
"""

import errno
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import dns.message
import dns.rdataclass

from tests.support import processes
from tests.support.api import ApiReply, call
from tests.support.command import run
from tests.support.dns_client import Address, exchange, tcp_socket

COMMAND = Path(sys.executable).with_name("hallmonitor")
START_SECONDS = 120.0
STOP_SECONDS = 60.0
COMMAND_SECONDS = 120.0

Sections = Mapping[str, Mapping[str, object]]
"""Configuration by section and key."""

_TOKEN = re.compile(r"\bhm_[A-Za-z0-9_-]{8,}")


class NotStartedError(Exception):
    """The server ended, or did not answer in time; the message holds what it printed."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one command."""

    code: int
    out: str
    err: str

    def objects(self) -> list[dict[str, Any]]:
        """Return the JSON Lines that it printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    def object(self) -> dict[str, Any]:
        """Return the one JSON object that it printed."""
        value = json.loads(self.out)
        assert isinstance(value, dict), self.out
        return value


class HallMonitor:
    """A server in its own directory. Use it as a context manager, which starts and closes it, or call `start`."""

    def __init__(
        self,
        directory: Path,
        *,
        upstreams: Sequence[str] = (),
        workers: int = 1,
        database_url: str = "",
        settings: Sections | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """Write the configuration; nothing runs yet.

        Upstreams as the configuration has them. A prefix is a command that runs the server, as ``taskset -c 0``.
        """
        self.directory = directory
        self.config = directory / "hallmonitor.toml"
        self.state = directory / "var"
        self.dns: Address = ("127.0.0.1", free_port())
        self.admin: Address = ("127.0.0.1", free_port())
        self.process: subprocess.Popen[bytes] | None = None
        self._prefix = list(prefix)
        self._mark = uuid.uuid4().hex
        self._token = ""
        self._sections: dict[str, dict[str, object]] = {}
        directory.mkdir(parents=True, exist_ok=True)
        self.configure(
            {
                "server": {"listen": [f"{self.dns[0]}:{self.dns[1]}"], "workers": workers, "node": "test-node"},
                "state": {"directory": "./var"},
                "database": {"url": database_url},
                # Without one: the discard port, where nobody answers.
                "upstream": {"servers": list(upstreams) or ["udp://127.0.0.1:9"]},
                "admin": {"listen": f"{self.admin[0]}:{self.admin[1]}"},
            },
            settings or {},
        )

    def configure(self, *layers: Sections) -> None:
        """Lay settings over those that the configuration file has, and write it anew."""
        for layer in layers:
            for section, keys in layer.items():
                self._sections.setdefault(section, {}).update(keys)
        self.config.write_text(_toml(self._sections))

    # Its life.

    def start(self, *, wait: bool = True) -> Self:
        """Run `hallmonitor serve`; with `wait`, until API and DNS answer. Raises `NotStartedError`."""
        if self.process is not None and self.process.poll() is None:
            raise RuntimeError("it runs already")
        with self._output("serve.out").open("ab") as out, self._output("serve.err").open("ab") as err:
            command = [*self._prefix, str(COMMAND), "--config", str(self.config), "serve"]
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.directory, env=self._environment()
            )
        if wait:
            self.wait_until_ready()
        return self

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Return once the API says that it is well and DNS answers. Raises `NotStartedError`."""
        until = time.monotonic() + seconds
        while not (self.is_healthy() and self.answers()):
            if self.process is None or self.process.poll() is not None:
                code = None if self.process is None else self.process.returncode
                raise NotStartedError(f"hallmonitor serve ended with code {code}\n{self.output()}")
            if time.monotonic() > until:
                raise NotStartedError(f"hallmonitor serve did not answer within {seconds} s\n{self.output()}")
            time.sleep(0.05)

    def is_healthy(self) -> bool:
        """Tell whether ``/api/v1/health`` says 200."""
        try:
            return self.api("GET", "/health", token="").status == 200
        except OSError:
            return False

    def answers(self) -> bool:
        """Tell whether UDP and TCP take queries: one of a class that is never forwarded, so the log alone sees it."""
        probe = dns.message.make_query("ready.invalid", "TXT", rdclass=dns.rdataclass.CH)
        try:
            exchange(self.dns, probe.to_wire(), timeout=0.5)
            with tcp_socket(self.dns, timeout=0.5):
                return True
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        assert self.process is not None
        self.process.send_signal(number)

    def terminate(self, seconds: float = STOP_SECONDS) -> int:
        """Ask the supervisor to end (SIGTERM), wait for it, and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End the supervisor with SIGKILL; its workers are left to themselves."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    @property
    def supervisor_pid(self) -> int:
        """Return the supervisor's process."""
        assert self.process is not None
        return self.process.pid

    def pids(self) -> list[int]:
        """Return every living process that this server started, the supervisor and orphans among them."""
        return processes.marked(self._mark)

    def worker_pids(self) -> list[int]:
        """Return the living workers, orphans among them."""
        return [pid for pid in self.pids() if _is_worker(processes.arguments(pid))]

    def output(self) -> str:
        """Return all that `serve` has printed on both streams."""
        return "\n".join(self._output(name).read_text(errors="replace") for name in ("serve.out", "serve.err"))

    def close(self) -> None:
        """End all that this server started and see it gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        processes.kill(self.pids())
        processes.eventually(lambda: not self.pids())

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<HallMonitor dns={self.dns[1]} admin={self.admin[1]} pids={self.pids()}>"

    # Commands.

    def hallmonitor(
        self,
        *arguments: str,
        expect: int = 0,
        environ: Mapping[str, str] | None = None,
        seconds: float = COMMAND_SECONDS,
    ) -> Done:
        """Run one command under this server's configuration; an exit code other than the expected one fails."""
        environ = self._environment() | dict(environ or {})
        done = Done(*run(["--config", str(self.config), *arguments], self.directory, environ, seconds=seconds))
        said = f"hallmonitor {' '.join(arguments)}: exit code {done.code}\n{done.out}\n{done.err}"
        assert done.code == expect, said
        return done

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command that doesn't end by itself, as `logs tail`; it is ended on the way out."""
        command = [str(COMMAND), "--config", str(self.config), *arguments]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env=self._environment(),
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    # The API.

    @property
    def token(self) -> str:
        """Return an admin token: the one that the first start shows, otherwise one made by command."""
        if not self._token:
            found = _TOKEN.search(self.output()) if self.process is not None else None
            self._token = found[0] if found else self.new_token("test-admin", "admin")
        return self._token

    def new_token(self, name: str, role: str) -> str:
        """Make a token and return its secret."""
        return str(self.hallmonitor("tokens", "create", name, "--role", role, "--json").object()["token"])

    def api(
        self, method: str, path: str, json_body: object = None, *, token: str | None = None, **options: Any
    ) -> ApiReply:
        """Call the API as `tests.support.api.call` does, with the admin's token where none is given."""
        return call(self.admin, method, path, json_body, token=self.token if token is None else token, **options)

    def _output(self, name: str) -> Path:
        path = self.directory / name
        path.touch()
        return path

    def _environment(self) -> dict[str, str]:
        """Return our environment without settings of the product's, under the mark."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("HALLMONITOR_")}
        return environ | {processes.MARK: self._mark}


_given: deque[int] = deque(maxlen=1_000)


def free_port() -> int:
    """Return a port that is free for UDP and TCP on the loopback addresses, outside the range that clients are given.

    Each process that runs tests has a band of its own, and whatever else asks has one, so that none takes what another
    has just found. No port comes again soon: nobody may have bound it yet.
    """
    band = 20_000 + 2_400 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw4").removeprefix("gw")) % 5)
    while True:
        port = random.randint(band, band + 2_399)
        if port not in _given and _is_free(port):
            _given.append(port)
            return port


def _is_free(port: int) -> bool:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            try:
                with socket.socket(family, kind) as sock:
                    sock.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:  # otherwise there is no IPv6, and nobody to take it
                    return False
    return True


def accepts(port: int) -> bool:
    """Tell whether something takes TCP connections on a port of the loopback address."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _is_worker(arguments: list[str]) -> bool:
    return "-m" in arguments and "resolver" in arguments


def _toml(sections: Sections) -> str:
    """Return sections of numbers, truths, strings and lists as TOML, where they are written as in JSON."""
    return "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
        for section, keys in sections.items()
    )
