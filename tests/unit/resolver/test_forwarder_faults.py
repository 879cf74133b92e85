"""A bug behind the forwarder costs those who waited for that exchange: it is over, once, and all others go on."""

from pathlib import Path
from typing import Any

import pytest

from resolver.rewriting import Terms
from resolver.upstreams.exchange import KEY_BITS, Exchange
from resolver.upstreams.forwarder import Forwarder
from resolver.wire import name_octets
from settings import from_document
from tests.unit.resolver.bench import TWO_UPSTREAMS, Clock, Network, network_at, turn
from tests.unit.resolver.forwarding import answer

BROKEN = "broken.example"


class Asker:
    """Who uses a forwarder and has a bug: it can't be told of one name."""

    def __init__(self, directory: Path, network: Network) -> None:
        settings = from_document({"upstream": TWO_UPSTREAMS}, directory)
        self.network = network
        self.told: list[tuple[str, str]] = []
        """What was told of which names."""
        self.forwarder = Forwarder(
            settings.upstream,
            Terms(0, 86400),
            self._done,
            slow=lambda exchange: self._tell("slow", exchange),
            slow_seconds=1.0,
            batch_done=lambda: None,
        )

    def ask(self, name: str) -> None:
        key = name_octets(name) + b"\0\1\0\1" + KEY_BITS[False, False]
        assert self.forwarder.ask(key, name, object())

    def told_of(self, name: str) -> list[str]:
        return [what for what, told in self.told if told == name]

    @property
    def in_flight(self) -> tuple[int, int]:
        """Return what is under way, counted both ways."""
        return self.forwarder.in_flight, self.forwarder._default.in_flight

    def _done(self, exchange: Exchange, waiting: list[Any], _server: object, _answer: object) -> None:
        assert len(waiting) == 1
        self._tell("done", exchange)

    def _tell(self, what: str, exchange: Exchange) -> None:
        self.told.append((what, exchange.name))
        if exchange.name == BROKEN:
            raise RuntimeError("a bug of the asker")


@pytest.fixture
async def asker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Asker:
    return Asker(tmp_path, network_at(monkeypatch))


@pytest.mark.parametrize("refuses", [False, True], ids=["the next could be asked", "the network refuses the next"])
async def test_an_answer_that_nobody_can_be_told_of_ends_its_exchange_once(
    asker: Asker, caplog: pytest.LogCaptureFixture, refuses: bool
) -> None:
    asker.ask(BROKEN)
    asker.ask("sound.example")
    tries = {attempt.exchange.name: attempt for attempt in asker.network.tries}
    before = len(asker.network.tries)
    if refuses:
        asker.network.unreachable = {"192.0.2.53", "192.0.2.54"}
    for name in (BROKEN, "sound.example"):  # as they come in one batch
        answer(tries[name])
    assert asker.told == [("done", BROKEN), ("done", "sound.example")]
    assert len(asker.network.tries) == before
    assert asker.in_flight == (0, 0)
    assert caplog.text.count("RuntimeError: a bug of the asker") == 1
    assert "can't be read" not in caplog.text


@pytest.mark.parametrize("end", ["a failure", "a loss", "the worker's end"])
async def test_neither_does_any_other_end(asker: Asker, end: str) -> None:
    asker.ask(BROKEN)
    asker.ask("sound.example")
    if end == "the worker's end":
        asker.forwarder.give_up()
    for attempt in asker.network.tries:  # which get more
        if end == "a loss":
            attempt.lose()
        elif not attempt.exchange.finished:
            attempt.answer(rcode="SERVFAIL")
    assert sorted(asker.told) == [("done", BROKEN), ("done", "sound.example")]
    assert asker.in_flight == (0, 0)


async def test_what_is_due_in_the_same_tick_goes_on(asker: Asker, clock: Clock) -> None:
    """Both take long, then nobody answers; the first can be told of neither."""
    asker.ask(BROKEN)
    asker.ask("sound.example")
    began = clock.ahead
    for step in range(1, 40):
        await clock.turn_to(began + step * 0.25)
    await turn()
    assert asker.told_of(BROKEN) == asker.told_of("sound.example") == ["slow", "done"]
    assert asker.in_flight == (0, 0)
