"""An HTTP client for the admin API."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.dns_client import Address


@dataclass(frozen=True, slots=True)
class ApiReply:
    """One answer of the admin API."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """Return the media type without its parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip()

    def json(self) -> Any:
        """Return the body's document."""
        return json.loads(self.body)


def call(
    address: Address,
    method: str,
    path: str,
    json_body: object = None,
    *,
    token: str = "",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = 30.0,
) -> ApiReply:
    """Call the API; the path is below ``/api/v1`` unless it names it, or is ``/metrics``.

    An empty token sends none. `body` is sent as it is. Raises `OSError` when nobody answers.
    """
    if not path.startswith(("/api/", "/metrics")):
        path = f"/api/v1{path}"
    data = json.dumps(json_body).encode() if json_body is not None else body
    request = urllib.request.Request(f"http://{address[0]}:{address[1]}{path}", data, method=method)
    if data is not None:
        request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:
            return ApiReply(response.status, dict(response.headers), response.read())
    except urllib.error.HTTPError as error:
        with error:
            return ApiReply(error.code, dict(error.headers), error.read())
