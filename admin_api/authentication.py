"""Who asks, and whether they may."""

import asyncio
import re
import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from aiohttp import web

from admin_api.problems import ProblemError
from admin_api.throttle import Throttle
from storage import tokens
from storage.database import Database, now
from storage.tokens import PREFIX, Role, Token

REALM = 'Bearer realm="hallmonitor"'

# RFC 6750 section 2.1, and no longer than anything that we ever gave out.
_SECRET = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")


class Authenticator:
    """Checks bearer tokens, and slows down those who try many."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._throttle = Throttle(clock)

    async def authenticate(self, request: web.Request, role: Role) -> Token:
        """Return the token of a request. Raises `ProblemError` 401, 403 or, after too many failures, 429.

        A good token is always let in: who shares an address with somebody who guesses isn't locked out, and
        guessing among 2^256 is hopeless at any rate. The limit spares the log and the database.
        """
        secret = _secret(request)
        token = None if secret is None else await asyncio.to_thread(self._find, secret)
        if token is None:
            raise self._refusal(request)
        if not Role(token.role).includes(role):
            raise ProblemError(
                403,
                f"This needs a token of role {role}; {token.name} is of role {token.role}.",
                headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope"'},
            )
        return token

    def is_loopback(self, request: web.Request) -> bool:
        """Tell whether a request comes from this machine."""
        try:
            address = ip_address(request.remote or "")
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return address.is_loopback

    def _find(self, secret: str) -> Token | None:
        with self._database.reading() as connection:
            token = tokens.authenticate(connection, secret)
        if token is not None:
            tokens.note_use(self._database, token, now())
        return token

    def _refusal(self, request: web.Request) -> ProblemError:
        wait = self._throttle.fail(request.remote or "")
        if wait:
            seconds = str(int(wait) + 1)
            return ProblemError(
                429, f"Too many failed attempts; the next is in {seconds} s.", headers={"Retry-After": seconds}
            )
        if "Authorization" not in request.headers:
            return ProblemError(
                401, "A token is needed: Authorization: Bearer hm_...", headers={"WWW-Authenticate": REALM}
            )
        return ProblemError(
            401,
            "The token is unknown or revoked.",
            headers={"WWW-Authenticate": f'{REALM}, error="invalid_token"'},
        )


def _secret(request: web.Request) -> str | None:
    """Return what may be a secret of ours; nothing else is worth a look into the database."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    secret = secret.strip()
    return secret if scheme.lower() == "bearer" and _SECRET.fullmatch(secret) else None
