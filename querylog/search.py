"""What may be asked of the log, and how what is found is shown.

Decides alone whether a question makes sense; how it is answered is the stores' business.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple, Self

from policy.names import InvalidNameError, key_of, normalise
from querylog.errors import InvalidQueryError
from querylog.records import VERDICTS, Record
from querylog.times import format_time

DEFAULT_LIMIT = 100
MAX_LIMIT = 10_000
ROOT = "."

# A qname as the log has it that is no host name: printable, other octets as \DDD, four characters for each of 255.
_LOGGED_NAME = re.compile(r"[!-~]{1,1020}")
_CURSOR = re.compile(r"([0-9a-f]{1,15})\.([0-9a-f]{1,12})")


class Cursor(NamedTuple):
    """A place in the results: behind the record with this time and this rank among those of the same time."""

    time: int
    rank: int

    def __str__(self) -> str:
        return f"{self.time:x}.{self.rank:x}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor that was written. Raises `InvalidQueryError` when it is none."""
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise InvalidQueryError("cursor", "not a cursor that a page of results gave")
        return cls(int(found[1], 16), int(found[2], 16))


@dataclass(frozen=True)
class LogQuery:
    """Which records are wanted: those for which everything holds that is given. `of` makes one from loose input."""

    client: str | None = None
    """An address or a network."""
    name: str | None = None
    """A qname, lower case, without its trailing dot."""
    subtree: str | None = None
    """A name, as above: it and all below it."""
    verdict: str | None = None
    since: int | None = None
    """Microseconds since the epoch; included."""
    until: int | None = None
    """Microseconds since the epoch; not included."""
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None
    """What the page before gave."""

    @classmethod
    def of(  # noqa: PLR0913 - one for each filter of the contract
        cls,
        *,
        client: str | None = None,
        name: str | None = None,
        subtree: str | None = None,
        verdict: str | None = None,
        since: int | None = None,
        until: int | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Self:
        """Return a query that can be answered. Raises `InvalidQueryError` naming the first field that is wrong."""
        if verdict is not None and verdict not in VERDICTS:
            raise InvalidQueryError("verdict", f"no such verdict: {verdict[:80]!r}; there are {', '.join(VERDICTS)}")
        if since is not None and until is not None and since > until:
            raise InvalidQueryError("since", "is later than until")
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidQueryError("limit", f"must be from 1 to {MAX_LIMIT}")
        if cursor is not None:
            Cursor.parse(cursor)
        return cls(
            None if client is None else _client(client),
            None if name is None else _name("name", name),
            None if subtree is None else _name("subtree", subtree),
            verdict,
            since,
            until,
            limit,
            cursor,
        )

    @property
    def addresses(self) -> tuple[bytes, bytes] | None:
        """The first and the last `address_key` of the clients that are wanted; None: all are."""
        if self.client is None:
            return None
        network = ip_network(self.client)
        family = bytes([network.version])
        return family + network.network_address.packed, family + network.broadcast_address.packed

    @property
    def keys(self) -> tuple[str, str] | None:
        """The first `key_of` a qname that is wanted, and an end that is behind the last; None: all are.

        In the order of code points. All keys of a subtree begin with its own, which ends with a dot.
        """
        ranges = []
        if self.name is not None:
            key = key_of(self.name)
            ranges.append((key, key + "\x01"))  # no key holds anything below the exclamation mark
        if self.subtree is not None and self.subtree != ROOT:
            key = key_of(self.subtree)
            ranges.append((key, key[:-1] + chr(ord(".") + 1)))
        if not ranges:
            return None
        return max(first for first, _ in ranges), min(end for _, end in ranges)

    @property
    def position(self) -> Cursor | None:
        """Where to go on."""
        return None if self.cursor is None else Cursor.parse(self.cursor)


def address_key(client: str) -> bytes:
    """Return an address as bytes that sort by family and value; empty for a text that is no address."""
    try:
        address = ip_address(client)
    except ValueError:
        return b""
    if isinstance(address, IPv6Address):
        # RFC 4291 section 2.5.5.2: what came over a dual-stack socket is an IPv4 client.
        address = address.ipv4_mapped or address
    return bytes([address.version]) + address.packed


def record_to_json(record: Record) -> dict[str, Any]:
    """Return a record under the contract's field names; null where nothing decided or nothing is known."""
    fields: dict[str, Any] = record._asdict()
    for name in ("qname", "qtype", "category", "source", "rule", "exception_id", "rcode", "upstream"):
        fields[name] = fields[name] or None
    fields["time"] = format_time(record.time)
    return fields


def _client(text: str) -> str:
    try:
        network = ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise InvalidQueryError("client", f"neither an IP address nor a network: {text[:80]!r}") from error
    mapped = isinstance(network.network_address, IPv6Address) and network.network_address.ipv4_mapped
    if mapped and network.prefixlen >= 96:
        return str(ip_network((mapped, network.prefixlen - 96)))
    return str(network)


def _name(field: str, text: str) -> str:
    if text == ROOT:
        return ROOT
    try:
        return normalise(text)
    except InvalidNameError as error:
        # Clients ask for more than host names. Backslashes alone escape a final dot, and the log has none such.
        name = text.lower().removesuffix(".")
        if _LOGGED_NAME.fullmatch(name) is None or "" in name.split("."):
            raise InvalidQueryError(field, f"not a domain name: {text[:80]!r}") from error
        return name
