"""Progress of a refresh: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from commands.context import console

if TYPE_CHECKING:
    from blocklists.refresh import Step

FINAL = ("updated", "unchanged", "failed")


class Progress:
    """Shows which source is worked on, and how many are done."""

    def __init__(self, sources: Sequence[str], *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Bar | None = None
        screen = console(stderr=True)
        if screen.is_terminal and not quiet:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, console=screen, transient=True)
            self._task = self._bar.add_task("refreshing", total=len(sources))

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def report(self, step: "Step") -> None:
        """Show what is done to a source."""
        if self._bar is not None:
            advance = 1 if step.name in FINAL else 0
            self._bar.update(self._task, description=f"{step.source}: {step.name}", advance=advance)
        elif step.name in FINAL and not self._quiet:
            click.echo(f"{step.source}: {step.name}", err=True)
