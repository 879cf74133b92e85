"""`/health`, `/stats`, `/metrics`, `/openapi.json`: the service itself."""

from admin_api import metrics, openapi
from admin_api.routing import PREFIX, Call, Reply, Route
from storage.tokens import Role


async def get_health(call: Call) -> Reply:
    """Tell whether all is well; what exactly isn't is for those with a token."""
    status = await call.api.control.status()
    troubled = metrics.troubles(status)
    body = {
        "status": "degraded" if troubled else "ok",
        "troubled": troubled,
        "lists": {"stale": metrics.stale_sources(status)},
    }
    # Only where nobody is answered a restart may help, which is what health checks do with an error.
    return Reply(body, 200 if metrics.serves(status) else 503)


async def get_stats(call: Call) -> Reply:
    """Count."""
    return Reply(metrics.stats(await call.api.control.status()))


async def get_metrics(call: Call) -> Reply:
    """Count for Prometheus."""
    text = metrics.prometheus(await call.api.control.status())
    return Reply(text, headers={"Content-Type": metrics.CONTENT_TYPE})


async def get_metrics_of_api(call: Call) -> Reply:
    """Count for Prometheus, for whoever looks below the API's prefix."""
    return await get_metrics(call)


async def get_openapi(call: Call) -> Reply:
    """Describe the API."""
    return Reply(call.request.app[openapi.DOCUMENT])


_METRICS = "The counts in Prometheus' text format. Needs no token from this machine."

ROUTES = (
    Route("GET", f"{PREFIX}/health", get_health, "Tell whether all is well.", "Health", None),
    Route("GET", f"{PREFIX}/stats", get_stats, "Count lookups, answers, rules and backlog.", "Stats", Role.VIEWER),
    Route("GET", "/metrics", get_metrics, _METRICS, "Metrics", Role.VIEWER, loopback_is_free=True),
    Route("GET", f"{PREFIX}/metrics", get_metrics_of_api, _METRICS, "Metrics", Role.VIEWER, loopback_is_free=True),
    Route("GET", f"{PREFIX}/openapi.json", get_openapi, "This document.", "OpenAPI", None),
)
