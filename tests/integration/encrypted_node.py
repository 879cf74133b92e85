"""A node that serves TLS and HTTPS too, asked by programs that others wrote: kdig and curl."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.integration.node import Node
from tests.support.certificates import Authority
from tests.support.dns_client import Dig, parse_dig
from tests.support.fake_upstream import FakeUpstream
from tests.support.server import free_port


class EncryptedNode(Node):
    """A node with a certificate, and ports for TLS and HTTPS."""

    def __init__(self, directory: Path, upstream: FakeUpstream, /, **document: Any) -> None:
        super().__init__(directory, upstream, **document)
        self.authority = Authority(directory)
        identity = self.authority.issue("dns.example", "127.0.0.1")
        self.tls, self.https = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
        self.url = f"https://127.0.0.1:{self.https[1]}/dns-query"
        server = self.document["server"]
        assert isinstance(server, dict)
        server |= {
            "tls_listen": [f"127.0.0.1:{self.tls[1]}"],
            "https_listen": [f"127.0.0.1:{self.https[1]}"],
            "certificate": str(identity.certificate),
            "private_key": str(identity.key),
        }

    def kdig(self, name: str, *options: str) -> Dig:
        """Ask with kdig, which checks the certificate."""
        port = self.tls[1] if "+tls" in options else self.https[1]
        trust = [f"+tls-ca={self.authority.certificate}", "+tls-hostname=dns.example"]
        command = ["kdig", "@127.0.0.1", "-p", str(port), *options, *trust, "+retry=0", "+timeout=10", name, "A"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
        return parse_dig(done.stdout + done.stderr)

    def curl(self, *arguments: str, body: bytes = b"") -> "Fetched":
        """Ask with curl, which checks the certificate; a body comes on its standard input."""
        told = '%{stderr}{"status": %{response_code}, "version": "%{http_version}", "fields": %{header_json}}'
        command = ["curl", "--silent", "--cacert", str(self.authority.certificate), "--max-time", "10", "-w", told]
        done = subprocess.run([*command, *arguments], input=body, check=True, capture_output=True, timeout=20)
        return Fetched(done.stdout, **json.loads(done.stderr))


class Fetched:
    """What curl got."""

    def __init__(self, body: bytes, status: int, version: str, fields: dict[str, list[str]]) -> None:
        self.body, self.status, self.version = body, status, version
        self.fields = {name: values[0] for name, values in fields.items()}
