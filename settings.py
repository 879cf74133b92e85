"""The configuration: hallmonitor.toml and the environment become one frozen `Settings`.

Every key has a default, so no file is needed. All that is wrong is reported together, each with its dotted path.
Imports nothing of the project: every process reads its settings from here.
"""

import json
import re
import socket
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple

CONFIG_VARIABLE = "HALLMONITOR_CONFIG"
OVERRIDE_PREFIX = "HALLMONITOR_"
SEARCH_PATH = ("hallmonitor.toml", "/etc/hallmonitor/hallmonitor.toml")

_DOMAIN = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")

type_of_network = IPv4Network | IPv6Network


class SettingsError(Exception):
    """The configuration can't be used; `problems` holds a line for each reason."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class Endpoint(NamedTuple):
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UpstreamAddress(NamedTuple):
    """A resolver that questions are forwarded to."""

    scheme: str
    """``udp`` (with TCP when an answer is truncated), ``tcp`` or ``tls``."""
    host: str
    port: int
    name: str
    """The name that a ``tls`` upstream's certificate must carry; empty: its address."""

    def __str__(self) -> str:
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{port}" + (f"#{self.name}" if self.name else "")


DEFAULT_PORTS = {"udp": 53, "tcp": 53, "tls": 853}


def endpoint(value: object) -> Endpoint:
    """Read ``127.0.0.1:5353`` or ``[::1]:5353``. Raises `ValueError` otherwise."""
    text = _text(value)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65535:
        raise ValueError(f"{text!r} is no address with a port, like 127.0.0.1:5353 or [::1]:5353")
    if ":" in host and not host.startswith("["):
        raise ValueError(
            f"{text!r} must have the IPv6 address in brackets, like [::1]:5353"
        )  # or it may be all address
    return Endpoint(_address(host, text), int(port))


def upstream(value: object) -> UpstreamAddress:
    """Read ``udp://192.0.2.1``, ``tcp://192.0.2.1:53`` or ``tls://192.0.2.1#name``. Raises `ValueError` otherwise."""
    text = _text(value)
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in DEFAULT_PORTS:
        raise ValueError(f"{text!r} must begin with udp://, tcp:// or tls://")
    place, _, name = rest.partition("#")
    if name and scheme != "tls":
        raise ValueError(f"{text!r}: a certificate's name (#{name}) is for tls:// alone")
    if place.startswith("[") and place.endswith("]"):
        return UpstreamAddress(scheme, _address(place, text), DEFAULT_PORTS[scheme], name)
    if place.count(":") == 1 or "]:" in place:
        host, port = endpoint(place)
        return UpstreamAddress(scheme, host, port, name)
    return UpstreamAddress(scheme, _address(place, text), DEFAULT_PORTS[scheme], name)


def _address(host: str, text: str) -> str:
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return str(ip_address(bare))
    except ValueError:
        raise ValueError(f"{text!r} needs an IP address, not {bare!r}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {json.dumps(value, default=str)}")  # noqa: TRY004 - one kind of error
    return value


