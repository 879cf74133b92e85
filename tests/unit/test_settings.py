"""The configuration: every key, everything that can be wrong with it, and where it comes from."""

import dataclasses
import json
import shutil
import socket
import tomllib
from ipaddress import ip_network
from pathlib import Path

import pytest

import setting_values
import settings as configuration
from setting_values import Endpoint, LocalRecord, UpstreamAddress
from settings import Settings, SettingsError, find, from_document, load
from tests.support.certificates import Authority

WHOLE = """
[server]
listen = ["192.0.2.1:53", "[2001:db8::1]:5353"]
workers = 3
allow_from = ["192.0.2.0/24", "2001:db8::/32"]
node = "dns-1"
tls_listen = ["192.0.2.1:853"]
https_listen = ["192.0.2.1:443", "[2001:db8::1]:443"]
certificate = "authority.pem"
private_key = "authority.pem"
name = "DNS.District.example."
unserved = "drop"
[state]
directory = "state/here"
[database]
url = "postgresql://user:secret@db.example/monitor"
[upstream]
servers = ["udp://192.0.2.53", "tcp://192.0.2.54:5300", "tls://[2001:db8::53]:8853#dns.example", "udp://2001:db8::54"]
failover_ms = 100
try_timeout_ms = 200
deadline_ms = 900
ca_file = "authority.pem"
[upstream.zones]
"AD.district.example" = ["udp://10.0.0.10", "tls://10.0.0.11#dc.ad.district.example"]
[admin]
listen = "[::1]:9000"
host_names = ["monitor.example"]
[querylog]
retention_days = 30
on_full = "refuse"
sync_interval_ms = 250
[filter]
default_group = "guests"
block_ttl_seconds = 0
private_zones = ["Intranet.vendor.example"]
[local]
records = ["Printer.district.example. 60 A 10.1.2.3", "*.apps.district.example IN CNAME www.district.example."]
[limits]
queries_per_second = 50
burst = 100
in_flight = 20
exempt = ["10.0.0.2/32"]
connections = 200
connections_per_client = 10
[blocklists]
canaries = ["School.example.", "sis.school.example"]
[cache]
entries = 0
bytes = 1000000
min_ttl_seconds = 5
max_ttl_seconds = 60
failure_seconds = 9
stale_seconds = 3600
stale_after_ms = 900
"""


def read(tmp_path: Path, text: str, **environ: str) -> Settings:
    path = tmp_path / "hallmonitor.toml"
    path.write_text(text)
    return load(path, environ)


def problems(tmp_path: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text, **environ)
    assert str(caught.value) == "; ".join(caught.value.problems)
    return caught.value.problems


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Authority(tmp_path_factory.mktemp("authority")).certificate


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds a configuration in the working directory that it hasn't written."""
    (tmp_path / "empty").mkdir()
    shutil.copy(authority, tmp_path / "authority.pem")
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(configuration, "SEARCH_PATH", ("hallmonitor.toml", str(tmp_path / "etc/hallmonitor.toml")))


def test_without_a_file_everything_has_the_documented_default(tmp_path: Path) -> None:
    made = load(None, {})
    assert made.server.listen == (Endpoint("127.0.0.1", 5353),)
    assert made.server.workers == 0
    assert [str(network) for network in made.server.allow_from] == [
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
        "fe80::/10",
    ]
    assert made.server.node == socket.gethostname()
    assert made.state.directory == tmp_path / "empty" / "var"
    assert made.database.url == ""
    assert made.database_url == f"sqlite:///{tmp_path}/empty/var/hallmonitor.db"
    assert [str(server) for server in made.upstream.servers] == [
        "tls://9.9.9.9#dns.quad9.net",
        "tls://1.1.1.2#security.cloudflare-dns.com",
    ]
    assert made.admin.listen == Endpoint("127.0.0.1", 8053)
    assert made.querylog.retention_days == 365
    assert made.querylog.on_full == "serve"
    assert made.filter.default_group == "students"
    assert made.filter.block_ttl_seconds == 10
    assert made.blocklists.canaries == ()
    assert made.source is None


