"""Segments as the shipper reads them, portion by portion."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from querylog import segment as segments
from querylog.errors import DamagedSegmentError
from querylog.journal import Definition, NotAJournalError
from querylog.portion import Gap, Portion
from querylog.records import Client, decode_client, decode_decision
from querylog.segment import Segment
from querylog.times import DAY, LAST_DAY
from tests.support.journals import Lookup, SegmentFile, a_client, a_decision, batch, definition

MIDNIGHT = 20_000 * DAY


def lookup(time: int, qname: str = "www.example", client: str = "192.0.2.1") -> Lookup:
    return time, a_client(client), a_decision(qname), 7


@pytest.fixture
def written(tmp_path: Path) -> Iterator[SegmentFile]:
    with SegmentFile(tmp_path, started=MIDNIGHT - DAY) as segment:
        yield segment


@pytest.fixture
def read(written: SegmentFile) -> Iterator[Segment]:
    with contextlib.closing(Segment(written.path)) as segment:
        yield segment


class Store:
    """Files definitions, and remembers which it was asked to."""

    def __init__(self) -> None:
        self.filed: list[bytes] = []

    def file(self, definitions: Iterable[Definition]) -> list[int]:
        ids = []
        for definition_ in definitions:
            self.filed.append(definition_.data)
            ids.append(len(self.filed))
        return ids

    def resolve(self, portion: Portion, day: int = 19_999, beyond: int = 0) -> list[tuple[int, str, str]]:
        """Return a portion's lookups of a day: time, client, qname."""
        filed = portion.segment.file(portion.lookups_of(day, beyond), (self, day), self.file)
        return [
            (time, decode_client(self.filed[client - 1]).client, decode_decision(self.filed[decision - 1]).qname)
            for time, client, decision, _ in zip(*filed, strict=True)
        ]


def test_a_portion_is_what_is_new(written: SegmentFile, read: Segment) -> None:
    assert read.read(100) is None
    written.batch([lookup(MIDNIGHT - 9, "a.example"), lookup(MIDNIGHT - 8, "b.example")])
    store = Store()
    portion = read.read(100)
    assert portion is not None
    assert store.resolve(portion) == [
        (MIDNIGHT - 9, "192.0.2.1", "a.example"),
        (MIDNIGHT - 8, "192.0.2.1", "b.example"),
    ]
    assert (portion.end, read.unread(), read.last_time) == (written.path.stat().st_size, 0, MIDNIGHT - 8)
    assert read.read(100) is None
    written.batch([lookup(MIDNIGHT - 7, "a.example")])
    portion = read.read(100)
    assert portion is not None
    assert store.resolve(portion) == [(MIDNIGHT - 7, "192.0.2.1", "a.example")]
    assert len(store.filed) == 3  # nothing is filed twice


def test_a_portion_ends_with_the_batch_that_makes_it_full(written: SegmentFile, read: Segment) -> None:
    for n in range(0, 9, 3):
        written.batch([lookup(MIDNIGHT - 100 + n + i) for i in range(3)])
    sizes = []
    while (portion := read.read(4)) is not None:
        sizes.append((len(portion.lookups.times), read.is_exhausted))
    assert sizes == [(6, False), (3, True)]


def test_a_segment_is_finished_when_its_writer_is_gone(written: SegmentFile, read: Segment) -> None:
    written.batch([lookup(MIDNIGHT - 9)])
    read.read(100)
    assert not read.is_finished
    written.close()
    read.read(100)
    assert read.is_finished


def test_another_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "1-0-1.journal"
    path.write_bytes(b"no journal")
    with pytest.raises(NotAJournalError):
        Segment(path)


# Days.


def test_one_batch_may_belong_to_two_days(written: SegmentFile, read: Segment) -> None:
    written.batch([lookup(MIDNIGHT - 1, "before.example"), lookup(MIDNIGHT, "after.example")])
    portion = read.read(100)
    assert portion is not None
    assert portion.days == {19_999, 20_000}
    store = Store()
    assert [qname for _, _, qname in store.resolve(portion, 19_999)] == ["before.example"]
    assert [qname for _, _, qname in store.resolve(portion, 20_000)] == ["after.example"]
    assert store.resolve(portion, 20_001) == []


