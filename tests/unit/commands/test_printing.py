"""How things are printed: tables and fields for people, JSON for programs, and nothing that acts on a terminal."""

import json

import pytest

from commands.context import cell, show_list, show_one

EVIL = "\x1b]0;owned\x07\x1b[31m"
HOSTILE = [
    "[red]a[/red]",
    "[/]",
    "[link=http://a.example]x[/link]",
    "\\[bold]",
    "ends in \\",
    ":warning: :skull:",
    "[::1]:5353",
]
Output = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (1.5, "1.5"),
        ("", ""),
        ([], "-"),
        (["a", "b"], "a, b"),
        (("a", None), "a, -"),
        ({}, "-"),
        ({"url": 2, "name": 1}, "url 2, name 1"),
        (EVIL, "?]0;owned??[31m"),
        ("two\nlines\ttab", "two?lines?tab"),
        ("\u202egnp.exe", "?gnp.exe"),
        ("Schüler 学校", "Schüler 学校"),
    ],
)
def test_cell(value: object, shown: str) -> None:
    assert cell(value) == shown


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_in_data_means_nothing(text: str, capsys: Output) -> None:
    show_list([{"reason": text, "id": 1}], ("reason", "id"), as_json=False, empty="")
    assert capsys.readouterr().out.splitlines()[1].split("  ")[0].rstrip() == text
    show_one({"reason": text}, as_json=False)
    assert capsys.readouterr().out == f"reason: {text}\n"


def test_control_characters_reach_no_terminal(capsys: Output) -> None:
    show_list([{"name": EVIL}], ("name",), as_json=False, empty="")
    show_one({"name": EVIL, "parts": [EVIL], "more": {"inner": EVIL}}, as_json=False)
    show_list([{"name": EVIL}], ("name",), as_json=True, empty="")
    show_one({"name": EVIL}, as_json=True)
    printed = capsys.readouterr().out
    assert "owned" in printed
    assert not set(printed) & {chr(code) for code in (*range(10), *range(11, 32), 127)}


def test_table_is_a_line_for_each_row_however_long(capsys: Output) -> None:
    rows = [{"name": "a" * 3000, "last_error": "b" * 3000}, {"name": "c"}]
    show_list(rows, ("name", "last_error"), as_json=False, empty="")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["name", "last", "error"]
    assert lines[1].split() == ["a" * 3000, "b" * 3000]
    assert lines[2].split() == ["c", "-"]


def test_json_lines_hold_every_field_and_not_the_columns_alone(capsys: Output) -> None:
    rows: list[dict[str, object]] = [{"id": 1, "name": "ä\n"}, {"id": 2, "name": None}]
    show_list(rows, ("id",), as_json=True, empty="none")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows


def test_nothing_is_said_to_people_and_is_nothing_to_programs(capsys: Output) -> None:
    show_list(iter([]), ("id",), as_json=False, empty="There are none.")
    show_list(iter([]), ("id",), as_json=True, empty="There are none.")
    assert capsys.readouterr().out == "There are none.\n"


def test_fields_are_aligned_and_named_in_words(capsys: Output) -> None:
    show_one({"id": 1, "approved_by": None, "allow_private": True}, as_json=False)
    assert capsys.readouterr().out == "id:            1\napproved by:   -\nallow private: yes\n"