def test_every_key_is_read(tmp_path: Path) -> None:
    made = read(tmp_path, WHOLE)
    assert made.server.listen == (Endpoint("192.0.2.1", 53), Endpoint("2001:db8::1", 5353))
    assert [str(endpoint) for endpoint in made.server.listen] == ["192.0.2.1:53", "[2001:db8::1]:5353"]
    assert made.server.workers == 3
    assert made.server.allow_from == (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    assert made.server.node == "dns-1"
    assert made.state.directory == tmp_path / "state/here"
    assert made.database_url == "postgresql://user:secret@db.example/monitor"
    assert made.upstream.servers == (
        UpstreamAddress("udp", "192.0.2.53", 53, ""),
        UpstreamAddress("tcp", "192.0.2.54", 5300, ""),
        UpstreamAddress("tls", "2001:db8::53", 8853, "dns.example"),
        UpstreamAddress("udp", "2001:db8::54", 53, ""),
    )
    assert (made.upstream.try_timeout_ms, made.upstream.deadline_ms) == (200, 900)
    assert made.admin.listen == Endpoint("::1", 9000)
    assert made.admin.host_names == ("monitor.example",)
    assert dataclasses.astuple(made.querylog) == (30, "refuse", 250)
    assert dataclasses.astuple(made.filter) == ("guests", 0, ("intranet.vendor.example",))
    assert made.server.tls_listen == (Endpoint("192.0.2.1", 853),)
    assert made.server.https_listen == (Endpoint("192.0.2.1", 443), Endpoint("2001:db8::1", 443))
    assert made.server.certificate == made.server.private_key == str(tmp_path / "authority.pem")
    assert (made.server.name, made.server.unserved) == ("dns.district.example", "drop")
    assert dict(made.upstream.zones) == {
        "ad.district.example": (
            UpstreamAddress("udp", "10.0.0.10", 53, ""),
            UpstreamAddress("tls", "10.0.0.11", 853, "dc.ad.district.example"),
        )
    }
    assert made.upstream.failover_ms == 100
    assert made.local.records == (
        LocalRecord("printer.district.example", 60, "A", "10.1.2.3"),
        LocalRecord("*.apps.district.example", 300, "CNAME", "www.district.example."),
    )
    assert dataclasses.astuple(made.limits) == (50, 100, 20, (ip_network("10.0.0.2/32"),), 200, 10)
    assert made.blocklists.canaries == ("school.example", "sis.school.example")
    assert dataclasses.astuple(made.cache) == (0, 1_000_000, 5, 60, 9, 3600, 900)
    assert made.source == tmp_path / "hallmonitor.toml"


def test_the_whole_example_names_every_key() -> None:
    """So that a new key comes with a test."""
    document = tomllib.loads(WHOLE)
    for section, kind in configuration._SECTIONS.items():
        assert set(document[section]) == {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "udp://192.0.2.1",
            "tcp://192.0.2.1:54",
            "tls://[2001:db8::1]#dns.example",
            "tls://192.0.2.1:8853#dns.example",
        ),
        *("https://192.0.2.1/dns-query#dns.example", "https://[2001:db8::1]:8443/resolve", "https://192.0.2.1/"),
    ],
)
def test_an_upstream_writes_itself_as_it_is_read(text: str) -> None:
    assert str(setting_values.upstream(text)) == text


# Where paths start.


