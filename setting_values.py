"""The kinds of values that the configuration has, and how each is read from the file or the environment.

A reader takes what TOML or a variable holds and returns the value, or raises `ValueError` with a sentence that says
what it should be. Imports nothing of the project.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from types import MappingProxyType
from typing import Any, NamedTuple

from dnslib import RR
from dnslib.label import DNSBuffer

_DOMAIN = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")

_PATH = re.compile(r"[A-Za-z0-9/._~!$&'()*+,;=:@%-]*")

Network = IPv4Network | IPv6Network


class Endpoint(NamedTuple):
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UpstreamAddress(NamedTuple):
    """A resolver that questions are forwarded to."""

    scheme: str
    """``udp`` (with TCP when an answer is truncated), ``tcp``, ``tls`` or ``https``."""
    host: str
    port: int
    name: str
    """The name that a ``tls`` or ``https`` upstream's certificate must carry; empty: its address."""
    path: str = ""
    """Where an ``https`` upstream answers; empty for the others."""

    def __str__(self) -> str:
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{port}{self.path}" + (f"#{self.name}" if self.name else "")


DEFAULT_PORTS = {"udp": 53, "tcp": 53, "tls": 853, "https": 443}
DEFAULT_PATH = "/dns-query"  # RFC 8484 section 4.1.1's examples, and what public resolvers use


def endpoint(value: object) -> Endpoint:
    """Read ``127.0.0.1:5353`` or ``[::1]:5353``. Raises `ValueError` otherwise."""
    text = text_value(value)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65535:
        raise ValueError(f"{text!r} is no address with a port, like 127.0.0.1:5353 or [::1]:5353")
    if ":" in host and not host.startswith("["):
        raise ValueError(
            f"{text!r} must have the IPv6 address in brackets, like [::1]:5353"
        )  # or it may be all address
    return Endpoint(_address(host, text), int(port))


def upstream(value: object) -> UpstreamAddress:
    """Read ``udp://192.0.2.1``, ``tcp://192.0.2.1:53``, ``tls://192.0.2.1#name`` or ``https://192.0.2.1/path#name``.

    Raises `ValueError` otherwise.
    """
    text = text_value(value)
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in DEFAULT_PORTS:
        raise ValueError(f"{text!r} must begin with udp://, tcp://, tls:// or https://")
    rest, mark, name = rest.partition("#")
    if mark:
        name = _certificate_name(name, text)
    if name and scheme not in {"tls", "https"}:
        raise ValueError(f"{text!r}: a certificate's name (#{name}) is for tls:// and https:// alone")
    place, slash, path = rest.partition("/")
    if slash and scheme != "https":
        raise ValueError(f"{text!r}: a path (/{path}) is for https:// alone")
    if not _PATH.fullmatch(path):
        raise ValueError(f"{text!r}: the path must be of printable ASCII without blanks, braces and ?")
    path = (slash + path or DEFAULT_PATH) if scheme == "https" else ""
    if (place.count(":") == 1 and not place.startswith("[")) or "]:" in place:
        host, port = endpoint(place)
    else:
        host, port = _address(place, text), DEFAULT_PORTS[scheme]
    return UpstreamAddress(scheme, _host_of(host, text), port, name, path)


def _host_of(host: str, text: str) -> str:
    """Return an address that something can be asked at."""
    address = ip_address(_address(host, text))
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{text!r}: nobody answers at {address}")
    return str(address)


def _certificate_name(name: str, text: str) -> str:
    try:
        return str(ip_address(name))
    except ValueError:
        if _DOMAIN.fullmatch(name.lower().removesuffix(".")) is None:
            raise ValueError(f"{text!r}: a certificate carries a name or an address, not {name!r}") from None
        return name


def _address(host: str, text: str) -> str:
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return str(ip_address(bare))
    except ValueError:
        raise ValueError(f"{text!r} needs an IP address, not {bare!r}") from None


