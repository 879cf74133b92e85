"""What went wrong becomes one line on standard error and an exit code: 1 for what failed, 2 for a wrong call."""

import errno

import click
import pytest

import cli
from blocklists.errors import LocationError
from control.errors import ControlError, PublishError
from querylog.errors import InvalidQueryError
from settings import SettingsError
from storage.errors import ConflictError, DatabaseDownError, InvalidError, NotFoundError

Output = pytest.CaptureFixture[str]


def run(*arguments: str) -> object:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Add a command that fails so."""

    @click.command()
    def fail() -> None:
        raise error

    monkeypatch.setitem(cli.hallmonitor.commands, "fail", fail)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ControlError("it did not work"), "it did not work"),
        (PublishError("no worker"), "no worker"),
        (DatabaseDownError("the database is down"), "the database is down"),
        (NotFoundError("source", "x"), "there is no source 'x'"),
        (ConflictError("twice"), "twice"),
        (InvalidError("cidr", "is none"), "cidr: is none"),
        (LocationError("/a", "no such file"), "/a could not be fetched: no such file"),
        (InvalidQueryError("since", "not a time"), "since: not a time"),
        (ValueError("no name"), "no name"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "[Errno 13] Permission denied: '/x'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failure_is_one_line_and_code_1(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    failing(monkeypatch, error)
    assert run("fail") == 1
    printed = capsys.readouterr()
    assert printed.err == f"hallmonitor: {line}\n"
    assert printed.out == ""


def test_every_problem_of_the_configuration_has_a_line(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    failing(monkeypatch, SettingsError(["server.workers: no", "a.b: unknown"]))
    assert run("fail") == 1
    assert capsys.readouterr().err == "hallmonitor: server.workers: no\nhallmonitor: a.b: unknown\n"


def test_line_stays_one_line_and_acts_on_no_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    failing(monkeypatch, ControlError("a\nb\x1b[31m"))
    run("fail")
    assert capsys.readouterr().err == "hallmonitor: a?b?[31m\n"


def test_bug_is_not_dressed_up_as_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        cli.main(["fail"])


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert run("fail") == 130


def test_reader_that_has_had_enough_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    failing(monkeypatch, BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert run("fail") == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["lookup"],
        ["lookup", "a.example", "--no-such-option"],
        ["networks", "add", "10.0.0.0/8"],
        ["exceptions", "add", "a.example", "--action", "maybe", "--reason", "x"],
        ["tokens", "create", "t", "--role", "king"],
        ["logs", "search", "--limit", "0"],
        ["exceptions", "revoke", "x"],
        ["groups", "set", "students", "--mode", "loud"],
        ["sources", "add", "k", "/l", "--category", "c", "--interval", "1"],
    ],
    ids=" ".join,
)
def test_wrong_call_is_2(arguments: list[str], capsys: Output) -> None:
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert "Usage: hallmonitor" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"], ["sources", "--help"]], ids=" ".join)
def test_help_is_done(arguments: list[str], capsys: Output) -> None:
    cli.main(arguments)  # a return is exit code 0
    assert "hallmonitor" in capsys.readouterr().out.lower()


def test_every_command_of_the_contract_is_there() -> None:
    contract = {
        "": "serve refresh lookup status check sources categories groups networks exceptions tokens logs",
        "sources": "list add set remove enable disable inspect history rollback search",
        "categories": "list add set remove",
        "groups": "list add set block unblock",
        "networks": "list add remove",
        "exceptions": "list add revoke",
        "tokens": "create list revoke",
        "logs": "search tail",
    }
    for name, wanted in contract.items():
        group = cli.hallmonitor.commands[name] if name else cli.hallmonitor
        assert isinstance(group, click.Group)
        assert set(wanted.split()) <= set(group.commands)