def test_relative_paths_start_at_the_files_directory(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    shutil.copy(tmp_path / "authority.pem", tmp_path / "pki/authority.pem")
    made = read(tmp_path, '[state]\ndirectory = "../var"\n[upstream]\nca_file = "pki/authority.pem"')
    assert made.state.directory == tmp_path.parent / "var"
    assert made.upstream.ca_file == str(tmp_path / "pki/authority.pem")
    assert made.base == tmp_path


def test_absolute_paths_stay(tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    made = read(tmp_path, f'[state]\ndirectory = "/srv/monitor"\n[upstream]\nca_file = "{authority}"')
    assert made.state.directory == Path("/srv/monitor")
    assert made.upstream.ca_file == str(authority)


def test_a_file_of_authorities_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    found = problems(tmp_path, '[upstream]\nca_file = "none.pem"\ntry_timeout_ms = "x"')
    assert len(found) == 2
    assert f"upstream.ca_file: {tmp_path}/none.pem is no file that can be read" in found


def test_no_certificate_file_stays_none(tmp_path: Path) -> None:
    assert read(tmp_path, "").upstream.ca_file == ""


def test_paths_from_the_environment_start_there_too(tmp_path: Path) -> None:
    assert read(tmp_path, "", HALLMONITOR_STATE__DIRECTORY="d").state.directory == tmp_path / "d"
    assert load(None, {"HALLMONITOR_STATE__DIRECTORY": "d"}).state.directory == tmp_path / "empty/d"


def test_a_relative_path_to_the_file_makes_no_relative_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hallmonitor.toml").write_text("")
    made = load(Path("../hallmonitor.toml"), {})
    assert made.state.directory == tmp_path / "var"
    assert made.source is not None
    assert made.source.is_absolute()
    assert made.base.is_absolute()


# Which file.


def test_the_first_file_that_exists_is_found(tmp_path: Path) -> None:
    assert find({}) is None
    system = tmp_path / "etc/hallmonitor.toml"
    system.parent.mkdir()
    system.write_text("")
    assert find({}) == system
    Path("hallmonitor.toml").write_text("")
    assert find({}) == Path("hallmonitor.toml")
    assert find({"HALLMONITOR_CONFIG": "/named.toml"}) == Path("/named.toml")
    assert find({"HALLMONITOR_CONFIG": ""}) == Path("hallmonitor.toml")


def test_a_file_that_was_named_goes_before_the_environments(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[server]\nworkers = 5")
    assert read(tmp_path, "[server]\nworkers = 2", HALLMONITOR_CONFIG=str(tmp_path / "other.toml")).server.workers == 2
    assert load(None, {"HALLMONITOR_CONFIG": str(tmp_path / "other.toml")}).server.workers == 5


def test_a_byte_order_mark_is_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "hallmonitor.toml"
    path.write_bytes(b"\xef\xbb\xbf[server]\r\nworkers = 2\r\n")
    assert load(path, {}).server.workers == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"[server", "not TOML"), (b"[server]\nworkers = 1\nworkers = 2", "not TOML"), (b"\xff\xfe", "not TOML")],
)
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "hallmonitor.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=said) as caught:
        load(path, {})
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: No such file"):
        load(tmp_path / "none.toml", {})
    with pytest.raises(SettingsError, match="directory"):
        load(tmp_path, {})


# What is wrong, with its dotted path.


