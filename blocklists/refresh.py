"""Refreshing: each source is fetched, read, looked at with suspicion, and its difference stored as a new version.

A source that fails keeps its last good version, and the others go on. Publishing what was stored is `control`'s.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from blocklists import catalogue
from blocklists.errors import BlocklistError, ListError
from blocklists.fetching import Fetched, NotModified, content_hash_of, fetch
from blocklists.guards import Canaries, check_size
from blocklists.listing import UT1, Parsed, Rejection
from blocklists.reading import MAY_BE_ARCHIVES, read
from policy.rules import Rule
from settings import Settings
from storage import categories, loading, sources
from storage.categories import Kind
from storage.database import Database, now
from storage.errors import DatabaseDownError, NotFoundError, StorageError
from storage.loading import Loading
from storage.sources import Seen, Source

log = logging.getLogger(__name__)

BUILTIN = "builtin:"
"""Begins the location of a list that ships with the product."""
AT_ONCE = 4
"""Sources in work: fetching, or fetched and waiting for the database. Each is a whole list in memory."""
READER = 1
"""Rises when the same octets come to mean other rules: what didn't change is read again then."""
TELL_EVERY = 20_000
"""Lines."""


class NothingInItError(ListError):
    """The list holds no rule: nobody meant to publish that."""


@dataclass(frozen=True)
class Terms:
    """What the configuration says about refreshing."""

    base: Path
    """Where relative locations start."""
    canaries: Canaries = field(default_factory=Canaries)
    keep_days: int = 365
    """What a source held longer ago is forgotten."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the terms of a configuration: lists are remembered for as long as the lookups that they decided."""
        return cls(settings.base, Canaries.of(settings), settings.querylog.retention_days)


@dataclass
class Outcome:
    """How one source's refresh went."""

    source: str
    category: str
    status: str = "failed"
    """``updated``, ``unchanged`` or ``failed``."""
    rules: int = 0
    added: int = 0
    removed: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Lines by the reason for which they were rejected."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Directories of an archive of which nothing was taken, each with why."""
    seconds: float = 0.0
    error: str = ""


class Step(NamedTuple):
    """How far the refresh of one source is."""

    source: str
    name: str
    """``fetching``, ``reading``, ``comparing``, ``storing``, or the final status."""
    done: int = 0
    """Octets of what is fetched, lines of what is read, rules of what is stored."""
    total: int | None = None
    """Of which there are so many; None: who knows."""


Progress = Callable[[Step], None]
"""Told each step, and within one some times a second how far it is; from several threads."""


async def refresh(
    database: Database,
    chosen: Sequence[Source],
    terms: Terms,
    *,
    actor: str,
    force: bool = False,
    progress: Progress = lambda _step: None,
) -> list[Outcome]:
    """Refresh sources: fetched side by side, stored one after the other.

    With `force` what didn't change is fetched and read again, and a list is taken however much it shrank or grew.
    """
    refreshing = _Refreshing(database, terms, actor, progress, force=force)
    outcomes = list(await asyncio.gather(*map(refreshing.one, chosen)))
    with suppress(DatabaseDownError):  # there is time for that at the next refresh
        await asyncio.to_thread(loading.clear_away, database)
    return outcomes


