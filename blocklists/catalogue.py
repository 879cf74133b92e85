"""The catalogue: the lists, categories and groups that ship with the product.

Owns what a first start begins with, and the real sources that are there to enable: reads them from ``data/`` and
checks them. Pure data: knows no database, and fetches nothing.
"""

import tomllib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, TypeVar

from blocklists.errors import BlocklistError
from blocklists.listing import FORMATS, UT1
from policy.names import InvalidNameError, normalise

KINDS = ("block", "allow")
STARTER_PREFIX = "starter-"

T = TypeVar("T")


class CatalogueError(BlocklistError):
    """What ships is wrong: ours to mend. `problems` holds a line for each reason."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class UnknownStarterError(BlocklistError):
    """No starter list has this key: the database is of another version."""


@dataclass(frozen=True, slots=True)
class CategoryDefinition:
    """A category, and the kind of clause of a district's protocol that it enforces."""

    key: str
    name: str
    description: str
    clause: str
    kind: str
    """``block``: a group may block it; ``allow``: its names are let through whatever other lists say."""
    severity: int
    """1 is the most severe; no two are the same."""


@dataclass(frozen=True, slots=True)
class GroupDefinition:
    """A group of clients, and the categories that it blocks."""

    name: str
    description: str
    blocked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StarterList:
    """A few well-known names of a category, so that filtering can be seen to work."""

    key: str
    category: str
    text: str
    """The list itself, in format ``domains``."""
    names: tuple[str, ...]
    """What is in it, in normal form."""


@dataclass(frozen=True, slots=True)
class CatalogueSource:
    """A list that somebody else publishes and a district can enable."""

    key: str
    name: str
    location: str
    format: str
    category: str
    licence: str
    homepage: str
    interval_seconds: int
    entries: int = 0
    """How many names it had when last counted, rounded; 0: unknown."""
    mirrors: tuple[str, ...] = ()
    """Where its publisher keeps the same file as well, in the order to try."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of UT1's archive, and what becomes of it: filed under a category, or skipped."""

    name: str
    category: str
    """Empty where it is skipped."""
    skipped: str
    """Why it is; empty where it isn't."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that ships."""

    categories: tuple[CategoryDefinition, ...]
    groups: tuple[GroupDefinition, ...]
    starters: tuple[StarterList, ...]
    sources: tuple[CatalogueSource, ...]
    directories: tuple[Directory, ...]


def categories() -> tuple[CategoryDefinition, ...]:
    """Return the categories, the most severe first."""
    return _shipped().categories


def groups() -> tuple[GroupDefinition, ...]:
    """Return the groups."""
    return _shipped().groups


def starters() -> tuple[StarterList, ...]:
    """Return the starter lists, by key."""
    return _shipped().starters


def sources() -> tuple[CatalogueSource, ...]:
    """Return the sources, publisher by publisher."""
    return _shipped().sources


@cache
def directories() -> Mapping[str, Directory]:
    """Return what becomes of each directory of UT1's archive, by name."""
    return {directory.name: directory for directory in _shipped().directories}


def starter_text(key: str) -> str:
    """Return the text of a starter list. Raises `UnknownStarterError`."""
    for starter in starters():
        if starter.key == key:
            return starter.text
    raise UnknownStarterError(f"no starter list {key!r} ships with this version")


@cache
def _shipped() -> Catalogue:
    return load(files("blocklists") / "data")


def load(directory: Traversable) -> Catalogue:
    """Return the catalogue of a directory. Raises `CatalogueError` with everything that is wrong in it."""
    problems: list[str] = []
    defined = _build(CategoryDefinition, _tables(directory, "categories.toml", "category"), problems)
    catalogue = Catalogue(
        categories=tuple(sorted(defined, key=lambda category: category.severity)),
        groups=tuple(_build(GroupDefinition, _groups(directory), problems)),
        starters=tuple(_starters(directory / "starter", problems)),
        sources=tuple(_build(CatalogueSource, _sources(directory), problems)),
        directories=tuple(_build(Directory, _directories(directory), problems)),
    )
    problems += _contradictions(catalogue)
    if problems:
        raise CatalogueError(problems)
    return catalogue


def _tables(directory: Traversable, name: str, table: str) -> list[dict[str, Any]]:
    document = tomllib.loads((directory / name).read_text(encoding="utf-8"))
    return list(document[table])


def _build(kind: type[T], tables: Iterable[Mapping[str, Any]], problems: list[str]) -> Iterator[T]:
    for table in tables:
        try:
            yield kind(**table)
        except TypeError as error:  # a field is missing, or one too many
            problems.append(f"{table.get('key') or table.get('name')}: {error}")


