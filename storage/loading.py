"""Loading: the one writer of entries, millions at a time, while everybody else reads and changes what they like.

A new version of a list is written ahead in short transactions, under a number that its source hasn't reached yet, so
nobody sees it. One small transaction at the end raises the source's version, and all of it is there. Whatever ends
the work before leaves the old version whole, and what was written ahead is swept away by the next load of the source.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection, text

from policy.names import key_of
from policy.rules import Rule, Traits
from storage import audit, entries, parts, sources, staging, versions
from storage.database import Change, Database, Steps
from storage.errors import ConflictError, InvalidError, NotFoundError
from storage.parts import Part
from storage.sources import Seen, Source
from storage.versions import Version

MAX_KEY = 2600
"""Octets: a row of a Postgres index holds no more than 2,704 (a third of a page)."""
FIRST_BATCH = 5_000
BATCH_SECONDS = 0.04
"""How long one of the short transactions should take, and so keep another writer waiting."""
PAUSE_SECONDS = 0.006
"""Between two of them; whoever waits for SQLite's one writer looks more often than that."""

FORGETTING_PAUSE = 7 * 86_400_000_000
"""Microseconds."""

_LAST_KEY = "\U0010ffff"

Progress = Callable[[int, int], None]
"""Told how many rows are written ahead, and of how many."""


class Difference(NamedTuple):
    """What a new version changes."""

    added: int
    removed: int
    unchanged: int

    @property
    def rules(self) -> int:
        """How many rules the new version has."""
        return self.added + self.unchanged


@contextlib.contextmanager
def loading(database: Database, source_id: int) -> Iterator["Loading"]:
    """Begin to load a source; another load, of whichever source and wherever, is waited for.

    Raises `NotFoundError` when the source was removed.
    """
    with database.steps() as steps:
        source, known = swept(steps, source_id)
        with steps.reading() as connection:
            staging.create(connection)
        yield Loading(database, steps, source, known)
        with steps.reading() as connection:
            staging.drop(connection)


class Loading:
    """The load of one source: `take` what it holds, `compare`, `write`, `finish`."""

    def __init__(self, database: Database, steps: Steps, source: Source, known: Iterable[Part]) -> None:
        self.source = source
        """The source as it is, now that nobody else can load it."""
        self._database = database
        self._steps = steps
        self._parts = {part.name: part for part in known}
        self._was = {part.name: part.category for part in known}
        self._difference = Difference(0, 0, 0)

    def take(self, rules: Iterable[Rule], *, part: str = "", category: str | None = None) -> None:
        """Take in the rules of a part; equal rules count once. Raises whatever the iterable raises."""
        if part not in self._parts:
            with self._database.note() as connection:
                self._parts[part] = parts.add(connection, self.source.id, part, category)
        self._parts[part] = replace(self._parts[part], category=category)
        with self._steps.reading() as connection:
            staging.load(connection, rows_of(self._parts[part].id, rules, self._number_of))

    def compare(self) -> Difference:
        """Return what the new version will change against the one in force."""
        with self._steps.reading() as connection:
            staging.compare_staged(connection, self._numbers() if self.source.version else [])
            return self._compared(connection)

    def compare_version(self, number: int) -> Difference:
        """Return what bringing back an earlier version will change against the one in force."""
        with self._steps.reading() as connection:
            staging.compare_version(connection, self._numbers(), number)
            return self._compared(connection)

    def was_rolled_back(self) -> bool:
        """Tell whether what was taken in is the very list that a rollback keeps out, however it is written now.

        Publishers date their lists: the same rules come in other octets every day. To be asked after `compare`.
        """
        with self._steps.reading() as connection:
            history = versions.of_source(connection, self.source.id)
            fetched = next((version for version in history if version.restored is None), None)
            if not history or history[0].restored is None or fetched is None:
                return False
            return fetched.rules == self._difference.rules and staging.are_of_version(connection, fetched.number)

    def write(self, progress: Progress = lambda _done, _total: None) -> None:
        """Write ahead what changes. Nobody sees it yet."""
        added, removed, _ = self._difference
        if not (added or removed):
            return
        with self._steps.writing() as connection:
            sources.set_writing_ahead(connection, self.source.id, writing_ahead=True)
        version = self.source.version + 1
        done = 0
        for statement, rows in ((_ADD, added), (_END, removed)):
            for first, last in _batches(self._steps, rows):
                with self._steps.writing() as connection:
                    connection.execute(statement, {"version": version, "first": first, "last": last})
                done += last - first + 1
                progress(done, added + removed)

    def finish(self, actor: str, seen: Seen, *, rejected: int, restored: int | None = None) -> Source:
        """Bring the new version into force, and remember how it went.

        A version is new where rules changed; that is an event of the audit. Raises `NotFoundError` when the source was
        removed meanwhile.
        """
        changed = bool(self._difference.added or self._difference.removed)
        with self._steps.change(actor) as change:
            sources.record_success(change, self.source.id, seen, rejected=rejected)
            sources.set_writing_ahead(change.connection, self.source.id, writing_ahead=False)
            for part in self._parts.values():
                parts.store(change.connection, part)
            if self._parts.keys() - self._was.keys() or any(
                self._parts[name].category != category for name, category in self._was.items()
            ):
                change.policy_changed()
            if changed:
                self._record_version(change, seen.content_hash, rejected, restored)
            return sources.by_id(change.connection, self.source.id)

    def _record_version(self, change: Change, content_hash: str, rejected: int, restored: int | None) -> None:
        before, difference = self.source, self._difference
        new = Version(
            source_id=before.id,
            number=before.version + 1,
            at=change.now,
            actor=change.actor,
            content_hash=content_hash,
            rules=difference.rules,
            rejected=rejected,
            added=difference.added,
            removed=difference.removed,
            restored=restored,
        )
        versions.add(change.connection, new)
        sources.set_version(change.connection, before.id, new.number, difference.rules)
        change.entries_changed()
        after = {"version": new.number, "rules": new.rules, "rejected": rejected}
        after |= {"added": new.added, "removed": new.removed}
        audit.record(
            change,
            "source.refresh" if restored is None else "source.rollback",
            before.key,
            {"version": before.version, "rules": before.rules, "rejected": before.rejected},
            after if restored is None else after | {"restored": restored},
        )

    def _compared(self, connection: Connection) -> Difference:
        fresh, gone = staging.counts(connection, "fresh"), staging.counts(connection, "gone")
        for name, part in self._parts.items():
            rules = part.rules + fresh.get(part.id, 0) - gone.get(part.id, 0)
            self._parts[name] = replace(part, rules=rules)
        added, removed = sum(fresh.values()), sum(gone.values())
        self._difference = Difference(added, removed, self.source.rules - removed)
        return self._difference

    def _numbers(self) -> list[int]:
        return [part.id for part in self._parts.values()]

    def _number_of(self, traits: Traits) -> int:
        with self._database.note() as connection:  # on another connection: this one is in the midst of a statement
            return entries.number_of(connection, traits)


