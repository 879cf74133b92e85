"""What a list would change if it were a source's next version, and whom that would concern. Stores nothing."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection

from blocklists.errors import ListError
from blocklists.guards import CanaryError, check_size
from blocklists.listing import Parsed
from blocklists.reading import read
from blocklists.refresh import Terms, unfit
from commands.context import Context
from control.errors import ControlError
from control.session import Session
from policy.decide import blocked_among
from policy.index import covers
from policy.names import lineage
from policy.rules import Rule
from querylog.errors import QuerylogError
from querylog.times import DAY, format_time
from settings import Settings, SettingsError
from storage import audit, categories, comparing, exceptions, sources
from storage.categories import Kind
from storage.database import now
from storage.errors import DatabaseDownError, NotFoundError
from storage.sources import Source

TOP_DAYS = 7
TOP_NAMES = 1_000


class _Concerned(NamedTuple):
    """Who might notice."""

    asked: dict[str, int]
    """The names that are asked for most, and how often."""
    exceptions: list[exceptions.PolicyException]


def compare(context: Context, location: str, data: bytes, against: str | None) -> dict[str, Any] | None:
    """Compare what was fetched with the source that has its list from there, or with the one that is named.

    None where there is no such source, or nothing stored yet to look into. Raises `NotFoundError` for a name that no
    source has.
    """
    try:
        if not _is_set_up(context.settings):
            if against is not None:
                raise NotFoundError("source", against)
            return None
        with context.session.database.reading() as connection:
            source = _source(connection, location, against, context.settings)
        return None if source is None else _compared(context.session, source, data)
    except (ControlError, DatabaseDownError, SettingsError):
        if against is not None:
            raise
        return None  # it was asked what the list holds, and that can be told


def _is_set_up(settings: Settings) -> bool:
    """Tell whether there is anything to compare with; looking must not make it."""
    state = settings.state.directory
    return state.is_dir() and (bool(settings.database.url) or (state / "hallmonitor.db").exists())


def _source(connection: Connection, location: str, against: str | None, settings: Settings) -> Source | None:
    if against is not None:
        return sources.get(connection, against)
    for source in sources.list_all(connection):
        if location in (source.location, *source.mirrors) or location == str(settings.base / source.location):
            return source
    return None


def _compared(session: Session, source: Source, data: bytes) -> dict[str, Any]:
    concerned = _concerned(session, source)
    reading = _Reading(session, source, concerned)
    found: dict[str, Any] = {"against": source.key, "added": None, "removed": None, "unchanged": None}
    try:
        difference = comparing.compare(session.database, source.id, reading.parts(data))
        found |= difference._asdict()
        if not reading.refused:
            reading.check_rules(difference.rules)
    except ListError as error:
        reading.refused = reading.refused or str(error)
    return found | {
        "top_lookups": [
            {"name": name, "lookups": lookups, "rule": str(rule)}
            for name, lookups in concerned.asked.items()
            if (rule := reading.rule_for(name)) is not None
        ],
        "exceptions": [
            {"id": exception.id, "domain": exception.domain, "action": exception.action}
            for exception in concerned.exceptions
            if reading.rule_for(exception.domain) is not None
        ],
        "refused": reading.refused or None,
    }


def _concerned(session: Session, source: Source) -> _Concerned:
    at = now()
    since = at - TOP_DAYS * DAY
    try:
        asked = dict(session.log.most_asked(since, TOP_NAMES))
        # Whoever sees which names are asked for has seen something of the log.
        wanted = {"most_asked": TOP_NAMES, "since": format_time(since), "source": source.key}
        audit.note(session.database, session.actor, "log.search", "lookups", wanted)
    except QuerylogError:
        asked = {}
    with session.database.reading() as connection:
        return _Concerned(asked, exceptions.live(connection, at))


class _Reading:
    """Reads a list as a refresh of its source would, and keeps what is said about those concerned."""

    def __init__(self, session: Session, source: Source, concerned: _Concerned) -> None:
        self.refused = ""
        """Why a refresh would refuse it; empty: it would not."""
        self._source = source
        self._canaries = Terms.of(session.settings).canaries
        with session.database.reading() as connection:
            self._kinds = {category.key: category.kind for category in categories.list_all(connection)}
        names = {*concerned.asked, *(exception.domain for exception in concerned.exceptions)}
        self._above = {parent for name in names for parent in lineage(name)}
        self._about: list[tuple[bool, list[Rule]]] = []
        """By part: whether it blocks, and its rules that may be about somebody concerned."""

    def parts(self, data: bytes) -> Iterator[tuple[str, Iterable[Rule]]]:
        """Yield the parts of a list by name, with their rules. Raises `ListError`."""
        source = self._source
        content = read(data, format=source.format, scope=source.scope, allow_public_suffix=source.allow_public_suffix)
        for part in content.parts:
            category = part.category or source.category
            if not (part.skipped or unfit(category, self._kinds, self._kinds[source.category])):
                rules = (item.rule for item in part if isinstance(item, Parsed))
                yield part.name, self._sifted(rules, category)

    def _sifted(self, rules: Iterable[Rule], category: str) -> Iterator[Rule]:
        blocks = self._kinds[category] == Kind.BLOCK
        about: list[Rule] = []
        self._about.append((blocks, about))
        try:
            for rule in self._canaries.watch(rules, category) if blocks else rules:
                if rule.pattern or rule.name in self._above:
                    about.append(rule)
                yield rule
        except CanaryError as error:
            self.refused = self.refused or str(error)

    def check_rules(self, rules: int) -> None:
        """Raise `ListError` when a refresh would refuse a list of so many rules."""
        if not rules:
            raise ListError("no rule in it")
        check_size(self._source.rules, rules)

    def rule_for(self, name: str) -> Rule | None:
        """Return the rule by which the list would act on a name; None: it would not."""
        for blocks, about in self._about:
            covering = [rule for rule in about if covers(rule, name)]
            rule = blocked_among(covering) if blocks else next(iter(covering), None)
            if rule is not None:
                return rule
        return None
