"""The journal on real files: torn, full, rotated, read while it is written."""

import contextlib
import errno
import fcntl
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from querylog import journal
from querylog.journal import JournalWriter, Kind, NotAJournalError, SegmentReader, segments
from querylog.records import LOOKUP, Client, Decision, decode_client, decode_decision
from tests.support.journals import SegmentFile, a_client, a_decision, batch, definition

CLIENT = a_client()
DECISION = a_decision()


class Read(NamedTuple):
    """What a segment holds."""

    lookups: list[tuple[int, Client, Decision]]
    gaps: list[bytes]
    unread: int


def read(path: Path) -> Read:
    """Read a segment as the documentation of `querylog.journal` says: numbers stand for what was defined before."""
    clients: dict[int, Client] = {}
    decisions: dict[int, Decision] = {}
    found = Read([], [], 0)
    with contextlib.closing(SegmentReader(path)) as reader:
        for one in reader.batches():
            for kind, number, data in one.definitions:
                if kind == Kind.CLIENT:
                    clients[number] = decode_client(data)
                elif kind == Kind.DECISION:
                    decisions[number] = decode_decision(data)
                else:
                    found.gaps.append(data)
            for at, client, decision, _ in LOOKUP.iter_unpack(one.lookups):
                found.lookups.append((at, clients[client], decisions[decision]))
        return found._replace(unread=reader.unread())


def read_all(directory: Path) -> Read:
    """Read every segment of a directory, oldest first."""
    found = [read(path) for path in segments(directory)]
    return Read(
        [lookup for one in found for lookup in one.lookups],
        [gap for one in found for gap in one.gaps],
        sum(one.unread for one in found),
    )


def now() -> int:
    return time.time_ns() // 1000


def log(writer: JournalWriter, *qnames: str) -> list[tuple[int, Client, Decision]]:
    """Put lookups into a writer's batch, as the engine does; return what they should be read as."""
    client = writer.client(CLIENT)
    lookups = [(now(), CLIENT, a_decision(qname)) for qname in qnames]
    writer.pending += [(at, client, writer.decision(decision)) for at, _, decision in lookups]
    return lookups


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    with contextlib.closing(JournalWriter(tmp_path, node="node", worker=3)) as opened:
        yield opened


# What is written is what is read.