@pytest.mark.parametrize(
    ("section", "line", "said"),
    [
        ("server", "listen = 5", "server.listen: must be a list, not 5"),
        ("server", "listen = []", "server.listen: must not be empty"),
        ("server", 'listen = ["127.0.0.1"]', "server.listen: '127.0.0.1' is no address with a port"),
        ("server", 'listen = ["127.0.0.1:"]', "server.listen: '127.0.0.1:' is no address with a port"),
        ("server", 'listen = ["127.0.0.1:0"]', "server.listen: '127.0.0.1:0' is no address with a port"),
        ("server", 'listen = ["127.0.0.1:65536"]', "server.listen: '127.0.0.1:65536' is no address with a port"),
        ("server", 'listen = ["127.0.0.1:٥٣"]', "server.listen: "),
        ("server", 'listen = ["localhost:53"]', "server.listen: 'localhost:53' needs an IP address, not 'localhost'"),
        ("server", 'listen = [":53"]', "server.listen: ':53' needs an IP address"),
        ("server", 'listen = ["::1:5353"]', "server.listen: '::1:5353'"),  # an address in its own right
        ("server", 'listen = ["2001:db8::1"]', "server.listen: '2001:db8::1'"),
        ("server", "listen = [53]", "server.listen: must be text, not 53"),
        ("server", "workers = -1", "server.workers: must be a whole number from 0 to 256, not -1"),
        ("server", "workers = 257", "server.workers: must be a whole number from 0 to 256, not 257"),
        ("server", "workers = 1.5", "server.workers: must be a whole number from 0 to 256, not 1.5"),
        ("server", "workers = true", "server.workers: must be a whole number from 0 to 256, not true"),
        ("server", 'workers = "two"', 'server.workers: must be a whole number from 0 to 256, not "two"'),
        ("server", 'workers = "--2"', 'server.workers: must be a whole number from 0 to 256, not "--2"'),
        ("server", 'workers = ""', 'server.workers: must be a whole number from 0 to 256, not ""'),
        ("server", "workers = 2020-01-01", "server.workers: must be a whole number from 0 to 256"),
        ("server", 'allow_from = ["10.0.0.1/8"]', "server.allow_from: '10.0.0.1/8' is no network"),
        ("server", 'allow_from = ["school"]', "server.allow_from: 'school' is no network"),
        ("server", "allow_from = [7]", "server.allow_from: 7 is no network"),
        ("server", 'node = ""', "server.node: must be 1 to 64 printable characters"),
        ("server", f'node = "{"n" * 65}"', "server.node: must be 1 to 64 printable characters"),
        ("server", 'node = "a\\nb"', "server.node: must be 1 to 64 printable characters"),
        ("server", "node = 4", "server.node: must be text, not 4"),
        ("state", "directory = 4", "state.directory: must be text, not 4"),
        ("state", 'directory = "a\\u0000b"', "state.directory: "),
        ("database", 'url = "mysql://db"', "database.url: must be empty"),
        ("database", 'url = "sqlite:///x"', "database.url: must be empty"),
        ("database", "url = 4", "database.url: must be text, not 4"),
        ("upstream", "servers = []", "upstream.servers: must not be empty"),
        ("upstream", 'servers = "udp://"', "upstream.servers: "),
        ("upstream", 'servers = ["192.0.2.1"]', "upstream.servers: '192.0.2.1' must begin with udp://"),
        ("upstream", 'servers = ["ftp://192.0.2.1"]', "upstream.servers: 'ftp://192.0.2.1' must begin with udp://"),
        ("upstream", 'servers = ["udp://dns.example"]', "upstream.servers: 'udp://dns.example' needs an IP address"),
        ("upstream", 'servers = ["udp://192.0.2.1#x"]', "upstream.servers: 'udp://192.0.2.1#x': a certificate's name"),
        ("upstream", 'servers = ["udp://192.0.2.1:99999"]', "upstream.servers: '192.0.2.1:99999' is no address"),
        ("upstream", 'servers = ["udp://[2001:db8::1]:x"]', "upstream.servers: '[2001:db8::1]:x' is no address"),
        ("upstream", "try_timeout_ms = 49", "upstream.try_timeout_ms: must be a whole number from 50 to 10000"),
        ("upstream", "deadline_ms = 99", "upstream.deadline_ms: must be a whole number from 100 to 30000"),
        ("upstream", "ca_file = 1", "upstream.ca_file: must be text, not 1"),
        ("admin", "listen = 8053", "admin.listen: must be text, not 8053"),
        ("admin", 'listen = "8053"', "admin.listen: '8053' is no address with a port"),
        ("admin", 'host_names = "monitor.example, 4"', ""),
        ("admin", "host_names = [4]", "admin.host_names: must be text, not 4"),
        ("querylog", "retention_days = 0", "querylog.retention_days: must be a whole number from 1 to 36500"),
        ("querylog", 'on_full = "panic"', 'querylog.on_full: must be one of serve, refuse, not "panic"'),
        ("querylog", "on_full = []", "querylog.on_full: must be one of serve, refuse, not []"),
        ("querylog", "sync_interval_ms = 9", "querylog.sync_interval_ms: must be a whole number from 10 to 60000"),
        ("filter", "default_group = 1", "filter.default_group: must be text, not 1"),
        ("filter", "block_ttl_seconds = 86401", "filter.block_ttl_seconds: must be a whole number from 0 to 86400"),
        ("cache", "entries = -1", "cache.entries: must be a whole number from 0 to 10000000"),
        ("cache", "max_ttl_seconds = 0", "cache.max_ttl_seconds: must be a whole number from 1 to 604800"),
        ("cache", "size = 1", "cache.size: unknown key; there are entries, bytes, min_ttl_seconds, max_ttl_seconds"),
    ],
)
def test_one_wrong_key(tmp_path: Path, section: str, line: str, said: str) -> None:
    if not said:
        assert read(tmp_path, f"[{section}]\n{line}").admin.host_names == ("monitor.example", "4")
        return
    (problem,) = problems(tmp_path, f"[{section}]\n{line}")
    assert problem.startswith(said)


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = """
        [server]
        listen = ["nowhere:53", "127.0.0.1:5353", "127.0.0.1:99999"]
        workers = "many"
        threads = 4
        [upstrem]
        servers = []
        [querylog]
        on_full = "panic"
        [cache]
        entries = false
    """
    found = problems(tmp_path, text, HALLMONITOR_FILTER__BLOCK_TTL_SECONDS="soon", HALLMONITOR_SEVER__NODE="x")
    paths = {problem.partition(":")[0] for problem in found}
    assert paths == {
        "server.listen",
        "server.workers",
        "server.threads",
        "upstrem",
        "querylog.on_full",
        "cache.entries",
        "filter.block_ttl_seconds",
        "HALLMONITOR_SEVER__NODE",
    }
    (listen,) = [problem for problem in found if problem.startswith("server.listen")]
    assert "nowhere:53" in listen
    assert "127.0.0.1:99999" in listen


