"""TLS towards upstreams as octets; a server side of the standard library's reads what ours writes."""

import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from resolver.upstreams.tls import TlsClient, TlsError, tls_context
from tests.support.certificates import Authority, Identity


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.issue("dns.example")


class Server:
    """A server's side of one connection."""

    def __init__(self, identity: Identity) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = identity.server_context().wrap_bio(self.incoming, self.outgoing, server_side=True)

    def shake_hands(self, octets: bytes) -> bytes:
        self.incoming.write(octets)
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()


@pytest.fixture
def client(authority: Authority) -> TlsClient:
    return TlsClient(tls_context(str(authority.certificate), ["dot"]), "dns.example")


def test_what_is_said_arrives_and_the_farewell_ends_it(client: TlsClient, identity: Identity) -> None:
    server, tls = Server(identity), client.connection()
    assert tls.receive(server.shake_hands(tls.start())) == b""
    assert tls.is_established
    tls.receive(server.shake_hands(tls.send(b"asked")))  # tickets
    assert server.tls.read() == b"asked"
    server.tls.write(b"answered")
    with pytest.raises(ssl.SSLWantReadError):
        server.tls.unwrap()
    assert tls.receive(server.outgoing.read()) == b"answered"
    assert tls.is_ended


def test_octets_that_were_changed_on_the_way_are_a_fault(client: TlsClient, identity: Identity) -> None:
    server, tls = Server(identity), client.connection()
    tls.receive(server.shake_hands(tls.start()))
    tls.receive(server.shake_hands(tls.send(b"")))
    server.tls.write(b"answered")
    octets = bytearray(server.outgoing.read())
    octets[-1] ^= 1
    with pytest.raises(TlsError, match="TLS failed: "):
        tls.receive(bytes(octets))


def test_an_end_within_the_handshake_leaves_no_session(client: TlsClient) -> None:
    tls = client.connection()
    tls.start()
    tls.finish()
    assert client.session is None


def test_where_authorities_can_not_be_read_nobody_is_trusted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They were there when the service was configured: that they are gone is no reason to answer nobody."""
    (tmp_path / "empty.pem").touch()
    for name in ("missing.pem", "empty.pem"):
        context = tls_context(str(tmp_path / name), ["dot"])
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.cert_store_stats()["x509_ca"] == 0
        assert f"upstream.ca_file: {tmp_path / name} can't be used" in caplog.text
