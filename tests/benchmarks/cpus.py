"""Which CPU the servers have, and which the clients and the upstream."""

import os

_CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, CLIENT_CPU = _CPUS[0], _CPUS[-1]


def pinned(cpu: int) -> list[str]:
    """Return the command that runs another on one CPU alone."""
    return ["taskset", "--cpu-list", str(cpu)]