def rows_of(part: int, rules: Iterable[Rule], number_of: Callable[[Traits], int]) -> Iterator[staging.Row]:
    """Yield rules as rows of a part. Raises `InvalidError` for one that can't be stored."""
    last: Traits | None = None
    number = 0
    known: dict[Traits, int] = {}
    for name, traits, pattern in rules:
        if traits is not last:  # most follow one with the very same object, and hashing one costs more than the rest
            last = traits
            number = known.get(traits) or known.setdefault(traits, number_of(traits))
        yield part, _pattern_key(name) if pattern else key_of(name), number


def rollback(database: Database, source: str, actor: str, to: int | None = None) -> Source:
    """Bring back what a source held in an earlier version: as a new one, so that nothing of the history is lost.

    Without `to` the version before the one in force, or before the one that was brought back last. What the publisher
    has now is not taken again until it changes. Raises `NotFoundError`, `ConflictError`.
    """
    with database.reading() as connection:
        number = sources.get(connection, source).id
    with loading(database, number) as load:
        with database.reading() as connection:
            target = _earlier(connection, load.source, to)
        load.compare_version(target.number)
        load.write()
        return load.finish(actor, load.source.seen, rejected=target.rejected, restored=target.number)


def _earlier(connection: Connection, source: Source, to: int | None) -> Version:
    if to is not None:
        found = versions.get(connection, source.id, to)
        if found is None:
            raise NotFoundError(f"version of {source.key!r}", to)
        if to == source.version:
            raise ConflictError(f"version {to} of {source.key!r} is in force")
        return found
    history = {version.number: version for version in versions.of_source(connection, source.id)}
    stands_for = source.version
    while stands_for in history and (restored := history[stands_for].restored):
        stands_for = restored  # what a rollback brought back stands for what it brought back
    earlier = max((number for number in history if number < stands_for), default=None)
    if earlier is None:
        raise ConflictError(f"there is no earlier version of {source.key!r}")
    return history[earlier]


