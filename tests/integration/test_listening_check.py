"""What can't be listened on is found before a worker is started, and told in a sentence that names the setting."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from control import listening
from control.errors import ListenError
from settings import Server, from_document
from tests.support.certificates import Authority, Identity
from tests.support.server import HallMonitor, NotStartedError, free_port

SETTINGS = ["listen", "tls_listen", "https_listen"]
Make = Callable[..., Server]


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> list[Identity]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return [authority.issue(name, "127.0.0.1") for name in ("first.example", "second.example")]


@pytest.fixture
def server(identities: list[Identity]) -> Make:
    """Make settings: free ports, and what is said otherwise."""

    def make(**keys: object) -> Server:
        document = {setting: [f"127.0.0.1:{free_port()}"] for setting in SETTINGS}
        files = {"certificate": str(identities[0].certificate), "private_key": str(identities[0].key)}
        return from_document({"server": document | files | keys}, Path("/")).server

    return make


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", free_port())) as sock:
        yield f"127.0.0.1:{sock.getsockname()[1]}"


def test_free_ports_and_a_certificate_will_do(server: Make) -> None:
    listening.check(server())


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_port_that_is_taken_is_told_by_its_setting(server: Make, taken: str, setting: str) -> None:
    with pytest.raises(ListenError, match=rf"^server\.{setting}: {taken} can't be used: Address already in use$"):
        listening.check(server(**{setting: [taken]}))


def test_what_is_served_already_is_no_obstacle(server: Make, taken: str) -> None:
    before = server(tls_listen=[taken])
    listening.check(before, before)
    with pytest.raises(ListenError, match=r"server\.tls_listen"):
        listening.check(before, server())


@pytest.mark.parametrize("setting", ["tls_listen", "https_listen"])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_one_port_is_for_one_service(server: Make, setting: str, host: str) -> None:
    """The kernel would let both have it, as it lets workers, and give each some of the connections."""
    port = free_port()
    keys = {"listen": [f"127.0.0.1:{port}"], setting: [f"{host}:{port}"]}
    with pytest.raises(ListenError, match=rf"^server\.{setting}: 127\.0\.0\.1:{port} is listened on for something"):
        listening.check(server(**keys))


def test_a_certificate_that_cant_be_used_is_told(server: Make, identities: list[Identity]) -> None:
    with pytest.raises(ListenError, match=r"^server\.certificate: .* the key is not the certificate's$"):
        listening.check(server(private_key=str(identities[1].key)))
    listening.check(server(private_key=str(identities[1].key), tls_listen=[], https_listen=[]))


def test_a_certificate_without_the_servers_name_is_told(
    server: Make, identities: list[Identity], caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9525: a name is proved by the certificate's own, whoever issued it."""
    certificate = identities[0].certificate
    (problem,) = listening.misnamed(server(name="other.example"))
    assert problem.startswith(f"server.name: {certificate} doesn't carry other.example, ")
    assert list(listening.misnamed(server(name="first.example"))) == []
    assert list(listening.misnamed(server())) == []
    assert list(listening.misnamed(server(name="other.example", tls_listen=[], https_listen=[]))) == []
    listening.check(server(name="other.example"))  # it can be served by
    listening.warn(server(name="other.example"))
    assert caplog.messages == [problem]


def test_a_certificate_without_the_servers_address_is_told(server: Make, tmp_path: Path) -> None:
    """RFC 9462 section 4.2; of addresses that only this host has, nobody else asks."""
    identity = Authority(tmp_path).issue("dns.example", "192.0.2.53", "2001:db8::53")
    files = {"certificate": str(identity.certificate), "private_key": str(identity.key), "name": "dns.example"}
    carried = ["192.0.2.53:53", "[2001:db8::53]:53", "127.0.0.1:53", "[::1]:53"]
    assert list(listening.unproved(server(**files, listen=carried))) == []
    (problem,) = listening.unproved(server(**files, listen=[*carried, "192.0.2.54:53"]))
    assert problem.startswith(f"server.certificate: {identity.certificate} doesn't carry 192.0.2.54: ")
    assert list(listening.unproved(server(**files | {"name": ""}, listen=["192.0.2.54:53"]))) == []


def test_a_certificate_that_is_over_still_has_its_names(server: Make, tmp_path: Path) -> None:
    identity = Authority(tmp_path).issue("dns.example", days=-1)
    files = {"certificate": str(identity.certificate), "private_key": str(identity.key)}
    assert list(listening.misnamed(server(**files, name="dns.example"))) == []
    assert len(list(listening.misnamed(server(**files, name="other.example")))) == 1


def test_serve_says_so_and_ends(tmp_path: Path, identities: list[Identity]) -> None:
    files = {"certificate": str(identities[0].certificate), "private_key": str(identities[1].key)}
    node = HallMonitor(tmp_path, settings={"server": {"tls_listen": [f"127.0.0.1:{free_port()}"], **files}})
    try:
        with pytest.raises(NotStartedError, match="ended with code 1"):
            node.start()
        lines = [line for line in node.output().splitlines() if line.strip()]
        assert len(lines) == 1
        assert "server.certificate: " in lines[0]
        assert lines[0].endswith("the key is not the certificate's")
    finally:
        node.close()