@pytest.mark.parametrize("text", ["server = 3", "server = []", '[[server]]\nlisten = ["127.0.0.1:53"]'])
def test_a_section_is_a_table(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == ["server: must be a table, written as [server]"]
    assert problems(tmp_path, text, HALLMONITOR_SERVER__NODE="x") == ["server: must be a table, written as [server]"]


def test_an_unknown_section_is_told_with_the_known(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "[dns]\nport = 53")
    assert problem.startswith("dns: unknown section; there are server, state,")


# The environment.


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    made = read(
        tmp_path,
        WHOLE,
        HALLMONITOR_DATABASE__URL="postgres://other@db.example/x",
        HALLMONITOR_SERVER__WORKERS="7",
        HALLMONITOR_SERVER__LISTEN="127.0.0.1:53, [::1]:53",
        HALLMONITOR_SERVER__ALLOW_FROM='["192.0.2.0/24"]',
        HALLMONITOR_QUERYLOG__ON_FULL="serve",
    )
    assert made.database.url == "postgres://other@db.example/x"
    assert made.server.workers == 7
    assert made.server.listen == (Endpoint("127.0.0.1", 53), Endpoint("::1", 53))
    assert made.server.allow_from == (ip_network("192.0.2.0/24"),)
    assert made.querylog.on_full == "serve"
    assert made.filter.default_group == "guests"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HALLMONITOR_SERVER__WORKRES", "1", "server.workres: unknown key"),
        ("HALLMONITOR_SEVER__WORKERS", "1", "HALLMONITOR_SEVER__WORKERS: unknown section 'sever'"),
        ("HALLMONITOR___X", "1", "HALLMONITOR___X: unknown section ''"),
        ("HALLMONITOR_SERVER__LISTEN__A", "1", "server.listen__a: unknown key"),
        ("HALLMONITOR_SERVER__LISTEN", "", "server.listen: must not be empty"),
        ("HALLMONITOR_SERVER__LISTEN", "[", "server.listen: "),
        ("HALLMONITOR_SERVER__LISTEN", '{"a": 1}', "server.listen: "),
        ("HALLMONITOR_SERVER__LISTEN", "[53]", "server.listen: must be text, not 53"),
        ("HALLMONITOR_SERVER__WORKERS", "", "server.workers: must be a whole number"),
        ("HALLMONITOR_SERVER__WORKERS", "٣", "server.workers: must be a whole number"),
    ],
)
def test_a_wrong_variable_is_told(tmp_path: Path, variable: str, value: str, said: str) -> None:
    (problem,) = problems(tmp_path, "", **{variable: value})
    assert problem.startswith(said)


