"""What all commands share: the configuration, the session, and how things are printed."""

import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import settings
from control.session import Session
from settings import Settings

Function = TypeVar("Function", bound=Callable[..., Any])

WIDE = 10_000
"""Columns where nobody sees the edge of a terminal: nothing is folded or cut."""


class Context:
    """One run of the command line."""

    def __init__(self, config: Path | None) -> None:
        self.config = config
        self._session: Session | None = None

    def read_settings(self) -> Settings:
        """Read the configuration as it is now. Raises `settings.SettingsError`."""
        return settings.load(self.config, os.environ)

    @property
    def config_file(self) -> Path | None:
        """Return the file that the configuration is read from, wrong or not; None: there is none."""
        path = self.config or settings.find(os.environ)
        return path and path.absolute()

    @cached_property
    def settings(self) -> Settings:
        """Return the configuration. Raises `settings.SettingsError`."""
        return self.read_settings()

    @property
    def session(self) -> Session:
        """Return the session, opened at first use."""
        if self._session is None:
            self._session = Session(self.settings, lambda text: click.echo(text, err=True))
        return self._session

    def close(self) -> None:
        """Let go of the session."""
        if self._session is not None:
            self._session.close()


pass_context = click.make_pass_decorator(Context)


def json_option(function: Function) -> Function:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON: an object, or one a line for a list.")(
        function
    )


def console(*, stderr: bool = False) -> Console:
    """Return where people read; as wide as it needs to be where that is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else WIDE, highlight=False)


def show_list(
    items: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    empty: str,
    numbers: Collection[str] = (),
) -> None:
    """Print a list: a table of some columns, those of numbers flush right, or every field as JSON Lines."""
    if as_json:
        for item in items:
            click.echo(json.dumps(item))
        return
    rows = list(items)
    if not rows:
        click.echo(empty)
        return
    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold", justify="right" if column in numbers else "left")
    for row in rows:
        table.add_row(
            *(Text(_amount(row[column]) if column in numbers else cell(row.get(column))) for column in columns)
        )
    console().print(table)


def show_one(item: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing: its fields a line each, or the whole as JSON."""
    if as_json:
        click.echo(json.dumps(item))
        return
    width = max(len(key) for key in item) + 2
    for key, value in item.items():
        click.echo(f"{key.replace('_', ' ') + ':':<{width}}{cell(value)}".rstrip())


def show_done(item: Mapping[str, Any], said: str, *, as_json: bool) -> None:
    """Print what was done to something: a line, or the thing as it is now as JSON."""
    click.echo(json.dumps(item) if as_json else printable(said))


def _amount(value: int | None) -> str:
    return cell(value) if value is None else f"{value:,}"


def cell(value: object) -> str:
    """Return a value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {cell(inner)}" for key, inner in value.items()) or "-"
    return printable(str(value))


def counted(number: int, noun: str) -> str:
    """Return a number of things: ``1 rule``, ``1,200 rules``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(text: str) -> str:
    """Return text that a terminal only shows: whatever else would act on it is a question mark."""
    return "".join(c if c.isprintable() else "?" for c in text)
