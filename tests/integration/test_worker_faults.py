"""A real worker meets what goes wrong around it: bugs, descriptors, upstreams, clocks and disks."""

import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from querylog.journal import LONGEST
from tests.integration.node import BLOCKED, ROOT, Node
from tests.support import behaviours
from tests.support.dns_client import query, receive_framed, send_framed, tcp_socket, udp, udp_socket
from tests.support.fake_upstream import FakeUpstream
from tests.support.processes import cpu_seconds, eventually, leave_room_for, rests
from tests.unit.policy.build import Listed, block, exception
from tests.unit.resolver.bench import gaps

SABOTAGE = Path(ROOT) / "tests/support/sabotage"
HOUR = 3600
NETWORK_ERROR = 23
"""RFC 8914 section 4.24."""


@pytest.fixture
def sabotaged(node: Node, tmp_path: Path) -> Node:
    """Give a node whose workers have a clock and a disk that can go wrong."""
    node.environ = {"PYTHONPATH": f"{SABOTAGE}:{ROOT}", "SABOTAGE": str(tmp_path)}
    return node


def rcode(node: Node, name: str) -> str:
    return dns.rcode.to_text(udp(node.server, name).rcode())


def logged_rcodes(node: Node) -> Counter[tuple[str, str]]:
    return Counter((record.decision.qname, record.decision.rcode) for record in node.records)


# Bugs. A source of a category that the policy doesn't know stands for any.

BUG = [*BLOCKED, Listed("lost", "no such category", [block("broken.example")])]


def test_a_bug_costs_its_lookup_and_none_of_the_burst(node: Node) -> None:
    worker = node.start(policy=node.publish(lists=BUG))
    names = ["bad.example", "broken.example", "www.bad.example"]
    worker.process.send_signal(signal.SIGSTOP)
    with udp_socket(node.server) as sock:
        for number, name in enumerate(names):
            sock.send(query(name, id=number).to_wire())
        worker.process.send_signal(signal.SIGCONT)
        answers = [dns.message.from_wire(sock.recv(4096)) for _ in names]
    assert {answer.id: dns.rcode.to_text(answer.rcode()) for answer in answers} == {
        0: "NOERROR",
        1: "SERVFAIL",
        2: "NOERROR",
    }
    assert logged_rcodes(node) == {
        ("bad.example", "NOERROR"): 1,
        ("broken.example", "SERVFAIL"): 1,
        ("www.bad.example", "NOERROR"): 1,
    }
    assert node.errors.count("Traceback") == node.errors.count("KeyError: 'no such category'") == 1


def test_a_bug_on_the_way_back_costs_those_whom_it_meets(node: Node) -> None:
    """An alias leads to the name that breaks the policy, for each of those who wait for the same answer."""
    slow_alias = behaviours.slow(
        0.2, behaviours.answering("@ 300 CNAME broken.example.", "broken.example. 300 A 192.0.2.1")
    )
    node.upstream.behave("alias.example", slow_alias)
    node.start(policy=node.publish(lists=BUG))
    with udp_socket(node.server, source="127.0.0.2") as one, udp_socket(node.server, source="127.0.0.3") as other:
        for sock in (one, other):
            sock.send(query("alias.example").to_wire())
        answers = [dns.message.from_wire(sock.recv(4096)) for sock in (one, other)]
    assert [answer.rcode() for answer in answers] == [dns.rcode.SERVFAIL] * 2
    assert rcode(node, "sound.example") == "NOERROR"
    assert logged_rcodes(node) == {("alias.example", "SERVFAIL"): 2, ("sound.example", "NOERROR"): 1}
    assert len(node.upstream.asked("alias.example")) == 1
    assert node.errors.count("KeyError: 'no such category'") == 2


# Descriptors.


def test_without_descriptors_what_is_known_is_answered_and_forwarding_comes_back(node: Node) -> None:
    pid = node.start().process.pid
    assert rcode(node, "bad.example") == "NOERROR"
    before = leave_room_for(0, pid)
    assert {rcode(node, f"n{number}.without.example") for number in range(50)} == {"SERVFAIL"}
    assert rcode(node, "bad.example") == "NOERROR"
    eventually(lambda: rests(pid), 30)
    lines = node.errors.count("\n")

    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert {rcode(node, f"n{number}.again.example") for number in range(50)} == {"NOERROR"}
    assert "Traceback" not in node.errors
    assert lines <= 50, "not a line for each turn of the loop"
    assert len(node.records) == 102


def test_without_descriptors_from_its_first_moment_on_a_worker_lives(node: Node) -> None:
    """It brings its journal to the disk in a thread, for which there was none to be opened yet."""
    worker = node.start()
    leave_room_for(0, worker.process.pid)
    assert rcode(node, "bad.example") == "NOERROR"
    for _ in range(3):
        worker.hear("beat")
    assert "Traceback" not in node.errors
    assert worker.process.poll() is None