def clear_away(database: Database) -> None:
    """Delete the entries of sources that were removed."""
    with database.reading() as connection:
        if not parts.orphans(connection):
            return
    with database.steps() as steps:
        with steps.reading() as connection:
            removed = parts.orphans(connection)
        for part in removed:
            for span in _spans(steps, part):
                with steps.writing() as connection:
                    connection.execute(_DELETE, span)
            with steps.writing() as connection:
                parts.forget(connection, part)


def forget_before(database: Database, source_id: int, before: int) -> None:
    """Forget what a source held before a time in microseconds; what was in force at that moment is kept.

    Nothing is done before some days' versions have come together: it means reading all of the source's entries.
    """
    with database.reading() as connection:
        first = versions.in_force(connection, before).get(source_id)
        oldest = versions.oldest(connection, source_id)
    if first is None or oldest is None or first == oldest.number or oldest.at > before - FORGETTING_PAUSE:
        return
    with database.steps() as steps:
        with steps.reading() as connection:
            known = parts.of_source(connection, source_id)
        for part in known:
            for span in _spans(steps, part.id):
                with steps.writing() as connection:
                    connection.execute(_FORGET, span | {"version": first})
        with steps.writing() as connection:
            versions.forget(connection, source_id, before=first)


def swept(steps: Steps, source_id: int) -> tuple[Source, list[Part]]:
    """Return a source and its parts, once what a load of it wrote ahead and never finished is taken back.

    Raises `NotFoundError`.
    """
    with steps.reading() as connection:
        source = sources.by_id(connection, source_id)
        known = parts.of_source(connection, source_id)
    if source.writing_ahead:
        for part in known:
            for span in _spans(steps, part.id):
                with steps.writing() as connection:
                    connection.execute(_TAKE_BACK, span | {"version": source.version})
                    connection.execute(_LIST_AGAIN, span | {"version": source.version})
        with steps.writing() as connection:
            sources.set_writing_ahead(connection, source_id, writing_ahead=False)
    return source, known


def _batches(steps: Steps, rows: int) -> Iterator[tuple[int, int]]:
    """Yield spans of rows, the first and the last of each, as many as can be written in `BATCH_SECONDS`."""
    size, first = FIRST_BATCH, 1
    while first <= rows:
        last = min(first + size - 1, rows)
        started = time.monotonic()
        yield first, last
        took = max(time.monotonic() - started, 0.001)
        size = max(100, int(size * min(2, BATCH_SECONDS / took)))
        first = last + 1
        steps.rest(PAUSE_SECONDS)


def _spans(steps: Steps, part: int) -> Iterator[dict[str, object]]:
    """Yield spans of a part's keys, each of `FIRST_BATCH` entries."""
    after = ""
    while after < _LAST_KEY:
        with steps.reading() as connection:
            row = {"part": part, "after": after, "skipped": FIRST_BATCH}
            upto = connection.execute(_SPAN_END, row).scalar() or _LAST_KEY
        yield {"part": part, "after": after, "upto": upto}
        after = upto
        steps.rest(PAUSE_SECONDS)


def _pattern_key(expression: str) -> str:
    key = f"{entries.PATTERN}{expression}{entries.PATTERN}"
    if "\0" in key or len(key.encode()) > MAX_KEY:
        raise InvalidError("rules", f"an expression that can't be stored: {expression[:80]!r}")
    return key


_ADD = text("""
    INSERT INTO entries (part_id, key, traits_id, since)
    SELECT part, key, traits, :version FROM fresh WHERE n BETWEEN :first AND :last ORDER BY n
""")
_END = text("""
    UPDATE entries SET until = :version FROM gone
    WHERE gone.n BETWEEN :first AND :last AND entries.part_id = gone.part AND entries.key = gone.key
    AND entries.traits_id = gone.traits AND entries.since = gone.since
""")
_SPAN_END = text("""
    SELECT key FROM entries WHERE part_id = :part AND key > :after ORDER BY key LIMIT 1 OFFSET :skipped
""")
_WITHIN_SPAN = "WHERE part_id = :part AND key > :after AND key <= :upto"
_DELETE = text(f"DELETE FROM entries {_WITHIN_SPAN}")  # noqa: S608 - our own text
_FORGET = text(f"DELETE FROM entries {_WITHIN_SPAN} AND until <= :version")  # noqa: S608 - our own text
_TAKE_BACK = text(f"DELETE FROM entries {_WITHIN_SPAN} AND since > :version")  # noqa: S608 - our own text
_LIST_AGAIN = text(f"UPDATE entries SET until = NULL {_WITHIN_SPAN} AND until > :version")  # noqa: S608 - our own text
