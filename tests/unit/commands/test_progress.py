"""Progress of a refresh, on a terminal (a real pseudo-terminal) and elsewhere."""

import os
import pty
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pytest

from blocklists.refresh import Step
from commands.progress import Progress

STEPS = [
    Step("a", "fetching"),
    Step("b", "fetching"),
    Step("a", "fetching", 1_000_000, 4_000_000),
    Step("a", "reading", 20_000, 80_000),
    Step("a", "comparing"),
    Step("a", "storing", 5_000, 10_000),
    Step("a", "updated"),
    Step("b", "failed"),
]
Output = pytest.CaptureFixture[str]


def go_through(*, quiet: bool = False) -> None:
    with Progress(["a", "b"], quiet=quiet) as progress:
        for step in STEPS:
            progress.report(step)


def on_a_terminal(work: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a terminal was sent as standard error."""
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as screen:  # noqa: PTH123 - a descriptor has no path
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("TERM", "xterm")
        work()
    with open(ours, "rb") as keyboard:  # noqa: PTH123 - likewise
        return b"".join(_octets(keyboard)).decode()


def _octets(terminal: BinaryIO) -> Iterator[bytes]:
    """Yield what was sent until nobody is left who could send more, which Linux tells as EIO."""
    while True:
        try:
            yield os.read(terminal.fileno(), 1 << 16)
        except OSError:
            return


def test_elsewhere_each_source_has_one_plain_line(capsys: Output) -> None:
    go_through()
    printed = capsys.readouterr()
    assert printed.err == "a: updated\nb: failed\n"
    assert printed.out == ""  # which is the summary's alone


def test_quiet_says_nothing(capsys: Output) -> None:
    go_through(quiet=True)
    assert capsys.readouterr() == ("", "")


def test_terminal_shows_a_bar_that_goes_when_it_is_done(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    sent = on_a_terminal(go_through, monkeypatch)
    assert "0/2" in sent or "1/2" in sent or "2/2" in sent
    assert "\x1b[2K" in sent  # erases its line
    assert "\x1b[?25h" in sent  # and shows the cursor again
    assert capsys.readouterr().out == ""


def test_terminal_shows_how_far_each_step_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_within(step: Step) -> str:
        def work() -> None:
            with Progress(["a", "b"], quiet=False) as progress:
                progress.report(Step("a", "fetching", 4_000_000, 4_000_000))
                progress.report(step)

        return on_a_terminal(work, monkeypatch)

    assert "25%" in stop_within(Step("a", "reading", 20_000, 80_000))
    assert "a: reading" in stop_within(Step("a", "reading", 20_000))
    assert "20,000 lines" in stop_within(Step("a", "reading", 20_000))
    assert "1.5 MB" in stop_within(Step("b", "fetching", 1_500_000))
    assert "0/2" in stop_within(Step("b", "comparing"))


def test_terminal_has_its_cursor_back_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        with Progress(["a"], quiet=False) as progress:
            progress.report(Step("a", "fetching"))
            raise ZeroDivisionError

    def see_it_fail() -> None:
        with pytest.raises(ZeroDivisionError):
            fail()

    assert "\x1b[?25h" in on_a_terminal(see_it_fail, monkeypatch)


def test_quiet_shows_no_bar_on_a_terminal_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> None:
        go_through(quiet=True)
        sys.stderr.write("end")

    assert on_a_terminal(nothing, monkeypatch) == "end"
