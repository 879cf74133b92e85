"""Readers of lists are total: whatever the octets, rules and rejections come out, and never an exception."""

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from blocklists.errors import NotAListError
from blocklists.formats import READERS
from blocklists.formats.lines import lines
from blocklists.formats.suffixes import is_public_suffix
from blocklists.listing import AUTO, MAX_REJECTED_TEXT, Parsed, Reason, Rejection, read_list
from policy.names import normalise
from policy.rules import Action, Rule, Scope, Traits

FORMATS = (AUTO, *READERS)
# What the readers look for, and what troubles them, thrown together.
TOKENS = [
    *("a.example", "b.a.example", "com", "co.uk", "xn--bcher-kva.example", "bücher.example", "a..example", "x" * 300),
    *("0.0.0.0", "127.0.0.1", "::1", "::", "192.0.2.1", "10.0.0.0/8", "fe80::1%lo0", "localhost", "[::1]"),
    *("||", "|", "^", "@@", "$", ",", "=", "~", "/", "*", "*.", ".", "\\", "(", ")", "[", "]", "{", "}", "?", "+", "-"),
    *("important", "badfilter", "denyallow=", "dnstype=", "A|AAAA", "TYPE65", "all", "document", "third-party"),
    *("#", "##", "#@#", "#$#", "$$", "%%", "!", "[Adblock Plus]", ";", " # note", "<", "<html>", ":8080", "http://"),
    *("address=/", "local=/", "server=/", "local-zone:", '"', "'", " always_null", " transparent", "server:"),
    *(" CNAME .", " CNAME *.", " CNAME rpz-passthru.", " A ", " SOA ", " IN ", "$ORIGIN ", "$TTL ", "@", ".rpz-ip"),
    *(" ", "\t", "\n", "\r", "\r\n", "\0", "\ufeff", "\x0b", "\x85", "\u2028", "\u200d", "\u3002", "ß", "İ"),
]  # fmt: skip
SOUP = st.lists(st.sampled_from(TOKENS), max_size=30).map(lambda tokens: "".join(tokens).encode())
OCTETS = st.one_of(st.binary(max_size=300), SOUP, st.lists(st.one_of(SOUP, st.binary(max_size=40))).map(b"".join))


@given(data=OCTETS, list_format=st.sampled_from(FORMATS), allow=st.booleans())
@example(data=b"", list_format="auto", allow=False)
@example(data=b"\xef\xbb\xbf", list_format="rpz", allow=False)
@example(data=b"$", list_format="rpz", allow=False)
@example(data=b"@ SOA (", list_format="rpz", allow=True)
@example(data=b"/" * 5, list_format="adblock", allow=False)
@example(data="||İ.example^".encode(), list_format="adblock", allow=False)
@settings(max_examples=800, deadline=None)
def test_any_octets_give_rules_and_rejections(data: bytes, list_format: str, allow: bool) -> None:
    try:
        items = list(read_list(data, format=list_format, allow_public_suffix=allow))
    except NotAListError:
        assert b"<" in data
        return
    numbers = [number for number, _ in lines(data)]
    rejected = [item.line for item in items if isinstance(item, Rejection)]
    assert len(rejected) == len(set(rejected))
    assert [item.line for item in items] == sorted(item.line for item in items)
    for item in items:
        assert item.line in numbers
        if isinstance(item, Rejection):
            assert 0 < len(item.text) <= MAX_REJECTED_TEXT
            assert item.reason in Reason
        else:
            _check(item.rule, allow=allow)


def _check(rule: Rule, *, allow: bool) -> None:
    assert all(name == normalise(name) for name in rule.traits.unless)
    if rule.pattern:
        assert "/" not in rule.name
        return
    assert rule.name == normalise(rule.name)
    assert allow or not is_public_suffix(rule.name)