def _whole(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
            value = int(value)  # from the environment
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, not {json.dumps(value, default=str)}")
        return value

    return read


def _path(value: object) -> str:
    text = _text(value)
    if "\0" in text:
        raise ValueError("must be a path, without NUL")
    return text


def _one_of(*choices: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {json.dumps(value, default=str)}")
        return str(value)

    return read


def _network(value: object) -> type_of_network:
    try:
        return ip_network(_text(value))
    except ValueError as problem:
        raise ValueError(f"{value!r} is no network: {problem}") from None


def _domain(value: object) -> str:
    text = _text(value).lower().removesuffix(".")
    if _DOMAIN.fullmatch(text) is None or len(text) > 253:  # RFC 1035 section 3.1
        raise ValueError(f"{value!r} is no domain name, like www.district.example")
    return text


def _database_url(value: object) -> str:
    text = _text(value)
    if text and not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be empty (SQLite in the state directory) or begin with postgresql://")
    return text


def _node(value: object) -> str:
    text = _text(value)
    if not text or len(text) > 64 or not text.isprintable():
        raise ValueError("must be 1 to 64 printable characters")
    return text


@dataclass(frozen=True, slots=True)
class Many:
    """Reads a list, each item with the same reader; in the environment it is JSON or comma-separated."""

    item: Callable[[object], Any]
    at_least: int = 0

    def __call__(self, value: object) -> tuple[Any, ...]:
        """Return the items. Raises `ValueError` naming all that are wrong."""
        if isinstance(value, str):
            value = _from_environment(value)
        if not isinstance(value, list):
            raise ValueError(f"must be a list, not {json.dumps(value, default=str)}")  # noqa: TRY004 - one kind of error
        if len(value) < self.at_least:
            raise ValueError("must not be empty")
        items, problems = [], []
        for item in value:
            try:
                items.append(self.item(item))
            except ValueError as problem:
                problems.append(str(problem))
        if problems:
            raise ValueError("; ".join(problems))
        return tuple(items)


def _from_environment(text: str) -> object:
    """Return the list that a variable holds: JSON, or parts with commas between."""
    try:
        return json.loads(text) if text.startswith("[") else _parts(text)
    except ValueError:
        return _parts(text)  # [::1]:5353 begins like JSON too


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _key(read: Callable[[object], Any], default: object) -> Any:  # noqa: ANN401 - as dataclasses.field itself
    """Declare a key: how it is read, and its default as the file would write it."""
    return field(default_factory=lambda: read(default), metadata={"read": read})


@dataclass(frozen=True, slots=True)
class Server:
    """[server]: where clients are answered."""

    listen: tuple[Endpoint, ...] = _key(Many(endpoint, at_least=1), ["127.0.0.1:5353"])
    workers: int = _key(_whole(0, 256), 0)
    allow_from: tuple[type_of_network, ...] = _key(
        Many(_network),
        ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"],
    )
    node: str = _key(_node, socket.gethostname() or "node")


@dataclass(frozen=True, slots=True)
class State:
    """[state]: what is kept on disk."""

    directory: Path = _key(lambda value: Path(_path(value)), "./var")


@dataclass(frozen=True, slots=True)
class Database:
    """[database]: where configuration, lists and, on Postgres, the log are kept."""

    url: str = _key(_database_url, "")


@dataclass(frozen=True, slots=True)
class Upstream:
    """[upstream]: who answers what is neither blocked nor cached."""

    servers: tuple[UpstreamAddress, ...] = _key(
        Many(upstream, at_least=1),
        ["tls://9.9.9.9#dns.quad9.net", "tls://1.1.1.2#security.cloudflare-dns.com"],
    )
    try_timeout_ms: int = _key(_whole(50, 10_000), 1000)
    deadline_ms: int = _key(_whole(100, 30_000), 4000)
    ca_file: str = _key(_path, "")


@dataclass(frozen=True, slots=True)
class Admin:
    """[admin]: the HTTP API."""

    listen: Endpoint = _key(endpoint, "127.0.0.1:8053")
    host_names: tuple[str, ...] = _key(Many(_text), [])


@dataclass(frozen=True, slots=True)
class QueryLog:
    """[querylog]: the log of lookups."""

    retention_days: int = _key(_whole(1, 36_500), 365)
    on_full: str = _key(_one_of("serve", "refuse"), "serve")
    sync_interval_ms: int = _key(_whole(10, 60_000), 1000)


@dataclass(frozen=True, slots=True)
class Filter:
    """[filter]: how names are sunk."""

    default_group: str = _key(_text, "students")
    block_ttl_seconds: int = _key(_whole(0, 86_400), 10)


@dataclass(frozen=True, slots=True)
class Blocklists:
    """[blocklists]: what no list may block, beside the upstreams' own names and a few of everybody's."""

    canaries: tuple[str, ...] = _key(Many(_domain), [])


@dataclass(frozen=True, slots=True)
class Cache:
    """[cache]: the answers that each worker keeps."""

    entries: int = _key(_whole(0, 10_000_000), 100_000)
    max_ttl_seconds: int = _key(_whole(1, 604_800), 86_400)


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration, with every path absolute."""

    server: Server = field(default_factory=Server)
    state: State = field(default_factory=State)
    database: Database = field(default_factory=Database)
    upstream: Upstream = field(default_factory=Upstream)
    admin: Admin = field(default_factory=Admin)
    querylog: QueryLog = field(default_factory=QueryLog)
    filter: Filter = field(default_factory=Filter)
    blocklists: Blocklists = field(default_factory=Blocklists)
    cache: Cache = field(default_factory=Cache)
    source: Path | None = None
    """The file that was read; None: defaults alone."""
    document: Mapping[str, Any] = field(default_factory=dict)
    """What the file and the environment said: `from_document` makes the same settings of it."""
    base: Path = field(default_factory=Path.cwd)
    """Where relative paths start."""

    @property
    def database_url(self) -> str:
        """Return the database's URL, SQLite's spelled out."""
        return self.database.url or f"sqlite:///{self.state.directory / 'hallmonitor.db'}"


_SECTIONS: dict[str, type] = {
    "server": Server,
    "state": State,
    "database": Database,
    "upstream": Upstream,
    "admin": Admin,
    "querylog": QueryLog,
    "filter": Filter,
    "blocklists": Blocklists,
    "cache": Cache,
}


def find(environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file to use when none was named: the first that exists; None: none does."""
    named = environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return next((path for path in map(Path, SEARCH_PATH) if path.exists()), None)


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Return the settings of a file (None: of `find`) under the environment's overrides.

    Raises `SettingsError` with every problem at once.
    """
    path = path or find(environ)
    document = _read(path) if path else {}
    problems = _override(document, environ)
    base = path.absolute().parent if path else Path.cwd()
    return from_document(document, base, source=path.absolute() if path else None, problems=problems)


def from_document(
    document: Mapping[str, Any], base: Path, *, source: Path | None = None, problems: Sequence[str] = ()
) -> Settings:
    """Return the settings that a parsed file makes. Raises `SettingsError` with every problem, given ones included."""
    found = [*problems, *_unknown_sections(document)]
    sections = {name: _section(name, kind, document.get(name, {}), found) for name, kind in _SECTIONS.items()}
    ca_file = sections["upstream"].ca_file and base / sections["upstream"].ca_file
    if ca_file and not ca_file.is_file():
        found.append(f"upstream.ca_file: {ca_file} is no file that can be read")
    if found:
        raise SettingsError(found)
    sections["state"] = State((base / sections["state"].directory).resolve())
    sections["upstream"] = replace(sections["upstream"], ca_file=str(ca_file))
    return Settings(**sections, source=source, document=document, base=base)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as problem:
        raise SettingsError([f"{path}: {problem.strerror or problem}"]) from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SettingsError([f"{path}: not TOML: {problem}"]) from problem


def _unknown_sections(document: Mapping[str, Any]) -> list[str]:
    return [f"{name}: unknown section; there are {', '.join(_SECTIONS)}" for name in document if name not in _SECTIONS]


def _override(document: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Lay ``HALLMONITOR_SECTION__KEY`` over the document; return what can't be."""
    problems = []
    for variable, value in sorted(environ.items()):
        if not variable.startswith(OVERRIDE_PREFIX) or "__" not in variable:
            continue
        section, _, key = variable.removeprefix(OVERRIDE_PREFIX).lower().partition("__")
        if section not in _SECTIONS:
            problems.append(f"{variable}: unknown section {section!r}; there are {', '.join(_SECTIONS)}")
        elif isinstance(document.setdefault(section, {}), dict):
            document[section][key] = value
    return problems


def _section(name: str, kind: type, table: object, problems: list[str]) -> Any:  # noqa: ANN401 - any of the sections
    if not isinstance(table, dict):
        problems.append(f"{name}: must be a table, written as [{name}]")
        return kind()
    known = {f.name: f.metadata["read"] for f in fields(kind)}
    values = {}
    for key, value in table.items():
        if key not in known:
            problems.append(f"{name}.{key}: unknown key; there are {', '.join(known)}")
            continue
        try:
            values[key] = known[key](value)
        except ValueError as problem:
            problems.append(f"{name}.{key}: {problem}")
    return kind(**values)
