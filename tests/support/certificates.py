"""A certificate authority for one test, made with the `openssl` command: keys and certificates as files."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True)
class Identity:
    """A server's certificate and key."""

    name: str
    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """Return what a server needs to show the certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class Authority:
    """Issues certificates; clients trust them through `certificate`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.certificate = directory / "authority.pem"
        self._key = directory / "authority.key"
        _openssl(
            *("req", "-x509", *_KEY, "-keyout", self._key, "-out", self.certificate, "-days", "2"),
            *("-subj", "/CN=Test authority", "-addext", "basicConstraints=critical,CA:TRUE"),
        )

    def issue(self, name: str, *addresses: str, days: int = 1) -> Identity:
        """Return a new identity for a DNS name and IP addresses, expired already if the days are below zero."""
        request, key, certificate = (self._directory / f"{name}{suffix}" for suffix in (".csr", ".key", ".pem"))
        extensions = self._directory / f"{name}.ext"
        alternatives = [f"DNS:{name}", *(f"IP:{address}" for address in addresses)]
        extensions.write_text(f"subjectAltName={','.join(alternatives)}\nextendedKeyUsage=serverAuth\n")
        _openssl("req", "-new", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            *("x509", "-req", "-in", request, "-out", certificate, "-days", str(days), "-extfile", extensions),
            *("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"),
        )
        return Identity(name, certificate, key)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)
