"""Tokens of the admin API. A secret is shown once, when it is made; what is kept can't be turned back into it."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, insert, or_, select, update

from storage import audit, schema
from storage.checks import Checks, key, one_of
from storage.database import Change, Database
from storage.errors import ConflictError, DatabaseDownError, NotFoundError

PREFIX = "hm_"  # so that secret scanners and people know one when they see it
SECRET_BYTES = 32
USE_IS_NOTED_EVERY = 60_000_000  # microseconds


class Role(StrEnum):
    """What a token may do; each may do what the ones before it may."""

    VIEWER = "viewer"
    APPROVER = "approver"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Tell whether this role may do what the other may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class Token:
    """One token, without its secret."""

    name: str
    role: str
    created_at: int
    last_used_at: int | None = None
    revoked_at: int | None = None


def list_all(connection: Connection) -> list[Token]:
    """Return every token, revoked ones too, oldest first."""
    query = select(*_COLUMNS).order_by(schema.tokens.c.created_at, schema.tokens.c.name)
    return [Token(**row) for row in connection.execute(query).mappings()]


def create(change: Change, name: str, role: str) -> tuple[Token, str]:
    """Make a token and return it with its secret.

    Raises `InvalidError`, or `ConflictError` when the name was ever used: events and exceptions carry it.
    """
    checks = Checks()
    checks.take("name", key, name)
    granted = checks.take("role", one_of, Role, role)
    checks.finish()
    if _find(change.connection, name) is not None:
        raise ConflictError(f"there is or was a token {name!r}: its name stands in the audit, take another")
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    token = Token(name, str(granted), change.now)
    change.connection.execute(
        insert(schema.tokens).values(
            name=name, role=token.role, created_at=token.created_at, secret_sha256=_digest(secret)
        )
    )
    audit.record(change, "token.create", name, after=token)
    return token, secret


def authenticate(connection: Connection, secret: str) -> Token | None:
    """Return the token of a secret, or None when there is none or it is revoked."""
    digest = _digest(secret)
    query = select(*_COLUMNS, schema.tokens.c.secret_sha256).where(
        schema.tokens.c.secret_sha256 == digest, schema.tokens.c.revoked_at.is_(None)
    )
    row = connection.execute(query).first()
    # The index finds by digest, which nobody can steer; compared once more in a time that tells nothing.
    if row is None or not hmac.compare_digest(row.secret_sha256, digest):
        return None
    return Token(row.name, row.role, row.created_at, row.last_used_at, row.revoked_at)


def note_use(database: Database, token: Token, now: int) -> None:
    """Remember that a token was used, to the minute. Left out when the database is busy: no request waits for it."""
    if token.last_used_at is not None and now - token.last_used_at < USE_IS_NOTED_EVERY:
        return
    table = schema.tokens
    unnoted = or_(table.c.last_used_at.is_(None), table.c.last_used_at <= now - USE_IS_NOTED_EVERY)
    try:
        with database.note(wait=False) as connection:
            connection.execute(update(table).where(table.c.name == token.name, unnoted).values(last_used_at=now))
    except DatabaseDownError:
        return


def revoke(change: Change, name: str) -> Token:
    """End a token now; the last admin's too, since the command line can make another. Raises `NotFoundError`."""
    before = _find(change.connection, name)
    if before is None:
        raise NotFoundError("token", name)
    if before.revoked_at is not None:
        return before
    change.connection.execute(update(schema.tokens).where(schema.tokens.c.name == name).values(revoked_at=change.now))
    after = Token(before.name, before.role, before.created_at, before.last_used_at, change.now)
    audit.record(change, "token.revoke", name, before, after)
    return after


_COLUMNS = [column for column in schema.tokens.c if column is not schema.tokens.c.secret_sha256]


def _find(connection: Connection, name: str) -> Token | None:
    row = connection.execute(select(*_COLUMNS).where(schema.tokens.c.name == name)).mappings().first()
    return None if row is None else Token(**row)


def _digest(secret: str) -> bytes:
    # A slow hash guards secrets that people choose, which can be guessed. This one is 256 random bits: nobody
    # tries them all, however fast the hash, and a request must not cost a tenth of a second.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
