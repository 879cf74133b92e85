"""UT1's archives: one download of many categories, a directory each, in the layout that squidGuard made usual.

Of a directory's files `domains` names what is listed, with all below it; `urls` and `expressions` are for proxies,
which see whole addresses, and nothing in them is applied to a name; `usage` says whether the directory is for blocking
(``black``) or for letting through (``white``). Which category a directory is filed under is data of the catalogue.
Pure: takes an archive's members as they come, and knows nothing of how they were packed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import PurePosixPath

from blocklists import catalogue
from blocklists.catalogue import Directory
from blocklists.errors import NotAListError
from blocklists.formats.domains import Domains
from blocklists.formats.reader import LineReader
from blocklists.formats.ut1 import Expressions, Urls
from blocklists.listing import UT1, Listing, Parsed, Rejection
from policy.rules import Scope

Members = Callable[[], Iterable[tuple[str, bytes]]]
"""Gives an archive's files from the first, each a path and its octets. Links and directories are no members."""

MAX_DIRECTORIES = 1_000
"""More are nobody's categories."""

_READERS: Mapping[str, type[LineReader]] = {
    "domains": Domains,
    "urls": Urls,
    "expressions": Expressions,
    "very_restrictive_expression": Expressions,
}
_USAGE = "usage"
_MANY = 2
"""Directories that make an archive one of several categories."""
_LONGEST_NAME = 100  # characters


@dataclass(frozen=True, slots=True)
class ArchivePart:
    """What one directory of an archive holds. Iterating gives its rules and rejections, file by file."""

    name: str
    """The directory's path below what all have in common: ``adult``. No other part that is taken has the same."""
    category: str | None
    """The key of the category that it is filed under; None: the source's own."""
    skipped: str
    """Why nothing of it is taken; empty where it is taken."""
    files: tuple[Listing, ...]
    """Its lists, each with its name in `Listing.file`: ``adult/domains``. None where it is skipped."""

    def __iter__(self) -> Iterator[Parsed | Rejection]:
        """Yield the rules and rejections of all files; line numbers start anew in each."""
        return chain.from_iterable(self.files)


def is_ut1(names: Iterable[str]) -> bool:
    """Tell from the names of an archive's members whether it holds several categories in this layout."""
    paths = map(PurePosixPath, names)
    return len({path.parent for path in paths if path.name == "domains"}) >= _MANY


def read_archive(
    members: Members,
    *,
    scope: str | None = None,
    allow_public_suffix: bool = False,
    directories: Mapping[str, Directory] | None = None,
) -> Iterator[ArchivePart]:
    """Return an archive's parts, one a directory, each as soon as its last list has come.

    Goes through the members twice: once for what there is, once for what it holds; memory holds one directory at a
    time. A directory is filed or skipped as the catalogue says (or `directories`, in its place); one that is unknown
    there, under the source's own category, or skipped when it is for letting through; and the only one of its archive
    always under the source's own. Raises `NotAListError` at once when no directory holds a list, later whatever the
    members raise.
    """
    contents = _Contents(members())
    if not contents.lists:
        raise NotAListError("no archive of directories that each hold a list, in a file `domains`")
    if len(contents.lists) > MAX_DIRECTORIES:
        raise NotAListError(f"an archive of more than {MAX_DIRECTORIES:,} directories")

    def opened(content: bytes, file: PurePosixPath) -> Listing:
        reader = partial(
            _READERS[file.name], scope=Scope(scope) if scope else None, allow_public_suffix=allow_public_suffix
        )
        return Listing(content, UT1, reader, file=file.as_posix())

    return _parts(members, contents, catalogue.directories() if directories is None else directories, opened)


def _parts(
    members: Members,
    contents: "_Contents",
    known: Mapping[str, Directory],
    opened: Callable[[bytes, PurePosixPath], Listing],
) -> Iterator[ArchivePart]:
    """Yield each directory once it is whole: its files may come with those of others between them."""
    waiting: dict[PurePosixPath, list[Listing]] = {}
    missing = contents.lists.copy()
    for member, content in members():
        path = PurePosixPath(member)
        directory = path.parent
        if path.name not in _READERS or not missing[directory]:
            continue
        name = contents.name(directory)
        category, skipped = contents.filing(directory, known)
        files = waiting.setdefault(directory, [])
        if not skipped:
            files.append(opened(content, PurePosixPath(name, path.name)))
        missing[directory] -= 1
        if not missing[directory]:
            yield ArchivePart(_shown(name), category, skipped, tuple(waiting.pop(directory)))


class _Contents:
    """What there is in an archive, and so how each of its directories is called and filed."""

    def __init__(self, members: Iterable[tuple[str, bytes]]) -> None:
        self.lists: Counter[PurePosixPath] = Counter()
        """How many lists each directory holds."""
        self._white: set[PurePosixPath] = set()
        for name, content in members:
            path = PurePosixPath(name)
            if path.name in _READERS:
                self.lists[path.parent] += 1
            elif path.name == _USAGE and _is_white(content):
                self._white.add(path.parent)
        self._depth = _parts_in_common(self.lists)

    def name(self, directory: PurePosixPath) -> str:
        """Return what tells a directory from the others; the last part of its path where it is the only one."""
        return "/".join(directory.parts[self._depth :]) if len(self.lists) > 1 else directory.name

    def filing(self, directory: PurePosixPath, known: Mapping[str, Directory]) -> tuple[str | None, str]:
        """Return the category of a directory, None for the source's own, and why it is skipped, if it is."""
        name = self.name(directory)
        if len(name) > _LONGEST_NAME or not name.isprintable():
            return None, "nobody's category has such a name"
        if len(self.lists) == 1:
            return None, ""
        if name in known:
            return known[name].category or None, known[name].skipped
        return None, "unknown, and meant for letting through" if directory in self._white else ""


def _shown(name: str) -> str:
    return name if name.isprintable() else ascii(name)[1:-1]


def _parts_in_common(paths: Iterable[PurePosixPath]) -> int:
    """Return how many parts all the paths begin with: as many as the first and the last in order share."""
    parts = sorted(path.parts for path in paths)
    if not parts:
        return 0
    first, last = parts[0], parts[-1]
    return next((place for place, part in enumerate(first) if part != last[place]), len(first))


def _is_white(usage: bytes) -> bool:
    """Tell whether a usage file says ``white``, and not ``black`` before it: some directories are of use as either."""
    words = (line.strip().lower() for line in usage.splitlines())
    return next((word == b"white" for word in words if word in {b"white", b"black"}), False)
