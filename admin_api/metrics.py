"""How the service is, in numbers: for people, for health checks, and in Prometheus' text format. Pure.

Reads what `Control.status` returns. No label holds a name that was looked up or a client: metrics go where the log must
not.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from admin_api.times import parse_time

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metric(NamedTuple):
    """One metric and its samples: labels and value."""

    name: str
    kind: str
    help: str
    samples: list[tuple[dict[str, str], float]]


def stats(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts of a status, workers taken together."""
    workers, lists, journal = status["workers"], status["lists"], status["journal"]
    return {
        "node": status["node"],
        "policy_version": status["policy_version"],
        "uptime_seconds": status["uptime_seconds"],
        "workers": len(workers),
        "workers_serving": sum(_serves(worker) for worker in workers),
        "worker_restarts": status["worker_restarts"],
        "lookups": sum(worker["lookups"] for worker in workers),
        "cached_answers": sum(worker["cached_answers"] for worker in workers),
        "in_flight": sum(worker["in_flight"] for worker in workers),
        "unlogged": sum(worker["unlogged"] for worker in workers),
        "turned_away": sum(worker["turned_away"] for worker in workers),
        "sources": lists["sources"],
        "sources_failing": len(lists["failing"]),
        "rules": lists["rules"],
        "journal_backlog_bytes": journal["backlog_bytes"],
        "journal_segments": journal["segments"],
        "log_rows_shipped": journal["shipped_rows"],
    }


def troubles(status: Mapping[str, Any]) -> list[str]:
    """Return which parts are not as they should be; empty: all is well."""
    workers, journal = status["workers"], status["journal"]
    found = {
        "workers": not workers or not all(_serves(worker) for worker in workers),
        "database": status["lists"]["database"] != "ok",
        "lists": bool(stale_sources(status)),
        "log_store": journal["store"] != "ok",
        "journal": any(worker["unlogged"] for worker in workers),
        "upstreams": bool(status.get("upstreams")) and not any(found["trusted"] for found in status["upstreams"]),
        "policy": any(worker["policy_version"] != status["policy_version"] for worker in workers),
    }
    return [part for part, is_troubled in found.items() if is_troubled]


def stale_sources(status: Mapping[str, Any]) -> list[str]:
    """Return the keys of sources that haven't been refreshed for longer than their limit."""
    return list(status["lists"].get("stale", ()))


def serves(status: Mapping[str, Any]) -> bool:
    """Tell whether clients are answered at all."""
    return any(_serves(worker) for worker in status["workers"])


def prometheus(status: Mapping[str, Any]) -> str:
    """Return the metrics as text."""
    return "".join(_lines(metric) for metric in _metrics(status))


def _serves(worker: Mapping[str, Any]) -> bool:
    return bool(worker["state"] == "serving")


def _metrics(status: Mapping[str, Any]) -> Iterable[Metric]:
    workers, lists, journal = status["workers"], status["lists"], status["journal"]

    def of_workers(field: str) -> list[tuple[dict[str, str], float]]:
        # A worker that starts anew counts from nothing: only a label each lets Prometheus see that.
        return [({"worker": str(worker["number"])}, worker[field]) for worker in workers]

    def one(value: float) -> list[tuple[dict[str, str], float]]:
        return [({}, value)]

    yield Metric("hallmonitor_lookups_total", "counter", "Lookups that were answered.", of_workers("lookups"))
    yield Metric("hallmonitor_unlogged_lookups_total", "counter", "Lookups not logged.", of_workers("unlogged"))
    yield Metric("hallmonitor_turned_away_total", "counter", "Lookups refused by rule.", of_workers("turned_away"))
    yield from _of_upstreams(status.get("upstreams", ()))
    yield Metric("hallmonitor_cached_answers", "gauge", "Answers in the cache.", of_workers("cached_answers"))
    yield Metric("hallmonitor_in_flight", "gauge", "Lookups that wait for an upstream.", of_workers("in_flight"))
    yield Metric("hallmonitor_worker_serving", "gauge", "1 while it serves.", _serving(workers))
    yield Metric("hallmonitor_worker_restarts_total", "counter", "Workers replaced.", one(status["worker_restarts"]))
    yield Metric("hallmonitor_policy_version", "gauge", "The policy in force.", one(status["policy_version"]))
    yield Metric("hallmonitor_uptime_seconds", "gauge", "Since the service began.", one(status["uptime_seconds"]))
    yield Metric("hallmonitor_database_up", "gauge", "1 while it answers.", one(lists["database"] == "ok"))
    yield Metric("hallmonitor_log_store_up", "gauge", "1 while it takes the log.", one(journal["store"] == "ok"))
    if lists["database"] == "ok":
        yield Metric("hallmonitor_sources", "gauge", "Enabled sources.", one(lists["sources"]))
        yield Metric("hallmonitor_sources_failing", "gauge", "Whose refresh failed.", one(len(lists["failing"])))
        yield Metric("hallmonitor_rules", "gauge", "Rules of enabled sources.", one(lists["rules"]))
        yield from _of_sources(lists.get("by_source", ()))
    yield Metric("hallmonitor_journal_backlog_bytes", "gauge", "Not shipped yet.", one(journal["backlog_bytes"]))
    yield Metric("hallmonitor_journal_segments", "gauge", "Segments on disk.", one(journal["segments"]))
    yield Metric("hallmonitor_log_rows_shipped_total", "counter", "Log rows stored.", one(journal["shipped_rows"]))


def _of_upstreams(upstreams: Iterable[Mapping[str, Any]]) -> Iterable[Metric]:
    """Yield what is known of each upstream."""
    labels = [({"upstream": found["upstream"], "zone": found["zone"]}, found) for found in upstreams]
    up = [(of, float(found["trusted"])) for of, found in labels]
    latency = [(of, found["latency_ms"] / 1000) for of, found in labels]
    yield Metric("hallmonitor_upstream_up", "gauge", "1 while it is asked in its turn.", up)
    yield Metric("hallmonitor_upstream_latency_seconds", "gauge", "How long it takes, smoothed.", latency)


def _of_sources(sources: Iterable[Mapping[str, Any]]) -> Iterable[Metric]:
    """Yield what is counted for each enabled source."""
    by_key = {source["source"]: source for source in sources}

    def of_each(field: str) -> list[tuple[dict[str, str], float]]:
        return [({"source": key}, source[field]) for key, source in by_key.items()]

    refreshed = [
        ({"source": key}, parse_time(source["last_success_at"]) / 1_000_000)
        for key, source in by_key.items()
        if source["last_success_at"] is not None
    ]
    yield Metric("hallmonitor_source_rules", "gauge", "Rules that a source lists.", of_each("rules"))
    yield Metric("hallmonitor_source_stale", "gauge", "1 while it is overdue.", of_each("stale"))
    yield Metric("hallmonitor_source_last_success_timestamp_seconds", "gauge", "Its last good refresh.", refreshed)


def _serving(workers: Iterable[Mapping[str, Any]]) -> list[tuple[dict[str, str], float]]:
    return [({"worker": str(worker["number"])}, _serves(worker)) for worker in workers]


def _lines(metric: Metric) -> str:
    lines = [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
    for labels, value in metric.samples:
        inner = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
        lines.append(f"{metric.name}{{{inner}}} {_number(value)}" if inner else f"{metric.name} {_number(value)}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
