"""The admin API as a test's client sees it: a real server on loopback, with a stand-in for the service behind it."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import jsonschema  # type: ignore[import-untyped] # it ships none
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from admin_api import app, openapi
from admin_api.control import ControlError
from querylog.records import Record
from querylog.search import LogQuery
from settings import Admin, Settings
from storage import tokens
from storage.database import Database

ROLES = ("viewer", "approver", "admin")

RECORD = Record(
    time=1_795_521_600_000_000,
    node="node-1",
    client="192.0.2.7",
    group="students",
    qname="www.a.example",
    qtype="A",
    transport="udp",
    verdict="blocked",
    category="games",
    source="starter-games",
    rule="||a.example^",
    exception_id=0,
    policy_version=7,
    rcode="NOERROR",
    upstream="",
    cached=False,
    duration_us=41,
)


class StandInControl:
    """A service whose workers take whatever is stored, at once, unless told otherwise."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.published: list[int] = []
        self.failure: Exception | None = None
        self.waited_for_index = False
        """Whether the last publication was to bring an index along."""
        self.lag = 0
        """How many policy versions the workers are behind."""
        self.records: list[Record] = [RECORD]
        self.cursor: str | None = None
        self.queries: list[LogQuery] = []
        self.workers = [_worker(0), _worker(1)]
        self.lists: dict[str, Any] = {
            "database": "ok",
            "sources": 3,
            "rules": 120,
            "failing": [],
            "stale": [],
            "by_source": [{"source": "list-a", "rules": 120, "last_success_at": None, "stale": False}],
        }
        self.store = "ok"

    async def publish(self, *, wait_for_index: bool = False) -> int:
        if self.failure is not None:
            raise self.failure
        version = self.database.state().policy_version - self.lag
        self.published.append(version)
        self.waited_for_index = wait_for_index
        return version

    async def status(self) -> dict[str, Any]:
        return {
            "serving": True,
            "node": "node-1",
            "uptime_seconds": 12.5,
            "policy_version": 7,
            "workers": self.workers,
            "worker_restarts": 1,
            "lists": self.lists,
            "journal": {"backlog_bytes": 0, "segments": 2, "shipped_rows": 400, "store": self.store},
        }

    async def lookup(self, name: str, client: str, qtype: str) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        if not qtype.isalnum():
            raise ValueError(f"there is no query type {qtype!r}")
        return {
            "name": name,
            "client": client,
            "group": "students",
            "verdict": "allowed",
            "category": None,
            "source": None,
            "rule": None,
            "clause": None,
            "exception_id": None,
            "policy_version": 7,
        }

    async def search_log(self, query: LogQuery) -> tuple[list[Record], str | None]:
        if self.failure is not None:
            raise self.failure
        self.queries.append(query)
        return self.records, self.cursor


def _worker(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "pid": 1000 + number,
        "state": "serving",
        "policy_version": 7,
        "uptime_seconds": 12.5,
        "lookups": 100 * (number + 1),
        "cached_answers": 5,
        "in_flight": 0,
        "unlogged": 0,
        "turned_away": 0,
    }


@dataclass
class Reply:
    """A reply, read whole."""

    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)

    @property
    def wrong_fields(self) -> list[str]:
        """The fields that a problem names."""
        assert self.status == 422, self.text
        return [error["field"] for error in self.json["errors"]]


class ApiClient:
    """Sends requests as the holder of a token, and holds every reply against the OpenAPI document."""

    def __init__(self, client: TestClient[Any, Any], control: StandInControl, secrets: dict[str, str]) -> None:
        self.http = client
        self.control = control
        self.database = control.database
        self.secrets = secrets
        self._document = openapi.document(app.ROUTES)

    async def call(  # a request's parts
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        role: str | None = "admin",
        data: bytes | None = None,
        **headers: str,
    ) -> Reply:
        """Send a request below /api/v1 (or, with two slashes, from the root on)."""
        path = path[1:] if path.startswith("//") else "/api/v1" + path
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if role is not None:
            sent["Authorization"] = f"Bearer {self.secrets[role]}"
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.http.request(method, path, data=data, headers=sent) as response:
            reply = Reply(response.status, response.headers, await response.text())
            self._check(method, response, reply)
        return reply

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Reply:
        return await self.call("POST", path, body, **options)

    def _check(self, method: str, response: ClientResponse, reply: Reply) -> None:
        """Hold a reply against the schema that the document promises."""
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in reply.headers
        if method == "HEAD":
            assert reply.text == ""
            return
        if reply.status >= 400 and response.content_type != "application/json":
            assert response.content_type == "application/problem+json"
            assert reply.json["status"] == reply.status
            self._conforms(reply.json, {"$ref": "#/components/schemas/Problem"})
            return
        operation = self._operation(method, response.url.path)
        expected = operation["responses"][str(reply.status if reply.status < 400 else 200)]
        [(media, content)] = expected["content"].items()
        assert response.headers["Content-Type"].replace(" ", "") == media
        self._conforms(reply.json if media == "application/json" else reply.text, content["schema"])

    def _conforms(self, value: Any, schema: dict[str, Any]) -> None:
        whole = {**schema, "components": self._document["components"]}
        jsonschema.Draft202012Validator(whole).validate(value)

    def _operation(self, method: str, path: str) -> Any:
        parts = path.split("/")
        for template, operations in self._document["paths"].items():
            wanted = template.split("/")
            if template.endswith("/{cidr}"):
                if path.startswith(template.removesuffix("{cidr}")):
                    return operations[method.lower()]
            elif len(wanted) == len(parts) and all(
                part == want or want.startswith("{") for part, want in zip(parts, wanted, strict=True)
            ):
                return operations[method.lower()]
        raise AssertionError(f"{method} {path} is not in the document")


@contextlib.asynccontextmanager
async def running_api(database: Database, *host_names: str) -> AsyncIterator[ApiClient]:
    """Serve the API on loopback, with a token of each role."""
    with database.change("set-up") as change:
        secrets = {role: tokens.create(change, f"{role}-token", role)[1] for role in ROLES}
    control = StandInControl(database)
    application = app.build(database, control, Settings(admin=Admin(host_names=host_names)))
    client: TestClient[Any, Any] = TestClient(TestServer(application))
    async with client:
        yield ApiClient(client, control, secrets)


NOT_IN_TIME = ControlError("worker 1 did not take policy version 9 within 5 s")
