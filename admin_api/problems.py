"""Everything that goes wrong, as RFC 9457 problem details. The one place where an error becomes a reply."""

import json
import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from admin_api.control import ControlError
from querylog.errors import InvalidQueryError, StoreDownError
from storage.errors import ConflictError, DatabaseDownError, InvalidError, NotFoundError

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"


class ProblemError(Exception):
    """The request ends here, with this reply."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: object
    ) -> None:
        """Take what went wrong in a sentence, and further members of the problem object."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.members = members


def invalid(problems: Iterable[tuple[str, str]]) -> ProblemError:
    """Return the problem of values that can't be taken, each field with what is wrong with it."""
    errors = [{"field": field, "message": message} for field, message in problems]
    detail = "; ".join(f"{error['field']}: {error['message']}" for error in errors)
    return ProblemError(422, detail, errors=errors)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into a reply."""
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - the edge: nothing may pass it
        return render(problem_of(error, request))


def problem_of(error: Exception, request: web.Request) -> ProblemError:
    """Return the problem that an error is to the caller; a mistake of ours is logged and not explained."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, InvalidError):
        return invalid(error.problems)
    if isinstance(error, InvalidQueryError):
        return invalid([(error.field, error.message)])
    if isinstance(error, NotFoundError):
        return ProblemError(404, str(error))
    if isinstance(error, ConflictError):
        return ProblemError(409, str(error))
    if isinstance(error, DatabaseDownError | StoreDownError | ControlError):
        log.warning("%s %s: %s", request.method, request.path, error)
        return ProblemError(503, str(error), headers={"Retry-After": "5"})
    if isinstance(error, web.HTTPException) and error.status >= 400:
        return _of_the_server(error, request)
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return ProblemError(500, "An unexpected error. It is in the service's log.")


def _of_the_server(error: web.HTTPException, request: web.Request) -> ProblemError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        detail = f"{request.method} is not for this address; {allowed} is."
        return ProblemError(405, detail, headers={"Allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        return ProblemError(404, f"There is nothing at {request.path}.")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return ProblemError(413, f"The body is larger than {request.client_max_size} octets.")
    return ProblemError(error.status, error.reason)


def render(problem: ProblemError) -> web.Response:
    """Return the reply of a problem."""
    body: dict[str, Any] = {
        "type": "about:blank",  # RFC 9457 section 4.2.1: the status says it all, and the title is its phrase
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }
    return web.Response(
        status=problem.status, body=json.dumps(body).encode(), content_type=CONTENT_TYPE, headers=problem.headers
    )
