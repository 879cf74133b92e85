"""The lists benchmark as tables: ours against the budgets, and beside others. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.benchmarks import report
from tests.benchmarks.index import Built
from tests.benchmarks.ours import Refreshes
from tests.benchmarks.prober import LATE_MS
from tests.benchmarks.reloading import Examination, Reload

Table = list[tuple[str, ...]]

MEGABYTE = 1_000_000
COLD_SECONDS, UNCHANGED_SECONDS, REFRESH_OCTETS = 90.0, 15.0, 1_000 * MEGABYTE
WORKER_OCTETS = 150 * MEGABYTE
INDEX_OCTETS_A_NAME, INDEX_SECONDS, INDEX_PEAK_OCTETS, LOOKUP_US = 12.0, 25.0, 1_000 * MEGABYTE, 5.0


class Figure(NamedTuple):
    """Something measured."""

    what: str
    on: str
    reached: float
    budget: float | None
    """None: there is none."""
    unit: str


def of_refreshes(refreshes: Refreshes, rules: int) -> Iterator[Figure]:
    """Yield what refreshing so many rules took on one database."""
    on = refreshes.database
    yield Figure("cold refresh", on, refreshes.cold.seconds, COLD_SECONDS, "s")
    yield Figure("cold refresh, peak memory", on, refreshes.cold.peak / MEGABYTE, REFRESH_OCTETS / MEGABYTE, "MB")
    yield Figure("unchanged refresh", on, refreshes.unchanged.seconds, UNCHANGED_SECONDS, "s")
    peak = refreshes.unchanged.peak / MEGABYTE
    yield Figure("unchanged refresh, peak memory", on, peak, REFRESH_OCTETS / MEGABYTE, "MB")
    yield Figure("database, size", on, refreshes.stored / rules, None, "octets a rule")


def of_index(built: Built, lookups_us: Mapping[str, float]) -> Iterator[Figure]:
    """Yield what the compiled index takes; the lookups by what is looked up."""
    each, cost = built.octets / built.index.names, built.cost
    yield Figure("index, size", f"{built.index.names:,} names", each, INDEX_OCTETS_A_NAME, "octets a name")
    yield Figure("index, build", "from SQLite", cost.seconds, INDEX_SECONDS, "s")
    yield Figure("index, build, peak memory", "from SQLite", cost.peak / MEGABYTE, INDEX_PEAK_OCTETS / MEGABYTE, "MB")
    for what, microseconds in lookups_us.items():
        yield Figure("index, lookup", f"a name {what}", microseconds, LOOKUP_US, "us")


def of_service(worker_octets: int, reload: Reload) -> Iterator[Figure]:
    """Yield what the running service takes."""
    cached = "with 100,000 answers cached"
    yield Figure("worker, private memory", cached, worker_octets / MEGABYTE, WORKER_OCTETS / MEGABYTE, "MB")
    meanwhile = f"C echo meanwhile {reload.floor_ms:.1f} ms"
    yield Figure("latest answer during a reload", meanwhile, reload.watch.latest_ms, LATE_MS, "ms")


def budgets(figures: Sequence[Figure]) -> Table:
    """Return the cells of ours against the budgets, headings first."""
    rows = []
    for figure in figures:
        against = ("", "")
        if figure.budget is not None:
            against = (f"{figure.budget:,g}", f"{figure.reached / figure.budget:.2f}")
        rows.append((figure.what, figure.on, f"{figure.reached:,.1f}", against[0], figure.unit, against[1]))
    return [("what", "on", "reached", "budget", "unit", "reached/budget"), *rows]


def sizes(servers: Sequence[Examination]) -> Table:
    """Return the cells of what each server takes at rest."""
    ours = next((one for one in servers if one.name == report.OURS), None)
    rows = []
    for one in servers:
        ratio = f"{ours.memory / one.memory:.2f}" if ours and one is not ours else ""
        cells = (f"{one.memory / MEGABYTE:,.0f}", f"{one.memory / one.names:,.0f}", f"{one.load_seconds:,.1f}")
        rows.append((one.name, f"{one.names:,} names", *cells, ratio))
    return [("server", "list", "memory, MB", "octets a name", "start, s", "ours/theirs, memory"), *rows]


def changes(servers: Sequence[Examination]) -> Table:
    """Return the cells of what clients notice while the list changes."""
    rows = [_change(one, reload) for one in servers for reload in one.reloads]
    headings = (
        *(
            "server",
            "how",
            "in force, s",
            "peak, MB",
            "latest, ms",
            "C echo, ms",
            f"later than {LATE_MS:g} ms",
            "lost",
        ),
        *("silence, ms", "asked"),
    )
    return [headings, *rows]


def _change(one: Examination, reload: Reload) -> tuple[str, ...]:
    seen = reload.watch
    return (
        one.name,
        reload.how,
        "never" if seen.in_force_seconds is None else f"{seen.in_force_seconds:,.1f}",
        f"{reload.peak / MEGABYTE:,.0f}",
        f"{seen.latest_ms:,.1f}",
        f"{reload.floor_ms:,.1f}",
        f"{seen.late:,}",
        f"{seen.lost:,}",
        f"{seen.silence_ms:,.0f}",
        f"{seen.sent:,}",
    )
