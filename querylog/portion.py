"""What was read of a segment and is handed to a store: lookups and gaps, by day.

Lookups are handled a column at a time, which takes half the time of tuples.
"""

import sys
from array import array
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Self

from querylog.errors import DamagedSegmentError
from querylog.times import DAY, LAST_DAY

if TYPE_CHECKING:
    from querylog.segment import Segment


class Gap(NamedTuple):
    """Records that are missing from the log, as far as is known."""

    node: str
    segment: str
    lookups: int
    """How many could not be written; 0 where a tail was torn off, of which nobody knows."""
    octets: int
    """How long the torn tail was; 0 where lookups could not be written."""
    first: int
    """Microseconds since the epoch: nothing earlier is missing."""
    last: int
    """Nothing later is missing."""


class Lookups(NamedTuple):
    """Lookups by column."""

    times: Sequence[int]
    """Microseconds since the epoch."""
    clients: Sequence[int]
    """A number of the segment's, or an id of a store's; decisions likewise."""
    decisions: Sequence[int]
    durations: Sequence[int]
    """Microseconds."""

    @classmethod
    def of(cls, octets: bytes) -> Self:
        """Return lookups as the journal has them: each a `records.LOOKUP`, which is five words."""
        words = array("I", octets)
        if sys.byteorder == "big":
            words.byteswap()
        times = [low | high << 32 for low, high in zip(words[0::5], words[1::5], strict=True)]
        return cls(times, words[2::5], words[3::5], words[4::5])


NOTHING = Lookups((), (), (), ())


class Portion:
    """Some whole batches of one segment."""

    def __init__(
        self,
        segment: "Segment",
        start: int,
        end: int,
        batches: Sequence[tuple[int, bytes]],
        gaps: Sequence[tuple[int, Gap]] = (),
    ) -> None:
        self.segment = segment
        self.start = start
        """Offset of the first batch."""
        self.end = end
        """Offset behind the last one."""
        self._batches = batches  # the offset behind each, and its lookups
        self._gaps = gaps  # the offset behind the batch that tells of each, and the gap

    @property
    def torn_octets(self) -> int:
        """How much was torn off the segment's end."""
        return sum(gap.octets for _, gap in self._gaps)

    @cached_property
    def lookups(self) -> Lookups:
        """All lookups."""
        return Lookups.of(b"".join([octets for _, octets in self._batches]))

    @cached_property
    def days(self) -> frozenset[int]:
        """The days that lookups and gaps belong to. Raises `DamagedSegmentError` for one that no calendar has."""
        days = {gap.first // DAY for _, gap in self._gaps}
        times = self.lookups.times
        if times:
            first, last = min(times) // DAY, max(times) // DAY
            # More than one around midnight, or when the clock was set.
            days |= {first} if first == last else {time // DAY for time in times}
        if days and max(days) > LAST_DAY:
            raise DamagedSegmentError(self.segment.name, f"a lookup {max(days)} days after the epoch")
        return frozenset(days)

    def lookups_of(self, day: int, beyond: int) -> Lookups:
        """Return the lookups of a day, but for those in batches that end at an offset or before it."""
        if day not in self.days or beyond >= self.end:
            return NOTHING
        if len(self.days) == 1 and beyond <= self.start:
            return self.lookups
        begin, end = day * DAY, (day + 1) * DAY
        rest = Lookups.of(b"".join([octets for offset, octets in self._batches if offset > beyond]))
        rows = [row for row in zip(*rest, strict=True) if begin <= row[0] < end]
        return Lookups(*zip(*rows, strict=True)) if rows else NOTHING

    def gaps_of(self, day: int, beyond: int) -> list[Gap]:
        """Return the gaps of a day, but for those told of at an offset or before it."""
        return [gap for offset, gap in self._gaps if offset > beyond and gap.first // DAY == day]
