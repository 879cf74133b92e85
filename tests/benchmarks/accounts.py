"""What clients were told, and what the log says of it: they must agree record by record.

Names that are asked once each are matched one by one. All others are counted by client and response code: there may be
no fewer records than answers, and no more than queries.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import dns.rcode

from tests.benchmarks.load import Answers
from tests.benchmarks.queries import Query, address_of
from tests.benchmarks.scenarios import COLD_KEY, cold_number

NO_ANSWER = 255
WRONG = 128
"""Both as load.c writes outcomes: the latter is added to a response code."""
MOST_AT_ONCE = 255
"""Records of one name are counted in an octet: nobody asks so often."""


@dataclass
class Received:
    """What the clients of all rounds asked, and what they were told."""

    sent: Counter[str] = field(default_factory=Counter)
    """By client; likewise the others."""
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By client and response code as text."""
    cold: dict[int, bytearray] = field(default_factory=dict)
    """By round, of each name that is asked once: 1 where the answer came."""
    wrong: int = 0
    late: int = 0
    """Answers that came when nobody waited any more."""

    def add(self, run: int, queries: Sequence[Query], outcomes: bytes, answers: Answers) -> None:
        """Take a round: what was asked, and an octet for each that tells what came."""
        cold = self.cold[run] = bytearray(len(queries))
        self.wrong += answers.wrong
        self.late += answers.unexpected
        names = {client: str(ip_address(address_of(client))) for client in {client for client, _ in queries}}
        rcodes = {rcode: dns.rcode.to_text(dns.rcode.Rcode(rcode)) for rcode in range(16)}
        for (client, octets), outcome in zip(queries[: answers.sent], outcomes, strict=False):
            self.sent[names[client]] += 1
            if outcome == NO_ANSWER:
                continue
            self.answered[names[client], rcodes[outcome & ~WRONG]] += 1
            number = cold_number(octets)
            if number is not None:
                cold[number] = 1


@dataclass
class Logged:
    """What the log has of them."""

    records: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By client and response code as text."""
    cold: dict[int, bytearray] = field(default_factory=dict)
    """By round, of each name that is asked once, how many records there are."""
    gaps: int = 0

    @staticmethod
    def of(days: Iterable[Path], received: Received) -> "Logged":
        """Read the files of the log's days; records of other clients are left out."""
        logged = Logged(cold={run: bytearray(len(names)) for run, names in received.cold.items()})
        for day in days:
            with closing(sqlite3.connect(f"file:{day}?mode=ro", uri=True)) as connection:
                logged._read(connection, received)
        return logged

    def _read(self, connection: sqlite3.Connection, received: Received) -> None:
        run = connection.execute
        (gaps,) = run("SELECT count(*) FROM gaps").fetchone()
        self.gaps += gaps
        clients = {id_: name for id_, name in run("SELECT id, client FROM clients") if name in received.sent}
        decisions = _decisions(connection)
        records: Counter[tuple[int, int]] = Counter()
        for client, decision in run("SELECT client_id, decision_id FROM lookups"):
            if client in clients:
                rcode, place = decisions[decision]
                records[client, rcode] += 1
                if place is not None:
                    counts = self.cold[place[0]]
                    counts[place[1]] = min(counts[place[1]] + 1, MOST_AT_ONCE)
        rcodes = dict(run("SELECT id, rcode FROM outcomes"))
        for (client, outcome), count in records.items():
            self.records[clients[client], rcodes[outcome]] += count


def _decisions(connection: sqlite3.Connection) -> list[tuple[int, tuple[int, int] | None]]:
    """Return by a decision's id its outcome's, and the round and number of a name that is asked once."""
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM decisions").fetchone()
    found: list[tuple[int, tuple[int, int] | None]] = [(0, None)] * (last + 1)
    for id_, key, outcome in connection.execute("SELECT id, key, outcome_id FROM decisions"):
        match = COLD_KEY.fullmatch(key)
        found[id_] = (outcome, (int(match[1]), int(match[2], 16)) if match else None)
    return found


def disagreements(received: Received, logged: Logged) -> Iterator[str]:
    """Yield a line for whatever doesn't hold."""
    by_client: Counter[str] = Counter()
    for (client, _), count in logged.records.items():
        by_client[client] += count
    unanswered = received.sent.total() - received.answered.total()
    cold = [
        (came, records)
        for run, answered in received.cold.items()
        for came, records in zip(answered, logged.cold[run], strict=True)
    ]
    counts = {
        "answers were wrong": received.wrong,
        "answers have no record": sum((received.answered - logged.records).values()),
        "records more than there were queries of their clients": sum((by_client - received.sent).values()),
        "names that are asked once were answered and have no record": sum(came > records for came, records in cold),
        "names that are asked once have several records": sum(records > 1 for _, records in cold),
        "answers came twice": max(0, received.late - unanswered),
        "gaps are in the log": logged.gaps,
    }
    yield from (f"{count:,} {what}" for what, count in counts.items() if count)