qnames = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(qnames, max_size=8), max_size=8), st.integers(200, 4000))
def test_what_is_committed_is_read_back(batches: list[list[str]], segment_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        journals = Path(directory)
        writer = JournalWriter(journals, node="node", worker=0, segment_bytes=segment_bytes)
        expected = []
        for one in batches:
            for qname in one:
                expected += log(writer, qname)
            assert writer.commit()
            assert writer.pending == []
        writer.close()
        assert read_all(journals) == Read(expected, [], 0)


def test_a_second_writer_of_the_format_is_understood(tmp_path: Path) -> None:
    lookups = [(1_790_000_000_000_000 + n, a_client(f"192.0.2.{n}"), a_decision(f"n{n}.example"), n) for n in range(9)]
    with SegmentFile(tmp_path) as segment:
        segment.batch(lookups[:4])
        segment.batch([], gap=(7, 1, 2))
        segment.batch(lookups[4:])
    assert read(segment.path) == Read([lookup[:3] for lookup in lookups], [b"7\x001\x002"], 0)


def test_durations_run_from_the_arrival_to_the_commit(writer: JournalWriter, tmp_path: Path) -> None:
    before = now()
    log(writer, "a.example")
    writer.commit()
    with contextlib.closing(SegmentReader(segments(tmp_path)[0])) as reader:
        (one,) = reader.batches()
    at, _, _, duration = LOOKUP.unpack(one.lookups)
    assert before <= at <= at + duration <= now()


def test_a_number_that_is_given_once_serves_many_lookups(writer: JournalWriter, tmp_path: Path) -> None:
    client, decision = writer.client(CLIENT), writer.decision(DECISION)
    writer.pending += [(now(), client, decision)] * 3
    writer.commit()
    with contextlib.closing(SegmentReader(segments(tmp_path)[0])) as reader:
        (one,) = reader.batches()
    assert [kind for kind, _, _ in one.definitions] == [Kind.CLIENT, Kind.DECISION]
    assert [lookup[1:3] for lookup in LOOKUP.iter_unpack(one.lookups)] == [(client, decision)] * 3


def test_an_empty_batch_is_not_written(writer: JournalWriter, tmp_path: Path) -> None:
    size = segments(tmp_path)[0].stat().st_size
    assert writer.commit()
    assert segments(tmp_path)[0].stat().st_size == size


def test_nothing_is_read_before_it_is_committed_and_all_of_it_after(writer: JournalWriter, tmp_path: Path) -> None:
    with contextlib.closing(SegmentReader(segments(tmp_path)[0])) as reader:
        log(writer, "a.example")
        assert list(reader.batches()) == []
        writer.commit()
        assert len(list(reader.batches())) == 1
        assert list(reader.batches()) == []
        log(writer, "b.example")
        writer.commit()
        assert len(list(reader.batches())) == 1


@pytest.mark.parametrize(("ahead", "duration"), [(3600, 0), (-7200, 0xFFFFFFFF)])
def test_the_clock_may_be_set_while_lookups_wait(
    writer: JournalWriter, tmp_path: Path, ahead: int, duration: int
) -> None:
    """Set back by an hour, it would take less than no time; set forward by two, more than a lookup has room for."""
    writer.pending.append((now() + ahead * 1_000_000, writer.client(CLIENT), writer.decision(DECISION)))
    assert writer.commit()
    with contextlib.closing(SegmentReader(segments(tmp_path)[0])) as reader:
        (one,) = reader.batches()
    assert LOOKUP.unpack(one.lookups)[3] == duration


# A torn tail.


@pytest.fixture
def three_batches(tmp_path: Path) -> tuple[bytes, list[int], list[tuple[int, Client, Decision]]]:
    """Give a segment's octets, where each batch ends in them, and its lookups, two in each."""
    lookups = [(1_790_000_000_000_000 + n, CLIENT, a_decision(f"n{n}.example"), n) for n in range(6)]
    with SegmentFile(tmp_path) as segment:
        ends = [segment.path.stat().st_size]
        for n in range(0, 6, 2):
            ends.append(ends[-1] + len(segment.batch(lookups[n : n + 2])))
    octets = segment.path.read_bytes()
    segment.path.unlink()
    return octets, ends, [lookup[:3] for lookup in lookups]


Whole = tuple[bytes, list[int], list[tuple[int, Client, Decision]]]


def test_torn_at_any_octet_the_batches_before_it_are_read_and_the_rest_is_counted(
    three_batches: Whole, tmp_path: Path
) -> None:
    octets, ends, lookups = three_batches
    path = tmp_path / "1-0-1.journal"
    for length in range(ends[0], len(octets) + 1):
        path.write_bytes(octets[:length])
        whole = sum(end <= length for end in ends) - 1
        assert read(path) == Read(lookups[: 2 * whole], [], length - ends[whole])


def test_with_any_octet_changed_the_batches_before_it_are_read(three_batches: Whole, tmp_path: Path) -> None:
    octets, ends, lookups = three_batches
    path = tmp_path / "1-0-1.journal"
    for place in range(ends[0], len(octets)):
        changed = bytearray(octets)
        changed[place] ^= 0x01
        path.write_bytes(changed)
        whole = sum(end <= place for end in ends) - 1
        assert read(path) == Read(lookups[: 2 * whole], [], len(octets) - ends[whole])


def test_torn_in_its_head_it_is_no_segment(three_batches: Whole, tmp_path: Path) -> None:
    octets, ends, _ = three_batches
    path = tmp_path / "1-0-1.journal"
    for length in range(ends[0]):
        path.write_bytes(octets[:length])
        with pytest.raises(NotAJournalError, match="is no journal segment"):
            SegmentReader(path)


@pytest.mark.parametrize("zeros", [12, 4096])
def test_zeros_at_the_end_are_a_torn_tail(three_batches: Whole, tmp_path: Path, zeros: int) -> None:
    """File systems that had no time to write the data leave zeros after a power cut."""
    octets, _, lookups = three_batches
    path = tmp_path / "1-0-1.journal"
    path.write_bytes(octets + bytes(zeros))
    assert read(path) == Read(lookups, [], zeros)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"HMJ",
        b"HMJ2" + bytes(100),
        b"\x7fELF" + bytes(100),
        b"HMJ1\xff\xff\xff\xff{}",
        b"HMJ1\2\0\0\0{}",
        b'HMJ1\2\0\0\0"a',
        b"HMJ1\2\0\0\0[]",
        b"HMJ1\4\0\0\0null",
        b"HMJ1\4\0\0\0\xff\xfe\0\0",
    ],
)
def test_another_file_is_no_segment(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "1-0-1.journal"
    path.write_bytes(octets)
    with pytest.raises(NotAJournalError, match="is no journal segment"):
        SegmentReader(path)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_garbage_behind_the_head_is_no_batch(garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        with SegmentFile(Path(directory)) as segment:
            segment.write(garbage)
        assert read(segment.path) == Read([], [], len(garbage))


def test_a_batch_that_is_said_to_be_enormous_is_not_read(tmp_path: Path) -> None:
    with SegmentFile(tmp_path) as segment:
        segment.write(b"\xff\xff\xff\x7f" + bytes(8))
    assert read(segment.path) == Read([], [], 12)


# Rotation.


def test_a_full_segment_makes_way_for_a_new_one_in_which_all_numbers_are_void(tmp_path: Path) -> None:
    voided = []
    writer = JournalWriter(tmp_path, node="node", worker=0, segment_bytes=300)
    writer.on_new_segment = lambda: voided.append(len(segments(tmp_path)))
    expected = log(writer, "a.example")
    assert writer.commit()
    assert voided == []
    expected += log(writer, "b" * 60 + ".example")
    assert writer.commit()
    assert voided == [2]
    expected += log(writer, "a.example")  # defined anew
    writer.commit()
    writer.close()
    assert read_all(tmp_path) == Read(expected, [], 0)
    assert [len(read(path).lookups) for path in segments(tmp_path)] == [2, 1]


def test_segments_come_in_the_order_of_their_birth(tmp_path: Path) -> None:
    for started in (3, 20, 1):
        SegmentFile(tmp_path, started=started).close()
    (tmp_path / "4-0-1.journal.damaged").touch()
    (tmp_path / ".0000000000000005-0-1.journal").touch()
    (tmp_path / "notes.txt").touch()
    assert [int(path.name.split("-")[0]) for path in segments(tmp_path)] == [1, 3, 20]


# Who writes.


def test_a_segment_is_written_as_long_as_its_writer_lives(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, node="node", worker=0)
    with contextlib.closing(SegmentReader(segments(tmp_path)[0])) as reader:
        assert reader.is_being_written()
        assert reader.is_being_written()  # asking takes nothing away
        writer.close()
        assert not reader.is_being_written()


def test_a_killed_writer_is_gone_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from querylog.journal import JournalWriter;"
        "w = JournalWriter(Path(sys.argv[1]), node='node', worker=0); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with contextlib.closing(SegmentReader(segments(tmp_path)[0])) as reader:
            assert reader.is_being_written()
            process.kill()
            process.wait()
            assert not reader.is_being_written()
            assert reader.node == "node"


def test_no_segment_is_seen_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    lock = fcntl.flock

    def look(fd: int, operation: int) -> None:
        seen.append(segments(tmp_path))
        lock(fd, operation)
        seen.append(segments(tmp_path))

    monkeypatch.setattr(fcntl, "flock", look)
    JournalWriter(tmp_path, node="node", worker=0).close()
    assert seen == [[], []]
    assert len(segments(tmp_path)) == 1


# A full disk. The seam is os.write.


class Disk:
    """Takes so many octets, then no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        if self.room is None:
            return self._write(fd, data)
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(fd, data[: self.room])
        self.room -= written
        return written


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(journal, "RETRY_SECONDS", 0.0)
    return Disk(monkeypatch)


@pytest.mark.parametrize("room", [0, 1, 11, 12, 40, 100])
def test_a_batch_is_written_whole_or_not_at_all(
    writer: JournalWriter, tmp_path: Path, disk: Disk, room: int, caplog: pytest.LogCaptureFixture
) -> None:
    expected = log(writer, "a.example")
    assert writer.commit()
    disk.room = room
    lost = log(writer, "lost.example")
    assert not writer.commit()
    assert isinstance(writer.failure, OSError)
    assert (writer.lost, writer.pending) == (1, [])
    assert read_all(tmp_path) == Read(expected, [], 0)
    lost += log(writer, "too.example", "and.example")
    assert not writer.commit()  # nor can a new segment be begun
    disk.room = None
    lost += log(writer, "still.example")
    assert not writer.commit()  # but now one is
    assert writer.failure is None
    expected += log(writer, "b.example")
    assert writer.commit()
    first, last = min(lost)[0], max(lost)[0]
    assert read_all(tmp_path) == Read(expected, [f"4\0{first}\0{last}".encode()], 0)
    assert writer.lost == 4
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_numbers_are_void_after_a_failure(writer: JournalWriter, disk: Disk) -> None:
    voided: list[bool] = []
    writer.on_new_segment = lambda: voided.append(True)
    log(writer, "a.example")
    disk.room = 0
    writer.commit()
    assert voided == [True]
    disk.room = None
    log(writer, "a.example")
    writer.commit()
    assert voided == [True, True]


def test_a_failed_rotation_keeps_what_was_written(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JournalWriter(tmp_path, node="node", worker=0, segment_bytes=200)
    expected = log(writer, "a" * 60 + ".example")

    def full_for_new_segments(fd: int, data: bytes) -> int:
        disk.room = 0 if data.startswith(b"HMJ1") else None
        return disk.write(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_for_new_segments)
        assert writer.commit()
    assert writer.failure is not None
    disk.room = None
    log(writer, "lost.example")
    assert not writer.commit()
    expected += log(writer, "b.example")
    assert writer.commit()
    writer.close()
    found = read_all(tmp_path)
    assert found.lookups == expected
    assert [gap.split(b"\0")[0] for gap in found.gaps] == [b"1"]


def test_between_attempts_nothing_is_tried(
    writer: JournalWriter, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "RETRY_SECONDS", 3600.0)
    disk.room = 0
    log(writer, "a.example")
    writer.commit()
    disk.room = None
    for _ in range(3):
        log(writer, "b.example")
        assert not writer.commit()
    assert (writer.lost, len(segments(tmp_path))) == (4, 1)


def test_a_disk_that_stays_full_costs_no_memory(
    writer: JournalWriter, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "RETRY_SECONDS", 3600.0)
    disk.room = 0
    for n in range(1000):
        log(writer, f"n{n}.example")
        writer.commit()
    assert len(writer._definitions) < 100


def test_what_was_lost_before_the_end_is_told(tmp_path: Path, disk: Disk) -> None:
    """The disk has room again, but no lookup has come since that would have found out."""
    writer = JournalWriter(tmp_path, node="node", worker=0)
    disk.room = 0
    log(writer, "lost.example")
    writer.commit()
    disk.room = None
    writer.close()
    assert [gap.split(b"\0")[0] for gap in read_all(tmp_path).gaps] == [b"1"]


def test_a_gap_is_told_once(writer: JournalWriter, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.room = 0
    log(writer, "lost.example")
    writer.commit()
    disk.room = None
    sync = os.fsync
    fails = iter([True])

    def failing_once(fd: int) -> None:
        if next(fails, False):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(fd)

    monkeypatch.setattr(os, "fsync", failing_once)
    for _ in range(2):
        log(writer, "lost.example")
        writer.commit()
    told = sum(int(gap.split(b"\0")[0]) for gap in read_all(tmp_path).gaps)
    assert told == writer.lost


def test_a_real_limit_on_the_size_of_files_is_a_full_disk(tmp_path: Path) -> None:
    """In a process of its own, since the limit is the process's."""
    code = """
import resource, signal, sys
from pathlib import Path
from querylog import journal
from querylog.records import Client, Decision
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal.RETRY_SECONDS = 0.0
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
writer = journal.JournalWriter(Path(sys.argv[1]), node="node", worker=0)
def commit(n):
    writer.pending.append((n, writer.client(Client("192.0.2.1", "students", "udp")), writer.decision(
        Decision(f"n{n}.example", "A", "allowed", "", "", "", 0, 0, "NOERROR", "", False))))
    return writer.commit()
done = [n for n in range(1, 101) if commit(n)]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
done += [n for n in range(101, 111) if commit(n)]
writer.close()
print(*done)
"""
    output = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True).stdout
    done = [int(n) for n in output.split()]
    found = read_all(tmp_path)
    assert [at for at, _, _ in found.lookups] == done
    assert 100 < len(done) + sum(int(gap.split(b"\0")[0]) for gap in found.gaps) == 110
    assert found.gaps
    assert found.unread == 0
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 64 KiB, where we may mount one."""
    mountpoint = tmp_path / "disk"
    mountpoint.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mountpoint)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield mountpoint
    subprocess.run(["umount", str(mountpoint)], check=True)


def test_a_disk_that_is_really_full_is_written_again_when_there_is_room(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(journal, "RETRY_SECONDS", 0.0)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(32 << 10))
    writer = JournalWriter(small_disk / "journal", node="node", worker=0)
    expected = []
    n = 0
    while writer.failure is None:
        some = log(writer, *(f"n{n + i}.example" for i in range(20)))
        n += 20
        expected += some if writer.commit() else []
    log(writer, "lost.example")
    assert not writer.commit()
    ballast.unlink()
    log(writer, "lost.example")
    assert not writer.commit()
    expected += log(writer, "b.example")
    assert writer.commit()
    writer.close()
    found = read_all(small_disk / "journal")
    assert found.lookups == expected
    assert [gap.split(b"\0")[0] for gap in found.gaps] == [b"22"]


# Definitions.


def test_kinds_that_are_not_known_are_handed_over_as_they_are(tmp_path: Path) -> None:
    with SegmentFile(tmp_path) as segment:
        segment.write(batch(b"", [definition(9, 5, b"of a later version")]))
    with contextlib.closing(SegmentReader(segment.path)) as reader:
        (one,) = reader.batches()
    assert one.definitions == [(9, 5, b"of a later version")]


def test_sync_while_there_is_no_segment_does_no_harm(writer: JournalWriter, tmp_path: Path, disk: Disk) -> None:
    """The worker calls it every second, also while the disk is full."""
    disk.room = 0
    log(writer, "lost.example")
    assert not writer.commit()
    writer.sync()
    disk.room = None
    log(writer, "lost-too.example")
    assert not writer.commit()  # but it finds the way out
    expected = log(writer, "kept.example")
    assert writer.commit()
    writer.sync()
    assert read_all(tmp_path).lookups == expected


def test_a_directory_that_could_not_be_synced_is_synced_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = JournalWriter(tmp_path, node="node", worker=0)
    log(writer, "a.example")
    assert writer.commit()
    fails = iter([True])
    synced: list[Path] = []
    files: list[int] = []
    monkeypatch.setattr(os, "fdatasync", files.append)

    def sync(directory: Path) -> None:
        if next(fails, False):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        synced.append(directory)

    monkeypatch.setattr(journal, "_sync_directory", sync)
    writer.sync()
    assert (synced, len(files)) == ([], 1)
    writer.sync()
    writer.sync()
    assert (synced, len(files)) == ([tmp_path], 3)
    writer.close()


def test_a_segment_may_be_closed_twice(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, node="node", worker=0)
    expected = log(writer, "a.example")
    writer.sync()
    writer.close()
    writer.close()
    assert read_all(tmp_path).lookups == expected
