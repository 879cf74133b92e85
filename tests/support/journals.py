"""Journal segments made by hand, octet for octet as `querylog.journal` describes them: a second writer of the format.

Unlike the writer itself it takes any times and durations, and can leave a segment in any state.
"""

import fcntl
import json
import os
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Any, Self
from zlib import crc32

from querylog.records import Client, Decision, Record

CLIENT, DECISION, GAP = 1, 2, 3

_births = count(1_790_000_000_000_000)  # no two segments ever have the same name
_LOOKUP = Struct("<QIII")
_BATCH = Struct("<III")
_DEFINITION = Struct("<BIH")

Lookup = tuple[int, Client, Decision, int]
"""Time, who asked, what came of it, duration."""


class SegmentFile:
    """Writes one segment and holds its lock, as a living worker does, until it is closed."""

    def __init__(self, directory: Path, *, node: str = "node", started: int | None = None, worker: int = 0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        started = next(_births) if started is None else started
        self.path = directory / f"{started:016d}-{worker}-1.journal"
        self.node = node
        self._numbers: dict[Client | Decision, int] = {}
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        about = json.dumps({"node": node, "worker": worker, "pid": 1, "started": started}).encode()
        self.write(b"HMJ1" + len(about).to_bytes(4, "little") + about)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def batch(self, lookups: Iterable[Lookup], *, gap: tuple[int, int, int] | None = None) -> bytes:
        """Append a batch, defining what it is the first to name; return its octets."""
        definitions: list[bytes] = []
        rows = [
            _LOOKUP.pack(time, self._number(client, definitions), self._number(decision, definitions), duration)
            for time, client, decision, duration in lookups
        ]
        if gap is not None:
            definitions.append(definition(GAP, 0, "\0".join(map(str, gap)).encode()))
        octets = batch(b"".join(rows), definitions)
        self.write(octets)
        return octets

    def write(self, octets: bytes) -> None:
        """Append octets as they are."""
        assert os.write(self._fd, octets) == len(octets)

    def close(self) -> None:
        """Die, as far as anyone else can tell."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _number(self, thing: Client | Decision, definitions: list[bytes]) -> int:
        number = self._numbers.get(thing)
        if number is None:
            number = self._numbers[thing] = len(self._numbers)
            if isinstance(thing, Client):
                definitions.append(definition(CLIENT, number, "\0".join(thing).encode()))
            else:
                text = "\0".join([*map(str, thing[:-1]), "1" if thing.cached else "0"])
                definitions.append(definition(DECISION, number, text.encode()))
        return number


def batch(lookups: bytes, definitions: Iterable[bytes]) -> bytes:
    """Return a batch around its octets."""
    body = lookups + b"".join(definitions)
    count = len(lookups) // _LOOKUP.size
    return _BATCH.pack(len(body), count, crc32(body, len(body) ^ count)) + body


def definition(kind: int, number: int, data: bytes) -> bytes:
    """Return one definition."""
    return _DEFINITION.pack(kind, number, len(data)) + data


def a_client(client: str = "192.0.2.1", group: str = "students", transport: str = "udp") -> Client:
    """Return a client like any other."""
    return Client(client, group, transport)


def a_decision(qname: str = "www.example", qtype: str = "A", verdict: str = "allowed", **other: Any) -> Decision:
    """Return a decision like any other."""
    plain = Decision(qname, qtype, verdict, "", "", "", 0, 1, "NOERROR", "192.0.2.53:53", cached=False)
    return plain._replace(**other)


def record_of(lookup: Lookup, node: str = "node") -> Record:
    """Return the record that a search should return for a lookup."""
    time, client, decision, duration = lookup
    return Record(
        time,
        node,
        client.client,
        client.group,
        decision.qname,
        decision.qtype,
        client.transport,
        decision.verdict,
        decision.category,
        decision.source,
        decision.rule,
        decision.exception_id,
        decision.policy_version,
        decision.rcode,
        decision.upstream,
        decision.cached,
        duration,
    )
