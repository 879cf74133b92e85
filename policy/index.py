"""The compiled index: which lists hold a name or one of its parents.

One immutable file, memory-mapped, so that all workers share one copy in the page cache::

    magic "HMI1", u32 CRC-32 of all that follows the head, u32 length of the head, head (JSON), padding,
    trie (marisa), padding, listing numbers (u16 or u32, one a key, by the trie's key number)

A listing is the set of (source, traits) that name a key. There are few distinct ones, so the array holds numbers.
Knows nothing of groups or exceptions: what a match means is `policy.decide`'s.
"""

import json
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple
from zlib import crc32

import marisa_trie
import re2

from policy.names import key_of, name_of
from policy.rules import Action, Rule, Scope, Traits

MAGIC = b"HMI1"
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


class Index:
    """Finds the rules that cover a name."""

    def __init__(self, data: memoryview) -> None:
        """Map an index's bytes, which must stay as they are. Raises `CorruptIndexError`."""
        self._data = data
        head, body = read_head(data)
        try:
            self.names: int = head["names"]
            """How many distinct names are listed."""
            traits = [traits_from(item) for item in head["traits"]]
            self._listings: list[tuple[tuple[int, Traits], ...]] = [
                tuple((source, traits[number]) for source, number in listing) for listing in head["listings"]
            ]
            self._patterns = [Pattern(text, source, traits[number]) for text, source, number in head["patterns"]]
            numbers = body + _padded(head["trie_length"])
            if len(data) != numbers + self.names * head["width"]:
                raise CorruptIndexError("the index is cut short")
            self._numbers: Sequence[int] = data[numbers:].cast("H" if head["width"] == 2 else "I")
            self._trie = marisa_trie.Trie()
            self._trie.map(data[body : body + head["trie_length"]])
            self._pattern_sets = list(_compile([pattern.expression for pattern in self._patterns], 0))
        # RuntimeError is marisa's word for octets that are no trie.
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError, re2.error) as problem:
            raise CorruptIndexError("the index's head is damaged") from problem

    @classmethod
    def open(cls, path: Path, *, verify: bool = False) -> "Index":
        """Map an index file; `verify` reads it whole against its checksum. Raises `CorruptIndexError`, `OSError`."""
        with path.open("rb") as file:
            if path.stat().st_size < START.size:
                raise CorruptIndexError("the index is empty")
            data = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        if verify:
            read_head(data)
            if crc32(data[START.size :]) != START.unpack_from(data)[1]:
                raise CorruptIndexError("the index's checksum is wrong")
        return cls(data)

    def match(self, name: str) -> list[Match]:
        """Return the rules that cover a name in normal form, whatever they do; parents' rules first."""
        key = key_of(name)
        found = list(self._matches(key)) if self._trie.prefixes(key) else []
        for first, patterns in self._pattern_sets:
            for number in patterns.Match(name) or ():
                pattern = self._patterns[first + number]
                found.append(Match(Rule(pattern.expression, pattern.traits, pattern=True), pattern.source))
        return found

    def _matches(self, key: str) -> Iterator[Match]:
        for prefix, number in self._trie.iter_prefixes_with_ids(key):
            at_apex = len(prefix) == len(key)
            for source, traits in self._listings[self._numbers[number]]:
                if traits.scope is Scope.SUBTREE or (traits.scope is Scope.EXACT) == at_apex:
                    yield Match(Rule(name_of(prefix), traits), source)


def read_head(data: memoryview) -> tuple[dict[str, Any], int]:
    """Return an index's head and where its body begins. Raises `CorruptIndexError`."""
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
