"""A real worker process, driven over its control channel as the supervisor would."""

import fcntl
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from querylog.journal import SegmentReader, segments
from resolver.listeners.limits import Limits
from resolver.supervised import ROLE_LOCK, TAKEOVER
from tests.integration.node import Node, WorkerProcess
from tests.support import behaviours
from tests.support.dns_client import (
    exchange,
    query,
    receive_framed,
    send_framed,
    tcp,
    tcp_socket,
    udp,
    udp_socket,
)
from tests.support.fake_upstream import FakeUpstream
from tests.support.processes import eventually
from tests.unit.policy.build import exception, group


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


Nodes = Callable[..., Node]


@pytest.fixture
def nodes(tmp_path: Path, upstream: FakeUpstream) -> Iterator[Nodes]:
    made: list[Node] = []

    def one(**document: Any) -> Node:
        made.append(Node(tmp_path / f"node{len(made)}", upstream, **document))
        return made[-1]

    yield one
    for node in made:
        for worker in node.workers:
            worker.close()
    for node in made:
        assert "Traceback" not in node.errors


@pytest.fixture
def node(nodes: Nodes) -> Node:
    return nodes()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[Node]:
    """One worker for the tests that only ask."""
    node = Node(tmp_path_factory.mktemp("shared"), upstream)
    node.start()
    yield node
    for worker in node.workers:
        worker.close()
    assert "Traceback" not in node.errors


@pytest.fixture(scope="module", autouse=True)
def idle(shared: Node) -> Iterator[list[socket.socket]]:
    """Two connections that are silent from the first test on: one never spoke, one did; and stalled mid-message."""
    with (
        tcp_socket(shared.server, source="127.0.0.77") as silent,
        tcp_socket(shared.server, source="127.0.0.77") as spoke,
    ):
        send_framed(spoke, query("bad.example").to_wire())
        receive_framed(spoke)
        spoke.sendall(b"\0")
        yield [silent, spoke]


# Answers.


@pytest.mark.parametrize("ask", [udp, tcp])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_answers_over_udp_and_tcp_ipv4_and_ipv6(shared: Node, ask: Any, host: str) -> None:
    server = (host, shared.port)
    assert [str(rdata) for rdata in ask(server, "www.bad.example").answer[0]] == ["0.0.0.0"]
    assert [str(rdata) for rdata in ask(server, "a.example").answer[0]] == [behaviours.computed_rdata("a.example", "A")]


def test_a_reply_comes_from_the_address_that_was_asked(shared: Node) -> None:
    """A connected socket hears nobody else."""
    with udp_socket(shared.server, source="127.0.0.9") as sock:
        for message in (query("bad.example"), query("b.example")):
            sock.send(message.to_wire())
            assert message.is_response(dns.message.from_wire(sock.recv(4096)))


def test_what_is_no_query_gets_no_answer_and_the_next_one_does(shared: Node) -> None:
    message = query("bad.example")
    with udp_socket(shared.server) as sock:
        for junk in (b"", b"\0", bytes(11), b"\0\0\x80" + bytes(9), b"\xff" * 40):
            sock.send(junk)
        sock.send(message.to_wire())
        assert message.is_response(dns.message.from_wire(sock.recv(4096)))


def test_a_datagram_as_long_as_they_come_is_survived(shared: Node) -> None:
    message = query("bad.example")
    with udp_socket(shared.server) as sock:
        sock.send(message.to_wire() + bytes(60000))
        assert message.is_response(dns.message.from_wire(sock.recv(4096)))


def test_a_large_answer_goes_over_tcp(shared: Node) -> None:
    shared.upstream.behave("large.example", behaviours.big_text(30000))
    short = udp(shared.server, "large.example", "TXT", use_edns=0, payload=4096)
    assert short.flags & dns.flags.TC
    assert len(tcp(shared.server, "large.example", "TXT").answer[0]) == 141


def test_clients_are_told_apart_by_the_socket_they_come_from(shared: Node) -> None:
    """RFC 7871 section 11.1: what a client says of its own address counts for nothing."""
    subnet = dns.edns.ECSOption("10.9.9.9", 32)
    for source in ("127.0.0.21", "127.0.0.22"):
        udp(shared.server, "ecs.example", source=source, options=[subnet])
    found = {record.client.client for record in shared.records if record.decision.qname == "ecs.example"}
    assert found == {"127.0.0.21", "127.0.0.22"}
    assert not any(option for asked in shared.upstream.asked("ecs.example") for option in asked.message.options)


