"""A worker takes a new policy without a stop: made ready beforehand, and what is forgotten goes little by little."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest

from policy import snapshot as snapshots
from resolver.engine import LET_GO_AT_ONCE, TCP, name_asked
from resolver.garbage import NEVER, QUIET, REST_SECONDS, Garbage
from resolver.worker import _made_ready
from tests.unit.policy.build import Listed, block, policy, publish
from tests.unit.resolver.bench import Bench, Make

BLOCKED = [Listed("ut1-adult", "adult", [block("test")])]


def wire(name: str) -> bytes:
    return dns.message.make_query(name, "A", id=7).to_wire()


def filled(make: Make, names: int) -> Bench:
    """Return a bench that remembers so many replies to one client."""
    bench = make(lists=BLOCKED)
    bench.counts = False
    for number in range(names):
        bench.ask_octets(wire(f"n{number}.test"))
    return bench


def test_what_is_forgotten_goes_little_by_little_while_answers_go_on(make: Make) -> None:
    bench = filled(make, 2 * LET_GO_AT_ONCE + 100)
    engine = bench.engine
    replies = weakref.ref(next(iter(engine._scopes.values())).finished)
    engine.adopt(engine.snapshot)
    for still_there in (LET_GO_AT_ONCE + 100, 100):
        engine.let_go()
        assert len(replies() or ()) == still_there
        assert bench.reply_to("n1.test").answer
    engine.let_go()
    assert replies() is None
    assert bench.reply_to("n1.test").answer
    engine.let_go()  # nothing is left: what is remembered now stays
    assert len(next(iter(engine._scopes.values())).finished) > 0


def test_the_names_asked_last_are_told_of_each_scope(make: Make) -> None:
    bench = filled(make, 20)
    for number in range(20):
        bench.ask_octets(wire(f"t{number}.test"), transport=TCP)
    found = [name_asked(octets) for octets in bench.engine.recent(10)]
    assert set(found) == {f"{kind}{number}.test" for kind in "nt" for number in range(15, 20)}


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
