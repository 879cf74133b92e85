"""The names of the lists benchmark: those of the real lists beside the checkout, and generated ones up to a number.

Written as plain lists, one a category, and once more as all distinct names in one file, from which each server's own
form is made. The real lists are read with a regular expression that shares nothing with our parsers.
"""

import gzip
import io
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import zstandard

from tests.benchmarks.generated import names as generated_names

REAL_LISTS = Path(__file__).parents[3] / "shared" / "data" / "lists"

# What is no list of names to block, or is in no format that any of the servers reads.
_LEFT_OUT = ("chinalist/", "dnscrypt-proxy", "maltrail", "pihole-regex", "v2fly", "malware.ip", "/clash", "smartdns")
# UT1's directories that say what is harmless, and the two that are copies of a third.
_LEFT_OUT_OF_UT1 = re.compile(
    r"/(strict_redirector|strong_redirector|\w*liste_bu|bank|child|cleaning|update|sexual_education|press|examen_pix)/"
)
# A category is the first of which a word stands in the list's path.
_CATEGORIES = {
    "adult": ("adult", "porn", "snuff", "sex", "lingerie"),
    "gambling": ("gambling", "arjel"),
    "phishing": ("phishing", "scam", "fraud", "typo", "kadhosts"),
    "malware": ("malware", "ransomware", "cryptojacking", "stalkerware", "romainmarcoux", "ddos", "hacking"),
    "trackers": ("tracking", "windowsspyblocker"),
    "advertising": ("ads", "adaway", "neodev", "anudeepnd", "hostsvn", "ph00lt0", "publicite", "blocker", "basic"),
    "drugs": ("drug", "drogue"),
    "social": ("facebook", "tiktok", "social", "youtube", "dating", "chat", "celebrity"),
    "proxies": ("redirect", "doh", "vpn", "proxy", "filehosting", "torrent", "piracy", "warez", "remote"),
}
_OTHER, _GENERATED = "other", "generated"

# One name a line, in any of the formats: behind a sink address, `||`, a directive, `*.` or `.`; before what ends it.
_NAME = re.compile(
    rb"^[ \t]*(?:(?:0\.0\.0\.0|127\.0\.0\.1|::1?)[ \t]+)?"
    rb'(?:\|\||(?:address|server|local)=/|local-zone:[ \t]*"|\*\.|\.)?'
    rb"((?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9])"
    rb'(?=[ \t\r^"]|/[0.:#]*\r?$|$)',
    re.MULTILINE,
)
_LONGEST = 230  # octets: in a response policy zone, the zone's own name stands behind (RFC 1035 section 2.3.4)
# Some lists name these, and a list that blocks what is below them is refused (`blocklists.guards`).
_NEVER_BLOCKED = {b"apple.com", b"captive.apple.com", b"gstatic.com"}


@dataclass(frozen=True, slots=True)
class Dataset:
    """Names on disk."""

    lists: dict[str, Path]
    """A plain list of each category."""
    everything: Path
    """All distinct names, one a line."""
    names: int
    """Distinct."""
    rules: int
    """Lines of the lists: a name may be in several."""
    generated: int
    """Names that come from no real list."""

    def every(self, step: int) -> list[str]:
        """Return each so many'th name."""
        with self.everything.open() as file:
            return [line.rstrip("\n") for number, line in enumerate(file) if number % step == 0]

    def __str__(self) -> str:
        origin = f"{self.generated:,} of them generated" if self.generated else "all from real lists"
        return f"{self.names:,} names ({origin}), {self.rules:,} lines in {len(self.lists)} lists"


def build(directory: Path, count: int, real: Path = REAL_LISTS) -> Dataset:
    """Write so many distinct names, real ones first, and return what was written."""
    categories = [*_CATEGORIES, _OTHER, _GENERATED]
    listed: dict[bytes, int] = {}  # a bit for each category
    for path, text in _texts(real):
        bit = 1 << categories.index(_category_of(path))
        for name in _NAME.findall(text.lower()):
            listed[name] = listed.get(name, 0) | bit
    for name in [name for name in listed if len(name) > _LONGEST or name in _NEVER_BLOCKED]:
        del listed[name]
    if len(listed) > count:
        listed = _cut(listed, count)
    missing = count - len(listed)
    for made in generated_names():
        if len(listed) == count:
            break
        listed.setdefault(made.encode(), 1 << categories.index(_GENERATED))
    return _write(directory, categories, listed, missing)


def _cut(listed: dict[bytes, int], count: int) -> dict[bytes, int]:
    """Take whole families of names, whichever they are, so that as many as before stand below another."""
    by_family = sorted(listed, key=lambda name: crc32(b".".join(name.rsplit(b".", 2)[-2:])))
    return {name: listed[name] for name in by_family[:count]}


def _write(directory: Path, categories: list[str], listed: dict[bytes, int], generated: int) -> Dataset:
    directory.mkdir(parents=True, exist_ok=True)
    ordered = sorted(listed)
    everything = directory / "all-names"
    everything.write_bytes(_lines(ordered))
    members: dict[str, list[bytes]] = {category: [] for category in categories}
    wanted = {
        bits: [members[category] for number, category in enumerate(categories) if bits >> number & 1]
        for bits in set(listed.values())
    }
    for name in ordered:  # once: looking five million names up takes seconds
        for those in wanted[listed[name]]:
            those.append(name)
    lists = {category: directory / f"{category}.txt" for category, those in members.items() if those}
    for category, path in lists.items():
        path.write_bytes(_lines(members[category]))
    rules = sum(map(len, members.values()))
    return Dataset(lists, everything, len(ordered), rules, generated)


def _lines(names: Iterable[bytes]) -> bytes:
    return b"\n".join(names) + b"\n"


def _category_of(path: str) -> str:
    path = path.lower()
    return next((key for key, words in _CATEGORIES.items() if any(word in path for word in words)), _OTHER)


def _texts(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the content of every list that is there, with a path that tells what it is about."""
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if not path.is_file() or any(word in name for word in _LEFT_OUT):
            continue
        data = path.read_bytes()
        if path.suffix == ".zst":
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        elif path.suffix == ".gz":
            data = gzip.decompress(data)
        if ".tar." in path.name:
            yield from ((f"{name}/{member}", text) for member, text in _members(data))
        else:
            yield name, data


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None and not _LEFT_OUT_OF_UT1.search(f"/{member.name}"):
                yield member.name, file.read()
