"""Readers of lists are total: whatever the octets, rules and rejections come out, and never an exception.

And they are true: what a rule's line says is what is read, and no line is lost.
"""

import re

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from blocklists.errors import NotAListError
from blocklists.formats import READERS
from blocklists.formats.lines import lines
from blocklists.formats.suffixes import is_public_suffix
from blocklists.listing import AUTO, MAX_REJECTED_TEXT, Parsed, Reason, Rejection, read_list
from blocklists.ut1 import is_ut1, read_archive
from policy.names import normalise
from policy.rules import Action, Rule, Scope, Traits
from tests.support.lists import written

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
@settings(max_examples=800)
def test_any_octets_give_rules_and_rejections(data: bytes, list_format: str, allow: bool) -> None:
    try:
        items = list(read_list(data, format=list_format, allow_public_suffix=allow))
    except NotAListError:
        assert b"<" in data
        return
    _check(data, items, allow=allow)


def _check(data: bytes, items: list[Parsed | Rejection], *, allow: bool) -> None:
    """See to it that items are of lines that are there, in their order, and each is what it may be."""
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
            _check_rule(item.rule, allow=allow)


def _check_rule(rule: Rule, *, allow: bool) -> None:
    assert all(name == normalise(name) for name in rule.traits.unless)
    if rule.pattern:
        assert "/" not in rule.name
        return
    assert rule.name == normalise(rule.name)
    assert allow or not is_public_suffix(rule.name)


# What a reader passes over, knowing why: comments and headers anywhere, and what belongs to the format.
COMMENT = re.compile(r"[#!]|\[\s*(?:adblock|adguard|ublock|abp)\b.*\]$", re.IGNORECASE)
PASSED_OVER = {
    "adblock": re.compile(r"badfilter", re.IGNORECASE),  # and what it takes back
    "rpz": re.compile(r"[$@;\"]|\bSOA\b|\s#", re.IGNORECASE),  # what makes a zone of it
    "unbound": re.compile(r"(?:server|view)\s*:"),
}


@given(data=OCTETS, list_format=st.sampled_from([*READERS]))
@example(data=b"a.example\n0.0.0.0 a.example b.example\n||a.example^", list_format="hosts")
@example(data=b"a.example CNAME .\n  A 0.0.0.0\n  300\nb.example CNAME (\n. )\nns A ::", list_format="rpz")
@example(data=b"(\n)\n", list_format="rpz")
@example(data=b"x\n||a.example^ # note\n/a/\n/(/\n@@\n##x\n$\n", list_format="adblock")
@settings(max_examples=600)
def test_no_line_is_lost(data: bytes, list_format: str) -> None:
    text = [(number, line) for number, line in lines(data) if not COMMENT.match(line)]
    passed_over = PASSED_OVER.get(list_format)
    if passed_over is not None and any(passed_over.search(line) for _, line in text):
        return
    try:
        told = {item.line for item in read_list(data, format=list_format)}
    except NotAListError:
        return
    assert {number for number, _ in text} <= told


PATHS = st.lists(
    st.one_of(st.sampled_from(["domains", "urls", "usage", "adult", "phishing", "novelty", "x", "..", "."]), st.text()),
    max_size=4,
).map("/".join)
LISTED = st.tuples(st.sampled_from(["adult", "phishing", "novelty", "a/b", "é", "\n", "x" * 101]), PATHS).map("/".join)
FILES = st.sampled_from(["domains", "urls", "expressions", "very_restrictive_expression", "usage"])
NAMED = st.tuples(st.one_of(LISTED, PATHS), FILES).map("/".join)
MEMBERS = st.lists(st.tuples(st.one_of(PATHS, NAMED), OCTETS), max_size=8)


@given(members=MEMBERS, allow=st.booleans())
@example(members=[("a/domains", b"a.example"), ("a/domains", b"b.example")], allow=False)
@example(members=[("a\udcff/domains", b""), ("/domains", b""), ("../domains", b"")], allow=False)
@settings(max_examples=300)
def test_any_members_of_an_archive_give_rules_and_rejections(members: list[tuple[str, bytes]], allow: bool) -> None:
    try:
        parts = list(read_archive(lambda: members, allow_public_suffix=allow))
    except NotAListError:
        assert not is_ut1(name for name, _ in members)
        return
    taken = [part.name for part in parts if not part.skipped]
    assert len(taken) == len(set(taken))
    contents = [content for _, content in members]
    for part in parts:
        assert part.name.isprintable()
        assert not (part.skipped and part.files)
        for file in part.files:
            items = list(file)
            assert any(_fits(content, items) for content in contents)
            assert {item.file for item in items} <= {file.file}
            for item in items:
                assert isinstance(item, Rejection) or item.rule.traits.scope is Scope.SUBTREE
                assert isinstance(item, Rejection) or file.file.endswith("domains")


def _fits(data: bytes, items: list[Parsed | Rejection]) -> bool:
    return {item.line for item in items} <= {number for number, _ in lines(data)}


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
ATOMS = [
    "a",
    "ads",
    r"\.",
    "[0-9]",
    "[^a-z]",
    r"\d{1,3}",
    "(x|y)",
    "(?:z)?",
    "a+",
    "b{2,3}",
    ".*",
    "^",
    "$",
    "|",
    r"\b",
]
EXPRESSIONS = st.lists(st.sampled_from(ATOMS), min_size=1, max_size=6).map("".join)
RULES = st.one_of(
    st.builds(Rule, NAMES, TRAITS, pattern=st.just(value=False)),
    st.builds(lambda text, traits: Rule(text, traits._replace(scope=Scope.SUBTREE), pattern=True), EXPRESSIONS, TRAITS),
)


@given(rule=RULES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_rule_as_text_is_read_back_as_the_same_rule(rule: Rule) -> None:
    [item] = read_list(str(rule).encode(), format="adblock", allow_public_suffix=True)
    assert item == Parsed(1, rule)


ANY_SCOPE = st.builds(
    lambda name, scope, action: Rule(name, Traits(scope, action)),
    NAMES,
    st.sampled_from(Scope),
    st.sampled_from(Action),
)


@given(rule=st.one_of(RULES, ANY_SCOPE))
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_rule_written_in_a_format_is_read_back_as_the_same_rule(rule: Rule) -> None:
    lines_of = {list_format: line for list_format in READERS if (line := written(rule, list_format)) is not None}
    assert lines_of  # some format can say it
    for list_format, line in lines_of.items():
        assert list(read_list(line.encode(), format=list_format, allow_public_suffix=True)) == [Parsed(1, rule)]


@given(rule=RULES)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_rule_is_taken_back_by_itself_with_badfilter(rule: Rule) -> None:
    text = str(rule)
    modifiers = rule.traits.important or rule.traits.types or rule.traits.unless
    taken_back = text + ("," if modifiers else "$") + "badfilter"
    for order in ([text, taken_back], [taken_back, text]):
        assert list(read_list("\n".join(order).encode(), format="adblock", allow_public_suffix=True)) == []


@given(data=OCTETS)
@settings(max_examples=300)
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
