import pytest

from admin_api import throttle
from admin_api.throttle import Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_a_trickle() -> None:
    clock = Clock()
    limited = Throttle(clock, burst=3, per_second=0.5)
    assert [limited.fail("192.0.2.1") for _ in range(3)] == [0, 0, 0]
    assert limited.fail("192.0.2.1") == pytest.approx(2.0)
    clock.now += 1
    assert limited.fail("192.0.2.1") == pytest.approx(1.0)
    clock.now += 1
    assert limited.fail("192.0.2.1") == 0
    clock.now += 1000
    assert [limited.fail("192.0.2.1") > 0 for _ in range(4)] == [False, False, False, True]


def test_addresses_do_not_share_but_an_ipv6_subscriber_does() -> None:
    limited = Throttle(Clock(), burst=1, per_second=1)
    assert limited.fail("192.0.2.1") == 0
    assert limited.fail("192.0.2.2") == 0
    assert limited.fail("::ffff:192.0.2.1") == 0
    assert limited.fail("2001:db8:0:1::1") == 0
    assert limited.fail("2001:db8:0:1::2") > 0
    assert limited.fail("2001:db8:0:2::2") == 0
    assert limited.fail("unix") == 0
    assert limited.fail("unix") > 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "REMEMBERED", 2)
    limited = Throttle(Clock(), burst=1, per_second=1)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        limited.fail(address)
    assert len(limited._buckets) == 2
    assert limited.fail("192.0.2.3") > 0
    assert limited.fail("192.0.2.1") == 0
