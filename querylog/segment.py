"""An open journal segment as the shipper sees it: it is read portion by portion, and knows what its numbers stand for.

Knows the journal, no database. Memory is a few octets for each number: what one stands for is read from the file again
when it is asked for.
"""

from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from querylog.errors import DamagedSegmentError
from querylog.journal import SUFFIX, Batch, Definition, Kind, SegmentReader
from querylog.portion import Gap, Lookups, Portion
from querylog.records import LOOKUP

GAP = int(Kind.GAP)
TORN_OCTETS = 1 << 20
"""A power cut tears off what was written since the last sync, a second's worth. More is damage, with records behind."""
HOMES_REMEMBERED = 2
NUMBERS_AHEAD = 1 << 22
"""Numbers are given one by one: one that is further ahead of all the others is damage."""


class Segment:
    """Reads one segment forward, portion by portion."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises `NotAJournalError` when it is no segment, `OSError` when it can't be read."""
        self.path = path
        self.name = path.name
        self.is_finished = False
        """Whether its writer is gone; as of the last `read`."""
        self.is_exhausted = False
        """Whether the last `read` took all the whole batches there were."""
        self.last_time = 0
        """The time of the last lookup read since it was opened; 0: none."""
        self._reader = SegmentReader(path)
        self.node = self._reader.node
        self._begin = self._reader.offset
        self._numbers = _Numbers(path)
        self._homes: dict[Hashable, array[int]] = {}

    def __repr__(self) -> str:
        return f"<Segment {self.name} at {self.offset}{', finished' if self.is_finished else ''}>"

    @property
    def offset(self) -> int:
        """Where the next portion begins."""
        return self._reader.offset

    @property
    def is_done(self) -> bool:
        """Tell whether the last `read` took the last that can ever be read."""
        return self.is_finished and self.is_exhausted

    def skip_to(self, offset: int) -> None:
        """Read on from an offset that a portion ended at; 0: from the first batch."""
        self._reader.offset = max(offset, self._begin)

    def unread(self) -> int:
        """Return how many octets are still to be read."""
        return self._reader.unread()

    def read(self, rows: int) -> Portion | None:
        """Return the next portion, of so many rows or a batch more; None when there is nothing new.

        Raises `DamagedSegmentError`, `OSError`.
        """
        # Asked before reading: what is read after its writer's death is all there will ever be.
        self.is_finished = self.is_finished or not self._reader.is_being_written()
        start = position = self.offset
        octets = rows * LOOKUP.size
        batches: list[tuple[int, bytes]] = []
        gaps: list[tuple[int, Gap]] = []
        self.is_exhausted = False
        for end, lookups, definitions in self._reader.batches():
            if definitions:
                self._numbers.add(position, definitions)
                gaps += [(end, self._gap(definition)) for definition in definitions if definition.kind == GAP]
            position = end
            batches.append((end, lookups))
            octets -= len(lookups)
            if octets <= 0:
                break
        else:
            self.is_exhausted = True
        self.last_time = _last_time(lookups for _, lookups in reversed(batches)) or self.last_time
        if self.is_finished and self.is_exhausted and 0 < self.unread() <= TORN_OCTETS:
            gaps.append(self._tear_off())
        return Portion(self, start, self.offset, batches, gaps) if self.offset > start else None

    def rewind(self, portion: Portion) -> None:
        """Give a portion again that could not be stored."""
        self.skip_to(portion.start)
        self.stored()

    def stored(self) -> None:
        """Forget what was kept for portions that are stored by now."""
        self._numbers.fresh.clear()

    def file(self, lookups: Lookups, home: Hashable, store: Callable[[list[Definition]], list[int]]) -> Lookups:
        """Return lookups with the ids under which a store has filed their clients and decisions.

        The home is where it files them, so that ids are remembered for each; `store` files definitions and returns
        their ids, from 1 up. Raises `DamagedSegmentError` when a number is not defined.
        """
        ids = self._ids(home)
        known = len(ids)
        numbers = {*lookups.clients, *lookups.decisions}
        unknown = [number for number in numbers if number >= known or not ids[number]]
        if unknown:
            definitions = self._numbers.definitions(unknown)
            ids.frombytes(bytes(ids.itemsize * max(0, max(unknown) + 1 - known)))
            for definition, filed in zip(definitions, store(definitions), strict=True):
                ids[definition.number] = filed
        known_as = ids.__getitem__
        clients, decisions = map(known_as, lookups.clients), map(known_as, lookups.decisions)
        return lookups._replace(clients=list(clients), decisions=list(decisions))

    def forget_ids(self) -> None:
        """Forget under which ids a store has filed anything: it was undone."""
        self._homes.clear()

    def close(self) -> None:
        """Let go of the file."""
        self._reader.close()
        self._numbers.close()

    def _ids(self, home: Hashable) -> "array[int]":
        if home not in self._homes:
            while len(self._homes) >= HOMES_REMEMBERED:
                del self._homes[next(iter(self._homes))]
            self._homes[home] = array("I")
        return self._homes[home]

    def _gap(self, definition: Definition) -> Gap:
        try:
            lookups, first, last = map(int, definition.data.split(b"\0"))
        except ValueError as problem:
            raise DamagedSegmentError(self.name, "a gap can't be read") from problem
        return Gap(self.node, self.name, lookups, 0, first, last)

    def _tear_off(self) -> tuple[int, Gap]:
        """Count the torn tail as read, and return it as a gap: the same one whenever it is found."""
        octets = self.unread()
        first = self.last_time or _last_time(reversed([batch.lookups for _, batch in _all_batches(self.path)]))
        first = first or int(self.name.removesuffix(SUFFIX).partition("-")[0])  # when it was begun
        last = max(first, self.path.stat().st_mtime_ns // 1000)
        self._reader.offset += octets
        return self.offset, Gap(self.node, self.name, 0, octets, first, last)


class _Numbers:
    """Where a segment defines each of its numbers."""

    def __init__(self, path: Path) -> None:
        self.fresh: dict[int, Definition] = {}
        """Definitions read just now, which are those that are asked for."""
        self._path = path
        self._batch = array("Q")  # by number: the offset of the batch that defines it; 0: none that was read
        self._is_whole = False  # whether all that stands before the fresh ones is in there
        self._reader: SegmentReader | None = None

    def add(self, offset: int, definitions: Iterable[Definition]) -> None:
        """Note the definitions of the batch at an offset."""
        fresh = self.fresh
        for definition in definitions:
            kind, number, _ = definition
            if kind != GAP:
                self._note(offset, number)
                fresh[number] = definition

    def definitions(self, numbers: Sequence[int]) -> list[Definition]:
        """Return what numbers stand for. Raises `DamagedSegmentError` when one was never defined."""
        found = {number: self.fresh[number] for number in numbers if number in self.fresh}
        older = {number for number in numbers if number not in found}
        if not self._is_whole and not all(map(self._offset, older)):
            self._scan()
        for offset in sorted(set(map(self._offset, older))):
            if not offset:
                raise DamagedSegmentError(self._path.name, f"{min(older - found.keys())} is a number never defined")
            found.update(
                (definition.number, definition) for definition in self._at(offset) if definition.number in older
            )
        return [found[number] for number in numbers]

    def close(self) -> None:
        """Let go of the file."""
        if self._reader is not None:
            self._reader.close()

    def _note(self, offset: int, number: int) -> None:
        ahead = number - len(self._batch)
        if ahead == 0:  # as they are given
            self._batch.append(offset)
            return
        if ahead > NUMBERS_AHEAD:
            raise DamagedSegmentError(self._path.name, f"number {number} is far ahead of all before it")
        if ahead > 0:
            self._batch.frombytes(bytes(self._batch.itemsize * (ahead + 1)))
        self._batch[number] = offset

    def _offset(self, number: int) -> int:
        return self._batch[number] if number < len(self._batch) else 0

    def _scan(self) -> None:
        """Note everything from the first batch on: after a restart, reading began further down."""
        for offset, batch in _all_batches(self._path):
            for definition in batch.definitions:
                if definition.kind != GAP:
                    self._note(offset, definition.number)
        self._is_whole = True

    def _at(self, offset: int) -> Iterator[Definition]:
        self._reader = self._reader or SegmentReader(self._path)
        self._reader.offset = offset
        batch = next(self._reader.batches())
        return (definition for definition in batch.definitions if definition.kind != GAP)


def _all_batches(path: Path) -> Iterator[tuple[int, Batch]]:
    """Yield every whole batch with its offset."""
    with closing(SegmentReader(path)) as reader:
        offset = reader.offset
        for batch in reader.batches():
            yield offset, batch
            offset = batch.end


def _last_time(newest_first: Iterable[bytes]) -> int:
    """Return the time of the last lookup of some batches; 0 when they have none."""
    for lookups in newest_first:
        if lookups:
            return int(LOOKUP.unpack_from(lookups, len(lookups) - LOOKUP.size)[0])
    return 0