# TCP.


def test_pipelined_queries_are_answered_as_they_finish(shared: Node) -> None:
    """RFC 7766 section 6.2.1.1 and 7: several on one connection, out of order, matched by their IDs."""
    shared.upstream.behave("slow.example", behaviours.slow(1.0))
    messages = [query(name) for name in ("slow.example", "fast1.example", "bad.example", "fast2.example")]
    with tcp_socket(shared.server) as sock:
        send_framed(sock, *(message.to_wire() for message in messages))
        answers = [dns.message.from_wire(receive_framed(sock)) for _ in messages]
    assert {answer.id for answer in answers} == {message.id for message in messages}
    assert answers[-1].id == messages[0].id
    by_id = {message.id: message for message in messages}
    assert all(by_id[answer.id].is_response(answer) for answer in answers)


def test_a_frame_may_come_octet_by_octet(shared: Node) -> None:
    """RFC 7766 section 8."""
    message = query("bad.example")
    wire = message.to_wire()
    with tcp_socket(shared.server) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in len(wire).to_bytes(2, "big") + wire:
            sock.sendall(bytes([octet]))
        assert message.is_response(dns.message.from_wire(receive_framed(sock)))


def test_frames_of_nothing_and_of_junk_are_passed_over(shared: Node) -> None:
    message = query("bad.example")
    with tcp_socket(shared.server) as sock:
        send_framed(sock, b"", b"\0", bytes(11), message.to_wire())
        assert message.is_response(dns.message.from_wire(receive_framed(sock)))


def test_a_hundred_queries_on_one_connection(shared: Node) -> None:
    messages = [query(f"n{number}.{'bad.' if number % 2 else ''}test") for number in range(100)]
    with tcp_socket(shared.server) as sock:
        send_framed(sock, *(message.to_wire() for message in messages))
        answers = {receive_framed(sock)[:2] for _ in messages}
    assert len(answers) == len({message.id for message in messages})


def test_one_client_can_hold_only_so_many_connections(shared: Node) -> None:
    """The one that was silent longest makes room."""
    greedy, other = "127.0.0.31", "127.0.0.32"
    with ExitStack() as stack:
        held = [stack.enter_context(tcp_socket(shared.server, source=greedy))]
        for _ in range(Limits().connections_each - 1):
            send_framed(held[-1], query("bad.example").to_wire())
            receive_framed(held[-1])
            held.append(stack.enter_context(tcp_socket(shared.server, source=greedy)))
        assert tcp(shared.server, "bad.example", source=greedy).answer
        assert _was_ended(held[0])
        assert tcp(shared.server, "bad.example", source=other).answer
        send_framed(held[-1], query("bad.example").to_wire())
        receive_framed(held[-1])


def _was_ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def test_a_client_that_leaves_before_its_answer_costs_nobody_anything(shared: Node) -> None:
    shared.upstream.behave("left.example", behaviours.slow(0.1))
    with tcp_socket(shared.server) as sock:
        send_framed(sock, query("left.example").to_wire())
    with udp_socket(shared.server) as sock:
        sock.send(query("left.example", "AAAA").to_wire())
    eventually(lambda: len([r for r in shared.records if r.decision.qname == "left.example"]) == 2)
    assert udp(shared.server, "bad.example").answer


# The log.


def test_every_answer_has_its_record_when_it_arrives(shared: Node) -> None:
    before = len(shared.records)
    for number, (ask, name) in enumerate(
        [(udp, "bad.example"), (tcp, "bad.example"), (udp, "log.example"), (udp, "log.example")], 1
    ):
        ask(shared.server, name)
        assert len(shared.records) == before + number
    transports = [(r.client.transport, r.decision.verdict, r.decision.cached) for r in shared.records[before:]]
    assert transports == [
        ("udp", "blocked", False),
        ("tcp", "blocked", False),
        ("udp", "allowed", False),
        ("udp", "allowed", True),
    ]


