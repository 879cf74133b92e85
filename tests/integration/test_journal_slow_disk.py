"""A disk may take seconds for what it is told to keep: `sync` alone waits for it, which a thread of its own calls."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from querylog.journal import JournalWriter, SegmentReader, segments
from querylog.records import Client
from tests.support.journals import a_decision

SEGMENT = 600


class Disk:
    """Notes what is brought to the disk, by the names of the files."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.brought: list[str] = []
        patch.setattr("querylog.journal.os.fdatasync", self._bring)
        patch.setattr("querylog.journal.os.fsync", self._bring)

    def _bring(self, fd: int) -> None:
        self.brought.append(Path(f"/proc/self/fd/{fd}").readlink().name)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def writer(tmp_path: Path, disk: Disk) -> Iterator[JournalWriter]:
    writer = JournalWriter(tmp_path / "journal", node="node", worker=0, segment_bytes=SEGMENT)
    yield writer
    writer.close()


def fill(writer: JournalWriter, directory: Path, count: int) -> None:
    """Log until there are so many segments."""
    number = 0
    while len(segments(directory)) < count:
        client = writer.client(Client("192.0.2.1", "students", "udp"))
        writer.pending.append((number, client, writer.decision(a_decision(f"n{number}.example"))))
        assert writer.commit()
        number += 1


def being_written(directory: Path) -> list[str]:
    found = []
    for path in segments(directory):
        with contextlib.closing(SegmentReader(path)) as reader:
            if reader.is_being_written():
                found.append(path.name)
    return found


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_batch_waits_for_the_disk_not_even_one_that_begins_a_segment(
    writer: JournalWriter, disk: Disk, tmp_path: Path
) -> None:
    fill(writer, tmp_path / "journal", 6)
    assert disk.brought == []


def test_sync_brings_every_segment_and_the_directory_and_lets_go_of_what_is_complete(
    writer: JournalWriter, disk: Disk, tmp_path: Path
) -> None:
    fill(writer, tmp_path / "journal", 6)
    names = [path.name for path in segments(tmp_path / "journal")]
    writer.sync()
    assert sorted(disk.brought) == sorted([*names, "journal"])
    assert being_written(tmp_path / "journal") == names[-1:]
    disk.brought.clear()
    writer.sync()
    assert disk.brought == names[-1:]


def test_closing_leaves_nothing_behind(writer: JournalWriter, disk: Disk, tmp_path: Path) -> None:
    fill(writer, tmp_path / "journal", 3)
    before = open_descriptors()
    writer.close()
    assert open_descriptors() == before - 3
    assert being_written(tmp_path / "journal") == []
    assert set(disk.brought) == {*(path.name for path in segments(tmp_path / "journal")), "journal"}


def test_a_disk_that_fails_holds_no_segment(
    writer: JournalWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(fd: int) -> None:
        raise OSError("input/output error")

    fill(writer, tmp_path / "journal", 3)
    with monkeypatch.context() as patch:
        patch.setattr("querylog.journal.os.fdatasync", failing)
        writer.sync()
    assert len(being_written(tmp_path / "journal")) == 1
