"""Which rules of lists speak about a name."""

import pytest

from policy.index import covers
from policy.rules import Rule, Scope, Traits

EXACT, BELOW = Traits(Scope.EXACT), Traits(Scope.SUBDOMAINS)


@pytest.mark.parametrize(
    ("rule", "name", "covered"),
    [
        (Rule("a.example"), "a.example", True),
        (Rule("a.example"), "www.a.example", True),
        (Rule("a.example"), "aa.example", False),
        (Rule("a.example", EXACT), "a.example", True),
        (Rule("a.example", EXACT), "www.a.example", False),
        (Rule("a.example", BELOW), "a.example", False),
        (Rule("a.example", BELOW), "www.a.example", True),
        (Rule("a.example", Traits(unless=("open.a.example",))), "x.open.a.example", False),
        (Rule("a.example", Traits(unless=("open.a.example",))), "www.a.example", True),
        (Rule("a.example", Traits(types=("AAAA",))), "a.example", True),
        (Rule("^ads[0-9]+\\.", pattern=True), "ads7.example", True),
        (Rule("^ads[0-9]+\\.", pattern=True), "ads.example", False),
        (Rule("^ADS\\.", pattern=True), "ads.example", True),
    ],
    ids=str,
)
def test_covers(rule: Rule, name: str, covered: bool) -> None:
    assert covers(rule, name) is covered
