"""Refreshing: each source is fetched, read, and its difference stored in one transaction.

A source that fails keeps its last good version, and the others go on. Publishing what was stored is `control`'s.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from blocklists import catalogue
from blocklists.errors import BlocklistError, ListError
from blocklists.fetching import Fetched, NotModified, content_hash_of, fetch
from blocklists.listing import Parsed, read_list
from policy.rules import Rule
from storage import entries, sources
from storage.database import Database, now
from storage.errors import DatabaseDownError, NotFoundError, StorageError
from storage.sources import Source

log = logging.getLogger(__name__)

BUILTIN = "builtin:"
"""Begins the location of a list that ships with the product."""
AT_ONCE = 4
"""Sources in work: fetching, or fetched and waiting for the database. Each is a whole list in memory."""


class NothingInItError(ListError):
    """The list holds no rule: nobody meant to publish that."""


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
    seconds: float = 0.0
    error: str = ""


Progress = Callable[[str, str], None]
"""Told a source's key and what is done to it: ``fetching``, ``storing``, or its final status."""


async def refresh(
    database: Database,
    chosen: Sequence[Source],
    *,
    actor: str,
    base: Path,
    force: bool = False,
    progress: Progress = lambda _source, _step: None,
) -> list[Outcome]:
    """Refresh sources: fetched side by side, stored one after the other. Relative locations start at `base`."""
    in_work = asyncio.Semaphore(AT_ONCE)
    storing = asyncio.Lock()

    async def work(source: Source, outcome: Outcome) -> None:
        progress(source.key, "fetching")
        fetched = await _fetch(source, base, force=force)
        async with storing:
            progress(source.key, "storing")
            await asyncio.to_thread(_store, database, source, fetched, actor, outcome, force)

    async def one(source: Source) -> Outcome:
        outcome = Outcome(source.key, source.category)
        async with in_work:
            started = time.monotonic()
            try:
                await work(source, outcome)
            except Exception as error:  # noqa: BLE001 - a bug in one source costs that source
                outcome.error = _told(error, source)
                await asyncio.to_thread(_remember_failure, database, source, outcome.error)
            outcome.seconds = time.monotonic() - started
            progress(source.key, outcome.status)
        return outcome

    return list(await asyncio.gather(*map(one, chosen)))


def _told(error: Exception, source: Source) -> str:
    """Return what went wrong in a sentence; what nobody foresaw goes to the service's log as well."""
    if isinstance(error, NotFoundError):
        return "it was removed meanwhile"
    if isinstance(error, BlocklistError | StorageError):
        return str(error)
    log.error("refreshing %s failed", source.key, exc_info=error)
    return f"an error of the program, not of the list: {type(error).__name__}: {error}"


async def _fetch(source: Source, base: Path, *, force: bool) -> Fetched | NotModified:
    if source.location.startswith(BUILTIN):
        data = catalogue.starter_text(source.location.removeprefix(BUILTIN)).encode()
        return Fetched(data, None, None, content_hash_of(data))
    return await fetch(
        source.location,
        base=base,
        allow_private=source.allow_private,
        etag=None if force else source.etag or None,
        last_modified=None if force else source.last_modified or None,
    )


def _store(
    database: Database, source: Source, fetched: Fetched | NotModified, actor: str, outcome: Outcome, force: bool
) -> None:
    """Store what was fetched; when it is what is stored already, only that it was looked at."""
    unchanged = isinstance(fetched, NotModified) or (not force and fetched.content_hash == source.content_hash)
    with database.change(actor) as change:
        if unchanged:
            difference = entries.Difference(0, 0, source.rules)
            rejected = source.rejected
        else:
            assert isinstance(fetched, Fetched)
            difference = entries.replace(change, source.id, _rules(source, fetched.data, outcome.rejected))
            rejected = outcome.rejected.total()
        sources.record_success(
            change,
            source.id,
            etag=source.etag if isinstance(fetched, NotModified) else fetched.etag or "",
            last_modified=source.last_modified if isinstance(fetched, NotModified) else fetched.last_modified or "",
            content_hash=source.content_hash if isinstance(fetched, NotModified) else fetched.content_hash,
            rules=difference.added + difference.unchanged,
            rejected=rejected,
            added=difference.added,
            removed=difference.removed,
        )
    outcome.added, outcome.removed = difference.added, difference.removed
    outcome.rules = difference.added + difference.unchanged
    outcome.status = "updated" if difference.added or difference.removed else "unchanged"


def _rules(source: Source, data: bytes, rejected: Counter[str]) -> Iterator[Rule]:
    """Yield a list's rules, counting what is rejected. Raises `ListError` where it is no list of any use."""
    listing = read_list(data, format=source.format, scope=source.scope, allow_public_suffix=source.allow_public_suffix)
    empty = True
    for item in listing:
        if isinstance(item, Parsed):
            empty = False
            yield item.rule
        else:
            rejected[str(item.reason)] += 1
    if empty:
        reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.most_common(3))
        raise NothingInItError(f"no rule in it ({reasons or 'it is empty'})")


def _remember_failure(database: Database, source: Source, error: str) -> None:
    with suppress(DatabaseDownError):  # which may be why it failed
        sources.record_failure(database, source.id, error, now())
