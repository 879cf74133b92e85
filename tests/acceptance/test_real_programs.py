"""Between programs that others wrote: Unbound is asked over UDP, TCP and TLS, and dig, kdig and drill ask us."""

import re
import subprocess
from collections.abc import Iterator
from itertools import cycle
from typing import Any, NamedTuple

import pytest

from tests.support.behaviours import answering
from tests.support.certificates import Authority, Identity
from tests.support.dns_client import Dig, parse_dig
from tests.support.fake_upstream import FakeUpstream
from tests.support.server import HallMonitor
from tests.support.unbound import resolving, signed

CLIENTS = ["dig", "kdig", "drill"]
BLOCKED = "pokerstars.com"
"""In the starter list of gambling, which all groups block."""
HEAD = """$TTL 300
@ IN SOA ns host 1 3600 600 86400 60
@ IN NS ns
ns IN A 192.0.2.53
"""
PLAIN = (
    HEAD
    + "www IN A 192.0.2.10\nwww IN AAAA 2001:db8::10\nalias IN CNAME far.away\nfar.away IN A 192.0.2.11\n"
    + "".join(f'big IN TXT "{number:03d}{"x" * 200}"\n' for number in range(20))
)
SIGNED = HEAD + "www IN A 192.0.2.20\nbogus IN A 192.0.2.21\n"


class Setting(NamedTuple):
    """A server, and what it calls the Unbound that it asks."""

    server: HallMonitor
    upstream: str


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Identity]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return authority, authority.issue("dns.example", "127.0.0.1")


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory, identity: tuple[Authority, Identity]) -> Iterator[dict[str, str]]:
    """Give an Unbound with an unsigned zone and a signed one, in which one record was changed after the signing."""
    directory = tmp_path_factory.mktemp("unbound")
    plain = directory / "plain.example"
    plain.write_text(PLAIN)
    zone, key = signed(directory, "signed.example", SIGNED)
    zone.write_text(zone.read_text().replace("192.0.2.21", "192.0.2.66"))
    with resolving(directory, identity[1], {"plain.example": plain, "signed.example": zone}, [key]) as found:
        yield found


@pytest.fixture(scope="module", params=["udp", "tcp", "tls"])
def setting(
    request: pytest.FixtureRequest,
    urls: dict[str, str],
    identity: tuple[Authority, Identity],
    upstream: FakeUpstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Setting]:
    """Give a server that asks Unbound in each of the ways, and others for a zone of the district's own."""
    upstream.behave("dc.ad.example", answering("@ 300 A 10.20.30.40"))
    settings: dict[str, dict[str, object]] = {
        "upstream": {"ca_file": str(identity[0].certificate)},
        "upstream.zones": {'"ad.example"': [upstream.url]},
        "local": {"records": ["printer.district.example A 10.1.2.3"]},
    }
    url = urls[request.param]
    with HallMonitor(tmp_path_factory.mktemp("server"), upstreams=[url], settings=settings) as running:
        yield Setting(running, url)


def ask(client: str, setting: Setting, name: str, rdtype: str = "A", *options: str) -> Dig:
    """Ask with a program; what it prints is read as dig's."""
    host, port = setting.server.dns
    command = {
        "dig": ["dig", f"@{host}", "-p", str(port), "+tries=1", "+time=10", *options, name, rdtype],
        "kdig": ["kdig", f"@{host}", "-p", str(port), "+retry=0", "+timeout=10", "+edns", *options, name, rdtype],
        "drill": ["drill", "-p", str(port), *options, name, f"@{host}", rdtype],
    }[client]
    text = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30).stdout
    text = re.sub(r"opcode: (\w+)[;,] (?:status|rcode): (\w+)[;,]", r"opcode: \1, status: \2,", text)
    text = re.sub(r"^;; \w+ SECTION:\n\n", "", text, flags=re.MULTILINE)  # drill shows those that are empty
    return parse_dig(re.sub(r"^;; Flags:", ";; flags:", text, flags=re.MULTILINE))


def logged(setting: Setting, name: str) -> list[dict[str, Any]]:
    """Return what the log has about a name, newest first."""
    items: list[dict[str, Any]] = setting.server.api("GET", f"/lookups?name={name}").json()["items"]
    return items


def was_logged(setting: Setting, name: str, count: int, **fields: object) -> None:
    """See that the log has so many lookups of a name, all with these fields."""
    records = logged(setting, name)
    assert len(records) == count
    for record in records:
        assert {key: record[key] for key in fields} == fields


def test_an_answer(setting: Setting) -> None:
    for client in CLIENTS:
        for rdtype, rdata in (("A", "192.0.2.10"), ("AAAA", "2001:db8::10")):
            said = ask(client, setting, "www.plain.example", rdtype)
            assert (said.status, said.rdata) == ("NOERROR", [rdata])
            assert {"qr", "rd", "ra"} <= said.flags
            assert "ad" not in said.flags
    was_logged(setting, "www.plain.example", 6, verdict="allowed", rcode="NOERROR", upstream=setting.upstream)
    assert [record["cached"] for record in logged(setting, "www.plain.example")].count(False) == 2


def test_a_name_that_is_not_there(setting: Setting) -> None:
    for client in CLIENTS:
        said = ask(client, setting, "gone.plain.example")
        assert (said.status, said.answer) == ("NXDOMAIN", [])
        assert [record.rdtype for record in said.authority] == ["SOA"]
        assert said.authority[0].ttl <= 60
    was_logged(setting, "gone.plain.example", 3, verdict="allowed", rcode="NXDOMAIN")


