"""Compiles entries to the index file that workers map; `policy.index` says how it is laid out, and reads it.

The keys go through a nameless file on disk, from which they are read twice: to build the trie, and to number what is
listed at each. So memory holds the trie and one number a name, and the entries are asked for once.
"""

import json
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from zlib import crc32

import marisa_trie

from policy.index import MAGIC, START, padding
from policy.rules import Traits

Entry = tuple[str, int, int]
"""Key (`policy.names.key_of`, or ``/expression/``), source, traits."""

BATCH = 4096
"""Keys on a line of the file between."""


class Compiled(NamedTuple):
    """What was compiled."""

    names: int
    patterns: int
    octets: int


def compile_index(path: Path, entries: Iterable[Entry], traits: Mapping[int, Traits]) -> Compiled:
    """Write the index of the entries: quickest when those of one source and the same traits follow each other.

    Writes beside the path and renames, so the path holds the old file or the new one, whole. Raises `OSError`.
    """
    patterns: list[Entry] = []
    with tempfile.TemporaryFile("w+", encoding="ascii", dir=path.parent, prefix=".") as keys:
        _spool(entries, keys, patterns)
        keys.seek(0)
        trie = marisa_trie.Trie(key for line in keys for key in islice(line.split(), 2, None))
        keys.seek(0)
        listings = _Listings(trie, keys)
    used = sorted({traits_id for _, traits_id in listings.items} | {traits_id for _, _, traits_id in patterns})
    place = {traits_id: position for position, traits_id in enumerate(used)}
    head = {
        "names": len(trie),
        "traits": [traits[traits_id] for traits_id in used],
        "patterns": [(key[1:-1], source, place[traits_id]) for key, source, traits_id in patterns],
    }
    octets = _write(path, head, trie.tobytes(), *listings.sections(place))
    return Compiled(len(trie), len(patterns), octets)


def _spool(entries: Iterable[Entry], keys: TextIO, patterns: list[Entry]) -> None:
    """Write the keys of names to a file, as lines of a source, traits and keys; put the patterns aside."""
    for (source, traits_id), run in groupby(entries, itemgetter(1, 2)):
        while batch := [key for key, _, _ in islice(run, BATCH)]:
            names = [key for key in batch if key[0] != "/"]
            if names:
                keys.write(f"{source} {traits_id} {' '.join(names)}\n")
            patterns += ((key, source, traits_id) for key in batch if key[0] == "/")


class _Listings:
    """For each key the number of its listing; each distinct listing is kept once."""

    def __init__(self, trie: Any, keys: Iterable[str]) -> None:  # noqa: ANN401 - marisa_trie ships no types
        """Take the lines that `_spool` wrote, whose keys the trie holds."""
        self._distinct: list[tuple[tuple[int, int], ...]] = [()]
        self._known: dict[tuple[tuple[int, int], ...], int] = {(): 0}
        self._steps: dict[tuple[int, int], _Steps] = {}
        numbers = self._numbers = array("I", bytes(4 * len(trie)))
        for line in keys:
            source, traits_id, *names = line.split()
            step = self._step((int(source), int(traits_id)))
            for key in map(trie.key_id, names):
                numbers[key] = step[numbers[key]]

    @property
    def items(self) -> Iterable[tuple[int, int]]:
        """Every source with traits that it has."""
        return self._steps.keys()

    def add(self, before: int, item: tuple[int, int]) -> int:
        """Return the number of a listing with one item more."""
        listing = tuple(sorted({*self._distinct[before], item}))
        number = self._known.setdefault(listing, len(self._distinct))
        if number == len(self._distinct):
            self._distinct.append(listing)
        return number

    def sections(self, place: Mapping[int, int]) -> Iterator["array[int]"]:
        """Yield the numbers in the narrowest form that holds them, where each listing ends, and their items."""
        yield array("H", self._numbers) if len(self._distinct) <= 1 << 16 else self._numbers
        ends, items = array("I"), array("I")
        for listing in self._distinct:
            for source, traits_id in listing:
                items.extend((source, place[traits_id]))
            ends.append(len(items) // 2)
        yield ends
        yield items

    def _step(self, item: tuple[int, int]) -> "_Steps":
        step = self._steps.get(item)
        if step is None:
            step = self._steps[item] = _Steps(self, item)
        return step


class _Steps(dict[int, int]):
    """From the number of a listing to that of the same with one item more: worked out once."""

    def __init__(self, listings: _Listings, item: tuple[int, int]) -> None:
        super().__init__()
        self._listings = listings
        self._item = item

    def __missing__(self, before: int) -> int:
        after = self[before] = self._listings.add(before, self._item)
        return after


def _write(
    path: Path, head: dict[str, Any], trie: bytes, numbers: "array[int]", ends: "array[int]", items: "array[int]"
) -> int:
    sizes = {"trie": len(trie), "width": numbers.itemsize, "listings": len(ends), "items": len(items) // 2}
    text = json.dumps(head | sizes).encode()
    parts = [text, padding(START.size + len(text))]
    for section in (trie, numbers.tobytes(), ends.tobytes()):
        parts += [section, padding(len(section))]
    parts.append(items.tobytes())
    checksum = 0
    for part in parts:
        checksum = crc32(part, checksum)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(START.pack(MAGIC, checksum, len(text)))
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)  # there only if something failed
    return START.size + sum(map(len, parts))
