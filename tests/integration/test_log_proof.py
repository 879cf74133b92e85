"""The log proof: whatever is killed when, every answer that a client received has exactly one row; none is doubled.

Each client asks each question once, so a row and an answer are matched by client, name and type. Names that all clients
ask for are answered from what the worker remembers, the rest the whole way. Runs on SQLite and on Postgres.
"""

import itertools
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.rcode
import pytest

from tests.support import processes
from tests.support.barrage import Barrage, Question
from tests.support.fake_upstream import FakeUpstream
from tests.support.postgres import PostgresServer
from tests.support.server import HallMonitor

QUERIES_AT_LEAST = 20_000
QUERIES_AT_MOST = 40_000
TCP_QUERIES = 1_500
PER_SECOND = 1_800.0
CLIENTS = [f"127.0.{third}.{fourth}" for third in (8, 9, 10) for fourth in range(1, 101)]
NETWORKS = [f"127.0.{third}.{fourth}/26" for third in (8, 9, 10) for fourth in (0, 64)]
MOST_ROWS = 10_000  # of one search: more than a network's clients can ask
POPULAR = 30  # names that every client asks for, half of them blocked

WORKER, SUPERVISOR, EVERYTHING = "worker", "supervisor", "everything"
KILLS = [WORKER] * 6 + [SUPERVISOR] * 3 + [EVERYTHING] * 2


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def server(request: pytest.FixtureRequest, tmp_path: Path, upstream: FakeUpstream) -> Iterator[HallMonitor]:
    url = ""
    if request.param == "postgres":
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
        url = postgres.create_database()
    names = tmp_path / "blocked.txt"
    names.write_text("sunk.example\n")
    with HallMonitor(tmp_path / "server", upstreams=[upstream.url], workers=2, database_url=url) as running:
        running.hallmonitor("sources", "add", "proof", str(names), "--category", "proof", "--create-category")
        running.hallmonitor("groups", "block", "students", "proof")
        running.hallmonitor("refresh", "proof")
        yield running


def test_every_answer_has_exactly_one_row_whatever_is_killed(server: HallMonitor) -> None:
    chance = random.Random(20_261_124)
    killed = threading.Event()
    load = Barrage(server.dns, per_second=PER_SECOND)
    load.start(_until(killed, _questions(chance)), itertools.islice(_tcp_questions(), TCP_QUERIES))
    try:
        for kind in chance.sample(KILLS, len(KILLS)):
            time.sleep(chance.uniform(0.2, 1.2))
            _kill(server, kind, chance)
    finally:
        killed.set()
        load.join()
    server.wait_until_ready()
    assert server.terminate() == 0

    _check(load, [row for network in NETWORKS for row in _rows(server, network)])


def _rows(server: HallMonitor, network: str) -> list[dict[str, Any]]:
    rows = server.hallmonitor("logs", "search", "--client", network, "--limit", str(MOST_ROWS), "--json").objects()
    assert len(rows) < MOST_ROWS, "there may be more rows than a search shows"
    return rows


def _check(load: Barrage, rows: list[dict[str, Any]]) -> None:
    found = Counter(Question(row["client"], row["qname"], row["qtype"], row["transport"]) for row in rows)
    assert load.doubled == []
    assert [question for question in load.rcodes if not found[question]] == [], "answered, but not in the log"
    assert {question: count for question, count in found.items() if count > 1} == {}, "more than once in the log"
    assert set(found) <= load.sent, "in the log, but never asked"
    logged = {Question(row["client"], row["qname"], row["qtype"], row["transport"]): row for row in rows}
    wrong = [
        row
        for question, rcode in load.rcodes.items()
        if not _tells(row := logged[question], dns.rcode.to_text(dns.rcode.Rcode(rcode)))
    ]
    assert wrong == [], "the log says other than the answer did, or the answer was wrong"
    # That the proof is one: enough was asked, and most of it answered in spite of the killing.
    assert len(load.sent) >= QUERIES_AT_LEAST
    assert len(load.rcodes) >= len(load.sent) / 2
    assert {"udp", "tcp"} <= {question.transport for question in load.rcodes}
    assert any(row["cached"] for row in rows)
    assert any(not row["cached"] and row["upstream"] for row in rows)


def _tells(row: dict[str, Any], rcode: str) -> bool:
    """Tell whether a row is what the name deserves and the client was told."""
    if row["qname"].endswith("sunk.example"):
        decided = (row["verdict"], row["category"], row["source"]) == ("blocked", "proof", "proof")
    else:
        decided = row["verdict"] == ("failed" if rcode == "SERVFAIL" else "allowed")
    return decided and row["rcode"] == rcode


def _kill(server: HallMonitor, kind: str, chance: random.Random) -> None:
    if kind == WORKER:
        workers = processes.eventually(server.worker_pids)
        processes.kill([chance.choice(workers)], signal.SIGKILL)
        return
    if kind == EVERYTHING:
        processes.kill(server.pids(), signal.SIGKILL)
    server.kill()
    server.start()


def _until(killed: threading.Event, questions: Iterator[Question]) -> Iterator[Question]:
    """Go on until enough is asked and the killing is over."""
    for number, question in enumerate(questions):
        if number >= QUERIES_AT_MOST or (number >= QUERIES_AT_LEAST and killed.is_set()):
            return
        yield question


def _questions(chance: random.Random) -> Iterator[Question]:
    """Mix popular names, each once for every client, with names that are asked once by one."""
    popular = [
        Question(client, f"popular{number}.{'sunk' if number % 2 else 'open'}.example", qtype, "udp")
        for client in CLIENTS
        for number in range(POPULAR)
        for qtype in ("A", "AAAA")
    ]
    chance.shuffle(popular)
    for number in itertools.count():
        if popular and chance.random() < 0.5:
            yield popular.pop()
        else:
            kind = chance.choice(("sunk", "open"))
            yield Question(chance.choice(CLIENTS), f"only{number}.{kind}.example", "A", "udp")


def _tcp_questions() -> Iterator[Question]:
    for number in itertools.count():
        yield Question(
            CLIENTS[number % len(CLIENTS)], f"tcp{number}.{'sunk' if number % 3 else 'open'}.example", "A", "tcp"
        )
