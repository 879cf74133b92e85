"""Bounded memory of a worker: what is used stays, the rest makes room in steps too small to be noticed.

An upstream's answer is kept as octets: 100,000 of them are as many objects for the garbage collector as none, and what
they take is known to the octet.
"""

from collections.abc import Callable
from struct import Struct
from typing import Generic, NamedTuple, TypeVar

from resolver.replies import Answer
from resolver.wire import TTL, skip_name

Key = TypeVar("Key")
Value = TypeVar("Value")

ENTRY_OCTETS = 150
"""What an entry takes beside the octets of its key and value: their objects, and its place in the dictionary."""
UNLIMITED = 1 << 62
FREED_AT_ONCE = 2
"""Entries that go for each that comes: those that are to go are gone before others are to."""


class Memory(Generic[Key, Value]):
    """At most so many entries and octets, in two generations.

    Entries are stored in the young one, and those of the old one return to it when they are used. A young one that has
    half of what there may be becomes the old one, and what was old goes. So an entry costs no more than in a
    dictionary, and whoever looks into `young` alone finds nearly all that is used.
    """

    def __init__(
        self, limit: int, octets: int = UNLIMITED, size: Callable[[Key, Value], int] = lambda _key, _value: 0
    ) -> None:
        """Hold at most `limit` entries (0: none), whose sizes are so many octets together."""
        self.young: dict[Key, Value] = {}
        self.old: dict[Key, Value] = {}
        self._going: list[dict[Key, Value]] = []
        self._limit = limit // 2
        self._octets_limit = octets // 2
        self._octets = 0
        """What the young entries take."""
        self._size = size

    def __len__(self) -> int:
        return len(self.young) + len(self.old)

    def keep(self, key: Key, value: Value) -> None:
        """Store an entry, if there is room for it at all."""
        octets = self._size(key, value)
        if key in self.young:
            self._octets -= self._size(key, self.young.pop(key))
        if len(self.young) >= self._limit or self._octets + octets > self._octets_limit:
            if not self._limit or octets > self._octets_limit:
                self.old.pop(key, None)  # what was there before is no longer so
                return
            self._grow_old()
        self.young[key] = value
        self._octets += octets
        if self._going:
            self.free(FREED_AT_ONCE)

    def get(self, key: Key) -> Value | None:
        """Return an entry, which is then young."""
        value = self.young.get(key)
        if value is None:
            value = self.old.get(key)
            if value is not None:
                self.keep(key, value)
        return value

    def forget(self) -> None:
        """Forget every entry."""
        self._grow_old()
        self._grow_old()

    def _grow_old(self) -> None:
        if self.old:
            self._going.append(self.old)
        self.old, self.young, self._octets = self.young, {}, 0

    def free(self, count: int) -> int:
        """Free so many of the entries that are forgotten, or all; return how many that was."""
        freed = 0
        while self._going and freed < count:
            going = self._going[-1]
            some = min(count - freed, len(going))
            for _ in range(some):
                going.popitem()
            freed += some
            if not going:
                self._going.pop()
        return freed


class Kept(NamedTuple):
    """An upstream's answer as it was kept."""

    answer: Answer
    upstream: str
    received: float
    """Seconds on the monotonic clock."""


# When it was received, how long it holds, response code, bits, answers, authorities, TTLs, upstream, octets of targets.
HEAD = Struct("<dIBBHHHHH")
_AD, _STRIPPED = 1, 2
COMMON_PLACES = 16


def octets_of(key: bytes, value: bytes) -> int:
    """Return what an answer takes in the cache."""
    return ENTRY_OCTETS + len(key) + len(value)