def test_without_descriptors_one_port_is_enough_to_forward(node: Node) -> None:
    pid = node.start().process.pid
    assert rcode(node, "known.example") == "NOERROR"
    leave_room_for(0, pid)
    names = [f"n{number}.without.example" for number in range(100)]
    assert {rcode(node, name) for name in (*names, "known.example")} == {"NOERROR"}
    eventually(lambda: rests(pid), 30)
    assert node.errors.count("\n") <= 50
    assert "Traceback" not in node.errors


# Upstreams.

FLAPS_SECONDS = 0.2
FLAPPING = 600
UNDER_WAY = 50
PACE_SECONDS = 0.004


@contextmanager
def flapping(upstream: FakeUpstream) -> Iterator[None]:
    """Have an upstream go away and come back, over and over; in the end it is there."""
    done = threading.Event()

    def flap() -> None:
        while not done.wait(FLAPS_SECONDS):
            upstream.stop()
            done.wait(FLAPS_SECONDS)
            upstream.start()

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_while_the_upstream_comes_and_goes_each_query_has_its_answer_and_its_record(node: Node) -> None:
    node.document["upstream"]["failover_ms"] = 250
    worker = node.start()
    answers = []
    with udp_socket(node.server) as sock:
        with flapping(node.upstream):
            for number in range(FLAPPING):
                sock.send(query(f"n{number}.flapping.example", id=number).to_wire())
                if number >= UNDER_WAY:
                    answers.append(dns.message.from_wire(sock.recv(4096)))
                time.sleep(PACE_SECONDS)
        answers += [dns.message.from_wire(sock.recv(4096)) for _ in range(UNDER_WAY)]
    told = {
        (str(answer.question[0].name).removesuffix("."), dns.rcode.to_text(answer.rcode())): 1 for answer in answers
    }
    assert {answer.id for answer in answers} == set(range(FLAPPING))
    assert logged_rcodes(node) == told
    assert {told_rcode for _, told_rcode in told} == {"NOERROR", "SERVFAIL"}
    assert rcode(node, "afterwards.example") == "NOERROR"
    eventually(lambda: worker.hear("beat")["in_flight"] == 0)
    assert "Traceback" not in node.errors


def test_an_upstream_whose_port_is_unreachable_is_told_apart_and_asked_again(node: Node) -> None:
    node.start()
    assert rcode(node, "before.example") == "NOERROR"
    for round_ in range(3):
        node.upstream.stop()
        for number in range(10):
            answer = udp(node.server, f"n{number}.round{round_}.gone.example", use_edns=0)
            assert answer.rcode() == dns.rcode.SERVFAIL
            assert NETWORK_ERROR in [option.code for option in answer.extended_errors()]
        assert rcode(node, "before.example") == "NOERROR"
        node.upstream.start()
        assert rcode(node, f"round{round_}.back.example") == "NOERROR"
    assert "Traceback" not in node.errors


def test_what_an_upstream_owes_when_it_goes_is_answered(node: Node) -> None:
    """Queries that were under way when the port closed get no ICMP error: they are asked again, and given up."""
    node.upstream.default = behaviours.silent
    node.document["upstream"]["failover_ms"] = 250
    node.start()
    with udp_socket(node.server) as sock:
        for number in range(20):
            sock.send(query(f"n{number}.owed.example", id=number).to_wire())
        eventually(lambda: len(node.upstream.log) >= 20)
        node.upstream.stop()
        answers = [dns.message.from_wire(sock.recv(4096)) for _ in range(20)]
    assert {(answer.id, answer.rcode()) for answer in answers} == {(number, dns.rcode.SERVFAIL) for number in range(20)}
    assert len(node.records) == 20
    node.upstream.default = behaviours.computed
    node.upstream.start()
    assert rcode(node, "afterwards.example") == "NOERROR"


# Its own sockets.


def test_sockets_that_fail_to_give_what_they_have_cost_no_more_than_that(sabotaged: Node, tmp_path: Path) -> None:
    """They stay readable: a loop that came back to them at once would do nothing else."""
    pid = sabotaged.start().process.pid
    assert rcode(sabotaged, "bad.example") == "NOERROR"
    (tmp_path / "deaf").touch()
    with udp_socket(sabotaged.server) as datagrams, tcp_socket(sabotaged.server) as stream:
        datagrams.send(query("bad.example").to_wire())
        send_framed(stream, query("bad.example").to_wire())
        time.sleep(0.2)
        before = cpu_seconds(pid)
        time.sleep(2.0)
        assert cpu_seconds(pid) - before < 1.0
        eventually(lambda: rests(pid), 30)
        (tmp_path / "deaf").unlink()
        assert dns.message.from_wire(datagrams.recv(4096)).answer
        assert dns.message.from_wire(receive_framed(stream)).answer
    assert "Traceback" not in sabotaged.errors


# The wall clock.


def set_clock(tmp_path: Path, hours: int) -> None:
    """Set the worker's wall clock so many hours from the real time."""
    unfinished = tmp_path / "clock.unfinished"
    unfinished.write_text(str(hours * HOUR))
    unfinished.replace(tmp_path / "clock")


