"""Compiles entries to the index file that workers map; `policy.index` says how it is laid out, and reads it.

Takes the entries in two passes, so that memory holds the trie and one number a name, never the names themselves.
"""

import json
import os
from array import array
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import marisa_trie

from policy.index import MAGIC, START, padding
from policy.rules import Traits

Entry = tuple[str, int, int]
"""Key (`policy.names.key_of`, or ``/expression/``), source, traits."""


class Compiled(NamedTuple):
    """What was compiled."""

    names: int
    patterns: int
    octets: int


def compile_index(path: Path, entries: Callable[[], Iterable[Entry]], traits: Mapping[int, Traits]) -> Compiled:
    """Write the index of the entries, which must come out the same on each call.

    Writes beside the path and renames, so the path holds the old file or the new one, whole. Raises `OSError`.
    """
    trie = marisa_trie.Trie(key for key, _, _ in entries() if not _is_pattern(key))
    listings = _Listings(len(trie))
    patterns: list[tuple[str, int, int]] = []
    number_of = trie.key_id if len(trie) else None
    for key, source, traits_id in entries():
        if _is_pattern(key):
            patterns.append((key[1:-1], source, traits_id))
        else:
            assert number_of is not None
            listings.add(number_of(key), source, traits_id)
    used = sorted({t for listing in listings.distinct for _, t in listing} | {t for _, _, t in patterns})
    place = {traits_id: position for position, traits_id in enumerate(used)}
    head: dict[str, Any] = {
        "names": len(trie),
        "traits": [traits[traits_id] for traits_id in used],
        "listings": [[(source, place[t]) for source, t in listing] for listing in listings.distinct],
        "patterns": [(text, source, place[t]) for text, source, t in patterns],
    }
    octets = _write(path, head, trie.tobytes(), listings.numbers())
    return Compiled(len(trie), len(patterns), octets)


def _is_pattern(key: str) -> bool:
    return key.startswith("/")


class _Listings:
    """For each key the number of its listing; each distinct listing is kept once."""

    def __init__(self, keys: int) -> None:
        self.distinct: list[tuple[tuple[int, int], ...]] = [()]
        self._numbers = array("I", bytes(4 * keys))
        self._known: dict[tuple[tuple[int, int], ...], int] = {(): 0}
        self._steps: dict[tuple[int, int, int], int] = {}

    def add(self, key: int, source: int, traits_id: int) -> None:
        """List a key under a source; the step from one listing to the next is remembered."""
        before = self._numbers[key]
        step = (before, source, traits_id)
        after = self._steps.get(step)
        if after is None:
            listing = tuple(sorted({*self.distinct[before], (source, traits_id)}))
            after = self._known.setdefault(listing, len(self.distinct))
            if after == len(self.distinct):
                self.distinct.append(listing)
            self._steps[step] = after
        self._numbers[key] = after

    def numbers(self) -> "array[int]":
        """Return the numbers in the narrowest form that holds them."""
        return array("H", self._numbers) if len(self.distinct) <= 1 << 16 else self._numbers


def _write(path: Path, head: dict[str, Any], trie: bytes, numbers: "array[int]") -> int:
    head_text = json.dumps(head | {"trie_length": len(trie), "width": numbers.itemsize}).encode()
    parts = [head_text, padding(START.size + len(head_text)), trie, padding(len(trie)), numbers.tobytes()]
    checksum = 0
    for part in parts:
        checksum = crc32(part, checksum)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(START.pack(MAGIC, checksum, len(head_text)))
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    return START.size + sum(map(len, parts))
