"""One upstream, and how it has been doing: how fast it answers, and whether it does."""

import logging

from resolver.answers import has_opt
from resolver.upstreams.matching import Transport
from setting_values import UpstreamAddress

log = logging.getLogger(__name__)

FAILURES_TO_PENALTY = 3
PENALTY_SECONDS = 5.0
SMOOTHING = 1 / 8  # RFC 6298 section 2's weight for a new measurement
SHORTEST_PATIENCE = 0.02  # seconds: below, what the scheduler does to either side would be taken for slowness
QUANTILE = 0.95
MEASURED = 8
PLAIN_SECONDS = 3600.0
"""How long a server is believed to know no EDNS (RFC 6891 section 6.2.2)."""
OPT_SECONDS = 1.0
"""From one answer that is looked at for an OPT record to the next: each would cost more than it tells."""
STEP = 0.1
"""By how much of itself the 95th percentile moves at a measurement."""

OVERDUE = 2
"""How many times as long as nineteen of twenty answers take: over a satellite that is longer than any patience."""


class Server:
    """One upstream."""

    def __init__(
        self, address: UpstreamAddress, transport: Transport, over_tcp: Transport | None, longest_patience: float
    ) -> None:
        self.address = address
        self.name = str(address)
        self.transport = transport
        self.over_tcp = over_tcp
        """Where a truncated answer is asked for again (RFC 7766 section 5)."""
        self.failures = 0
        """Tries without an answer since the last one."""
        self.shunned_until = 0.0
        """Seconds on the monotonic clock: until then it is asked last."""
        self.latency = 0.0
        """Seconds, smoothed; 0: it has not been asked yet."""
        self.slow = 0.0
        """Seconds: nineteen of twenty answers come sooner; 0: likewise."""
        self.answers = -1
        self.owes_since = 0.0
        """Since when it owes an answer that another gave, and has answered nothing; 0: it doesn't."""
        self.patience = self._longest_patience = longest_patience
        """For how many seconds it is waited for before another is asked besides."""
        self.plain_until = 0.0
        """Seconds on the monotonic clock: until then it is asked without EDNS."""
        self._opt_due = 0.0
        """When an answer is to be looked at for an OPT record; likewise the other."""
        self._opt_until = 0.0
        """Until when it is believed to know EDNS."""
        self.asked = 0.0
        """When it was last sent a query, on the monotonic clock."""

    def __repr__(self) -> str:
        return f"<Server {self.name} failures={self.failures} latency={self.latency * 1000:.0f} ms>"

    @property
    def overdue(self) -> float:
        """For how many seconds a connection on which it answered may say nothing before another is opened besides."""
        return max(self._longest_patience, OVERDUE * self.slow)

    def answered(self, seconds: float, now: float, data: bytes) -> None:
        """Count an answer that took so long. Of a server that does well every eighth is measured: that tells enough."""
        if now >= self._opt_due:
            self._look_for_opt(data, now)
        self.owes_since = 0.0
        self.answers += 1
        if self.answers % MEASURED and not self.failures:
            return
        self.failures = 0
        self.shunned_until = 0.0
        if not self.slow:
            self.latency, self.slow = seconds, 2 * seconds
        else:
            self.latency += SMOOTHING * (seconds - self.latency)
            # An answer above moves it up by nineteen times of what one below moves it down: it rests at that rate.
            self.slow *= 1 + STEP * (QUANTILE if seconds > self.slow else QUANTILE - 1)
        self.patience = min(max(self.slow, SHORTEST_PATIENCE), self._longest_patience)

    def _look_for_opt(self, data: bytes, now: float) -> None:
        """See whether an answer proves that it knows EDNS."""
        self._opt_due = now + OPT_SECONDS
        if has_opt(data):
            self._opt_until = now + PLAIN_SECONDS
            self.plain_until = 0.0

    def overtaken(self, sent: float) -> None:
        """Count a try, begun at that moment, to which another server's answer came first."""
        self.owes_since = self.owes_since or sent

    def is_trusted(self, now: float, silence: float) -> bool:
        """Tell whether it is asked in its turn: it has neither failed of late nor been silent for so many seconds."""
        return self.shunned_until <= now and not 0 < self.owes_since < now - silence

    def failed(self, now: float) -> None:
        """Count a try that brought nothing; after a few the server is asked last for a while."""
        self.failures += 1
        if self.failures >= FAILURES_TO_PENALTY:
            self.shunned_until = now + PENALTY_SECONDS

    def knows_no_edns(self, begun: float) -> None:
        """Count an answer to what was asked without EDNS, by an exchange that began at that moment.

        Those that began while that was known prove nothing: each hour it is seen anew. Nor do any while it is known to
        know EDNS: it may pass on what others' servers say, and one of them would take DO, AD and CD from all names.
        """
        if max(self.plain_until, self._opt_until) <= begun:
            self.plain_until = begun + PLAIN_SECONDS
            self._opt_due = 0.0  # by an answer to what was asked before it may be seen to be wrong
            log.info("upstream %s answers without EDNS only", self.name)

    def close(self) -> None:
        """Let go of every socket."""
        self.transport.close()
        if self.over_tcp is not None:
            self.over_tcp.close()
