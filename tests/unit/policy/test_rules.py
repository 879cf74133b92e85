"""A rule writes itself in adblock's notation."""

import pytest

from policy.rules import Rule, Scope
from tests.unit.policy.build import allow, block


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (block("a.test"), "||a.test^"),
        (block("a.test", Scope.EXACT), "a.test"),
        (block("a.test", Scope.SUBDOMAINS), "*.a.test"),
        (allow("a.test"), "@@||a.test^"),
        (allow("a.test", Scope.EXACT), "@@a.test"),
        (block("^ad[0-9]", pattern=True), "/^ad[0-9]/"),
        (block("a.test", important=True), "||a.test^$important"),
        (
            block("a.test", important=True, types=("~A", "~AAAA"), unless=("b.a.test", "c.test")),
            "||a.test^$important,dnstype=~A|~AAAA,denyallow=b.a.test|c.test",
        ),
    ],
)
def test_a_rule_is_written_as_a_list_would(rule: Rule, text: str) -> None:
    assert str(rule) == text
