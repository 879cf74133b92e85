"""Real lists from file to decision, beside a naive reading of the same files that shares no code with ours."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from blocklists.refresh import Terms, refresh
from control import compiling
from control.publisher import Publisher
from policy.snapshot import Snapshot
from storage import categories, groups, sources
from storage.database import Database
from tests.support.policies import verdict

LISTS = Path(__file__).parents[3] / "shared" / "data" / "lists"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not LISTS.is_dir(), reason="the real lists are not beside the checkout"),
]

# Format, file, what a line of it that names one name looks like, and whether what it says goes for names below too.
FILES = [
    ("hosts", "blocklistproject/redirect.txt", r"^0\.0\.0\.0 (\S+)$", False),
    ("domains", "shadowwhisperer/Tracking", r"^([a-z0-9._-]+)$", True),
    ("adblock", "neodev/adblocker", r"^\|\|([a-z0-9._-]+)\^$", True),
]


class Naive:
    """What the files say, read by a regular expression each, and asked by walking up from a name."""

    def __init__(self) -> None:
        self.exact: set[str] = set()
        self.subtree: set[str] = set()

    def read(self, name: str, pattern: str, *, subtree: bool) -> None:
        found = set(re.findall(pattern, content(name).decode(), re.MULTILINE))
        (self.subtree if subtree else self.exact).update(found)

    def blocks(self, name: str) -> bool:
        labels = name.split(".")
        parents = {".".join(labels[start:]) for start in range(len(labels))}
        return name in self.exact or not parents.isdisjoint(self.subtree)


def content(name: str) -> bytes:
    with (LISTS / f"{name}.zst").open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        return stream.read()


def asked(naive: Naive) -> list[str]:
    """Return names that are listed, below and above what is listed, nearly listed, and not listed at all."""
    chance = random.Random(11)
    listed = chance.sample(sorted(naive.exact), 150) + chance.sample(sorted(naive.subtree), 250)
    changes: list[Callable[[str], str]] = [
        lambda name: name,
        lambda name: f"www.{name}",
        lambda name: f"x{name}",  # ends as a listed name does, at no dot
        lambda name: name.partition(".")[2],
        lambda name: f"{name}.example",
        lambda name: name[:-1],
    ]
    return [change(name) for name in listed for change in changes] + [
        f"school{number}.example" for number in range(100)
    ]


async def publish_all(database: Database, directory: Path) -> Snapshot:
    """Refresh every file into the database, publish it, and return what workers would map."""
    with database.change("test") as change:
        categories.ensure(change, "advertising")
        groups.add(change, "students")
        groups.block(change, "students", ["advertising"])
        chosen = [
            sources.add(change, f"real-{kind}", str(LISTS / f"{name}.zst"), category="advertising", format=kind)
            for kind, name, _, _ in FILES
        ]
    outcomes = await refresh(database, chosen, Terms(Path("/")), actor="test")
    assert [(outcome.error, outcome.status) for outcome in outcomes] == [("", "updated")] * len(FILES)
    policies = directory / "policy"
    policies.mkdir()
    publisher = Publisher(database, database.name, policies, "students")
    publisher.compile()
    return publisher.snapshot()


async def test_three_real_lists_block_what_they_name_and_nothing_else(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "compile_from", None)  # so many are compiled in a process of its own
    naive = Naive()
    for _, name, pattern, subtree in FILES:
        naive.read(name, pattern, subtree=subtree)
    assert len(naive.exact | naive.subtree) >= 300_000
    snapshot = await publish_all(sqlite_database, tmp_path)
    assert snapshot.index.names == len(naive.exact | naive.subtree)
    names = asked(naive)
    blocked = {name for name in names if verdict(snapshot, name) == "blocked"}
    expected = {name for name in names if naive.blocks(name)}
    assert blocked == expected
    assert len(expected) > 500
    assert len(set(names) - expected) > 500