def test_killed_it_leaves_a_journal_that_can_be_read(node: Node) -> None:
    worker = node.start()
    answered = 0
    stop = threading.Event()

    def ask_on() -> None:
        nonlocal answered
        while not stop.is_set():
            try:
                udp(node.server, f"n{answered}.bad.example", timeout=3)
            except OSError:
                return
            answered += 1

    thread = threading.Thread(target=ask_on)
    thread.start()
    eventually(lambda: answered > 200)
    worker.process.send_signal(signal.SIGKILL)
    assert worker.wait() == -signal.SIGKILL
    stop.set()
    thread.join()
    names = [record.decision.qname for record in node.records]
    assert names[:answered] == [f"n{number}.bad.example" for number in range(answered)]
    assert len(names) <= answered + 1  # one may have been logged and not yet answered
    (segment,) = segments(node.journal)
    reader = SegmentReader(segment)
    assert reader.node == "node-1"
    assert not reader.is_being_written()
    reader.close()


# Policy.


def test_it_takes_a_new_policy_and_says_so(node: Node) -> None:
    worker = node.start()
    assert udp(node.server, "bad.example").answer
    second = node.publish(2, groups=[group("students", mode="nxdomain")])
    assert worker.adopt(second) == 2
    assert udp(node.server, "bad.example").rcode() == dns.rcode.NXDOMAIN
    assert [record.decision.policy_version for record in node.records] == [1, 2]


def test_a_policy_that_cant_be_read_leaves_the_last_in_force(nodes: Nodes, tmp_path: Path) -> None:
    node = nodes()
    worker = node.start()
    (tmp_path / "broken.json").write_text("{")
    assert worker.adopt(tmp_path / "broken.json") == 1
    damaged = node.publish(2)
    (node.state / "policy/names-2.index").write_bytes(b"HMI1")
    assert worker.adopt(damaged) == 1
    assert worker.adopt(tmp_path / "none.json") == 1
    assert udp(node.server, "bad.example").answer
    assert node.errors.count("can't be read") == 3
    (node.directory / "errors").write_text("")  # those tracebacks were asked for


def test_an_exception_ends_by_itself(node: Node) -> None:
    worker = node.start()
    soon = time.time_ns() // 1000 + 5_000_000
    worker.adopt(node.publish(2, exceptions=[exception(3, "bad.example", expires_at=soon)]))
    allowed = [str(behaviours.computed_rdata("bad.example", "A"))]
    assert [str(rdata) for rdata in udp(node.server, "bad.example").answer[0]] == allowed
    eventually(lambda: str(udp(node.server, "bad.example").answer[0][0]) == "0.0.0.0", 30)
    assert node.records[0].decision.exception_id == 3
    blocked = [record for record in node.records if record.decision.verdict == "blocked"]
    assert blocked[0].time >= soon


def test_it_tells_how_it_is(node: Node) -> None:
    worker = node.start()
    for _ in range(5):
        udp(node.server, "bad.example")
    udp(node.server, "a.example")
    eventually(lambda: worker.hear("beat")["lookups"] == 6)
    beat = worker.hear("beat")
    assert {key: beat[key] for key in ("policy", "cached", "in_flight", "unlogged")} == {
        "policy": 1,
        "cached": 1,
        "in_flight": 0,
        "unlogged": 0,
    }


# Stopping.


@pytest.mark.parametrize("by", ["channel", "SIGTERM"])
def test_told_to_stop_it_finishes_what_is_in_flight(node: Node, by: str) -> None:
    node.upstream.behave("slow-stop.example", behaviours.slow(0.5))
    worker = node.start()
    before = len(node.upstream.asked("slow-stop.example"))
    message, other = query("slow-stop.example"), query("slow-stop.example", "AAAA")
    with udp_socket(node.server) as datagrams, tcp_socket(node.server) as stream:
        datagrams.send(message.to_wire())
        send_framed(stream, other.to_wire())
        eventually(lambda: len(node.upstream.asked("slow-stop.example")) >= before + 2)
        if by == "channel":
            worker.say(do="stop")
        else:
            worker.process.send_signal(signal.SIGTERM)
        assert message.is_response(dns.message.from_wire(datagrams.recv(4096)))
        assert other.is_response(dns.message.from_wire(receive_framed(stream)))
    assert worker.wait() == 0
    assert [record.decision.qname for record in node.records] == ["slow-stop.example"] * 2


