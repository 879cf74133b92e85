"""What happens to a server while it is under load: policies change, a worker is killed, upstreams come and go."""

import itertools
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address

from tests.benchmarks.background import Background
from tests.benchmarks.contestants import Upstream
from tests.support import processes
from tests.support.dns_client import udp
from tests.support.server import HallMonitor

RELOAD, KILL, FLAP = "reload", "kill", "flap"
HELD = "held.soak.example"
"""A name that the block list has and the load doesn't ask for: exceptions open it and close it."""
DOOMED_WORKER = "1"
"""The number of the worker that is killed; the other lives on, so that its memory tells something."""
STALL_SECONDS = 0.7
AWAY_SECONDS = 0.6
ASKED_TIMES = 8
"""Each from another port, which spreads them over both workers."""
TRIES = 5
TRY_SECONDS = 2.0


def hashed(name: bytes) -> int:
    """Return FNV-1a over a name in lower case, as octets (address.h)."""
    value = 2166136261
    for octet in name:
        value = ((value ^ octet) * 16777619) & 0xFFFFFFFF
    return value


def address_for(name: bytes) -> str:
    """Return the address that echo.c has for a name in lower case, as octets (address.h)."""
    value = hashed(name)
    return str(ip_address([0xC0000200, 0xC6336400, 0xCB007100][value % 3] | value >> 8 & 0xFF))


class Troubles(Background):
    """Makes one trouble after another while it is entered as a context; what went wrong is in `failures`."""

    def __init__(
        self, server: HallMonitor, upstreams: tuple[Upstream, Upstream], troubles: Iterable[str], pause: float
    ) -> None:
        """Take the troubles, which may have no end, and for how many seconds all is well between two."""
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []
        self._server = server
        self._upstreams = upstreams
        self._troubles = troubles
        self._pause = pause
        super().__init__()

    def run(self) -> None:
        """Make them. Not to be called: entering does."""
        make = {RELOAD: self._reload, KILL: self._kill, FLAP: self._flap}
        for trouble in self._troubles:
            if self.told_to_end.wait(self._pause):
                return
            try:
                make[trouble]()
            except Exception as failure:  # noqa: BLE001 - the soak goes on, and tells of it in the end
                self.failures.append(f"{trouble} {self.done[trouble] + 1}: {failure!r}")
            self.done[trouble] += 1

    def _reload(self) -> None:
        """Add an exception and revoke it; each is in force on every worker when the API has answered."""
        made = self._server.api(
            "POST", "/exceptions", {"domain": HELD, "action": "allow", "reason": "a soak", "match": "exact"}
        )
        assert made.status == 201, f"adding an exception: {made.status} {made.body!r}"
        self._hold(address_for(b"\4held\4soak\7example\0"))
        revoked = self._server.api("DELETE", f"/exceptions/{made.json()['id']}")
        assert revoked.status == 200, f"revoking an exception: {revoked.status} {revoked.body!r}"
        self._hold("0.0.0.0")

    def _hold(self, wanted: str) -> None:
        for _ in range(ASKED_TIMES):
            found = self._ask()
            assert found == [wanted], f"{HELD} has {found}, not {wanted}"

    def _ask(self) -> list[str]:
        for _ in range(TRIES - 1):
            with suppress(TimeoutError):  # lost with a worker, or in a socket's full queue
                answer = udp(self._server.dns, HELD, timeout=TRY_SECONDS)
                return [str(rdata) for rrset in answer.answer for rdata in rrset]
        answer = udp(self._server.dns, HELD, timeout=TRY_SECONDS)
        return [str(rdata) for rrset in answer.answer for rdata in rrset]

    def _kill(self) -> None:
        before = processes.eventually(lambda: workers(self._server).get(DOOMED_WORKER, 0))
        processes.kill([before])
        processes.eventually(lambda: workers(self._server).get(DOOMED_WORKER, before) != before)

    def _flap(self) -> None:
        """In turn: the second upstream goes away, both stand still, both go away; then all is as before.

        Where one goes its port is unreachable, and while both are away what isn't known is answered with SERVFAIL.
        """
        first, second = self._upstreams
        kind = self.done[FLAP] % 3
        if kind == 1:
            first.stall()
            second.stall()
            time.sleep(STALL_SECONDS)
            first.go_on()
            second.go_on()
            return
        gone = [second] if kind == 0 else [first, second]
        for upstream in gone:
            upstream.close()
        time.sleep(AWAY_SECONDS)
        for upstream in gone:
            upstream.start()


def workers(server: HallMonitor) -> dict[str, int]:
    """Return the workers' processes by their numbers."""
    found = {}
    for pid in server.worker_pids():
        arguments = processes.arguments(pid)
        if "resolver" in arguments:
            found[arguments[arguments.index("resolver") + 1]] = pid
    return found


def endless() -> Iterable[str]:
    """Return troubles without end: policies change most often, workers are killed now and then."""
    return itertools.cycle([RELOAD, RELOAD, FLAP, RELOAD, RELOAD, FLAP, RELOAD, RELOAD, KILL])
