"""When a server's answers are overdue."""

from typing import Any, cast

import pytest

from resolver.upstreams.server import Server
from setting_values import upstream


@pytest.mark.parametrize(("latency", "overdue"), [(0.02, 0.25), (0.6, 1.2)], ids=["next door", "over a satellite"])
def test_a_connection_may_be_silent_for_as_long_as_is_usual(latency: float, overdue: float) -> None:
    server = Server(upstream("tls://192.0.2.1"), cast(Any, None), None, 0.25)
    assert server.overdue == 0.25
    for _ in range(1000):
        server.answered(latency, 0.0, b"")
    assert server.overdue == pytest.approx(overdue, rel=0.1)
