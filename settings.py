"""The configuration: hallmonitor.toml and the environment become one frozen `Settings`.

Every key has a default, so no file is needed. All that is wrong is reported together, each with its dotted path.
Imports nothing of the project but `setting_values`, which imports nothing of it: every process reads its settings from
here.
"""

import os
import socket
import ssl
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from setting_values import (
    Endpoint,
    LocalRecord,
    Many,
    Network,
    UpstreamAddress,
    database_address,
    domain_name,
    domain_name_or_none,
    endpoint,
    local_record,
    network,
    node_name,
    one_of,
    path_text,
    text_value,
    upstream,
    whole_number,
    zone_table,
)

CONFIG_VARIABLE = "HALLMONITOR_CONFIG"
OVERRIDE_PREFIX = "HALLMONITOR_"
SEARCH_PATH = ("hallmonitor.toml", "/etc/hallmonitor/hallmonitor.toml")


class SettingsError(Exception):
    """The configuration can't be used; `problems` holds a line for each reason."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def _key(read: Callable[[object], Any], default: object) -> Any:  # noqa: ANN401 - as dataclasses.field itself
    """Declare a key: how it is read, and its default as the file would write it."""
    return field(default_factory=lambda: read(default), metadata={"read": read})


@dataclass(frozen=True, slots=True)
class Server:
    """[server]: where clients are answered."""

    listen: tuple[Endpoint, ...] = _key(Many(endpoint, at_least=1), ["127.0.0.1:5353"])
    workers: int = _key(whole_number(0, 256), 0)
    allow_from: tuple[Network, ...] = _key(
        Many(network),
        ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"],
    )
    node: str = _key(node_name, socket.gethostname() or "node")
    tls_listen: tuple[Endpoint, ...] = _key(Many(endpoint), [])
    https_listen: tuple[Endpoint, ...] = _key(Many(endpoint), [])
    certificate: str = _key(path_text, "")
    private_key: str = _key(path_text, "")
    name: str = _key(domain_name_or_none, "")
    unserved: str = _key(one_of("refuse", "drop"), "refuse")


@dataclass(frozen=True, slots=True)
class State:
    """[state]: what is kept on disk."""

    directory: Path = _key(lambda value: Path(path_text(value)), "./var")


@dataclass(frozen=True, slots=True)
class Database:
    """[database]: where configuration, lists and, on Postgres, the log are kept."""

    url: str = _key(database_address, "")


@dataclass(frozen=True, slots=True)
class Upstream:
    """[upstream]: who answers what is neither blocked nor cached."""

    servers: tuple[UpstreamAddress, ...] = _key(
        Many(upstream, at_least=1),
        ["tls://9.9.9.9#dns.quad9.net", "tls://1.1.1.2#security.cloudflare-dns.com"],
    )
    zones: Mapping[str, tuple[UpstreamAddress, ...]] = _key(zone_table, {})
    failover_ms: int = _key(whole_number(20, 10_000), 250)
    try_timeout_ms: int = _key(whole_number(50, 10_000), 1000)
    deadline_ms: int = _key(whole_number(100, 30_000), 4000)
    ca_file: str = _key(path_text, "")


@dataclass(frozen=True, slots=True)
class Admin:
    """[admin]: the HTTP API."""

    listen: Endpoint = _key(endpoint, "127.0.0.1:8053")
    host_names: tuple[str, ...] = _key(Many(text_value), [])


@dataclass(frozen=True, slots=True)
class QueryLog:
    """[querylog]: the log of lookups."""

    retention_days: int = _key(whole_number(1, 36_500), 365)
    on_full: str = _key(one_of("serve", "refuse"), "serve")
    sync_interval_ms: int = _key(whole_number(10, 60_000), 1000)


@dataclass(frozen=True, slots=True)
class Filter:
    """[filter]: how names are sunk."""

    default_group: str = _key(text_value, "students")
    block_ttl_seconds: int = _key(whole_number(0, 86_400), 10)
    private_zones: tuple[str, ...] = _key(Many(domain_name), [])


@dataclass(frozen=True, slots=True)
class Local:
    """[local]: records that are answered from here."""

    records: tuple[LocalRecord, ...] = _key(Many(local_record), [])


@dataclass(frozen=True, slots=True)
class Limits:
    """[limits]: what one client may take of the service."""

    queries_per_second: int = _key(whole_number(0, 1_000_000), 500)
    burst: int = _key(whole_number(1, 10_000_000), 5_000)
    in_flight: int = _key(whole_number(1, 100_000), 300)
    exempt: tuple[Network, ...] = _key(Many(network), ["127.0.0.0/8", "::1/128"])
    connections: int = _key(whole_number(1, 100_000), 1024)
    connections_per_client: int = _key(whole_number(1, 100_000), 64)


@dataclass(frozen=True, slots=True)
class Blocklists:
    """[blocklists]: what no list may block, beside the upstreams' own names and a few of everybody's."""

    canaries: tuple[str, ...] = _key(Many(domain_name), [])


@dataclass(frozen=True, slots=True)
class Cache:
    """[cache]: the answers that each worker keeps."""

    entries: int = _key(whole_number(0, 10_000_000), 100_000)
    bytes: int = _key(whole_number(0, 1 << 40), 64 << 20)
    min_ttl_seconds: int = _key(whole_number(0, 3600), 0)
    max_ttl_seconds: int = _key(whole_number(1, 604_800), 86_400)
    failure_seconds: int = _key(whole_number(1, 300), 5)
    stale_seconds: int = _key(whole_number(0, 604_800), 86_400)
    stale_after_ms: int = _key(whole_number(0, 30_000), 1800)


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
    local: Local = field(default_factory=Local)
    limits: Limits = field(default_factory=Limits)
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
    "local": Local,
    "limits": Limits,
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
    document: Mapping[str, Any],
    base: Path,
    *,
    source: Path | None = None,
    problems: Sequence[str] = (),
    looks_at_files: bool = True,
) -> Settings:
    """Return the settings that a parsed file makes. Raises `SettingsError` with every problem, given ones included.

    The files that are named are looked at unless somebody did so already: what happens to them later is the concern of
    whoever reads them.
    """
    found = [*problems, *_unknown_sections(document)]
    sections = {name: _section(name, kind, document.get(name, {}), found) for name, kind in _SECTIONS.items()}
    ca_file = sections["upstream"].ca_file and str(base / sections["upstream"].ca_file)
    found += _contradictions(sections["local"].records)
    server = sections["server"]
    if (server.tls_listen or server.https_listen) and not (server.certificate and server.private_key):
        found.append("server.certificate: tls_listen and https_listen need a certificate and its private_key")
    files = {key: str(base / getattr(server, key)) for key in ("certificate", "private_key") if getattr(server, key)}
    if looks_at_files:
        found += _unreadable({"upstream.ca_file": ca_file} | {f"server.{key}": path for key, path in files.items()})
        found += _no_authorities(ca_file) if ca_file and _readable(ca_file) else []
    if found:
        raise SettingsError(found)
    sections["server"] = replace(server, **files)
    sections["state"] = State((base / sections["state"].directory).resolve())
    sections["upstream"] = replace(sections["upstream"], ca_file=ca_file)
    return Settings(**sections, source=source, document=document, base=base)


def _contradictions(records: Sequence[LocalRecord]) -> list[str]:
    """Return what is wrong with records that are each sound (RFC 1034 section 3.6.2)."""
    count = Counter(record.name for record in records)
    aliases = {record.name for record in records if record.rdtype == "CNAME"}
    leads_to = {r.name: r.rdata.lower().removesuffix(".") for r in records if r.rdtype == "CNAME"}
    return [
        *(f"local.records: {name} has a CNAME, and so no other record" for name in sorted(aliases) if count[name] > 1),
        *(f"local.records: {name} leads back to itself" for name in sorted(leads_to) if _returns(name, leads_to)),
    ]


def _returns(name: str, leads_to: Mapping[str, str]) -> bool:
    """Tell whether a name's aliases come back to it."""
    target = leads_to[name]
    for _ in leads_to:
        if target == name:
            return True
        target = leads_to.get(target, "")
    return False


def _unreadable(files: Mapping[str, str]) -> list[str]:
    return [f"{key}: {path} is no file that can be read" for key, path in files.items() if path and not _readable(path)]


def _no_authorities(ca_file: str) -> list[str]:
    try:
        ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        return [f"upstream.ca_file: {ca_file} holds no certificate in PEM form"]
    return []


def _readable(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.R_OK)


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
