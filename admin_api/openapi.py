"""The OpenAPI 3.1 document, made from the routes."""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from aiohttp import web

from admin_api import metrics, problems
from admin_api.forms import Field
from admin_api.routing import Route
from admin_api.schemas import reference, schemas
from storage.tokens import Role

DOCUMENT: web.AppKey[dict[str, Any]] = web.AppKey("openapi", dict)

_DISTRIBUTION = "dns-hallmonitor"
_MEDIA = {"Metrics": metrics.CONTENT_TYPE.replace(" ", "")}

_DESCRIPTIONS = {
    "400": "The body is no JSON object, or a parameter stands twice.",
    "401": "The token is missing, unknown or revoked.",
    "403": "The token's role may not do this.",
    "404": "There is no such thing.",
    "409": "It contradicts what is stored.",
    "413": "The body is too large.",
    "415": "The body is not declared as JSON.",
    "421": "The Host header names another server.",
    "422": "A field is wrong; `errors` holds each with what is wrong with it.",
    "429": "Too many failed attempts.",
    "503": "The database or a worker is away. A change may be stored already: then `policy_version` says so.",
}
_NUMBERS = ("id",)


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document for the routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hall Monitor",
            "version": version(_DISTRIBUTION),
            "description": (
                "Times are RFC 3339. Lists come in pages: pass `next_cursor` as `cursor` to go on. "
                "Errors are RFC 9457 problem details. A change is in force on every worker when its reply is there. "
                f"Roles, each including the ones before: {', '.join(Role)}."
            ),
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "hm_ and 43 characters"}},
            "schemas": schemas(),
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [_tag(route)],
        "parameters": [*_path_parameters(route), *_query_parameters(route.query)],
        "responses": _responses(route),
    }
    if route.role is None:
        operation["security"] = []
    else:
        operation["description"] = f"Role: {route.role}."
        operation["security"] = [{"token": []}, *([{}] if route.loopback_is_free else [])]
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.body_is_optional,
            "content": {"application/json": {"schema": _body(route.body)}},
        }
    return operation


def _tag(route: Route) -> str:
    return next(part for part in reversed(route.template.split("/")[:4]) if part and "{" not in part)


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer"} if name in _NUMBERS else {"type": "string"},
        }
        for name in re.findall(r"\{(\w+)\}", route.template)
    ]


def _query_parameters(fields: Mapping[str, Field]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": field.required,
            "description": field.schema["description"],
            "schema": {key: value for key, value in field.schema.items() if key != "description"},
        }
        for name, field in fields.items()
    ]


def _body(fields: Mapping[str, Field]) -> dict[str, Any]:
    required = [name for name, field in fields.items() if field.required]
    return {
        "type": "object",
        "properties": {name: dict(field.schema) for name, field in fields.items()},
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _responses(route: Route) -> dict[str, Any]:
    media = _MEDIA.get(route.schema, "application/json")
    good = {"description": "Done.", "content": {media: {"schema": reference(route.schema)}}}
    if route.status == 201:
        location = {"description": "Where the new thing is.", "schema": {"type": "string"}}
        good["headers"] = {"Location": location}
    return {str(route.status): good} | {status: _problem(status) for status in sorted(_failures(route))}


def _failures(route: Route) -> set[str]:
    """Return with which statuses a route may fail."""
    statuses = {"421", "503"}
    if route.role is not None:
        statuses |= {"401", "403", "429"}
    if "{" in route.path:
        statuses |= {"404"}
    if route.query:
        statuses |= {"400", "422"}
    if route.body is not None:
        statuses |= {"400", "409", "413", "415", "422"}
    if route.conflicts:
        statuses |= {"409"}
    return statuses


def _problem(status: str) -> dict[str, Any]:
    return {
        "description": _DESCRIPTIONS[status],
        "content": {problems.CONTENT_TYPE: {"schema": reference("Problem")}},
    }
