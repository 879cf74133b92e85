"""A damaged index is told from a whole one, and never brings its reader down."""

import json
import random
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.index import MAGIC, START, CorruptIndexError, Index
from policy.rules import Scope
from tests.unit.policy.build import block, write_index

ROOT = Path(__file__).parents[3]


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    listed = [(n % 3 + 1, block(f"n{n}.test", list(Scope)[n % 3])) for n in range(40)]
    write_index(tmp_path / "whole", [*listed, (1, block("^ad[0-9]+\\.", pattern=True))])
    return (tmp_path / "whole").read_bytes()


def summed(octets: bytes) -> bytes:
    """Return an index under the checksum that fits it."""
    magic, _, length = START.unpack_from(octets)
    return START.pack(magic, crc32(octets[START.size :]), length) + octets[START.size :]


def test_every_flipped_octet_is_found(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "damaged"
    seeded = random.Random(20)
    places = {*range(80), *seeded.sample(range(len(whole)), 200), len(whole) - 1}
    for place in sorted(places):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ seeded.randrange(1, 256)]) + whole[place + 1 :])
        with pytest.raises(CorruptIndexError):
            Index.open(path)


def test_a_file_cut_anywhere_is_no_index(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "cut"
    seeded = random.Random(21)
    lengths = {*range(80), *seeded.sample(range(len(whole)), 120), *range(len(whole) - 20, len(whole))}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptIndexError):
            Index.open(path)


def test_a_file_with_more_behind_it_is_no_index(tmp_path: Path, whole: bytes) -> None:
    for longer in (whole + b"\0", summed(whole + bytes(8))):
        (tmp_path / "longer").write_bytes(longer)
        with pytest.raises(CorruptIndexError):
            Index.open(tmp_path / "longer")


def test_a_damaged_head_never_raises_anything_else(tmp_path: Path, whole: bytes) -> None:
    """With a checksum that fits: a changed head is refused, or happens to say something sound."""
    path = tmp_path / "damaged"
    seeded = random.Random(22)
    length = START.unpack_from(whole)[2]
    refused = 0
    for _ in range(1500):
        damaged = bytearray(whole)
        for _ in range(seeded.randrange(1, 3)):
            damaged[seeded.randrange(START.size + length)] = seeded.choice(b'0123456789[]{},:"x-e.(\0\xff')
        path.write_bytes(summed(bytes(damaged)))
        try:
            Index.open(path)
        except CorruptIndexError:
            refused += 1
    assert refused > 1000


@pytest.mark.parametrize(
    "change",
    [
        {"names": "40"},
        {"names": None},
        {"width": "2"},
        {"width": 0},
        {"width": 4},
        {"trie": "8"},
        {"trie": -8},
        {"trie": 0},
        {"traits": 3},
        {"traits": [["no scope", "block", False, [], []]]},
        {"listings": 1 << 40},
        {"listings": None},
        {"items": 0},
        {"items": [[1, 99]]},
        {"patterns": [["((", 1, 0]]},
        {"patterns": [["a", 1, 99]]},
        {"patterns": [[7, 1, 0]]},
    ],
    ids=str,
)
def test_a_head_that_makes_no_sense_is_refused(tmp_path: Path, whole: bytes, change: dict[str, object]) -> None:
    length = START.unpack_from(whole)[2]
    head = json.loads(whole[START.size : START.size + length]) | change
    text = json.dumps(head).encode()
    body = whole[START.size + length + -(START.size + length) % 8 :]
    odd = START.pack(MAGIC, 0, len(text)) + text + bytes(-(START.size + len(text)) % 8) + body
    (tmp_path / "odd").write_bytes(summed(odd))
    with pytest.raises(CorruptIndexError):
        Index.open(tmp_path / "odd")


@pytest.mark.parametrize(
    "octets",
    [b"", b"HMI1", bytes(12), bytes(4096), b"<!DOCTYPE html>" * 20, START.pack(MAGIC, 0, 1 << 31) + b"{}"],
    ids=["nothing", "magic alone", "12 zeros", "zeros", "a web page", "a head longer than the file"],
)
def test_what_is_no_index_is_refused(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "other").write_bytes(octets)
    with pytest.raises(CorruptIndexError):
        Index.open(tmp_path / "other")


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_octets_behind_the_magic_are_refused(octets: bytes) -> None:
    with pytest.raises(CorruptIndexError):
        Index(memoryview(MAGIC + octets))


def test_a_missing_file_is_the_operating_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Index.open(tmp_path / "none")


# Where damage would end the process, a process of its own shows that it doesn't.

READER = r"""
import random, sys
from pathlib import Path
from policy.index import CorruptIndexError, Index

whole, path, chance = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), random.Random(23)

def flipped(data):
    for _ in range(chance.choice([1, 1, 2, 3, 50])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)

def overwritten(data):
    begin, length = chance.randrange(len(data)), chance.choice([8, 64, 512, 4096])
    data[begin : begin + length] = chance.choice([bytes(length), b"\xff" * length, chance.randbytes(length)])

def moved(data):
    length, begin, end = 512, chance.randrange(len(data)), chance.randrange(len(data))
    data[begin : begin + length], data[end : end + length] = data[end : end + length], data[begin : begin + length]

def cut(data):
    del data[chance.randrange(len(data)) :]

refused = 0
for _ in range(int(sys.argv[3])):
    data = bytearray(whole)
    chance.choice([flipped, flipped, overwritten, moved, cut])(data)
    if data == whole:
        continue
    path.write_bytes(data)
    try:
        index = Index.open(path)
    except CorruptIndexError:
        refused += 1
        continue
    for number in range(0, 3000, 7):
        index.match(f"www.n{number}.zone{number % 13}.test")
    sys.exit("a damaged index was opened")
print(refused)
"""


def test_no_damage_ends_the_process(tmp_path: Path) -> None:
    """Marisa trusts its octets: on wrong ones it reads wherever they say."""
    listed = [(n % 5 + 1, block(f"n{n}.zone{n % 13}.test", list(Scope)[n % 3])) for n in range(3000)]
    write_index(tmp_path / "whole", listed)
    command = [sys.executable, "-c", READER, str(tmp_path / "whole"), str(tmp_path / "damaged"), "1500"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert int(done.stdout) > 1400
