"""The web application: every route, and what happens to each request before and after."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from admin_api import hosts, openapi
from admin_api.authentication import Authenticator
from admin_api.control import Control
from admin_api.endpoints import categories, exceptions, groups, log, service, sources
from admin_api.problems import ProblemError, problems
from admin_api.routing import Api, serve
from settings import Settings
from storage.database import Database

MAX_BODY = 64 << 10

ROUTES = (*exceptions.ROUTES, *categories.ROUTES, *sources.ROUTES, *groups.ROUTES, *log.ROUTES, *service.ROUTES)

# No page in any browser is meant to read a reply, frame it, guess at its type or keep it. There is no CORS header.
_HEADERS = {
    "Server": "hallmonitor",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def build(database: Database, control: Control, settings: Settings) -> web.Application:
    """Return the application."""
    api = Api(database, control, settings, Authenticator(database))
    app = web.Application(middlewares=[problems, _own_hosts(settings)], client_max_size=MAX_BODY)
    app[openapi.DOCUMENT] = openapi.document(ROUTES)
    for route in ROUTES:
        handler = serve(api, route)
        app.router.add_route(route.method, route.path, handler)
        if route.method == "GET":  # RFC 9110 section 9.1: who has GET has HEAD
            app.router.add_route("HEAD", route.path, handler)
    app.on_response_prepare.append(_add_headers)
    return app


def _own_hosts(settings: Settings) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not hosts.is_ours(request.headers.get("Host", ""), settings.admin.host_names):
            raise ProblemError(
                421, "This server doesn't go by the name in the Host header; admin.host_names lists its own."
            )
        return await handler(request)

    return check


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:  # noqa: ARG001 - the signal's
    response.headers.update(_HEADERS)
