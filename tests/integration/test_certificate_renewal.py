"""A renewed certificate is taken without a restart; one that doesn't fit changes nothing."""

import logging
import shutil
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from resolver.listeners.certificates import CertificateError, Certificates, load
from tests.integration.encrypted_node import EncryptedNode
from tests.integration.listening import Client, listening
from tests.support.certificates import Authority, Identity
from tests.support.dns_client import udp
from tests.support.fake_upstream import FakeUpstream
from tests.support.processes import eventually
from tests.unit.resolver.bench import Bench


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> list[Identity]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return [authority.issue(name, "127.0.0.1") for name in ("first.example", "second.example")]


@pytest.fixture
def files(tmp_path: Path, identities: list[Identity]) -> Identity:
    """Give the files that the settings name; at first they are the first identity's."""
    named = Identity("", tmp_path / "dns.pem", tmp_path / "dns.key")
    replace(named.certificate, identities[0].certificate)
    replace(named.key, identities[0].key)
    return named


def replace(path: Path, by: Path) -> None:
    """Replace a file as certbot does, by another under its name."""
    shutil.copy(by, path.with_suffix(".new"))
    path.with_suffix(".new").rename(path)


def shown(client: Client) -> bytes:
    certificate = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert isinstance(certificate, bytes)
    return certificate


def der(identity: Identity) -> bytes:
    return ssl.PEM_cert_to_DER_cert(identity.certificate.read_text())


@pytest.mark.parametrize("transport", ["tls", "https"])
async def test_new_connections_get_the_new_one_and_standing_ones_go_on(
    bench: Bench, files: Identity, identities: list[Identity], transport: str
) -> None:
    async with listening(bench, files) as served:
        standing = await served.connect(transport)
        assert shown(standing) == der(identities[0])
        replace(files.certificate, identities[1].certificate)
        served.streams.look(time.monotonic())  # the key is yet to come
        assert shown(await served.connect(transport)) == der(identities[0])
        replace(files.key, identities[1].key)
        served.streams.look(time.monotonic())
        assert shown(await served.connect(transport)) == der(identities[1])
        if transport == "tls":
            standing.ask("bad.example")
            await standing.answer()


def test_one_that_cant_be_used_is_told_of_once(
    files: Identity, identities: list[Identity], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    certificates = Certificates(files.certificate, files.key)
    first = certificates.dot, certificates.doh
    replace(files.key, identities[1].key)
    for _ in range(3):
        certificates.refresh()
    assert (certificates.dot, certificates.doh) == first
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "the key is not the certificate's; the last one stays in use" in record.message
    replace(files.certificate, identities[1].certificate)
    certificates.refresh()
    assert certificates.dot is not first[0]
    assert certificates.doh is not first[1]
    assert "was read again" in caplog.messages[-1]
    certificates.refresh()
    assert len(caplog.records) == 2


def test_files_that_are_gone_for_a_while_change_nothing(files: Identity, identities: list[Identity]) -> None:
    certificates = Certificates(files.certificate, files.key)
    first = certificates.dot
    files.certificate.unlink()
    certificates.refresh()
    assert certificates.dot is first
    replace(files.certificate, identities[0].certificate)
    certificates.refresh()
    assert certificates.dot is not first


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        (b"", None, "no PEM file"),
        (b"junk", None, "no PEM file"),
        (None, b"", "no PEM file, or the key has a password"),
        (None, b"junk", "no PEM file, or the key has a password"),
    ],
)
def test_at_the_start_it_must_be_good(files: Identity, certificate: Any, key: Any, reason: str) -> None:
    for path, content in ((files.certificate, certificate), (files.key, key)):
        if content is not None:
            path.write_bytes(content)
    with pytest.raises(CertificateError, match=rf"^server\.certificate: .*dns\.pem .*{reason}"):
        load(files.certificate, files.key)


def test_a_key_with_a_password_is_asked_nobody_for(files: Identity) -> None:
    """OpenSSL would ask at the terminal."""
    locked = files.key.with_suffix(".locked")
    command = ["openssl", "ec", "-in", str(files.key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(CertificateError, match="the key has a password"):
        load(files.certificate, locked)


def test_a_worker_starts_without_a_pair_that_fits(tmp_path: Path) -> None:
    """Whatever lies in the files by then: plain DNS goes on, and TLS once the pair fits again."""
    with FakeUpstream() as upstream:
        node = EncryptedNode(tmp_path, upstream)
        server: Any = node.document["server"]
        certificate = Path(server["certificate"])
        good = certificate.read_bytes()
        certificate.write_text("half a file\n")
        worker = node.start()
        try:
            assert udp(node.server, "www.example").answer
            assert "status: NOERROR" not in node.kdig("www.example", "+tls").text
            assert "nobody is served over TLS and HTTPS until it can" in node.errors
            certificate.write_bytes(good)
            eventually(lambda: "status: NOERROR" in node.kdig("www.example", "+tls").text)
        finally:
            worker.close()
