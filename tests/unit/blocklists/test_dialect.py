"""The dialect of lists, where it depends on the source or on more than one line."""

import pytest

from blocklists.listing import Parsed, read_list
from tests.support.lists import ONE_NAME, read


@pytest.mark.parametrize("list_format", ONE_NAME)
@pytest.mark.parametrize("name", ["com", "co.uk", "a.ck"])
def test_source_may_be_trusted_with_public_suffixes(list_format: str, name: str) -> None:
    line = ONE_NAME[list_format].format(name)
    assert read(list_format, line) == ["public_suffix"]
    [item] = read_list(line.encode(), format=list_format, allow_public_suffix=True)
    assert isinstance(item, Parsed)
    assert item.rule.name == name


def test_local_names_stay_local_where_public_suffixes_are_allowed() -> None:
    assert read("hosts", "127.0.0.1 localhost", public_suffixes=True) == ["local_name"]


@pytest.mark.parametrize(
    ("list_format", "scope", "expected"),
    [
        ("domains", None, "||a.example^"),
        ("domains", "subtree", "||a.example^"),
        ("domains", "exact", "a.example"),
        ("hosts", None, "a.example"),
        ("hosts", "exact", "a.example"),
        ("hosts", "subtree", "||a.example^"),
        ("wildcard", "exact", "||a.example^"),
        ("adblock", "exact", "||a.example^"),
        ("rpz", "subtree", "a.example"),
    ],
)
def test_source_says_how_far_a_name_reaches_where_the_format_does_not(
    list_format: str, scope: str | None, expected: str
) -> None:
    assert read(list_format, ONE_NAME[list_format].format("a.example"), scope=scope) == [expected]


@pytest.mark.parametrize("list_format", ONE_NAME)
@pytest.mark.parametrize(
    "line",
    ["# comment", "#comment", "! comment", "!comment", "[Adblock Plus]", "[Adblock Plus 2.0]", "", "  ", "\t", "#"],
)
def test_comments_blanks_and_headers_say_nothing_in_any_format(list_format: str, line: str) -> None:
    good = ONE_NAME[list_format].format("a.example")
    assert len(read(list_format, f"{line}\n{good}\n{line}")) == 1


@pytest.mark.parametrize("list_format", ONE_NAME)
@pytest.mark.parametrize("comment", [" # note", "\t# note", " #note", " # a.example # b", "   #"])
def test_comment_behind_a_rule_is_cut_off_in_any_format(list_format: str, comment: str) -> None:
    good = ONE_NAME[list_format].format("a.example")
    assert read(list_format, good + comment) == read(list_format, good)