class _Refreshing:
    """One refresh of several sources."""

    def __init__(self, database: Database, terms: Terms, actor: str, progress: Progress, *, force: bool) -> None:
        self._database = database
        self._terms = terms
        self._actor = actor
        self._progress = progress
        self._force = force
        self._in_work = asyncio.Semaphore(AT_ONCE)
        self._storing = asyncio.Lock()

    async def one(self, source: Source) -> Outcome:
        """Refresh a source. Raises nothing: what failed is told and remembered."""
        outcome = Outcome(source.key, source.category)
        async with self._in_work:
            started = time.monotonic()
            try:
                await self._work(source, outcome)
            except Exception as error:  # noqa: BLE001 - a bug in one source costs that source
                outcome.status, outcome.rules, outcome.error = "failed", 0, _told(error, source)
                await asyncio.to_thread(_remember_failure, self._database, source, outcome.error)
            outcome.seconds = time.monotonic() - started
            self._progress(Step(source.key, outcome.status))
        return outcome

    async def _work(self, source: Source, outcome: Outcome) -> None:
        self._progress(Step(source.key, "fetching"))
        fetched = await self._fetch(source)
        async with self._storing:
            if isinstance(fetched, NotModified) or self._is_known(source, fetched):
                seen = source.seen if isinstance(fetched, NotModified) else _seen(fetched)
                await asyncio.to_thread(self._unchanged, source, seen, outcome)
            else:
                await asyncio.to_thread(self._store, source, fetched, outcome)

    async def _fetch(self, source: Source) -> Fetched | NotModified:
        if source.location.startswith(BUILTIN):
            data = catalogue.starter_text(source.location.removeprefix(BUILTIN)).encode()
            return Fetched(data, None, None, content_hash_of(data), source.location)
        known = source.seen if self._is_read(source) and not self._force else Seen("", "", "", "", 0)
        return await fetch(
            source.location,
            base=self._terms.base,
            mirrors=source.mirrors,
            allow_private=source.allow_private,
            etag=known.etag or None,
            last_modified=known.last_modified or None,
            validated_location=known.fetched_from or None,
            archive=source.format in MAY_BE_ARCHIVES,
            progress=lambda done, total: self._progress(Step(source.key, "fetching", done, total)),
        )

    def _is_read(self, source: Source) -> bool:
        """Tell whether what was seen last was read as lists are read now."""
        return source.version > 0 and source.reader == READER

    def _is_known(self, source: Source, fetched: Fetched) -> bool:
        return not self._force and self._is_read(source) and fetched.content_hash == source.content_hash

    def _unchanged(self, source: Source, seen: Seen, outcome: Outcome) -> None:
        with self._database.change(self._actor) as change:
            sources.record_success(change, source.id, seen, rejected=source.rejected)
        outcome.rules = source.rules
        outcome.status = "unchanged"

    def _store(self, source: Source, fetched: Fetched, outcome: Outcome) -> None:
        """Store what was fetched as the source's new version."""
        with loading.loading(self._database, source.id) as load:
            self._read(load, fetched, outcome)
            self._progress(Step(source.key, "comparing"))
            difference = load.compare()
            if not self._force:
                if load.was_rolled_back():
                    self._unchanged(load.source, _seen(fetched), outcome)
                    return
                check_size(load.source.rules, difference.rules)
            self._progress(Step(source.key, "storing"))
            load.write(lambda done, total: self._progress(Step(source.key, "storing", done, total)))
            load.finish(self._actor, _seen(fetched), rejected=outcome.rejected.total())
        outcome.added, outcome.removed, outcome.rules = difference.added, difference.removed, difference.rules
        outcome.status = "updated" if difference.added or difference.removed else "unchanged"
        loading.forget_before(self._database, source.id, now() - self._terms.keep_days * 86_400_000_000)

    def _read(self, load: Loading, fetched: Fetched, outcome: Outcome) -> None:
        """Take in what a list or an archive holds. Raises `ListError` where it is of no use."""
        source = load.source
        with self._database.reading() as connection:
            kinds = {category.key: category.kind for category in categories.list_all(connection)}
        content = read(
            fetched.data, format=source.format, scope=source.scope, allow_public_suffix=source.allow_public_suffix
        )
        lines = None if content.format == UT1 else fetched.data.count(b"\n") + 1
        for part in content.parts:
            category = part.category or source.category
            skipped = part.skipped or unfit(category, kinds, kinds[source.category])
            if skipped:
                outcome.skipped[part.name] = skipped
                continue
            rules = self._counted(source.key, part, lines, outcome)
            if kinds[category] == Kind.BLOCK:
                rules = self._terms.canaries.watch(rules, category)
            load.take(rules, part=part.name, category=part.category)
        if not outcome.rules:
            reasons = ", ".join(f"{count} {reason}" for reason, count in outcome.rejected.most_common(3))
            raise NothingInItError(f"no rule in it ({reasons or 'it is empty'})")

    def _counted(
        self, source: str, part: Iterable[Parsed | Rejection], lines: int | None, outcome: Outcome
    ) -> Iterator[Rule]:
        """Yield the rules, telling now and then how far it is."""
        tell_at = 0
        for item in part:
            if item.line >= tell_at:
                self._progress(Step(source, "reading", item.line, lines))
                tell_at = item.line + TELL_EVERY
            if isinstance(item, Parsed):
                outcome.rules += 1
                yield item.rule
            else:
                outcome.rejected[str(item.reason)] += 1


def unfit(category: str, kinds: Mapping[str, str], wanted: str) -> str:
    """Return why a directory of an archive isn't taken; empty where it is.

    An archive is for blocking or for letting through, as its source's own category says: who adds one to block
    categories doesn't mean to open, by another of its directories, names in all of them.
    """
    if category not in kinds:
        return f"there is no category {category!r}"
    if kinds[category] != wanted:
        meant = "letting through" if wanted == Kind.BLOCK else "blocking"
        return f"for {meant}: add the archive once more, under {category}, to use it"
    return ""


def _seen(fetched: Fetched) -> Seen:
    return Seen(fetched.location, fetched.etag or "", fetched.last_modified or "", fetched.content_hash, READER)


def _told(error: Exception, source: Source) -> str:
    """Return what went wrong in a sentence; what nobody foresaw goes to the service's log as well."""
    if isinstance(error, NotFoundError):
        return "it was removed meanwhile"
    if isinstance(error, BlocklistError | StorageError):
        return str(error)
    log.error("refreshing %s failed", source.key, exc_info=error)
    return f"an error of the program, not of the list: {type(error).__name__}: {error}"


def _remember_failure(database: Database, source: Source, error: str) -> None:
    with suppress(DatabaseDownError):  # which may be why it failed
        sources.record_failure(database, source.id, error, now())