def test_the_clock_may_jump_to_any_day(written: SegmentFile, read: Segment) -> None:
    days = [19_999, 0, LAST_DAY, 19_999, 1]
    written.batch([lookup(day * DAY + n) for n, day in enumerate(days)])
    portion = read.read(100)
    assert portion is not None
    assert portion.days == set(days)
    assert [time % DAY for time in portion.lookups_of(19_999, 0).times] == [0, 3]


@pytest.mark.parametrize("day", [LAST_DAY + 1, (1 << 64) // DAY - 1])
def test_a_day_that_no_calendar_has_is_damage(written: SegmentFile, read: Segment, day: int) -> None:
    written.batch([lookup(day * DAY)])
    portion = read.read(100)
    assert portion is not None
    with pytest.raises(DamagedSegmentError) as caught:
        _ = portion.days
    assert caught.value.segment == written.path.name


def test_what_a_day_has_already_is_left_out_batch_by_batch(written: SegmentFile, read: Segment) -> None:
    start = read.offset
    ends = []
    for n in range(3):
        written.batch([lookup(MIDNIGHT - 9 + n), lookup(MIDNIGHT + n)])
        ends.append(written.path.stat().st_size)
    portion = read.read(100)
    assert portion is not None
    assert (portion.start, portion.end) == (start, ends[-1])
    for beyond, left in ((0, 3), (start, 3), (ends[0], 2), (ends[0] + 1, 2), (ends[1], 1), (ends[2], 0), (1 << 40, 0)):
        assert len(portion.lookups_of(19_999, beyond).times) == left
        assert len(portion.lookups_of(20_000, beyond).times) == left


def test_the_same_within_one_day(written: SegmentFile, read: Segment) -> None:
    written.batch([lookup(MIDNIGHT - 9)])
    end = written.path.stat().st_size
    written.batch([lookup(MIDNIGHT - 8)])
    portion = read.read(100)
    assert portion is not None
    assert list(portion.lookups_of(19_999, end).times) == [MIDNIGHT - 8]


# Numbers.


def test_after_a_restart_numbers_are_looked_up_further_up(written: SegmentFile) -> None:
    written.batch([lookup(MIDNIGHT - 9, f"n{n}.example") for n in range(50)])
    position = written.path.stat().st_size
    written.batch(
        [lookup(MIDNIGHT - 8, "n49.example"), lookup(MIDNIGHT - 7, "new.example"), lookup(MIDNIGHT - 6, "n0.example")]
    )
    with contextlib.closing(Segment(written.path)) as segment:
        segment.skip_to(position)
        portion = segment.read(100)
        assert portion is not None
        assert [qname for _, _, qname in Store().resolve(portion)] == ["n49.example", "new.example", "n0.example"]


def test_definitions_may_stand_in_an_earlier_portion(written: SegmentFile, read: Segment) -> None:
    """A client is defined when it asks, its lookup written when the answer has come."""
    client = definition(1, 5, b"192.0.2.9\0staff\0tcp")
    written.write(batch(b"", [client]))
    portion = read.read(100)
    assert portion is not None
    assert portion.days == frozenset()
    read.stored()
    decision = "\0".join(map(str, a_decision("late.example")[:-1])) + "\x000"
    late = (MIDNIGHT - 5).to_bytes(8, "little") + b"".join(n.to_bytes(4, "little") for n in (5, 6, 1))
    written.write(batch(late, [definition(2, 6, decision.encode())]))
    portion = read.read(100)
    assert portion is not None
    assert Store().resolve(portion) == [(MIDNIGHT - 5, "192.0.2.9", "late.example")]


def test_each_home_of_a_store_has_its_own_ids(written: SegmentFile, read: Segment) -> None:
    written.batch([lookup(MIDNIGHT - 1), lookup(MIDNIGHT)])
    portion = read.read(100)
    assert portion is not None
    read.stored()
    store = Store()
    for _ in range(2):
        for day in (19_999, 20_000, 19_999):
            store.resolve(portion, day)
    assert len(store.filed) == 4


def test_what_was_undone_is_filed_again(written: SegmentFile, read: Segment) -> None:
    written.batch([lookup(MIDNIGHT - 1)])
    portion = read.read(100)
    assert portion is not None
    store = Store()
    store.resolve(portion)
    read.forget_ids()
    read.rewind(portion)
    again = read.read(100)
    assert again is not None
    assert (again.start, again.end) == (portion.start, portion.end)
    assert store.resolve(again) == [(MIDNIGHT - 1, "192.0.2.1", "www.example")]
    assert len(store.filed) == 4


def test_a_number_that_was_never_defined_is_damage(written: SegmentFile, read: Segment) -> None:
    written.batch([lookup(MIDNIGHT - 1)])
    written.write(batch((MIDNIGHT - 1).to_bytes(8, "little") + b"\0\0\0\0\x63\0\0\0\0\0\0\0", []))
    portion = read.read(100)
    assert portion is not None
    with pytest.raises(DamagedSegmentError, match="99 is a number never defined"):
        Store().resolve(portion)


def test_a_number_far_ahead_is_damage_and_takes_no_memory(written: SegmentFile, read: Segment) -> None:
    written.write(batch(b"", [definition(1, 0xFFFFFFFF, b"a\0b\0c")]))
    with pytest.raises(DamagedSegmentError, match="far ahead"):
        read.read(100)


# Gaps.


def test_a_gap_is_read_as_what_it_tells(written: SegmentFile, read: Segment) -> None:
    written.batch([], gap=(12, MIDNIGHT - 5, MIDNIGHT + 5))
    portion = read.read(100)
    assert portion is not None
    assert portion.days == {19_999}
    gap = Gap("node", written.path.name, 12, 0, MIDNIGHT - 5, MIDNIGHT + 5)
    assert portion.gaps_of(19_999, 0) == [gap]
    assert portion.gaps_of(19_999, portion.end) == []
    assert portion.gaps_of(20_000, 0) == []


@pytest.mark.parametrize("data", [b"", b"1", b"a\0b\0c", b"1\x002\x003\x004"])
def test_a_gap_that_can_not_be_read_is_damage(written: SegmentFile, read: Segment, data: bytes) -> None:
    written.write(batch(b"", [definition(3, 0, data)]))
    with pytest.raises(DamagedSegmentError, match="gap"):
        read.read(100)


def test_a_torn_tail_is_a_gap_of_the_time_before_it(written: SegmentFile, read: Segment) -> None:
    written.batch([lookup(MIDNIGHT - 9)])
    written.write(b"torn off")
    portion = read.read(100)
    assert portion is not None
    assert portion.torn_octets == 0  # its writer may be about to write the rest
    written.close()
    portion = read.read(100)
    assert portion is not None
    assert portion.torn_octets == 8
    ((gap,),) = [portion.gaps_of(day, 0) for day in portion.days]
    assert gap[:5] == ("node", written.path.name, 0, 8, MIDNIGHT - 9)
    assert gap.last >= gap.first
    assert (portion.end, read.unread()) == (written.path.stat().st_size, 0)


def test_a_torn_tail_is_the_same_gap_after_a_restart(written: SegmentFile) -> None:
    written.batch([lookup(MIDNIGHT - 9)])
    position = written.path.stat().st_size
    written.write(b"torn off")
    written.close()
    gaps = []
    for start in (0, position):
        with contextlib.closing(Segment(written.path)) as segment:
            segment.skip_to(start)
            portion = segment.read(100)
            assert portion is not None
            gaps.append(portion.gaps_of(19_999, 0))
    assert gaps[0] == gaps[1] != []


def test_without_any_lookup_a_torn_tail_is_of_the_segments_birth(written: SegmentFile, read: Segment) -> None:
    written.write(b"torn off")
    written.close()
    portion = read.read(100)
    assert portion is not None
    assert portion.gaps_of(19_999, 0)[0].first == MIDNIGHT - DAY


def test_what_is_too_long_for_a_torn_tail_is_left_for_a_person(
    written: SegmentFile, read: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "TORN_OCTETS", 7)
    written.write(b"torn off")
    written.close()
    assert read.read(100) is None
    assert (read.is_finished, read.is_exhausted, read.unread()) == (True, True, 8)


def test_a_segment_shorter_than_what_is_stored_has_nothing_left(written: SegmentFile) -> None:
    """After a power cut the store may have more of it than the journal's own disk."""
    written.batch([lookup(MIDNIGHT - 9)])
    written.close()
    with contextlib.closing(Segment(written.path)) as segment:
        segment.skip_to(1 << 20)
        assert segment.read(100) is None
        assert (segment.is_finished, segment.is_exhausted, segment.unread()) == (True, True, 0)


def test_it_tells_where_it_is(written: SegmentFile, read: Segment) -> None:
    assert repr(read) == f"<Segment {written.path.name} at {written.path.stat().st_size}>"
    assert isinstance(a_client(), Client)
