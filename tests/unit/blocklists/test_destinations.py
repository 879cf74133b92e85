"""Where a fetch may go, and where not."""

import socket
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from blocklists.destinations import ForbiddenAddressError, PublicResolver, check, is_public, literal


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
        *(
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
        ),
        *("192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1"),
        *("255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254"),
        *("fe80::1", "fe80::1%lo", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "2001::1"),
        *("2002:7f00:1::", "2002:a00:1::1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1"),
        *("3fff::1", "4000::1"),
    ],
)
def test_address_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(ForbiddenAddressError, match=r"lists\.example \(.+\) is not on the public internet"):
        check("lists.example", address)


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "9.9.9.9", "172.15.255.255", "172.32.0.1", "192.0.1.1", "223.255.255.255", "100.63.255.255"),
        *("2606:4700:4700::1111", "2620:fe::fe", "::ffff:9.9.9.9", "64:ff9b::9.9.9.9", "2002:909:909::1"),
    ],
)  # addresses of public resolvers, and neighbours of special networks: nothing is sent to any
def test_address_is_public(address: str) -> None:
    assert is_public(ip_address(address))
    check("lists.example", address)


def test_addresses_in_urls_are_told_from_names() -> None:
    assert literal("127.0.0.1") == "127.0.0.1"
    assert literal("[::1]") == "::1"
    assert literal("::1") == "::1"
    assert literal("fe80::1%lo") == "fe80::1%lo"
    assert literal("a.example") is None
    assert literal("127.1") is None  # the system's resolver knows what it is, and then it is checked


def answering(*addresses: str) -> Callable[..., list[object]]:
    """Return a `socket.getaddrinfo` that finds these addresses for every name."""

    def getaddrinfo(_host: str, port: int, **_options: object) -> list[object]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    return lambda host, port, *options: getaddrinfo(host, port)


async def test_resolver_gives_what_it_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering("9.9.9.9", "2620:fe::fe"))
    resolver = PublicResolver()
    found = await resolver.resolve("lists.example", 443)
    assert [result["host"] for result in found] == ["9.9.9.9", "2620:fe::fe"]
    await resolver.close()


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("9.9.9.9", "10.0.0.1"), ("2620:fe::fe", "::1")])
async def test_resolver_refuses_a_host_with_any_private_address(
    monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...]
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering(*addresses))
    with pytest.raises(ForbiddenAddressError, match=addresses[-1]):
        await PublicResolver().resolve("lists.example", 443)
