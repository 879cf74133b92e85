"""What a request may carry: fields, each with how it is read and how OpenAPI describes it. Pure.

Reading checks the JSON types; what the values mean is checked by whoever stores them. A field that is wrong gets a
stand-in, so that the others are still checked and everything is reported at once.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from admin_api.problems import ProblemError
from admin_api.times import parse_time
from storage.errors import InvalidError, Problem


@dataclass(frozen=True)
class Field:
    """One field of a body, or one parameter of a query."""

    read: Callable[[Any], Any]
    """Turns the JSON value, or the parameter's text, into ours. Raises `ValueError`."""
    schema: Mapping[str, Any]
    required: bool = False
    stand_in: Any = None


@dataclass
class Form:
    """What was read."""

    values: dict[str, Any] = field(default_factory=dict)
    """The fields that were given, and a stand-in for each that is wrong."""
    problems: list[Problem] = field(default_factory=list)

    def finish(self) -> None:
        """Raise `InvalidError` if anything is wrong."""
        if self.problems:
            raise InvalidError.of(self.problems)

    @contextlib.contextmanager
    def checked(self) -> Iterator[None]:
        """Run what checks the values, in a transaction around this: raises its problems and the form's as one."""
        try:
            yield
        except InvalidError as error:
            mine = {problem.field for problem in self.problems}
            found = [problem for problem in error.problems if problem.field not in mine]
            raise InvalidError.of([*self.problems, *found]) from error
        self.finish()


def read(fields: Mapping[str, Field], given: Mapping[str, Any]) -> Form:
    """Read what was given; a field that nobody asked for is a problem, for it may be a mistyped one."""
    form = Form()
    for name in given:
        if name not in fields:
            form.problems.append(Problem(name[:80], "there is no such field"))
    for name, wanted in fields.items():
        if name in given:
            try:
                form.values[name] = wanted.read(given[name])
            except ValueError as error:
                form.problems.append(Problem(name, str(error)))
                form.values[name] = wanted.stand_in
        elif wanted.required:
            form.problems.append(Problem(name, "is required"))
            form.values[name] = wanted.stand_in
    return form


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body. Raises `ProblemError` for anything else."""
    try:
        document = json.loads(body, object_pairs_hook=_unambiguous, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError | _AmbiguousError) else "it can't be read"
        raise ProblemError(400, f"The body is not JSON: {reason}.") from error
    if not isinstance(document, dict):
        raise ProblemError(400, "The body must be a JSON object.")
    return document


class _AmbiguousError(ValueError):
    """A member stands twice: readers disagree on which counts (RFC 8259 section 4)."""


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _AmbiguousError("a member stands twice")
    return found


def _refuse(constant: str) -> None:
    raise _AmbiguousError(f"{constant} is no JSON number")


# Fields of a body.


def text(description: str, *, example: str, required: bool = False, limit: int = 500) -> Field:
    """Return a field that holds text."""
    schema = {"type": "string", "maxLength": limit, "description": description, "examples": [example]}
    return Field(_text, schema if not required else schema | {"minLength": 1}, required, "")


def choice(kind: type[StrEnum], description: str, *, required: bool = False, default: str | None = None) -> Field:
    """Return a field that holds one of an enumeration."""
    schema: dict[str, Any] = {"type": "string", "enum": [str(member) for member in kind], "description": description}
    return Field(_text, schema if default is None else schema | {"default": default}, required, "")


def texts(description: str, *, example: Sequence[str], limit: int) -> Field:
    """Return a field that holds a list of texts."""
    schema = {
        "type": "array",
        "items": {"type": "string"},
        "maxItems": limit,
        "description": description,
        "examples": [list(example)],
    }
    return Field(_texts, schema, stand_in=())


def flag(description: str, *, required: bool = False, default: bool | None = None) -> Field:
    """Return a field that is true or false."""
    schema: dict[str, Any] = {"type": "boolean", "description": description}
    return Field(_flag, schema if default is None else schema | {"default": default}, required, False)


def whole(description: str, *, low: int, high: int, default: int | None = None) -> Field:
    """Return a field that holds a whole number; whoever stores it checks the range."""
    schema: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high, "description": description}
    return Field(
        _whole,
        schema if default is None else schema | {"default": default},
        stand_in=low if default is None else default,
    )


def time_or_never(description: str) -> Field:
    """Return a field that holds a time, or null for none."""
    schema = {
        "type": ["string", "null"],
        "format": "date-time",
        "description": description,
        "examples": ["2026-12-01T15:00:00Z"],
    }
    return Field(_time_or_never, schema)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {_kind(value)}")  # noqa: TRY004 - one kind of error for every wrong value
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of texts")
    return tuple(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_kind(value)}")  # noqa: TRY004 - as above
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"must be a whole number, not {_kind(value)}")  # noqa: TRY004 - as above
    return value


def _time_or_never(value: object) -> int | None:
    return None if value is None else parse_time(_text(value))


def _kind(value: object) -> str:
    kinds = {str: "text", bool: "true or false", list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(type(value), "a number")


# Parameters of a query: always text.


def parameter(
    description: str,
    read: Callable[[str], Any] = str,
    *,
    schema: Mapping[str, Any] | None = None,
    required: bool = False,
) -> Field:
    """Return a parameter, text unless it says otherwise."""
    return Field(read, {"type": "string", "description": description, **(schema or {})}, required)


def chosen(kind: type[StrEnum], description: str) -> Field:
    """Return a parameter that is one of an enumeration."""

    def read(text: str) -> StrEnum:
        try:
            return kind(text)
        except ValueError as error:
            raise ValueError(f"must be one of {', '.join(kind)}") from error

    return Field(read, {"type": "string", "enum": [str(member) for member in kind], "description": description})


def limited(*, default: int, maximum: int) -> Field:
    """Return the parameter that says how long a page is."""
    schema = {
        "type": "integer",
        "minimum": 1,
        "maximum": maximum,
        "default": default,
        "description": "How many items a page holds.",
    }

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= maximum:
            raise ValueError(f"must be a whole number from 1 to {maximum}")
        return int(text)

    return Field(read, schema)


def numbered_cursor() -> Field:
    """Return the parameter that says where a page begins, for lists ordered by a number."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise ValueError("must be a next_cursor of an earlier page")
        return int(text)

    return Field(read, {"type": "string", "description": "The next_cursor of the page before."})
