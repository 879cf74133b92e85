"""TLS without sockets: Python's own client side speaks to ours."""

import gc
import ssl
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.listeners.certificates import Certificates
from resolver.listeners.layers import Plain, Tls, TlsError
from tests.support.certificates import Authority


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    identity = Authority(tmp_path_factory.mktemp("authority")).issue("dns.example", "127.0.0.1")
    return Certificates(identity.certificate, identity.key)


class Client:
    """The other end of a layer."""

    def __init__(self, layer: Tls, *protocols: str, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, newest
        if protocols:
            context.set_alpn_protocols(list(protocols))
        self.layer = layer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)

    def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.exchange()
            else:
                self.exchange()
                return

    def exchange(self) -> None:
        if self.outgoing.pending:
            self.layer.receive(self.outgoing.read())
        self.incoming.write(self.layer.output())


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("served", "offered", "agreed"),
    [
        ("dot", ["dot"], "dot"),
        ("dot", [], None),
        ("dot", ["h2"], None),
        ("doh", ["http/1.1", "h2"], "h2"),
        ("doh", ["http/1.1"], "http/1.1"),
        ("doh", [], None),
    ],
)
def test_hands_are_shaken_and_a_protocol_agreed_on(
    certificates: Certificates, newest: ssl.TLSVersion, served: str, offered: list[str], agreed: str | None
) -> None:
    layer = Tls(getattr(certificates, served))
    client = Client(layer, *offered, newest=newest)
    assert not layer.is_established
    client.shake_hands()
    assert layer.is_established
    assert layer.protocol == agreed
    assert client.tls.version() == ("TLSv1.2" if newest == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")


def test_octets_pass_both_ways_in_bites(certificates: Certificates) -> None:
    layer = Tls(certificates.dot)
    client = Client(layer)
    client.shake_hands()
    assert (layer.read(100), layer.has_more) == (b"", False)
    client.tls.write(bytes(150))
    client.tls.write(b"next")
    client.exchange()
    assert layer.has_more
    assert (layer.read(100), layer.has_more) == (bytes(100), True)
    assert (layer.read(100), layer.has_more) == (bytes(50), True)
    assert (layer.read(100), layer.has_more) == (b"next", False)
    answer = b"a" * 100_000
    layer.write(answer)
    client.exchange()
    found = b""
    while len(found) < len(answer):
        found += client.tls.read(20_000)
    assert found == answer


def test_a_record_that_is_not_whole_brings_nothing_and_isnt_asked_for_again(certificates: Certificates) -> None:
    layer = Tls(certificates.dot)
    client = Client(layer)
    client.shake_hands()
    client.tls.write(b"message")
    record = client.outgoing.read()
    for octet in record[:-1]:
        layer.receive(bytes([octet]))
        assert (layer.read(100), layer.has_more, layer.is_over) == (b"", False, False)
    layer.receive(record[-1:])
    assert layer.read(100) == b"message"


def test_each_side_hears_the_others_goodbye(certificates: Certificates) -> None:
    layer = Tls(certificates.dot)
    client = Client(layer)
    client.shake_hands()
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    client.exchange()
    assert layer.read(100) == b""
    assert layer.is_over
    layer.close()
    client.exchange()
    client.tls.unwrap()


def test_a_goodbye_before_hands_were_shaken_is_none(certificates: Certificates) -> None:
    layer = Tls(certificates.dot)
    layer.close()
    assert layer.output() == b""


def test_renegotiation_is_refused(certificates: Certificates) -> None:
    """RFC 9325 section 3.5."""
    assert certificates.dot.options & ssl.OP_NO_RENEGOTIATION
    assert certificates.doh.options & ssl.OP_NO_RENEGOTIATION


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1), st.booleans())
def test_whatever_octets_come_it_reads_them_or_says_that_they_are_no_tls(
    certificates: Certificates, pieces: list[bytes], after_handshake: bool
) -> None:
    layer = Tls(certificates.dot)
    if after_handshake:
        Client(layer).shake_hands()
    try:
        for piece in pieces:
            layer.receive(piece)
            assert layer.read(100) == b""
    except TlsError:
        layer.close()
        layer.output()


def test_without_tls_octets_pass_as_they_are() -> None:
    layer = Plain()
    layer.receive(b"abc")
    layer.receive(b"de")
    assert (layer.read(4), layer.has_more) == (b"abcd", True)
    assert (layer.read(4), layer.has_more) == (b"e", False)
    layer.write(b"12")
    layer.write(b"3")
    assert (layer.output(), layer.output()) == (b"123", b"")


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_it_is_gone_without_the_collector(certificates: Certificates, tmp_path: Path) -> None:
    layer = Tls(certificates.dot)
    Client(layer).shake_hands()
    gone = weakref.ref(layer._object)
    del layer
    assert gone() is None