def test_what_had_arrived_before_the_stop_is_answered(node: Node) -> None:
    """More than one burst waits in the socket: a worker that is told to stop must not let it fall."""
    worker = node.start()
    worker.process.send_signal(signal.SIGSTOP)
    with udp_socket(node.server) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for number in range(500):
            sock.send(number.to_bytes(2, "big") + query(f"n{number}.bad.example").to_wire()[2:])
        worker.say(do="stop")
        worker.process.send_signal(signal.SIGCONT)
        answered = {sock.recv(4096)[:2] for _ in range(500)}
    assert len(answered) == 500
    assert worker.wait() == 0
    assert len(node.records) == 500


def test_while_one_worker_stops_the_others_take_every_query(node: Node) -> None:
    """SO_REUSEPORT: a socket that nobody reads any more must not be given datagrams."""
    node.upstream.behave("slow-drain.example", behaviours.slow(2.0))
    policy = node.publish()
    stopping, staying = node.start(0, policy), node.start(1, policy)
    before = len(node.upstream.asked("slow-drain.example"))
    with ExitStack() as stack:
        # Both have something in flight, so that the one that is told to stop takes its time.
        waiting = [stack.enter_context(udp_socket(node.server)) for _ in range(40)]
        message = query("slow-drain.example")
        for sock in waiting:
            sock.send(message.to_wire())
        eventually(lambda: len(node.upstream.asked("slow-drain.example")) >= before + 2)
        stopping.say(do="stop")
        eventually(lambda: _stopped_reading(stopping.process.pid, node.port))
        for _ in range(40):
            assert udp(node.server, "bad.example").answer
        for sock in waiting:
            assert message.is_response(dns.message.from_wire(sock.recv(4096)))
    assert stopping.wait() == 0
    assert staying.process.poll() is None


def _stopped_reading(pid: int, port: int) -> bool:
    """Tell whether the process listens on no TCP port any more, which it gives up together with reading UDP."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    listening = {
        fields[9] for fields in map(str.split, lines) if fields[3] == "0A" and fields[1].endswith(f":{port:04X}")
    }
    return not inodes & listening


def test_without_a_start_it_leaves(node: Node) -> None:
    worker = WorkerProcess(0, node.directory, node.directory / "errors")
    node.workers.append(worker)
    worker.abandon()
    assert worker.wait() == 0


# A supervisor that is gone.


def test_it_outlives_its_supervisor_and_leaves_when_another_takes_over(node: Node) -> None:
    worker = node.start()
    worker.abandon()
    for _ in range(20):
        assert udp(node.server, "bad.example").answer
    eventually(lambda: "the supervisor is gone" in node.errors)
    assert udp(node.server, "bad.example").answer
    (node.state / "run" / TAKEOVER).write_text("")
    assert worker.wait() == 0
    assert len(node.records) == 21


def test_it_holds_the_role_until_it_leaves(node: Node) -> None:
    """A supervisor that takes over waits for this lock."""
    worker = node.start()
    with (node.state / "run" / ROLE_LOCK).open("rb") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        worker.say(do="stop")
        assert worker.wait() == 0
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


# Several workers.


def test_two_workers_share_the_port(node: Node) -> None:
    policy = node.publish()
    first, second = node.start(0, policy), node.start(1, policy)
    for _ in range(40):  # from as many ports: the kernel spreads them
        assert udp(node.server, "bad.example").answer
        assert tcp(node.server, "bad.example").answer
    by_worker = {path.name.split("-")[1]: path for path in segments(node.journal)}
    assert set(by_worker) == {"0", "1"}
    assert all(path.stat().st_size > 500 for path in by_worker.values())
    assert len(node.records) == 80
    first.process.send_signal(signal.SIGKILL)
    first.wait()
    for _ in range(20):
        assert udp(node.server, "bad.example").answer
    second.say(do="stop")
    assert second.wait() == 0
    assert len(node.records) == 100


def test_a_raw_query_is_answered_with_its_own_octets(shared: Node) -> None:
    message = query("Mixed.BAD.example", "TYPE65280")
    wire = message.to_wire()
    reply = exchange(shared.server, wire)
    assert reply[:2] == wire[:2]
    assert reply[12 : 12 + 20] == wire[12 : 12 + 20]


def test_an_idle_connection_is_closed(shared: Node, idle: list[socket.socket]) -> None:
    """RFC 7766 section 6.2.3. The last test here: these have been silent since the first."""
    for sock in idle:
        sock.settimeout(20.0)
        assert sock.recv(1) == b""
    assert tcp(shared.server, "bad.example", source="127.0.0.77").answer
