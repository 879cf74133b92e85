"""The lists benchmark as tables: ours against the budgets, and beside others. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.benchmarks import report
from tests.benchmarks.ours import Refreshes
from tests.benchmarks.prober import LATE_MS
from tests.benchmarks.reloading import Examination, Reload

Table = list[tuple[str, ...]]

MEGABYTE = 1_000_000
COLD_SECONDS, UNCHANGED_SECONDS, REFRESH_OCTETS = 90.0, 15.0, 1_000 * MEGABYTE
WORKER_OCTETS = 150 * MEGABYTE
INDEX_OCTETS_A_NAME = 12.0


class Figure(NamedTuple):
    """Something measured that there is a budget for."""

    what: str
    on: str
    reached: float
    budget: float
    unit: str


def of_refreshes(refreshes: Refreshes, names: int) -> Iterator[Figure]:
    """Yield what refreshing on one database has budgets for."""
    on = refreshes.database
    yield Figure("cold refresh", on, refreshes.cold.seconds, COLD_SECONDS, "s")
    yield Figure("cold refresh, peak memory", on, refreshes.cold.peak / MEGABYTE, REFRESH_OCTETS / MEGABYTE, "MB")
    yield Figure("unchanged refresh", on, refreshes.unchanged.seconds, UNCHANGED_SECONDS, "s")
    peak = refreshes.unchanged.peak / MEGABYTE
    yield Figure("unchanged refresh, peak memory", on, peak, REFRESH_OCTETS / MEGABYTE, "MB")
    yield Figure("index on disk", on, refreshes.index / names, INDEX_OCTETS_A_NAME, "octets a name")


def of_service(worker_octets: int, reload: Reload) -> Iterator[Figure]:
    """Yield what the running service has budgets for."""
    cached = "with 100,000 answers cached"
    yield Figure("worker, private memory", cached, worker_octets / MEGABYTE, WORKER_OCTETS / MEGABYTE, "MB")
    meanwhile = f"C echo meanwhile {reload.floor_ms:.1f} ms"
    yield Figure("latest answer during a reload", meanwhile, reload.watch.latest_ms, LATE_MS, "ms")


def budgets(figures: Sequence[Figure]) -> Table:
    """Return the cells of ours against the budgets, headings first."""
    rows = [
        (f.what, f.on, f"{f.reached:,.1f}", f"{f.budget:,g}", f.unit, f"{f.reached / f.budget:.2f}") for f in figures
    ]
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
