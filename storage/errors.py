"""Everything that storage raises, named for whose fault it is."""

from collections.abc import Iterable
from typing import NamedTuple, Self


class StorageError(Exception):
    """Base of everything that storage raises."""


class Problem(NamedTuple):
    """One thing that is wrong with what was asked for."""

    field: str
    message: str


class InvalidError(StorageError):
    """The caller's values can't be stored. `problems` holds every one found; `field` and `message` the first."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message
        self.problems: tuple[Problem, ...] = (Problem(field, message),)

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> Self:
        """Return one error for all the problems, of which there must be one at least."""
        found = tuple(problems)
        error = cls(*found[0])
        error.problems = found
        return error

    def __str__(self) -> str:
        return "; ".join(f"{field}: {message}" for field, message in self.problems)


class NotFoundError(StorageError):
    """The caller names something that isn't there."""

    def __init__(self, kind: str, key: str | int) -> None:
        super().__init__(kind, key)
        self.kind = kind
        self.key = key

    def __str__(self) -> str:
        return f"there is no {self.kind} {self.key!r}"


class ConflictError(StorageError):
    """The caller's change contradicts what is stored."""


class DatabaseDownError(StorageError):
    """The database can't be reached or can't be used just now. The message is one sentence without credentials."""
