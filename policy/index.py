"""The compiled index: which lists hold a name or one of its parents.

One immutable file, memory-mapped, so that all workers share one copy in the page cache::

    magic "HMI2", u32 CRC-32 of all that follows these 12 octets, u32 length of the head, head (JSON)
    trie         marisa, of keys
    numbers      u16 or u32 a key, by the trie's number for it: its listing
    ends         u32 a listing: where its items end; they begin where those of the one before end
    items        u32 source, u32 place of its traits in the head

Sections begin at multiples of 8. A listing is the set of (source, traits) that name a key; there are few distinct ones.
Knows nothing of groups or exceptions: what a match means is `policy.decide`'s.
"""

import json
import mmap
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple
from zlib import crc32

import marisa_trie
import re2

from policy.names import is_within, key_of
from policy.rules import Action, Rule, Scope, Traits

MAGIC = b"HMI2"
ALIGNMENT = 8
START = Struct("<4sII")
MOST_IN_A_SET = 256
"""Expressions that are matched at once: a larger automaton may outgrow its memory at some name, and match none then."""


class CorruptIndexError(Exception):
    """The file is no index, or not the one that was written."""


class Match(NamedTuple):
    """A rule of a list that covers the name asked for."""

    rule: Rule
    source: int
    """The source's number, as in the snapshot."""


class Pattern(NamedTuple):
    """A regular expression of a list."""

    expression: str
    source: int
    traits: Traits


Listing = tuple[tuple[int, Traits], ...]
"""The sources that list a name, each with the traits of its rule."""


class Index:
    """Finds the rules that cover a name."""

    def __init__(self, data: memoryview) -> None:
        """Map an index's bytes, which must stay as they are. Raises `CorruptIndexError`.

        Damage in the head is found here. Damage behind it ends the process at some lookup, so whoever looks names up
        must know that these bytes are whole: `open` sees to it.
        """
        self._data = data
        self._file: tuple[int, ...] = ()
        head, start = read_head(data)
        try:
            self.names: int = head["names"]
            """How many distinct names are listed."""
            width: int = head["width"]
            lengths = (head["trie"], width * self.names, 4 * head["listings"], 8 * head["items"])
            trie, numbers, ends, items = _sections(data, start, lengths)
            traits = [traits_from(item) for item in head["traits"]]
            self._numbers: Sequence[int] = numbers.cast("H" if width == 2 else "I")
            self._listings = _Listings(ends.cast("I"), items.cast("I"), traits)
            self._trie = marisa_trie.Trie()
            self._trie.map(trie)
            self._patterns = [Pattern(text, source, traits[number]) for text, source, number in head["patterns"]]
            self._pattern_sets = list(_compile([pattern.expression for pattern in self._patterns], 0))
        # RuntimeError is marisa's word for octets that are no trie.
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError, re2.error) as problem:
            raise CorruptIndexError("the index's head is damaged") from problem

    @classmethod
    def open(cls, path: Path) -> "Index":
        """Map an index file, and read it whole against its checksum. Raises `CorruptIndexError`, `OSError`."""
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size < START.size:
                raise CorruptIndexError("the index is empty")
            data = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        _verify(data)
        index = cls(data)
        index._file = _identity(status)
        return index

    def is_of(self, path: Path) -> bool:
        """Tell whether this was opened from the file that is there now, which was not written to since.

        Raises `OSError`.
        """
        return self._file == _identity(path.stat())

    def match(self, name: str) -> list[Match]:
        """Return the rules that cover a name in normal form, whatever they do; parents' rules first."""
        key = key_of(name)
        found: list[Match] = []
        # Blunt, for five million names: 1.3 us where nothing is listed, 2.0 for what is, 0.5 more for each match.
        for prefix, number in self._trie.iter_prefixes_with_ids(key):
            begin = len(key) - len(prefix)
            at_apex, below = self._listings[self._numbers[number]]
            for traits, sources in below if begin else at_apex:
                rule = Rule(name[begin:], traits)
                for source in sources:
                    found.append(Match(rule, source))  # noqa: PERF401 - slower by a tenth: there is one mostly
        for first, patterns in self._pattern_sets:
            for number in patterns.Match(name) or ():
                pattern = self._patterns[first + number]
                found.append(Match(Rule(pattern.expression, pattern.traits, pattern=True), pattern.source))
        return found

    def listings(self) -> Iterator[tuple[Listing, int]]:
        """Yield each distinct listing and how many names it is of; patterns are in none."""
        for number, names in Counter(self._numbers).items():
            yield self._listings.whole(number), names


Covering = tuple[tuple[Traits, tuple[int, ...]], ...]
"""Rules that cover a name: the traits of each, and the sources that have it."""


