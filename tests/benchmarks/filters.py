"""Other name servers that filter, each with the same names in its own form, and the ways in which each takes a change.

One process and one thread each, no log, no cache to speak of, and default buffers: what is compared is the list.
"""

import contextlib
import re
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import dns.message
import dns.rcode

from tests.benchmarks.contestants import version_of
from tests.benchmarks.dataset import Dataset
from tests.support.dns_client import Address, exchange
from tests.support.server import free_port

START_SECONDS = 600.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.05


class Change(NamedTuple):
    """A way to bring a few more names into force while the server runs."""

    how: str
    prepare: Callable[[Sequence[str]], None]
    """Write the names down, where the server will look for them."""
    apply: Callable[[], None]
    """Tell the server; it may return before the names are in force."""


class Filter(ABC):
    """A server with a list."""

    name: ClassVar[str]
    address: Address

    @abstractmethod
    def version(self) -> str:
        """Return the version as the command tells it."""

    @abstractmethod
    def start(self) -> None:
        """Run the server. Returns before it answers."""

    @abstractmethod
    def pids(self) -> list[int]:
        """Return its processes."""

    @abstractmethod
    def output(self) -> str:
        """Return what it has printed."""

    @abstractmethod
    def changes(self) -> list[Change]:
        """Return the ways in which it takes changes."""

    @abstractmethod
    def close(self) -> None:
        """End the server."""

    def start_until_blocks(self, name: str) -> float:
        """Run the server and return how many seconds it took until it blocked a listed name."""
        begun = time.monotonic()
        self.start()
        while not self.blocks(name):
            if not self.pids() or time.monotonic() - begun > START_SECONDS:
                raise RuntimeError(f"{self.name} does not start:\n{self.output()}")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - begun

    def blocks(self, name: str) -> bool:
        """Tell whether the server answers that a name doesn't exist."""
        try:
            answer = exchange(self.address, dns.message.make_query(name, "A").to_wire(), timeout=1.0)
        except OSError:
            return False
        return answer[3] & 0x0F == dns.rcode.NXDOMAIN


