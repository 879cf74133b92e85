import pytest

from admin_api.hosts import is_ours


@pytest.mark.parametrize(
    "header",
    [
        "127.0.0.1:8053",
        "127.0.0.1",
        "192.0.2.7:8053",
        "[::1]:8053",
        "[2001:db8::1]",
        "localhost",
        "LOCALHOST:8053",
        "localhost.:8053",
        "filter.district.example",
        "Filter.District.Example.:443",
    ],
)
def test_addresses_loopback_and_configured_names_are_ours(header: str) -> None:
    assert is_ours(header, ["filter.district.example"])


@pytest.mark.parametrize(
    "header",
    [
        "",
        "attacker.example",
        "127.0.0.1.attacker.example",
        "localhost.attacker.example",
        "localhost:8053:1",
        "localhost:port",
        "[::1",
        "[::1]x",
        "[localhost]",
        "[127.0.0.1]",
        "::1",
        "user@localhost",
        "x.filter.district.example",
    ],
)
def test_everything_else_is_somebody_elses(header: str) -> None:
    assert not is_ours(header, ["filter.district.example"])