def _groups(directory: Traversable) -> Iterator[dict[str, Any]]:
    for table in _tables(directory, "groups.toml", "group"):
        yield table | {"blocked": tuple(table.get("blocked", ()))}


def _sources(directory: Traversable) -> Iterator[dict[str, Any]]:
    """Give each publisher's sources, with what the publisher says for all of them."""
    for publisher in _tables(directory, "catalogue.toml", "publisher"):
        shared = {key: value for key, value in publisher.items() if key not in {"name", "sources", "filed", "skipped"}}
        for source in publisher["sources"]:
            file = source.get("file", "{}")
            own = {key: value for key, value in source.items() if key != "file"}
            places = {
                "location": shared["location"].replace("{}", file),
                "mirrors": tuple(mirror.replace("{}", file) for mirror in shared.get("mirrors", ())),
            }
            yield shared | places | own


def _directories(directory: Traversable) -> Iterator[dict[str, Any]]:
    """Give the directories of the archive whose parts are sources of their own."""
    for publisher in _tables(directory, "catalogue.toml", "publisher"):
        if publisher["format"] != UT1:
            continue
        for source in (*publisher["sources"], *publisher.get("filed", ())):
            if "file" in source:
                yield {"name": source["file"], "category": source["category"], "skipped": ""}
        for skipped in publisher.get("skipped", ()):
            yield {"name": skipped["file"], "category": "", "skipped": skipped["why"]}


def _starters(directory: Traversable, problems: list[str]) -> Iterator[StarterList]:
    for file in sorted(directory.iterdir(), key=lambda file: file.name):
        category = file.name.removesuffix(".txt")
        text = file.read_text(encoding="utf-8")
        names = [line for line in text.splitlines() if line and not line.startswith("#")]
        problems += [f"{file.name}: {problem}" for problem in _wrong_names(names)]
        yield StarterList(STARTER_PREFIX + category, category, text, tuple(names))


def _wrong_names(names: list[str]) -> Iterator[str]:
    if not names:
        yield "holds no name"
    for name in _doubled(names):
        yield f"{name} stands there twice"
    for name in names:
        try:
            if normalise(name) != name:
                yield f"{name!r} is not in normal form"
        except InvalidNameError as error:
            yield str(error)


def _contradictions(catalogue: Catalogue) -> Iterator[str]:
    """Find what each definition alone can't show: doubles, and references to what isn't there."""
    kinds = {category.key: category.kind for category in catalogue.categories}
    for what, values in _identities(catalogue).items():
        yield from (f"{what} {value!r} is there twice" for value in _doubled(values))
    for category in catalogue.categories:
        if category.kind not in KINDS:
            yield f"category {category.key!r}: kind {category.kind!r} is none of {', '.join(KINDS)}"
        if category.severity < 1:
            yield f"category {category.key!r}: severity {category.severity} is less than 1"
    for group in catalogue.groups:
        wrong = [key for key in group.blocked if kinds.get(key) != "block"]
        yield from (f"group {group.name!r} blocks {key!r}, which is no category to block" for key in wrong)
    for starter in catalogue.starters:
        if starter.category not in kinds:
            yield f"source {starter.key!r}: there is no category {starter.category!r}"
    for source in catalogue.sources:
        yield from (f"source {source.key!r}: {problem}" for problem in _wrong_source(source, kinds))


def _identities(catalogue: Catalogue) -> dict[str, list[object]]:
    """Return what must not be there twice."""
    starters, sources = catalogue.starters, catalogue.sources
    return {
        "category": [category.key for category in catalogue.categories],
        "severity": [category.severity for category in catalogue.categories],
        "group": [group.name for group in catalogue.groups],
        "source": [*(starter.key for starter in starters), *(source.key for source in sources)],
        "location": [location for source in sources for location in (source.location, *source.mirrors)],
        "directory": [directory.name for directory in catalogue.directories],
    }


def _wrong_source(source: CatalogueSource, known: Container[str]) -> Iterator[str]:
    if source.category not in known:
        yield f"there is no category {source.category!r}"
    if source.format not in FORMATS:
        yield f"there is no format {source.format!r}"
    for location in (source.location, *source.mirrors):
        if not location.startswith("https://") or "{}" in location:
            yield f"{location!r} is no https:// location"


def _doubled(values: Iterable[T]) -> list[T]:
    """Return the values that are there more than once."""
    return [value for value, count in Counter(values).items() if count > 1]