class _Listings(dict[int, tuple[Covering, Covering]]):
    """By its number, what a listing says of the name itself, and of names below it.

    Each is read when it is first met: of tens of thousands a worker meets few, and a new index is in use at once.
    """

    def __init__(self, ends: Sequence[int], items: Sequence[int], traits: Sequence[Traits]) -> None:
        super().__init__()
        self._ends = ends
        self._items = items
        self._traits = traits

    def whole(self, number: int) -> Listing:
        """Return a listing as it was compiled."""
        items = self._items[2 * (self._ends[number - 1] if number else 0) : 2 * self._ends[number]]
        return tuple((source, self._traits[place]) for source, place in zip(items[::2], items[1::2], strict=True))

    def __missing__(self, number: int) -> tuple[Covering, Covering]:
        listing = self.whole(number)
        at_apex = _covering(item for item in listing if item[1].scope is not Scope.SUBDOMAINS)
        below = _covering(item for item in listing if item[1].scope is not Scope.EXACT)
        self[number] = at_apex, below
        return at_apex, below


def _covering(listing: Iterator[tuple[int, Traits]]) -> Covering:
    sources: dict[Traits, list[int]] = {}
    for source, traits in listing:
        sources.setdefault(traits, []).append(source)
    return tuple((traits, tuple(numbers)) for traits, numbers in sources.items())


def _identity(status: os.stat_result) -> tuple[int, ...]:
    # The number of a file that is mapped is given to no other.
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _verify(data: memoryview) -> None:
    magic, checksum, _ = START.unpack_from(data)
    if magic != MAGIC:  # of an earlier version, perhaps
        raise CorruptIndexError("the file is no index")
    if crc32(data[START.size :]) != checksum:
        raise CorruptIndexError("the index's checksum is wrong")


def covers(rule: Rule, name: str) -> bool:
    """Tell whether a rule speaks about a name in normal form, for some type of query at least."""
    if any(is_within(name, subtree) for subtree in rule.traits.unless):
        return False
    if rule.pattern:
        return re2.search(rule.name, name, pattern_options()) is not None
    if rule.traits.scope is Scope.EXACT:
        return rule.name == name
    return is_within(name, rule.name) and (rule.traits.scope is Scope.SUBTREE or rule.name != name)


def read_head(data: memoryview) -> tuple[dict[str, Any], int]:
    """Return an index's head and where its first section begins. Raises `CorruptIndexError`."""
    if len(data) < START.size:
        raise CorruptIndexError("the index is cut short")
    magic, _, length = START.unpack_from(data)
    if magic != MAGIC:
        raise CorruptIndexError("the file is no index")
    try:
        head = json.loads(bytes(data[START.size : START.size + length]))
    except (ValueError, RecursionError) as problem:
        raise CorruptIndexError("the index's head is damaged") from problem
    return head, _padded(START.size + length)


def _sections(data: memoryview, start: int, lengths: Sequence[int]) -> Iterator[memoryview]:
    """Yield the sections of these lengths; the last one ends where the data does. Raises `ValueError`."""
    end = start
    for length in lengths:
        start = _padded(end)
        end = start + length
        if length < 0 or end > len(data):
            raise ValueError("a section lies outside the file")
        yield data[start:end]
    if end != len(data):
        raise ValueError("something is behind the last section")


def _padded(length: int) -> int:
    return length + -length % ALIGNMENT


def padding(length: int) -> bytes:
    """Return the octets that bring a length to the alignment of the sections."""
    return bytes(-length % ALIGNMENT)


def traits_from(item: Sequence[Any]) -> Traits:
    """Return traits from the JSON form of themselves."""
    scope, action, important, types, unless = item
    return Traits(Scope(scope), Action(action), bool(important), tuple(types), tuple(unless))


def pattern_options() -> Any:  # noqa: ANN401 - re2 ships no types
    """Return how lists' regular expressions are compiled: linear in time, bounded in memory."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 64 << 20
    options.never_capture = True
    options.case_sensitive = False  # as adblock has it; names come in lower case
    return options


def _compile(expressions: list[str], first: int) -> Iterator[tuple[int, Any]]:
    """Yield sets that together hold the expressions, each with the number of its first."""
    if not expressions:
        return
    patterns = _set_of(expressions) if len(expressions) <= MOST_IN_A_SET else None
    if patterns is not None:
        yield first, patterns
    else:
        half = len(expressions) // 2
        yield from _compile(expressions[:half], first)
        yield from _compile(expressions[half:], first + half)


def _set_of(expressions: list[str]) -> Any:  # noqa: ANN401 - re2 ships no types
    """Return a set of expressions, or None when they need too much memory together: each fits alone."""
    patterns = re2.Set.SearchSet(pattern_options())
    try:
        for expression in expressions:
            patterns.Add(expression)
        patterns.Compile()
    except re2.error:
        if len(expressions) == 1:
            raise
        return None
    return patterns