class AnswerCache:
    """The answers that all clients share, by question; expired ones stay for as long as there is room."""

    def __init__(self, entries: int, octets: int) -> None:
        """Hold at most so many answers, and octets."""
        self.memory: Memory[bytes, bytes] = Memory(entries, octets, octets_of)
        self.upstreams: list[str] = []
        """Who answered, by the number that is kept."""
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.memory)

    def keep(self, key: bytes, answer: Answer, upstream: str, received: float) -> None:
        """Keep an answer; times are seconds on the monotonic clock."""
        rcode, ad, answers, authorities, body, places, lifetime, names, is_stripped = answer
        targets = "\0".join(names).encode() if names else b""
        if len(targets) > 0xFFFF or (places and places[-1] > 0xFFFF):
            return  # no sane answer
        bits = _AD * ad | _STRIPPED * is_stripped
        count, number = len(places), self._numbers.get(upstream)
        if number is None:
            number = self.number_of(upstream)
        head = _WITH_PLACES[count].pack(
            received, lifetime, rcode, bits, answers, authorities, count, number, len(targets), *places
        )
        self.memory.keep(key, head + targets + body)

    def keep_octets(self, key: bytes, octets: bytes) -> None:
        """Keep an answer in the form in which it is kept."""
        self.memory.keep(key, octets)

    def number_of(self, upstream: str) -> int:
        """Return the number of an upstream; one is given where it has none."""
        number = self._numbers.get(upstream)
        if number is None:
            number = self._numbers[upstream] = len(self.upstreams)
            self.upstreams.append(upstream)
        return number

    def get(self, key: bytes) -> Kept | None:
        """Return what is kept for a question, expired or not."""
        octets = self.memory.get(key)
        return None if octets is None else self.read(octets)

    def read(self, octets: bytes) -> Kept:
        """Return an answer of its octets."""
        received, lifetime, rcode, bits, answers, authorities, places, upstream, targets = HEAD.unpack_from(octets)
        position = HEAD.size + 2 * places
        end = position + targets
        answer = Answer(
            rcode,
            bool(bits & _AD),
            answers,
            authorities,
            octets[end:],
            _PLACES[places].unpack_from(octets, HEAD.size),
            lifetime,
            tuple(octets[position:end].decode().split("\0")) if targets else (),
            bool(bits & _STRIPPED),
        )
        return Kept(answer, self.upstreams[upstream], received)


class _Forms(dict[int, Struct]):
    """Structs that end with so many places; those for few are made once."""

    def __init__(self, head: str) -> None:
        self._head = head
        super().__init__({count: self[count] for count in range(COMMON_PLACES)})

    def __missing__(self, count: int) -> Struct:
        return Struct(f"{self._head}{count}H")


_PLACES, _WITH_PLACES = _Forms("<"), _Forms(HEAD.format)


class Finished(NamedTuple):
    """A reply found by its query's octets without reading them."""

    reply: bytes
    """All but the ID."""
    valid_until: float
    """Seconds on the monotonic clock: when a TTL in it changes, or the whole ends."""
    decision: int
    """The decision's number in the journal's segment."""
    kept: bytes | None
    """The answer that it was made of, whose TTLs count down; None: it has none such."""
    opt_octets: int
    """The length of the OPT record at its end."""

    def renewed(self, now: float, share: float) -> "Finished | None":
        """Return the reply with its TTLs as they are now; None: too large a share of its answer's life is over."""
        if self.kept is None:
            return None
        received, lifetime, _, _, _, _, places, _, targets = HEAD.unpack_from(self.kept)
        age = now - received
        if age >= share * lifetime:
            return None
        seconds = int(age)
        reply = bytearray(self.reply)
        body = HEAD.size + 2 * places + targets
        behind_question = skip_name(self.reply, 10) + 4
        for place in _PLACES[places].unpack_from(self.kept, HEAD.size):
            (ttl,) = TTL.unpack_from(self.kept, body + place)
            TTL.pack_into(reply, behind_question + place, max(0, ttl - seconds))
        return self._replace(reply=bytes(reply), valid_until=received + min(seconds + 1, lifetime))


def octets_of_finished(key: bytes, finished: Finished) -> int:
    """Return what a finished reply takes."""
    return 2 * ENTRY_OCTETS + len(key) + len(finished.reply)
