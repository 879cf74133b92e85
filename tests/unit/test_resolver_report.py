"""The resolver's benchmark: its tables, and which budgets a run meets."""

from tests.benchmarks.load import Answers
from tests.benchmarks.measuring import Cost, Latency
from tests.benchmarks.resolver_report import Row, Rows

ANSWERS = Answers(1000, 990, 10, 0, 1.0, {0: 988, 2: 2}, 50.0, 400.0, 900.0, 1500.0)


def rows(*found: Row) -> Rows:
    return Rows(found, {"new-clients": "cached"})


def row(scenario: str, server: str, *cpu_us: float, per_second: float = 100_000.0) -> Row:
    return Row(scenario, server, [Cost(per_second, cost, cost + 3) for cost in cpu_us])


def test_a_budget_is_met_by_the_median_of_the_repeats() -> None:
    budgets = list(rows(row("cached", "Hall Monitor", 7.0, 30.0, 7.5)).budgets())

    assert [(budget.reached, budget.budget, budget.is_met) for budget in budgets] == [
        (7.5, 8.0, True),
        (10.5, 12.0, True),
    ]


def test_being_ahead_takes_less_cpu_and_more_queries() -> None:
    ours = row("school", "Hall Monitor", 10.0, per_second=90_000.0)
    peers = (row("school", "Unbound", 12.0), row("school", "Unbound, log off", 9.0))

    budgets = list(rows(ours, *peers).budgets())

    assert [(budget.what, budget.is_met) for budget in budgets] == [
        ("school: beside Unbound with its log on, CPU", True),
        ("school: beside Unbound with its log on, queries/s", False),
    ]


def test_the_floor_counts_twice() -> None:
    budgets = rows(row("blocked", "C echo", 2.0), row("blocked", "Hall Monitor", 5.0)).budgets()

    assert {budget.what: budget.is_met for budget in budgets} == {
        "blocked: worker's CPU, us/query": True,
        "blocked: CPU of all processes, us/query": True,
        "blocked: worker's CPU, times the C echo's": False,
    }


def test_what_one_thing_costs_is_told_beside_the_plain_scenario() -> None:
    tables = rows(row("cached", "Hall Monitor", 6.0), row("new-clients", "Hall Monitor", 9.5)).tables()

    assert tables["What one thing costs"][1:] == [("new-clients", "Hall Monitor", "9.50", "6.00", "+3.50")]
    assert "Latency" not in tables


def test_a_latency_tells_what_had_no_good_answer() -> None:
    measured = Row("cached", "Unbound", [Cost(2000.0, 6.0, 6.0)], [Latency(0.5, 1000.0, ANSWERS)])

    (line,) = rows(measured).tables()["Latency"][1:]

    assert line == ("cached", "Unbound", "50%", "1,000", "50", "400", "900", "1,500", "12")
