"""What a list must not do to be taken: shrink or grow beyond belief, or block a canary."""

import pytest

from blocklists.guards import Canaries, CanaryError, SuspiciousSizeError, check_size
from policy.rules import Action, Rule, Scope, Traits

ALLOW = Traits(Scope.SUBTREE, Action.ALLOW)
EXACT = Traits(Scope.EXACT)
BELOW = Traits(Scope.SUBDOMAINS)
OWN = "www.district.example"


@pytest.mark.parametrize(
    ("before", "rules"),
    [(0, 5_000_000), (100, 50), (101, 51), (100, 999), (9, 1), (1, 99), (5, 20), (1000, 1000), (10, 5)],
)
def test_size_that_is_believed(before: int, rules: int) -> None:
    check_size(before, rules)


@pytest.mark.parametrize(
    ("before", "rules", "said"),
    [
        (100, 49, "shrank by more than half, from 100 to 49 rules"),
        (10, 4, "shrank"),
        (5_000_000, 1, "from 5,000,000 to 1 rules"),
        (100, 1000, "grew more than tenfold, from 100 to 1,000 rules"),
        (1, 100, "grew"),
    ],
)
def test_size_that_is_not_believed(before: int, rules: int, said: str) -> None:
    with pytest.raises(SuspiciousSizeError, match=said) as refused:
        check_size(before, rules)
    assert "--force" in str(refused.value)


def go_by(*rules: Rule, category: str = "adult", resolvers: tuple[str, ...] = ()) -> list[Rule]:
    return list(Canaries((OWN,), resolvers).watch(rules, category))


@pytest.mark.parametrize(
    "rules",
    [
        [],
        [Rule("other.example")],
        [Rule("w.district.example")],
        [Rule("below.www.district.example")],
        [Rule("district.example", EXACT)],
        [Rule(OWN, BELOW)],
        [Rule(OWN, ALLOW)],
        [Rule("district.example"), Rule(OWN, ALLOW)],
        [Rule("district.example", Traits(unless=(OWN,)))],
        [Rule("district.example", Traits(important=True)), Rule("example", ALLOW._replace(important=True))],
        [Rule("^ads[0-9]", pattern=True)],
    ],
)
def test_lists_that_spare_a_canary(rules: list[Rule]) -> None:
    assert go_by(*rules) == rules


@pytest.mark.parametrize(
    "rule",
    [
        Rule(OWN),
        Rule(OWN, EXACT),
        Rule("district.example"),
        Rule("district.example", BELOW),
        Rule("example"),
        Rule("www[.]DISTRICT", pattern=True),
        Rule(".*", pattern=True),
        Rule("district.example", Traits(types=("A",))),
        Rule("district.example", Traits(unless=("mail.district.example",))),
        Rule("pool.ntp.org"),
    ],
)
def test_rules_that_would_block_a_canary(rule: Rule) -> None:
    with pytest.raises(CanaryError, match="must never be blocked"):
        go_by(Rule("other.example"), rule)


def test_allowing_must_be_as_strong_as_blocking() -> None:
    important = Rule("district.example", Traits(important=True))
    with pytest.raises(CanaryError, match=r"by \|\|district.example\^\$important"):
        go_by(important, Rule(OWN, ALLOW))
    with pytest.raises(CanaryError):
        go_by(Rule("district.example"), Rule(OWN, ALLOW._replace(types=("A",))))


def test_resolvers_may_be_named_by_lists_against_ways_around_the_filter() -> None:
    rule = Rule("dns.resolver.example")
    assert go_by(rule, category="doh", resolvers=("dns.resolver.example",)) == [rule]
    with pytest.raises(CanaryError, match=r"dns\.resolver\.example"):
        go_by(rule, category="advertising", resolvers=("dns.resolver.example",))