def test_other_variables_are_none_of_ours(tmp_path: Path) -> None:
    others = {"PATH": "/bin", "HALLMONITOR": "x", "OTHER_SERVER__WORKERS": "x", "hallmonitor_server__workers": "x"}
    assert load(None, others) == load(None, {})


# The document goes to workers as JSON.


def test_a_document_makes_the_same_settings_again(tmp_path: Path) -> None:
    made = read(tmp_path, WHOLE, HALLMONITOR_SERVER__WORKERS="7", HALLMONITOR_SERVER__LISTEN="127.0.0.1:53")
    again = from_document(json.loads(json.dumps(made.document)), made.base)
    for section in configuration._SECTIONS:
        assert getattr(again, section) == getattr(made, section)


def test_a_document_may_be_wrong_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        from_document({"server": {"workers": -1}, "x": 1}, tmp_path, problems=["given"])
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["given", "x", "server.workers"]


def test_settings_stay_as_they_are(tmp_path: Path) -> None:
    made = read(tmp_path, "")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.server.workers = 4  # type: ignore[misc] # that it can't be written is what is shown


def test_an_address_in_brackets_from_the_environment_is_no_json(tmp_path: Path) -> None:
    assert read(tmp_path, "", HALLMONITOR_SERVER__LISTEN="[::1]:53").server.listen == (Endpoint("::1", 53),)
    assert len(read(tmp_path, "", HALLMONITOR_SERVER__LISTEN="[::1]:53, 127.0.0.1:53").server.listen) == 2


# Our own records, zones with servers of their own, encrypted listeners.


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ("printer.example", "is no record"),
        ("printer.example 300 NS ns.example", "is no record"),
        ("printer.example A", "is no record"),
        ("printer.example A 10.1.2", "does not appear to be an IPv4"),
        ("printer.example A 2001:db8::1", "is of the other IP version"),
        ("printer.example AAAA 10.1.2.3", "is of the other IP version"),
        ("printer.example MX mail.example", "has 2 words, not 1"),
        ("printer.example SRV 1 2 x host.example", "can't be the data of SRV"),
        ("prin ter.example A 10.1.2.3", "is no record"),
        ("a..example A 10.1.2.3", "is no domain name"),
        (f"a.example CNAME {'long.' * 60}example", "can't be the data of CNAME"),
        (f"a.example MX 10 {'x' * 64}.example", "can't be the data of MX"),
        ("a.example TXT " + '"x" ' * 2_049, "data of 4098 octets is longer than 4096"),
        (7, "must be text"),
    ],
)
def test_a_record_that_can_not_be(record: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        setting_values.local_record(record)


def test_a_name_with_an_alias_has_no_other_record(tmp_path: Path) -> None:
    text = '[local]\nrecords = ["a.example CNAME b.example", "A.example. A 192.0.2.1", "b.example A 192.0.2.1"]'
    assert problems(tmp_path, text) == ["local.records: a.example has a CNAME, and so no other record"]


def test_zones_in_the_environment_are_json(tmp_path: Path) -> None:
    made = read(tmp_path, "", HALLMONITOR_UPSTREAM__ZONES='{"ad.example": ["udp://10.0.0.1"]}')
    assert list(made.upstream.zones) == ["ad.example"]
    found = problems(tmp_path, "", HALLMONITOR_UPSTREAM__ZONES="ad.example")
    assert found == ['upstream.zones: must be a JSON object, like {"ad.example": ["udp://10.0.0.1"]}']


def test_every_zone_that_is_wrong_is_named(tmp_path: Path) -> None:
    text = '[upstream.zones]\n"ad.example" = []\n"b c" = ["udp://10.0.0.1"]\n"d.example" = ["dns://10.0.0.1"]'
    (found,) = problems(tmp_path, text)
    assert "ad.example: must not be empty" in found
    assert "'b c' is no domain name" in found
    assert "must begin with udp://" in found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('tls_listen = ["127.0.0.1:853"]', "tls_listen and https_listen need a certificate and its private_key"),
        ('https_listen = ["127.0.0.1:443"]\ncertificate = "empty"', "need a certificate and its private_key"),
        ('certificate = "none.pem"', "none.pem is no file that can be read"),
        ('private_key = "empty"', "empty is no file that can be read"),
    ],
)
def test_encrypted_listeners_need_a_certificate_that_is_there(tmp_path: Path, text: str, problem: str) -> None:
    assert any(problem in found for found in problems(tmp_path, f"[server]\n{text}"))