class Peer(Filter):
    """A server of one process that reads its list from one file."""

    program: ClassVar[str]
    form: ClassVar[bytes]
    """A line of the list; ``\\1`` stands for the name."""
    needs: ClassVar[int]
    """Octets of memory a name at the worst moment of a reload, measured and rounded up."""

    def __init__(self, directory: Path, upstream: Address, dataset: Dataset) -> None:
        self.directory = directory / re.sub(r"\W+", "-", self.name.lower())
        self.directory.mkdir()
        self.upstream = upstream
        self.address = ("127.0.0.1", free_port())
        self.list = self.directory / "list"
        self._dataset = dataset
        self._process: subprocess.Popen[bytes] | None = None
        self.write(())

    def write(self, new: Iterable[str]) -> None:
        """Write the list, and some names more."""
        names = self._dataset.everything.read_bytes() + "".join(f"{name}\n" for name in new).encode()
        self.list.write_bytes(self.head() + self.lines(names))

    def head(self) -> bytes:
        """Return what the list begins with."""
        return b""

    def lines(self, names: bytes) -> bytes:
        """Return names in this server's form."""
        return re.sub(rb"(?m)^(.+)$", self.form, names)

    @abstractmethod
    def command(self) -> list[str]:
        """Write the configuration and return how the server is started, in the foreground."""

    def start(self) -> None:
        """Run the command."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.directory
            )

    def output(self) -> str:
        """Return the end of what it has printed."""
        return self._output.read_text(errors="replace")[-2_000:]

    @property
    def _output(self) -> Path:
        return self.directory / "output"

    def pids(self) -> list[int]:
        """Return the process."""
        return [] if self._process is None or self._process.poll() is not None else [self._process.pid]

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
            self._process.kill()
            self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(number)


class Unbound(Peer):
    """Unbound with each name as a local zone."""

    program = "unbound"
    name = "Unbound local-zone"
    form = rb'local-zone: "\1" always_nxdomain'
    needs = 600
    modules = "iterator"

    def version(self) -> str:
        """Return ``1.17.1``, say."""
        return version_of("unbound", "-V")

    def head(self) -> bytes:
        """Say which section the lines belong to."""
        return b"server:\n"

    def command(self) -> list[str]:
        """Write its configuration."""
        host, port = self.upstream
        lines = [
            "server:",
            *("do-daemonize: no", 'username: ""', 'chroot: ""', 'directory: ""', 'pidfile: ""', "num-threads: 1"),
            *(f"interface: {self.address[0]}", f"port: {self.address[1]}", "do-not-query-localhost: no"),
            *("use-syslog: no", f'module-config: "{self.modules}"'),
            *("forward-zone:", 'name: "."', f"forward-addr: {host}@{port}"),
            *("remote-control:", "control-enable: yes", "control-use-cert: no"),
            f'control-interface: "{self.directory / "control"}"',
            *self.uses_list(),
        ]
        self._configuration.write_text("\n".join(lines) + "\n")
        return ["unbound", "-c", str(self._configuration)]

    def uses_list(self) -> list[str]:
        """Return the lines that bring the list in."""
        return [f'include: "{self.list}"']

    def changes(self) -> list[Change]:
        """Read all anew; or tell the names alone, which are forgotten when the server ends."""
        return [
            Change("unbound-control local_zones", self._write_zones, self._add_zones),
            Change("unbound-control reload", self.write, lambda: self.control("reload")),
        ]

    def control(self, *arguments: str, given: bytes = b"") -> None:
        """Run unbound-control."""
        command = ["unbound-control", "-c", str(self._configuration), *arguments]
        subprocess.run(command, check=True, input=given, capture_output=True, timeout=START_SECONDS)

    @property
    def _configuration(self) -> Path:
        return self.directory / "unbound.conf"

    @property
    def _zones(self) -> Path:
        return self.directory / "zones"

    def _write_zones(self, new: Iterable[str]) -> None:
        self._zones.write_text("".join(f"{name} always_nxdomain\n" for name in new))

    def _add_zones(self) -> None:
        self.control("local_zones", given=self._zones.read_bytes())


class UnboundRpz(Unbound):
    """Unbound with the names in a response policy zone: two records each, for the name and what is below it."""

    name = "Unbound RPZ"
    form = rb"\1 CNAME .\n*.\1 CNAME ."
    needs = 1_500
    modules = "respip iterator"

    def head(self) -> bytes:
        """Make the list a zone file."""
        soa = b"@ SOA localhost. hostmaster.localhost. 1 3600 600 86400 60"
        return b"$ORIGIN rpz.example.\n$TTL 60\n" + soa + b"\n@ NS localhost.\n"

    def uses_list(self) -> list[str]:
        """Return the zone's section."""
        return ["rpz:", 'name: "rpz.example"', f'zonefile: "{self.list}"']

    def changes(self) -> list[Change]:
        """Read the zone anew."""
        apply = lambda: self.control("auth_zone_reload", "rpz.example")  # noqa: E731 - one line, named by its place
        return [Change("unbound-control auth_zone_reload", self.write, apply)]


class Dnsmasq(Peer):
    """dnsmasq with each name as an `address=`, which it reads when it starts alone."""

    program = "dnsmasq"
    name = "dnsmasq address="
    form = rb"address=/\1/"
    needs = 150
    option = "conf-file"

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
            *("log-facility=-", "cache-size=10000", f"{self.option}={self.list}"),
        ]
        path.write_text("\n".join(lines) + "\n")
        return ["dnsmasq", f"--conf-file={path}"]

    def changes(self) -> list[Change]:
        """End and start again."""
        return [Change("restart", self.write, self._restart)]

    def _restart(self) -> None:
        self.close()
        self.start()


class DnsmasqServers(Dnsmasq):
    """dnsmasq with each name as a `server=` without a server, in the one file of that kind that it can read again."""

    name = "dnsmasq server="
    form = rb"server=/\1/"
    option = "servers-file"

    def changes(self) -> list[Change]:
        """Read the file anew."""
        return [Change("SIGHUP", self.write, lambda: self.signal(signal.SIGHUP))]


PEERS: tuple[type[Peer], ...] = (Unbound, UnboundRpz, Dnsmasq, DnsmasqServers)
