"""What the log says of upstreams."""

import pytest

from resolver.upstreams.standing import QUIET_SECONDS, Standing


def test_each_change_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    standing = Standing("tls://192.0.2.1")
    standing.worked()
    standing.failed("Connection refused", 0)
    standing.failed("it said nothing for 3 s", 1)
    standing.worked()
    standing.worked()
    assert caplog.messages == ["upstream tls://192.0.2.1: Connection refused", "upstream tls://192.0.2.1 answers again"]


def test_one_that_comes_and_goes_is_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    standing = Standing("x")
    for second in range(int(QUIET_SECONDS) + 1):
        standing.failed(f"at {second}", second)
        standing.worked()
    assert caplog.messages == [
        "upstream x: at 0",
        "upstream x answers again",
        f"upstream x: at {QUIET_SECONDS:g}",
        "upstream x answers again",
    ]


def test_what_an_upstream_says_can_not_fill_or_forge_the_log(caplog: pytest.LogCaptureFixture) -> None:
    Standing("x").failed("it says\nupstream y: \x1b[31m" + "z" * 1000, 0)
    (line,) = caplog.messages
    assert line.startswith("upstream x: it saysupstream y: [31mzzz")
    assert len(line) == len("upstream x: ") + 200