@pytest.mark.parametrize("hours", [36, -36])
def test_a_clock_that_is_set_ends_and_lengthens_no_cached_answer(sabotaged: Node, tmp_path: Path, hours: int) -> None:
    sabotaged.start()
    first = udp(sabotaged.server, "kept.example").answer[0].ttl
    set_clock(tmp_path, hours)
    second = udp(sabotaged.server, "kept.example").answer[0].ttl
    assert len(sabotaged.upstream.asked("kept.example")) == 1
    assert first - 60 < second <= first
    eventually(lambda: udp(sabotaged.server, "kept.example").answer[0].ttl < first)
    assert len(sabotaged.upstream.asked("kept.example")) == 1
    early, *_, late = sabotaged.records
    assert abs(late.time - early.time - hours * HOUR * 1_000_000) < 60_000_000


@pytest.mark.parametrize(("hours", "duration"), [(2, LONGEST), (-2, 0)])
def test_a_clock_that_is_set_during_a_lookup(sabotaged: Node, tmp_path: Path, hours: int, duration: int) -> None:
    sabotaged.upstream.behave("meanwhile.example", behaviours.slow(2.0))
    sabotaged.start()
    with udp_socket(sabotaged.server) as sock:
        sock.send(query("meanwhile.example").to_wire())
        eventually(lambda: sabotaged.upstream.asked("meanwhile.example"), every=0.005)
        set_clock(tmp_path, hours)
        assert dns.message.from_wire(sock.recv(4096)).rcode() == dns.rcode.NOERROR
    (record,) = sabotaged.records
    assert record.duration == duration


def test_exceptions_end_by_the_wall_clock_and_live_again_when_that_was_wrong(sabotaged: Node, tmp_path: Path) -> None:
    expires = time.time_ns() // 1000 + HOUR * 1_000_000
    worker = sabotaged.start(policy=sabotaged.publish(exceptions=[exception(3, "bad.example", expires_at=expires)]))

    def is_blocked() -> bool:
        return str(udp(sabotaged.server, "bad.example").answer[0][0]) == "0.0.0.0"

    assert not is_blocked()
    set_clock(tmp_path, 2)
    eventually(is_blocked)
    asked = len(sabotaged.records)
    eventually(lambda: worker.hear("beat")["lookups"] == asked)  # it has looked at its clock
    assert is_blocked()  # which is remembered
    set_clock(tmp_path, 0)
    eventually(lambda: not is_blocked())
    assert "Traceback" not in sabotaged.errors


# The disk.


def test_a_disk_that_hangs_holds_up_neither_answers_nor_signs_of_life(sabotaged: Node, tmp_path: Path) -> None:
    worker = sabotaged.start()
    (tmp_path / "waiting").unlink(missing_ok=True)
    (tmp_path / "hang").touch()
    assert rcode(sabotaged, "bad.example") == "NOERROR"
    eventually((tmp_path / "waiting").exists)
    before = worker.hear("beat")["lookups"]
    for number in range(100):
        assert rcode(sabotaged, f"n{number}.bad.example") == "NOERROR"
        assert rcode(sabotaged, f"n{number}.example") == "NOERROR"
    assert worker.hear("beat")["lookups"] >= before
    eventually(lambda: worker.hear("beat")["lookups"] == 201)
    assert len(sabotaged.records) == 201
    (tmp_path / "hang").unlink()
    worker.say(do="stop")
    assert worker.wait() == 0
    assert "Traceback" not in sabotaged.errors


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """Have every write of a process fail that makes a file longer than nothing (setrlimit(2): EFBIG)."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("on_full", "meanwhile"), [("serve", "NOERROR"), ("refuse", "SERVFAIL")])
def test_a_full_disk(tmp_path: Path, upstream: FakeUpstream, on_full: str, meanwhile: str) -> None:
    """Blocked, cached and forwarded alike are answered, or refused; when there is room again all is as before."""
    node = Node(tmp_path / "node", upstream, querylog={"on_full": on_full})
    worker = node.start()
    asked = 0

    def ask(*names: str) -> set[str]:
        nonlocal asked
        asked += len(names)
        return {rcode(node, name) for name in names}

    try:
        assert ask("bad.example", "known.example") == {"NOERROR"}
        with full_disk(worker.process.pid):
            assert ask("bad.example", "known.example", "x.bad.example", "new.example", "bad.example") == {meanwhile}
            assert len(node.records) == 2
        eventually(lambda: ask("bad.example") == {"NOERROR"} and len(node.records) > 2)
        assert ask("bad.example", "known.example", "new.example") == {"NOERROR"}
        eventually(lambda: worker.hear("beat")["lookups"] == asked)
        lost = worker.hear("beat")["unlogged"]
    finally:
        worker.close()
    assert lost >= 5
    assert len(node.records) == asked - lost
    assert gaps(node.journal) == [str(lost).encode()]