def test_a_type_that_is_not_there(setting: Setting) -> None:
    for client in CLIENTS:
        said = ask(client, setting, "ns.plain.example", "AAAA")
        assert (said.status, said.answer) == ("NOERROR", [])
        assert [record.rdtype for record in said.authority] == ["SOA"]
    was_logged(setting, "ns.plain.example", 3, rcode="NOERROR", qtype="AAAA")


def test_an_alias(setting: Setting) -> None:
    for client in CLIENTS:
        said = ask(client, setting, "alias.plain.example")
        assert [(record.name, record.rdtype, record.rdata) for record in said.answer] == [
            ("alias.plain.example", "CNAME", "far.away.plain.example."),
            ("far.away.plain.example", "A", "192.0.2.11"),
        ]
    was_logged(setting, "alias.plain.example", 3, verdict="allowed", rcode="NOERROR")


def test_an_answer_too_large_for_a_datagram(setting: Setting) -> None:
    """Who learns that it is cut asks again over TCP: dig and kdig do by themselves."""
    for client in ("dig", "kdig"):
        assert len(ask(client, setting, "big.plain.example", "TXT").answer) == 20
    assert "tc" in ask("drill", setting, "big.plain.example", "TXT").flags
    assert len(ask("drill", setting, "big.plain.example", "TXT", "-t").answer) == 20
    transports = [record["transport"] for record in logged(setting, "big.plain.example")]
    assert sorted(transports) == ["tcp"] * 3 + ["udp"] * 3
    cut = ask("dig", setting, "big.plain.example", "TXT", "+ignore", "+bufsize=4096")
    assert "tc" in cut.flags
    assert cut.answer == []
    assert len(ask("dig", setting, "big.plain.example", "TXT", "+tcp").answer) == 20


def test_dnssecs_flags(setting: Setting) -> None:
    """Unbound validates: AD for who asks for it, signatures with DO, and what is forged only with CD."""
    name = "www.signed.example"
    assert "ad" in ask("dig", setting, name).flags  # dig sets AD itself
    assert "ad" not in ask("dig", setting, name, "A", "+noadflag").flags
    for client, option in (("dig", "+dnssec"), ("kdig", "+dnssec"), ("drill", "-D")):
        said = ask(client, setting, name, "A", option)
        assert "ad" in said.flags
        assert sorted(record.rdtype for record in said.answer) == ["A", "RRSIG"]
    assert [record.rdtype for record in ask("dig", setting, name).answer] == ["A"]
    denied = ask("dig", setting, "gone.signed.example", "A", "+dnssec")
    assert (denied.status, "ad" in denied.flags) == ("NXDOMAIN", True)
    assert {"SOA", "NSEC", "RRSIG"} == {record.rdtype for record in denied.authority}
    was_logged(setting, name, 6, verdict="allowed", rcode="NOERROR")


def test_a_forged_signature(setting: Setting) -> None:
    name = "bogus.signed.example"
    for client in CLIENTS:
        assert ask(client, setting, name).status == "SERVFAIL"
    said = ask("dig", setting, name, "A", "+cdflag")
    assert (said.status, said.rdata) == ("NOERROR", ["192.0.2.66"])
    assert "ad" not in said.flags
    assert ask("dig", setting, name).status == "SERVFAIL"  # what CD got opens nothing to others
    assert [record["verdict"] for record in logged(setting, name)].count("failed") == 4


def test_a_blocked_name(setting: Setting) -> None:
    for client in CLIENTS:
        assert ask(client, setting, BLOCKED).rdata == ["0.0.0.0"]
    assert ask("dig", setting, BLOCKED).ede == (15, "gambling")
    assert "gambling" in ask("kdig", setting, BLOCKED).text
    assert "ad" not in ask("dig", setting, BLOCKED, "A", "+dnssec").flags
    was_logged(setting, BLOCKED, 6, verdict="blocked", category="gambling", upstream=None, rcode="NOERROR")


def test_a_record_of_our_own(setting: Setting) -> None:
    for client in CLIENTS:
        assert ask(client, setting, "printer.district.example").rdata == ["10.1.2.3"]
    was_logged(setting, "printer.district.example", 3, verdict="local", upstream=None)


def test_a_zone_with_servers_of_its_own(setting: Setting, upstream: FakeUpstream) -> None:
    for client in CLIENTS:
        assert ask(client, setting, "dc.ad.example").rdata == ["10.20.30.40"]
    was_logged(setting, "dc.ad.example", 3, verdict="allowed", upstream=upstream.url)


def test_logs_search_agrees(setting: Setting) -> None:
    """One lookup of each kind, by each client in turn."""
    expected = {
        "far.away.plain.example": ("allowed", "NOERROR", setting.upstream),
        "absent.plain.example": ("allowed", "NXDOMAIN", setting.upstream),
        "ns.signed.example": ("allowed", "NOERROR", setting.upstream),
        f"search.{BLOCKED}": ("blocked", "NOERROR", None),
        "printer.district.example": ("local", "NOERROR", None),
    }
    for client, name in zip(cycle(CLIENTS), expected, strict=False):
        ask(client, setting, name)
        found = setting.server.hallmonitor("logs", "search", "--name", name, "--limit", "1", "--json").object()
        assert (found["verdict"], found["rcode"], found["upstream"]) == expected[name]
        assert (found["qname"], found["qtype"], found["transport"], found["client"]) == (name, "A", "udp", "127.0.0.1")
        assert found == logged(setting, name)[0]
