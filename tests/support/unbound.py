"""Unbound as a name server that others wrote: one address for all that is asked over TLS or HTTPS, or signed zones."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.certificates import Identity
from tests.support.processes import eventually
from tests.support.server import accepts, free_port

ADDRESS = "192.0.2.1"
NOBODY = "127.255.255.254"
"""What is said to be the root's server: so that nobody outside is asked for what no zone has."""
_ALONE = [
    *("server:", "do-daemonize: no", 'username: ""', 'chroot: ""', 'directory: ""', 'pidfile: ""', "use-syslog: no"),
]
_NO_CONTROL = ["remote-control:", "control-enable: no"]


@contextmanager
def unbound(directory: Path, identity: Identity, scheme: str) -> Iterator[str]:
    """Serve on loopback over ``tls`` or ``https``, and yield what the product's configuration calls it.

    Every name below ``test`` is at one address.
    """
    port = free_port()
    lines = [
        *(f"interface: 127.0.0.1@{port}", f"port: {free_port()}", f"{scheme}-port: {port}"),
        *(f'tls-service-key: "{identity.key}"', f'tls-service-pem: "{identity.certificate}"'),
        *('local-zone: "test." redirect', f'local-data: "test. 3600 A {ADDRESS}"'),
    ]
    with _running(directory, lines, port):
        yield f"{scheme}://127.0.0.1:{port}#{identity.name}"


@contextmanager
def resolving(
    directory: Path, identity: Identity, zones: Mapping[str, Path], anchors: Sequence[Path] = ()
) -> Iterator[dict[str, str]]:
    """Resolve names of these zones, each in a file, and validate those that an anchor (a DNSKEY in a file) is for.

    Yields what the product's configuration calls it, by scheme: ``udp``, ``tcp`` and ``tls``.
    """
    plain, secured = free_port(), free_port()
    root = directory / "root.hints"
    root.write_text(f". 3600000 NS root.invalid.\nroot.invalid. 3600000 A {NOBODY}\n")
    lines = [
        *(f"interface: 127.0.0.1@{plain}", f"interface: 127.0.0.1@{secured}", f"port: {plain}", f"tls-port: {secured}"),
        *(f'tls-service-key: "{identity.key}"', f'tls-service-pem: "{identity.certificate}"'),
        *('module-config: "validator iterator"', "do-not-query-localhost: no", f'root-hints: "{root}"'),
        *(f'trust-anchor-file: "{anchor}"' for anchor in anchors),
    ]
    for name, path in zones.items():
        lines += ["auth-zone:", f'name: "{name}"', f'zonefile: "{path}"', "for-downstream: no", "for-upstream: yes"]
    with _running(directory, lines, plain):
        address = f"127.0.0.1:{plain}"
        yield {
            "udp": f"udp://{address}",
            "tcp": f"tcp://{address}",
            "tls": f"tls://127.0.0.1:{secured}#{identity.name}",
        }


@contextmanager
def _running(directory: Path, lines: Sequence[str], port: int) -> Iterator[None]:
    path = directory / "unbound.conf"
    path.write_text("\n".join([*_ALONE, *lines, *_NO_CONTROL]) + "\n")
    errors = directory / "unbound.err"
    with (
        errors.open("wb") as output,
        subprocess.Popen(["unbound", "-c", str(path)], stdout=output, stderr=output) as process,
    ):
        try:
            eventually(lambda: accepts(port) or process.poll() is not None)
            assert process.poll() is None, errors.read_text()
            yield
        finally:
            process.kill()


def signed(directory: Path, name: str, text: str) -> tuple[Path, Path]:
    """Sign a zone with ldns; return the signed zone's file and its key's."""
    keys = directory / "keys"
    keys.mkdir(exist_ok=True)
    source = keys / name
    source.write_text(text)
    key = _ldns(keys, "ldns-keygen", "-a", "ECDSAP256SHA256", "-k", name).strip()
    _ldns(keys, "ldns-signzone", "-o", name, "-f", f"{name}.signed", name, key)
    return keys / f"{name}.signed", keys / f"{key}.key"


def _ldns(directory: Path, *command: str) -> str:
    done = subprocess.run(command, check=True, cwd=directory, capture_output=True, text=True, timeout=60)
    return done.stdout
