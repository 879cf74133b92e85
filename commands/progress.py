"""Progress of a refresh: what is in work and how fast it goes on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click
from rich.filesize import decimal
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from commands.context import console

if TYPE_CHECKING:
    from blocklists.refresh import Step

FINAL = ("updated", "unchanged", "failed")
UNITS = {"reading": "lines", "storing": "rules"}
WHOLE = "whole"


class Progress:
    """Shows the sources in work, each with its step, and how many are done."""

    def __init__(self, sources: Sequence[str], *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Bar | None = None
        self._tasks: dict[str, tuple[str, TaskID]] = {}
        """By source: the step that it is in, and the line that shows it."""
        screen = console(stderr=True)
        if screen.is_terminal and not quiet:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), _Done(), _Rate(), _Time())
            self._bar = Bar(*columns, console=screen, transient=True)
            self._whole = self._bar.add_task("refreshing", total=len(sources), step=WHOLE)

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
        """Show how far a source is."""
        if self._bar is not None:
            self._show(self._bar, step)
        elif step.name in FINAL and not self._quiet:
            click.echo(f"{step.source}: {step.name}", err=True)

    def _show(self, bar: Bar, step: "Step") -> None:
        name, task = self._tasks.get(step.source, ("", None))
        if name != step.name and task is not None:  # each step has a rate and an end of its own
            bar.remove_task(task)
            del self._tasks[step.source]
        if step.name in FINAL:
            bar.advance(self._whole)
        elif name == step.name and task is not None:
            bar.update(task, completed=step.done, total=step.total)
        else:
            said = f"{step.source}: {step.name}"
            new = bar.add_task(said, total=step.total, completed=int(step.done), step=step.name)
            self._tasks[step.source] = step.name, new


class _Done(ProgressColumn):
    """How much is done: sources of all, the part of a list that is known to be so long, or the amount."""

    def render(self, task: Task) -> Text:
        if task.fields["step"] == WHOLE:
            return Text(f"{task.completed:.0f}/{task.total or 0:.0f}")
        if task.total:
            return Text(f"{task.percentage:.0f}%")
        return Text(amount(task.completed, task.fields["step"]) if task.completed else "")


class _Rate(ProgressColumn):
    """How much is done a second."""

    def render(self, task: Task) -> Text:
        if task.fields["step"] == WHOLE or not task.speed:
            return Text("")
        return Text(f"{amount(task.speed, task.fields['step'])}/s")


class _Time(ProgressColumn):
    """How long it will take, or where nobody knows how long it takes by now."""

    def render(self, task: Task) -> Text:
        if task.fields["step"] != WHOLE and task.total and task.time_remaining is not None:
            return Text(f"{clock(task.time_remaining)} left")
        return Text(clock(task.elapsed or 0))


def amount(number: float, step: str) -> str:
    """Return an amount of what a step counts: octets, lines or rules."""
    return f"{number:,.0f} {UNITS[step]}" if step in UNITS else decimal(int(number))


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