HOSTILE = [
    *(
        "1" * 60_000 + "! CNAME .",
        "a " + "1d" * 30_000 + "x CNAME .",
        "a" + " " * 60_000 + "b",
        "a" + " " * 60_000 + "#b",
    ),
    *(
        "/" + "(" * 60_000,
        "/" + "(" * 60_000 + "/",
        "/a" * 30_000,
        "/a/$" * 15_000,
        "#" * 60_000 + "x",
        "#" + "$" * 60_000,
    ),
    *(
        "a." * 30_000,
        "ä." * 30_000,
        "ä" * 60_000,
        "a" * 60_000 + "^",
        "|" * 60_000,
        "^" * 60_000,
        "*" * 60_000,
        "." * 60_000,
    ),
    *(
        "||a.example^$" + "a," * 30_000,
        "||a.example^$denyallow=" + "a.example|" * 6_000,
        "0.0.0.0 " + "a.example " * 6_000,
    ),
    *(
        "address=" + "/" * 60_000,
        "address=/" + "a.example/" * 6_000,
        'local-zone: "' + "a" * 60_000,
        "[" * 60_000,
        "<" * 60_000,
    ),
    *(
        ":" * 60_000,
        "1:" * 30_000,
        "1." * 30_000,
        "/1" * 30_000,
        "a://" * 15_000,
        "\u0301" * 900 + ".example",
        "\u0627" * 900,
    ),
]


def test_hostile_lines_are_read_in_linear_time() -> None:
    """Quadratic would take minutes, exponential for ever."""
    data = "\n".join(HOSTILE).encode()
    for list_format in FORMATS:
        assert len(list(read_list(data, format=list_format))) >= len(HOSTILE) // 2


LABELS = st.from_regex(r"[a-z0-9_](?:[a-z0-9_-]{0,20}[a-z0-9_])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=2, max_size=4).map(".".join).filter(lambda name: not name.split(".")[-1].isdigit())
TYPES = st.lists(st.sampled_from(["A", "AAAA", "HTTPS", "TXT", "TYPE65280"]), unique=True, max_size=3).map(tuple)
TRAITS = st.builds(
    lambda scope, action, important, types, negated, unless: Traits(
        scope, action, important, tuple("~" * negated + rdtype for rdtype in types), unless
    ),
    st.sampled_from([Scope.EXACT, Scope.SUBTREE]),  # adblock has no form for subdomains alone
    st.sampled_from(Action),
    st.booleans(),
    TYPES,
    st.booleans(),
    st.lists(NAMES, unique=True, max_size=3).map(tuple),
)
EXPRESSIONS = st.sampled_from([r"^ads?[0-9]*\.", r"(^|\.)track\.", r"^a{2,3}$", "[^a-z]x", r"\bclick\b", "a$b"])
RULES = st.one_of(
    st.builds(Rule, NAMES, TRAITS, pattern=st.just(value=False)),
    st.builds(lambda text, traits: Rule(text, traits._replace(scope=Scope.SUBTREE), pattern=True), EXPRESSIONS, TRAITS),
)


@given(rule=RULES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_rule_as_text_is_read_back_as_the_same_rule(rule: Rule) -> None:
    [item] = read_list(str(rule).encode(), format="adblock", allow_public_suffix=True)
    assert item == Parsed(1, rule)


@given(rule=RULES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_rule_is_taken_back_by_itself_with_badfilter(rule: Rule) -> None:
    text = str(rule)
    modifiers = rule.traits.important or rule.traits.types or rule.traits.unless
    taken_back = text + ("," if modifiers else "$") + "badfilter"
    for order in ([text, taken_back], [taken_back, text]):
        assert list(read_list("\n".join(order).encode(), format="adblock", allow_public_suffix=True)) == []


@given(data=OCTETS)
@settings(max_examples=300, deadline=None)
def test_lines_are_numbered_as_python_counts_them(data: bytes) -> None:
    """bytes.splitlines() ends lines at LF, CRLF and CR, and nowhere else."""
    expected = [number for number, line in enumerate(data.splitlines(), start=1) if _is_visible(line)]
    assert [number for number, _ in lines(data)] == expected


def _is_visible(line: bytes) -> bool:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode("latin-1")
    return bool(text.strip().removeprefix("\ufeff").strip())