def text_value(value: object) -> str:
    """Read text. Raises `ValueError` otherwise, as all readers do."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {json.dumps(value, default=str)}")  # noqa: TRY004 - one kind of error
    return value


def whole_number(low: int, high: int) -> Callable[[object], int]:
    """Return what reads a whole number within bounds, both included."""

    def read(value: object) -> int:
        if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
            value = int(value)  # from the environment
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, not {json.dumps(value, default=str)}")
        return value

    return read


def path_text(value: object) -> str:
    """Read a path as it is written."""
    text = text_value(value)
    if "\0" in text:
        raise ValueError("must be a path, without NUL")
    return text


def one_of(*choices: str) -> Callable[[object], str]:
    """Return what reads one of these words."""

    def read(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {json.dumps(value, default=str)}")
        return str(value)

    return read


def network(value: object) -> Network:
    """Read ``10.0.0.0/8``."""
    try:
        return ip_network(text_value(value))
    except ValueError as problem:
        raise ValueError(f"{value!r} is no network: {problem}") from None


def domain_name(value: object) -> str:
    """Read a domain name; return it in lower case, without the trailing dot."""
    text = text_value(value).lower().removesuffix(".")
    if _DOMAIN.fullmatch(text) is None or len(text) > 253:  # RFC 1035 section 3.1
        raise ValueError(f"{value!r} is no domain name, like www.district.example")
    return text


def domain_name_or_none(value: object) -> str:
    """Read a domain name, or nothing."""
    return "" if value == "" else domain_name(value)


def database_address(value: object) -> str:
    """Read a database's URL; empty: SQLite in the state directory."""
    text = text_value(value)
    if text and not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be empty (SQLite in the state directory) or begin with postgresql://")
    return text


def node_name(value: object) -> str:
    """Read a node's name."""
    text = text_value(value)
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


def zone_table(value: object) -> Mapping[str, tuple[UpstreamAddress, ...]]:
    """Read zones that are answered by servers of their own; in the environment it is a JSON object."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError('must be a JSON object, like {"ad.example": ["udp://10.0.0.1"]}') from None
    if not isinstance(value, dict):
        raise ValueError(f"must be a table of zones, not {json.dumps(value, default=str)}")  # noqa: TRY004 - one kind of error
    zones, problems = {}, []
    for name, servers in value.items():
        try:
            zones[domain_name(name)] = Many(upstream, at_least=1)(servers)
        except ValueError as problem:
            problems.append(f"{name}: {problem}")
    if problems:
        raise ValueError("; ".join(problems))
    return MappingProxyType(zones)


class LocalRecord(NamedTuple):
    """A record of our own."""

    name: str
    """Lower case, without the trailing dot; ``*.name`` stands for every name below that has no record."""
    ttl: int
    """Seconds."""
    rdtype: str
    rdata: str
    """As a zone file writes it."""


LOCAL_TYPES = ("A", "AAAA", "CNAME", "PTR", "TXT", "SRV", "MX")
LOCAL_TTL = 300
LONGEST_DATA = 4_096  # octets: many times what a key in a TXT record takes
_ADDRESS_TYPES = {"A": 4, "AAAA": 6}
_WORDS = {"CNAME": 1, "PTR": 1, "MX": 2, "SRV": 4}
"""Of how many words the data of a record is."""
_LOCAL_RECORD = re.compile(rf"(\S+)\s+(?:(\d{{1,6}})\s+)?(?:IN\s+)?({'|'.join(LOCAL_TYPES)})\s+(\S.*)", re.IGNORECASE)


def local_record(value: object) -> LocalRecord:
    """Read ``printer.district.example 300 A 10.1.2.3``, the TTL at will. Raises `ValueError` otherwise."""
    text = text_value(value).strip()
    found = _LOCAL_RECORD.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is no record, like printer.district.example 300 A 10.1.2.3; types are {', '.join(LOCAL_TYPES)}"
        )
    name, ttl, rdtype, rdata = found.groups()
    below = name.removeprefix("*.")
    name = name[: len(name) - len(below)] + domain_name(below)
    record = LocalRecord(name, LOCAL_TTL if ttl is None else int(ttl), rdtype.upper(), rdata.strip())
    version = _ADDRESS_TYPES.get(record.rdtype)
    if version and ip_address(record.rdata).version != version:
        raise ValueError(f"{text!r}: {record.rdata} is of the other IP version")
    words = len(record.rdata.split())
    if words != _WORDS.get(record.rdtype, words):
        raise ValueError(f"{text!r}: the data of {record.rdtype} has {_WORDS[record.rdtype]} words, not {words}")
    buffer = DNSBuffer()
    try:
        (found,) = RR.fromZone(f". 0 IN {record.rdtype} {record.rdata}\n")
        found.rdata.pack(buffer)  # where names are found too long
    except Exception as problem:  # dnslib lets whatever goes wrong in its parser through
        raise ValueError(f"{text[:200]!r}: {record.rdata[:200]!r} can't be the data of {record.rdtype}") from problem
    if len(buffer.data) > LONGEST_DATA:
        raise ValueError(f"{text[:200]!r}: data of {len(buffer.data)} octets is longer than {LONGEST_DATA}")
    return record


def _from_environment(text: str) -> object:
    """Return the list that a variable holds: JSON, or parts with commas between."""
    try:
        return json.loads(text) if text.startswith("[") else _parts(text)
    except ValueError:
        return _parts(text)  # [::1]:5353 begins like JSON too


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
