"""Long lists, a page at a time, newest first."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, Connection, RowMapping, Select

from storage.errors import InvalidError

MAX_LIMIT = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items, and where the next ones begin."""

    items: tuple[T, ...]
    next_cursor: int | None
    """What to ask for to go on; None at the end."""


def page(
    connection: Connection,
    query: Select[Any],
    order: Column[int],
    build: Callable[[RowMapping], T],
    *,
    cursor: int | None,
    limit: int,
) -> Page[T]:
    """Return one page of a query's rows, by a falling id. Raises `InvalidError` for a limit out of range."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidError("limit", f"must be from 1 to {MAX_LIMIT}")
    if cursor is not None:
        query = query.where(order < cursor)
    # One more than asked for tells whether there is a next page.
    rows = connection.execute(query.order_by(order.desc()).limit(limit + 1)).mappings().all()
    items = rows[:limit]
    return Page(tuple(build(row) for row in items), items[-1][order] if len(rows) > limit else None)
