"""The resolver's benchmark as tables: costs, latencies, what one thing costs, ours against the budgets. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import median
from typing import NamedTuple

from tests.benchmarks.measuring import Cost, Latency
from tests.benchmarks.report import OURS

Table = list[tuple[str, ...]]

FLOOR, PEERS = "C echo", ("Unbound", "dnsmasq")
"""As their rows name them; the peers with their logs on."""

# DESIGN section 7 and docs/benchmarks.md.
CPU_US = {"cached": 8.0, "blocked": 8.0, "forwarded": 20.0}
ALL_CPU_US = {"cached": 12.0, "blocked": 12.0}
TIMES_THE_FLOOR = 2.0


@dataclass(frozen=True, slots=True)
class Row:
    """What a server reached in a scenario."""

    scenario: str
    server: str
    costs: Sequence[Cost]
    """Of each repeat."""
    latencies: Sequence[Latency] = ()

    def median(self, field: str) -> float:
        """Return the median of one of the costs' fields."""
        return float(median(map(attrgetter(field), self.costs)))

    @property
    def spread(self) -> float:
        """Return how far the CPU cost of the repeats lay apart, as a part of its median."""
        found = [cost.cpu_us for cost in self.costs]
        return (max(found) - min(found)) / median(found)


class Budget(NamedTuple):
    """One budget, and what was reached."""

    what: str
    reached: float
    budget: float
    at_least: bool = False
    """Whether more is better."""

    @property
    def is_met(self) -> bool:
        """Tell whether it is kept."""
        return self.reached >= self.budget if self.at_least else self.reached <= self.budget


class Rows:
    """All rows of a run."""

    def __init__(self, rows: Iterable[Row], against: Mapping[str, str]) -> None:
        """Take the rows; scenarios that are like another but for one thing come with that other."""
        self._rows = list(rows)
        self._against = against
        self._by_name = {(row.scenario, row.server): row for row in self._rows}

    def tables(self) -> dict[str, Table]:
        """Return each table that has something to tell, headings first, by its title."""
        found = {
            "Costs": self._costs(),
            "Latency": self._latencies(),
            "What one thing costs": self._differences(),
            "Against the budgets": self._against_budgets(),
        }
        return {title: table for title, table in found.items() if len(table) > 1}

    def _costs(self) -> Table:
        ratios = ("ours/theirs, queries/s", "ours/theirs, CPU")
        head = ("scenario", "server", "queries/s", "CPU us/query", "spread", "all CPU us/query", *ratios)
        return [head, *map(self._cost, self._rows)]

    def _cost(self, row: Row) -> tuple[str, ...]:
        ours = self._by_name.get((row.scenario, OURS))
        ratios = ("", "")
        if ours is not None and ours is not row:
            ratios = (_ratio(ours, row, "per_second"), _ratio(ours, row, "cpu_us"))
        return (
            row.scenario,
            row.server,
            f"{row.median('per_second'):,.0f}",
            f"{row.median('cpu_us'):.2f}",
            f"{row.spread:.0%}",
            f"{row.median('all_cpu_us'):.2f}",
            *ratios,
        )

    def _latencies(self) -> Table:
        head = ("scenario", "server", "load", "queries/s", "p50 us", "p99 us", "p99.9 us", "max us", "lost or failed")
        return [head, *(_latency(row, latency) for row in self._rows for latency in row.latencies)]

    def _differences(self) -> Table:
        head = ("scenario", "server", "CPU us/query", "without", "difference")
        pairs = [
            (row, plain)
            for row in self._rows
            if (plain := self._by_name.get((self._against.get(row.scenario, ""), row.server)))
        ]
        return [head, *(_difference(row, plain) for row, plain in pairs)]

    def _against_budgets(self) -> Table:
        body = [
            (
                budget.what,
                "at least" if budget.at_least else "at most",
                f"{budget.reached:.2f}",
                f"{budget.budget:g}",
                "yes" if budget.is_met else "NO",
            )
            for budget in self.budgets()
        ]
        return [("what", "budget is", "reached", "budget", "met"), *body]

    def budgets(self) -> Iterator[Budget]:
        """Yield every budget for which there are rows."""
        for row in self._rows:
            if row.server != OURS or row.scenario in self._against:
                continue
            scenario = row.scenario
            if scenario in CPU_US:
                yield Budget(f"{scenario}: worker's CPU, us/query", row.median("cpu_us"), CPU_US[scenario])
            if scenario in ALL_CPU_US:
                reached = row.median("all_cpu_us")
                yield Budget(f"{scenario}: CPU of all processes, us/query", reached, ALL_CPU_US[scenario])
            if floor := self._by_name.get((scenario, FLOOR)):
                reached = row.median("cpu_us") / floor.median("cpu_us")
                yield Budget(f"{scenario}: worker's CPU, times the C echo's", reached, TIMES_THE_FLOOR)
            for peer in PEERS:
                if theirs := self._by_name.get((scenario, peer)):
                    yield from _ahead(row, theirs)


def _ahead(ours: Row, theirs: Row) -> Iterator[Budget]:
    """Yield what it takes to be ahead of a peer."""
    beside = f"{ours.scenario}: beside {theirs.server} with its log on"
    yield Budget(f"{beside}, CPU", ours.median("cpu_us") / theirs.median("cpu_us"), 1.0)
    yield Budget(f"{beside}, queries/s", ours.median("per_second") / theirs.median("per_second"), 1.0, at_least=True)


def _ratio(ours: Row, theirs: Row, field: str) -> str:
    return f"{ours.median(field) / theirs.median(field):.2f}"


def _latency(row: Row, latency: Latency) -> tuple[str, ...]:
    answers = latency.answers
    times = (answers.p50_us, answers.p99_us, answers.p999_us, answers.max_us)
    return (
        row.scenario,
        row.server,
        f"{latency.share:.0%}",
        f"{latency.rate:,.0f}",
        *(f"{time:,.0f}" for time in times),
        f"{answers.lost + answers.failed:,}",
    )


def _difference(row: Row, plain: Row) -> tuple[str, ...]:
    cost, without = row.median("cpu_us"), plain.median("cpu_us")
    return (row.scenario, row.server, f"{cost:.2f}", f"{without:.2f}", f"{cost - without:+.2f}")
