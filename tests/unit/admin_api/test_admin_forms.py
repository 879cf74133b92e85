from typing import Any

import pytest

from admin_api import forms
from admin_api.problems import ProblemError
from policy.rules import Action
from storage.errors import InvalidError, Problem

FIELDS = {
    "reason": forms.text("Why.", example="x", required=True),
    "action": forms.choice(Action, "What.", required=True),
    "groups": forms.texts("Who.", example=["staff"], limit=5),
    "enabled": forms.flag("Whether."),
    "severity": forms.whole("How bad.", low=1, high=9, default=5),
    "expires_at": forms.time_or_never("When."),
}


def test_only_what_is_given_is_there() -> None:
    form = forms.read(FIELDS, {"reason": "a", "action": "allow", "expires_at": None})
    form.finish()
    assert form.values == {"reason": "a", "action": "allow", "expires_at": None}


def test_every_type_is_checked_and_a_stand_in_takes_its_place() -> None:
    given = {
        "reason": 1,
        "action": None,
        "groups": "staff",
        "enabled": "yes",
        "severity": True,
        "expires_at": 1_796_137_200,
        "resaon": "x",
    }
    form = forms.read(FIELDS, given)
    assert form.problems == [
        ("resaon", "there is no such field"),
        ("reason", "must be text, not a number"),
        ("action", "must be text, not null"),
        ("groups", "must be a list of texts"),
        ("enabled", "must be true or false, not text"),
        ("severity", "must be a whole number, not true or false"),
        ("expires_at", "must be text, not a number"),
    ]
    assert form.values == {
        "reason": "",
        "action": "",
        "groups": (),
        "enabled": False,
        "severity": 5,
        "expires_at": None,
    }


def test_what_is_required_is_missed() -> None:
    form = forms.read(FIELDS, {})
    assert form.problems == [("reason", "is required"), ("action", "is required")]


def test_lists_hold_texts() -> None:
    assert forms.read(FIELDS, {"groups": ["a", 1]}).problems[-1] == Problem("groups", "must be a list of texts")


def test_problems_of_types_and_of_values_come_together() -> None:
    form = forms.read(FIELDS, {"reason": 1, "action": "allow"})
    with pytest.raises(InvalidError) as raised, form.checked():
        raise InvalidError.of([Problem("reason", "must not be blank"), Problem("groups", "there is no group 'x'")])
    assert raised.value.problems == (("reason", "must be text, not a number"), ("groups", "there is no group 'x'"))


def test_a_wrong_form_fails_though_the_values_would_do() -> None:
    form = forms.read(FIELDS, {"reason": 1, "action": "allow"})
    with pytest.raises(InvalidError, match="must be text"), form.checked():
        pass


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": 1, "a": 2}', "a member stands twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
    ],
)
def test_only_a_json_object_is_a_body(body: bytes, detail: str) -> None:
    with pytest.raises(ProblemError, match=detail) as raised:
        forms.parse_object(body)
    assert raised.value.status == 400


def test_a_json_object_is_read() -> None:
    assert forms.parse_object('{"reason": "Bücher"}'.encode()) == {"reason": "Bücher"}


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        (forms.limited(default=100, maximum=1000), "1000", 1000),
        (forms.numbered_cursor(), "42", 42),
        (forms.chosen(Action, "What."), "block", Action.BLOCK),
        (forms.parameter("Anything."), "x", "x"),
    ],
)
def test_parameters_are_read(field: forms.Field, text: str, value: Any) -> None:
    assert field.read(text) == value


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (forms.limited(default=100, maximum=1000), "0"),
        (forms.limited(default=100, maximum=1000), "1001"),
        (forms.limited(default=100, maximum=1000), "-1"),
        (forms.limited(default=100, maximum=1000), "\u0661"),
        (forms.limited(default=100, maximum=1000), "9" * 5000),
        (forms.numbered_cursor(), "x"),
        (forms.numbered_cursor(), "9" * 19),
        (forms.chosen(Action, "What."), "deny"),
    ],
)
def test_wrong_parameters_are_refused(field: forms.Field, text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        field.read(text)
