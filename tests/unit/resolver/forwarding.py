"""A bench whose upstreams have answered before, so that it is known in what order they are asked."""

from resolver.upstreams.exchange import PROBE_SECONDS
from tests.unit.resolver.bench import Bench, Clock, Try, turn
from tests.unit.resolver.messages import rdata

A = "a.example. 300 A 192.0.2.7"
OTHER = "a.example. 300 A 192.0.2.8"


async def known(bench: Bench, clock: Clock, milliseconds: tuple[int, ...] = (10, 20, 30)) -> Bench:
    """Have each upstream answer once, in so many milliseconds: from then on they are asked in this order."""
    for number in range(9):  # whoever isn't first is asked for the sake of knowing it
        if number:
            clock.ahead += PROBE_SECONDS + 1
        bench.ask(f"known{number}.example")
        began = clock.ahead
        tries = {int(attempt.server.address.host[-2:]) - 53: attempt for attempt in unanswered(bench)}
        for place, attempt in sorted(tries.items()):
            clock.ahead = began + milliseconds[place] / 1000
            answer(attempt)
        await turn()
    bench.network.tries.clear()
    bench.sent.clear()
    await clock.turn_to(clock.ahead + 1)
    bench.ask("last.example")  # by what is known now
    for attempt in list(bench.network.tries):
        answer(attempt)
    await turn()
    bench.network.tries.clear()
    bench.sent.clear()
    return bench


def answer(attempt: Try) -> None:
    """Give the address in `A` to whatever name is asked for."""
    attempt.answer(f"{attempt.exchange.name}. 300 A 192.0.2.7")


def unanswered(bench: Bench) -> list[Try]:
    return [attempt for attempt in bench.network.tries if not attempt.exchange.finished]


def asked(bench: Bench) -> list[tuple[str, str]]:
    return [(attempt.server.address.host[-2:], attempt.via) for attempt in bench.network.tries]


def hosts(bench: Bench) -> list[str]:
    return [host for host, _ in asked(bench)]


def answers(bench: Bench) -> list[str]:
    return [text for sent in bench.sent for text in rdata(sent.message)]
