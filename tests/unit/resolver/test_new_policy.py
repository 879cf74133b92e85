"""A worker takes a new policy without a stop: made ready beforehand, and what is forgotten goes little by little."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import pytest

from policy import snapshot as snapshots
from resolver.engine import LET_GO_AT_ONCE, Engine, name_asked
from resolver.garbage import NEVER, QUIET, REST_SECONDS, Garbage
from resolver.transports import TCP
from resolver.worker import _made_ready
from tests.unit.policy.build import Listed, block, exception, policy, publish
from tests.unit.resolver.bench import Bench, Make, turn
from tests.unit.resolver.messages import OPT, octets

BLOCKED = [Listed("ut1-adult", "adult", [block("example")])]


def wire(name: str) -> bytes:
    return dns.message.make_query(name, "A", id=7).to_wire()


def filled(make: Make, names: int) -> Bench:
    """Return a bench that remembers so many replies to one client."""
    bench = make(lists=BLOCKED)
    bench.counts = False
    for number in range(names):
        bench.ask_octets(wire(f"n{number}.example"))
    return bench


def forgotten(engine: Engine) -> int:
    """Return how much is still to be let go of."""
    of_clients = sum(len(going) for memory in engine.clients._memories for going in memory._going)
    return of_clients + sum(map(len, engine._finished._going))


def test_what_is_forgotten_goes_little_by_little_while_answers_go_on(make: Make) -> None:
    bench = filled(make, 2 * LET_GO_AT_ONCE + 100)
    engine = bench.engine
    engine.adopt(engine.snapshot)
    left = forgotten(engine)
    assert left > 2 * LET_GO_AT_ONCE
    while left:
        engine.let_go()
        assert forgotten(engine) == max(0, left - LET_GO_AT_ONCE)
        assert bench.reply_to("n1.example").answer
        left = forgotten(engine)
    assert bench.reply_to("n1.example").answer
    assert engine.recent(10) == [wire("n1.example")[2:]]  # what is remembered now stays


def test_the_names_asked_last_are_told_whoever_asked(make: Make) -> None:
    bench = filled(make, 20)
    for number in range(20):
        bench.ask_octets(wire(f"t{number}.example"), transport=TCP)
    found = [name_asked(octets) for octets in bench.engine.recent(25)]
    assert found == [f"t{number}.example" for number in range(19, -1, -1)] + [
        f"n{number}.example" for number in range(19, 14, -1)
    ]


def test_no_query_keeps_a_new_policy_out(make: Make, tmp_path: Path) -> None:
    """What clients asked is read again: were one of them unreadable, the last policy would stay in force."""
    bench = make(lists=BLOCKED)
    record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\1"
    for data in (
        octets(b"bad", b"example", counts=(1, 0, 0, 1)) + record,
        octets(b"bad", b"example", counts=(1, 0, 0, 3)) + record + OPT + record,
        octets(b"bad.\0\xff", b"example"),
    ):
        assert bench.ask_octets(data) is not None
        path = publish(tmp_path / "policy", version=2, lists=BLOCKED)
        assert _made_ready(path, bench.engine.snapshot, bench.engine.recent(10)).version == 2


def test_a_fresh_engine_was_asked_nothing(make: Make) -> None:
    assert make().engine.recent(10) == []


def test_a_new_index_is_asked_before_clients_are_answered_by_it(make: Make, tmp_path: Path) -> None:
    """Its automata learn while they match, and its listings are read when they are first met."""
    bench = filled(make, 5)
    path = publish(tmp_path / "policy", version=2, lists=BLOCKED)
    last = bench.engine.snapshot
    ready = _made_ready(path, last, bench.engine.recent(10))
    assert len(ready.index._listings) == 1
    assert len(snapshots.read(path, last).index._listings) == 0


def test_an_index_that_is_in_use_is_kept(tmp_path: Path) -> None:
    last = policy(tmp_path, lists=BLOCKED)
    path = publish(tmp_path / "other", version=2, lists=BLOCKED)
    index = Path(tmp_path / "names-1.index")
    document = path.read_text().replace("names-2.index", str(index))
    path.write_text(document)
    assert _made_ready(path, last, []).index is last.index
    # Written anew under the same name, it is another.
    index.write_bytes(index.read_bytes())
    assert _made_ready(path, last, []).index is not last.index


# The garbage collector.


class Circle:
    """Something that holds itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collector() -> Iterator[Garbage]:
    before = gc.get_threshold()
    yield Garbage(0.0)
    gc.set_threshold(*before)
    gc.unfreeze()


def test_the_collector_looks_at_new_objects_alone(collector: Garbage) -> None:
    young, *old = gc.get_threshold()
    assert young < 5_000
    assert old == [NEVER, NEVER]


def test_when_hardly_anything_is_asked_it_looks_at_everything_once_in_a_while(collector: Garbage) -> None:
    circle = Circle()
    gone = weakref.ref(circle)
    gc.collect(1)  # it is old now
    del circle
    gc.collect(0)
    collector.look(REST_SECONDS - 1, 0)
    collector.look(REST_SECONDS, QUIET + 1)
    assert gone() is not None
    collector.look(REST_SECONDS, QUIET)
    assert gone() is None
    circle = Circle()
    gone = weakref.ref(circle)
    gc.collect(1)
    del circle
    collector.look(REST_SECONDS + 1, 0)
    assert gone() is not None


async def test_a_lookup_in_flight_ends_by_the_policy_under_which_it_began(make: Make, tmp_path: Path) -> None:
    """Its group, its exceptions and its version are one policy's; which the record can be checked against."""
    before: dict[str, Any] = {"lists": [Listed("list", "adult", [block("bad.example")])]}
    after: dict[str, Any] = {
        "version": 2,
        "networks": {"10.0.0.0/8": "staff"},
        "lists": [Listed("list", "adult", [block("bad.example"), block("target.example")])],
        "exceptions": [exception(7, "target.example")],
    }
    bench = make(**before)
    assert bench.ask("www.example") is None
    bench.engine.adopt(policy(tmp_path / "next", **after))
    bench.network.last.answer("www.example. 60 CNAME target.example.", "target.example. 60 A 192.0.2.1")
    await turn()
    assert len(bench.sent[-1].message.answer) == 2
    (record,) = bench.records
    assert (record.client.group, record.decision.verdict, record.decision.policy_version) == ("students", "allowed", 1)
    assert bench.reply_to("www.example").answer
    last = bench.records[-1]
    assert (last.client.group, last.decision.policy_version) == ("staff", 2)
