"""How the service starts, ends, reloads and survives: signals, killed processes, ports, its state directory."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.behaviours import computed_rdata, slow
from tests.support.dns_client import Address, Dig, dig, udp
from tests.support.fake_upstream import FakeUpstream
from tests.support.processes import eventually, is_alive, kill
from tests.support.server import HallMonitor, free_port

ENDS_SECONDS = 60


def served(server: HallMonitor) -> subprocess.Popen[bytes]:
    assert server.process is not None
    return server.process


def fails_to_start(server: HallMonitor) -> str:
    """Start it, hold that it fails as a command should, and return the one line that it says."""
    server.start(wait=False)
    assert served(server).wait(ENDS_SECONDS) == 1, server.output()
    said = [line for line in server.output().splitlines() if line]
    assert len(said) == 1, server.output()
    assert said[0].startswith("hallmonitor: ")
    return said[0]


@pytest.fixture(scope="module")
def running(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HallMonitor]:
    """Give a server with two workers, which tests may hurt but must leave serving."""
    with HallMonitor(tmp_path_factory.mktemp("server"), upstreams=[upstream.url], workers=2) as server:
        yield server


class TestStarting:
    @pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["UDP", "TCP"])
    def test_a_port_that_is_taken(self, stopped_server: HallMonitor, kind: socket.SocketKind) -> None:
        with socket.socket(socket.AF_INET, kind) as taken:
            taken.bind(stopped_server.dns)
            if kind == socket.SOCK_STREAM:
                taken.listen()
            said = fails_to_start(stopped_server)
        assert "server.listen" in said
        assert f"127.0.0.1:{stopped_server.dns[1]}" in said
        assert "in use" in said

    def test_the_admin_port_is_taken(self, stopped_server: HallMonitor) -> None:
        with socket.socket() as taken:
            taken.bind(stopped_server.admin)
            taken.listen()
            stopped_server.start(wait=False)
            assert served(stopped_server).wait(ENDS_SECONDS) == 1
        said = [line for line in stopped_server.output().splitlines() if line.startswith("hallmonitor: ")]
        assert len(said) == 1, stopped_server.output()
        assert "admin.listen" in said[0]
        assert f"127.0.0.1:{stopped_server.admin[1]}" in said[0]
        assert "Traceback" not in stopped_server.output()
        assert "hm_" not in stopped_server.output(), "a token is shown when the start has succeeded"
        assert stopped_server.pids() == [], "no worker is left behind"
        # The next start shows the token that this one did not.
        stopped_server.start()
        assert "Admin token, shown this once: hm_" in stopped_server.output()

    def test_an_address_that_is_not_ours(self, stopped_server: HallMonitor) -> None:
        stopped_server.configure({"server": {"listen": ["192.0.2.1:5353"]}})
        said = fails_to_start(stopped_server)
        assert "server.listen: 192.0.2.1:5353" in said

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may bind any port")
    def test_a_port_that_needs_a_right(self, stopped_server: HallMonitor) -> None:
        stopped_server.configure({"server": {"listen": ["127.0.0.1:53"]}})
        assert "server.listen: 127.0.0.1:53" in fails_to_start(stopped_server)

    def test_a_state_directory_that_cannot_be(self, stopped_server: HallMonitor) -> None:
        (stopped_server.directory / "file").write_text("in the way")
        stopped_server.configure({"state": {"directory": "./file/var"}})
        said = fails_to_start(stopped_server)
        assert "state.directory" in said
        assert str(stopped_server.directory / "file") in said

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_state_directory_that_is_read_only(self, stopped_server: HallMonitor) -> None:
        stopped_server.state.mkdir(mode=0o500)
        assert "state.directory" in fails_to_start(stopped_server)

    def test_a_wrong_configuration_is_told_whole(self, stopped_server: HallMonitor) -> None:
        stopped_server.configure({"server": {"workers": -1}, "querylog": {"days": 3}, "upstreams": {"servers": []}})
        stopped_server.start(wait=False)
        assert served(stopped_server).wait(ENDS_SECONDS) == 1
        said = [line for line in stopped_server.output().splitlines() if line]
        assert all(line.startswith("hallmonitor: ") for line in said)
        for path in ("server.workers", "querylog.days", "upstreams"):
            assert any(f"hallmonitor: {path}" in line for line in said), stopped_server.output()
        assert not stopped_server.state.exists(), "nothing is created under a wrong configuration"

    def test_a_second_one_on_the_same_state_directory(self, running: HallMonitor, tmp_path: Path) -> None:
        second = HallMonitor(tmp_path / "second", upstreams=["udp://127.0.0.1:9"])
        second.configure({"state": {"directory": str(running.state)}})
        try:
            said = fails_to_start(second)
        finally:
            second.close()
        assert "already" in said
        assert str(running.state) in said
        assert dig(running.dns, "undisturbed.example").status == "NOERROR"


class TestEnding:
    def test_sigterm_finishes_what_is_in_flight_and_ships_everything(
        self, stopped_server: HallMonitor, upstream: FakeUpstream
    ) -> None:
        upstream.behave("inflight.example", slow(0.8))
        server = stopped_server.start()
        for number in range(20):
            udp(server.dns, f"n{number}.ending.example")
        answers: list[Dig] = []
        asking = threading.Thread(target=lambda: answers.append(dig(server.dns, "inflight.example")))
        asking.start()
        eventually(lambda: upstream.asked("inflight.example"))
        assert server.terminate() == 0
        asking.join()
        assert answers[0].rdata == [computed_rdata("inflight.example", "A")]
        assert server.pids() == []
        assert not list((server.state / "journal").glob("*.journal")), "all of it is in the log"
        records = server.hallmonitor("logs", "search", "--subtree", "example", "--json").objects()
        assert sorted(record["qname"] for record in records) == sorted(
            ["inflight.example", *(f"n{number}.ending.example" for number in range(20))]
        )

    def test_an_interrupt_ends_it_as_well(self, stopped_server: HallMonitor) -> None:
        stopped_server.start()
        stopped_server.signal(signal.SIGINT)
        assert served(stopped_server).wait(ENDS_SECONDS) == 0
        assert "Traceback" not in stopped_server.output()


class TestReloading:
    def test_a_good_file_is_taken_without_losing_an_answer(
        self, running: HallMonitor, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        other: Address = ("127.0.0.1", free_port())
        ended = threading.Event()
        answers: list[str] = []

        def ask() -> None:
            while not ended.is_set():
                answers.append(dig(running.dns, "reloading.example").status)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            listen = [f"127.0.0.1:{running.dns[1]}", f"127.0.0.1:{other[1]}"]
            running.configure({"server": {"listen": listen}, "filter": {"block_ttl_seconds": 33}})
            running.signal(signal.SIGHUP)
            eventually(lambda: "the configuration was read again" in running.output(), 60)
        finally:
            ended.set()
            asking.join()
        assert set(answers) == {"NOERROR"}
        assert dig(other, "pokerstars.com").answer[0].ttl == 33
        assert dig(running.dns, "pokerstars.com").answer[0].ttl == 33

    def test_a_bad_file_changes_nothing_and_is_told(self, running: HallMonitor) -> None:
        good = running.config.read_text()
        workers = running.worker_pids()
        running.config.write_text(good + '\n[nonsense]\nkey = "value"\n')
        try:
            running.signal(signal.SIGHUP)
            eventually(lambda: "the configuration was not taken: nonsense" in running.output())
        finally:
            running.config.write_text(good)
        assert running.worker_pids() == workers
        assert dig(running.dns, "unchanged.example").status == "NOERROR"
        assert served(running).poll() is None

    def test_a_file_that_cannot_be_served_by_changes_nothing(self, running: HallMonitor) -> None:
        good = running.config.read_text()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
            running.config.write_text(good.replace(f'"127.0.0.1:{running.dns[1]}"', f'"{endpoint}"'))
            try:
                running.signal(signal.SIGHUP)
                eventually(lambda: f"server.listen: {endpoint}" in running.output())
            finally:
                running.config.write_text(good)
        assert dig(running.dns, "stays.example").status == "NOERROR"


class TestKilled:
    def test_a_worker_is_replaced_while_the_others_serve(self, running: HallMonitor) -> None:
        before = running.worker_pids()
        assert len(before) == 2
        kill(before[:1])
        # What was in the dead one's socket is lost, as a datagram may be: a client asks again.
        eventually(lambda: dig(running.dns, "one-is-dead.example", seconds=1).status == "NOERROR")
        after = eventually(lambda: [pid for pid in running.worker_pids() if pid not in before])
        assert before[1] in running.worker_pids()
        status = eventually(lambda: serving_workers(running, 2), 30)
        assert after[0] in status
        assert running.hallmonitor("status", "--json").object()["worker_restarts"] >= 1

    def test_without_the_supervisor_workers_serve_on_and_a_new_one_takes_over(
        self, stopped_server: HallMonitor
    ) -> None:
        server = stopped_server.start()
        udp(server.dns, "before.orphaned.example")
        workers = server.worker_pids()
        server.kill()
        for number in range(5):
            assert udp(server.dns, f"n{number}.orphaned.example").answer
        assert server.worker_pids() == workers
        server.start()
        assert udp(server.dns, "after.orphaned.example").answer
        eventually(lambda: not any(is_alive(pid) for pid in workers))
        names = [
            record["qname"]
            for record in server.hallmonitor("logs", "search", "--subtree", "orphaned.example", "--json").objects()
        ]
        assert sorted(names) == sorted(
            ["before.orphaned.example", "after.orphaned.example", *(f"n{n}.orphaned.example" for n in range(5))]
        )

    def test_after_all_were_killed_a_search_ships_what_is_left(self, stopped_server: HallMonitor) -> None:
        server = stopped_server.start()
        for number in range(10):
            udp(server.dns, f"n{number}.killed.example")
        kill(server.pids())
        served(server).wait()
        eventually(lambda: not server.pids())
        for _ in range(2):
            records = server.hallmonitor("logs", "search", "--subtree", "killed.example", "--json").objects()
            assert sorted(record["qname"] for record in records) == sorted(f"n{n}.killed.example" for n in range(10))
        status = server.hallmonitor("status", "--json").object()
        assert (status["serving"], status["journal"]["backlog_bytes"]) == (False, 0)


def serving_workers(server: HallMonitor, number: int) -> list[int]:
    """Return the workers' process ids once so many serve."""
    workers = server.hallmonitor("status", "--json").object()["workers"]
    pids = [worker["pid"] for worker in workers if worker["state"] == "serving"]
    return pids if len(pids) == number else []