@pytest.mark.parametrize(
    ("upstream", "problem"),
    [
        ("udp://192.0.2.1/dns-query", "is for https:// alone"),
        ("udp://192.0.2.1#name", "is for tls:// and https:// alone"),
        ("https://dns.example/dns-query", "needs an IP address"),
        ("https://192.0.2.1/{?dns}", "without blanks, braces and ?"),
    ],
)
def test_what_an_upstream_can_not_have(upstream: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("?", r"\?").replace("(", r"\(")):
        setting_values.upstream(upstream)


@pytest.mark.parametrize(
    ("record", "words"),
    [("a.example PTR b c", 2), ("a.example CNAME b c", 2), ("a.example MX 10 b c", 3), ("a.example SRV 1 2 3 b c", 5)],
)
def test_a_record_with_words_too_many(record: str, words: int) -> None:
    with pytest.raises(ValueError, match=f"words, not {words}"):
        setting_values.local_record(record)


def test_aliases_in_a_circle(tmp_path: Path) -> None:
    records = ["a.example CNAME b.example", "B.example CNAME a.example.", "c.example CNAME a.example"]
    found = problems(tmp_path, f"[local]\nrecords = {json.dumps(records)}")
    assert found == [f"local.records: {name} leads back to itself" for name in ("a.example", "b.example")]


@pytest.mark.parametrize("place", ["udp://0.0.0.0", "udp://224.0.0.1:53", "tls://[::]#dns.example", "tcp://ff02::fb"])
def test_nobody_answers_at_such_an_address(place: str) -> None:
    with pytest.raises(ValueError, match="nobody answers at"):
        setting_values.upstream(place)


@pytest.mark.parametrize("place", ["tls://192.0.2.1#", "tls://192.0.2.1#a b", "https://192.0.2.1#a/b"])
def test_a_certificate_carries_a_name_or_an_address(place: str) -> None:
    with pytest.raises(ValueError, match="a certificate carries a name or an address"):
        setting_values.upstream(place)


def test_authorities_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "authorities").write_text("no certificate\n")
    found = problems(tmp_path, '[upstream]\nca_file = "authorities"')
    assert found == [f"upstream.ca_file: {tmp_path}/authorities holds no certificate in PEM form"]


def test_files_that_somebody_looked_at_are_not_looked_at_again(tmp_path: Path) -> None:
    """A worker starts with what its supervisor has checked: a file that is gone since must not keep it from that."""
    document = {"server": {"tls_listen": ["127.0.0.1:853"], "certificate": "gone", "private_key": "gone"}}
    made = from_document(document, tmp_path, looks_at_files=False)
    assert made.server.certificate == str(tmp_path / "gone")
