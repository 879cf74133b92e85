"""Whatever ends a compilation, a full disk or SIGKILL, the path holds the old index or the new one, whole."""

import errno
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blocklists.compiler import Entry, compile_index
from policy.index import Index
from policy.rules import Traits

ROOT = Path(__file__).parents[2]
TRAITS = {1: Traits()}
OLD = [("test.old.", 1, 1)]


def names(count: int) -> Iterator[Entry]:
    """Yield entries whose keys fill the file between, and not the index."""
    for number in range(count):
        yield f"test.zone{number % 7}.n{number}.", 1, 1


def patterns(count: int) -> Iterator[Entry]:
    """Yield entries that are in the index alone."""
    for number in range(count):
        yield f"/^n{number}[0-9a-f]+{'x' * 50}/", 1, 1


@contextmanager
def room_for(octets: int) -> Iterator[None]:
    """Let no file of this process grow past so many octets: the write fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("part", [0.0, 0.05, 0.5, 0.999], ids=str)
@pytest.mark.parametrize(
    ("entries", "octets"), [(names, sum(len(key) + 1 for key, _, _ in names(20_000))), (patterns, 1_200_000)]
)
def test_when_the_disk_fills_the_old_index_stays_and_nothing_else_does(
    tmp_path: Path, entries: Callable[[int], Iterator[Entry]], octets: int, part: float
) -> None:
    path = tmp_path / "index"
    compile_index(path, OLD, TRAITS)
    old = path.read_bytes()
    with room_for(int(part * octets)), pytest.raises(OSError) as caught:
        compile_index(path, entries(20_000), TRAITS)
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == old
    assert [found.name for found in tmp_path.iterdir()] == ["index"]
    with room_for(2 * octets):
        assert compile_index(path, entries(20_000), TRAITS).octets == path.stat().st_size


def test_a_directory_that_is_gone_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        compile_index(tmp_path / "none" / "index", names(10), TRAITS)


COMPILING = """
import sys
from itertools import count
from pathlib import Path
from blocklists.compiler import compile_index
from policy.rules import Traits

for version in count():
    names = ((f"test.n{number}.", version, 1) for number in range(20_000 + version))
    compile_index(Path(sys.argv[1]), names, {1: Traits()})
    print(version, flush=True)
"""


def test_killed_at_any_moment_it_leaves_an_index_that_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "index"
    chance = random.Random(31)
    for _ in range(12):
        path.unlink(missing_ok=True)
        command = [sys.executable, "-c", COMPILING, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"0\n"
            time.sleep(chance.uniform(0.0, 0.15))
            process.kill()
            said = [0, *map(int, process.stdout.read().split())]
        index = Index.open(path)
        version = index.names - 20_000
        assert version in {said[-1], said[-1] + 1}  # it may have been about to say so
        for number in (0, 19_999, 19_999 + version):
            assert [match.source for match in index.match(f"n{number}.test")] == [version]
        # What was being written has a name of its own, and goes when the next policy is there.
        assert all(found == path or found.name.startswith(".index.") for found in tmp_path.iterdir())
