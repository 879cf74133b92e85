import re
from typing import Any

import pytest

from admin_api import metrics

LISTS = {
    "database": "ok",
    "sources": 3,
    "rules": 120,
    "failing": [{"source": "a", "error": "gone"}],
    "stale": [],
    "by_source": [
        {"source": "a", "rules": 0, "last_success_at": None, "stale": False},
        {"source": "b", "rules": 120, "last_success_at": "2026-11-24T12:00:00.500000Z", "stale": True},
    ],
}


UPSTREAMS = [
    {"upstream": "udp://192.0.2.53", "zone": "", "trusted": False, "latency_ms": 1500.0, "failures": 3},
    {"upstream": "udp://10.0.0.1", "zone": "ad.example", "trusted": True, "latency_ms": 2.5, "failures": 0},
]


def status(**changes: Any) -> dict[str, Any]:
    worker = {
        "state": "serving",
        "policy_version": 7,
        "cached_answers": 5,
        "in_flight": 1,
        "unlogged": 0,
        "turned_away": 4,
    }
    return {
        "node": "node-1",
        "policy_version": 7,
        "uptime_seconds": 12.5,
        "workers": [{**worker, "number": 0, "lookups": 100}, {**worker, "number": 1, "lookups": 20}],
        "worker_restarts": 1,
        "upstreams": UPSTREAMS,
        "lists": LISTS,
        "journal": {"backlog_bytes": 64, "segments": 2, "shipped_rows": 400, "store": "ok"},
        **changes,
    }


def test_stats_take_the_workers_together() -> None:
    counted = metrics.stats(status())
    assert (counted["workers"], counted["workers_serving"]) == (2, 2)
    assert (counted["lookups"], counted["cached_answers"], counted["in_flight"]) == (120, 10, 2)
    assert counted["turned_away"] == 8
    assert (counted["rules"], counted["sources_failing"], counted["log_rows_shipped"]) == (120, 1, 400)


def test_all_is_well() -> None:
    assert metrics.troubles(status()) == []
    assert metrics.serves(status())


@pytest.mark.parametrize(
    ("changes", "trouble"),
    [
        ({"workers": []}, "workers"),
        ({"workers": [{"state": "starting", "policy_version": 7, "unlogged": 0}]}, "workers"),
        ({"workers": [{"state": "serving", "policy_version": 7, "unlogged": 3}]}, "journal"),
        ({"workers": [{"state": "serving", "policy_version": 6, "unlogged": 0}]}, "policy"),
        ({"lists": {"database": "it is away"}}, "database"),
        ({"lists": {"database": "ok", "stale": ["b"]}}, "lists"),
        ({"journal": {"store": "it is away"}}, "log_store"),
        ({"upstreams": UPSTREAMS[:1]}, "upstreams"),
    ],
)
def test_each_trouble_has_a_name(changes: dict[str, Any], trouble: str) -> None:
    assert metrics.troubles(status(**changes)) == [trouble]


def test_nobody_is_answered_without_a_worker() -> None:
    assert not metrics.serves(status(workers=[]))


def test_prometheus_can_read_it() -> None:
    text = metrics.prometheus(status())
    sample = re.compile(r"([a-z_]+)(?:\{[a-z]+=\"[^\"]*\"(?:,[a-z]+=\"[^\"]*\")*\})? -?\d+(?:\.\d+)?")
    declared: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            declared.add(line.split()[2])
        elif not line.startswith("#"):
            found = sample.fullmatch(line)
            assert found is not None, line
            assert found[1] in declared
    assert 'hallmonitor_lookups_total{worker="1"} 20\n' in text
    assert 'hallmonitor_upstream_up{upstream="udp://192.0.2.53",zone=""} 0\n' in text
    assert 'hallmonitor_upstream_latency_seconds{upstream="udp://10.0.0.1",zone="ad.example"} 0.0025\n' in text
    assert 'hallmonitor_turned_away_total{worker="0"} 4\n' in text
    assert "hallmonitor_uptime_seconds 12.5\n" in text
    assert "hallmonitor_rules 120\n" in text
    assert text.endswith("\n")


def test_each_source_is_told_apart() -> None:
    lines = metrics.prometheus(status()).splitlines()
    assert 'hallmonitor_source_rules{source="b"} 120' in lines
    assert 'hallmonitor_source_stale{source="a"} 0' in lines
    assert 'hallmonitor_source_stale{source="b"} 1' in lines
    timed = [line for line in lines if line.startswith("hallmonitor_source_last_success_timestamp_seconds{")]
    assert timed == ['hallmonitor_source_last_success_timestamp_seconds{source="b"} 1795521600.5']


def test_no_label_breaks_out_of_its_quotes() -> None:
    source = {"source": 'a"} 1\n\\', "rules": 1, "last_success_at": None, "stale": False}
    text = metrics.prometheus(status(lists=LISTS | {"by_source": [source]}))
    assert 'hallmonitor_source_rules{source="a\\"} 1\\n\\\\"} 1\n' in text


def test_a_database_that_is_away_counts_no_rules() -> None:
    text = metrics.prometheus(status(lists={"database": "away", "sources": None, "rules": None, "failing": []}))
    assert "hallmonitor_database_up 0\n" in text
    assert "hallmonitor_rules" not in text
