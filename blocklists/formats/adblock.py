"""Adblock rules, as far as they speak of names: ``||a.example^``, ``@@||a.example^``, ``a.example``, ``/regex/``.

Written for browsers, which see addresses and pages: what speaks of more than a name is rejected, never read as if it
did not. ``$badfilter`` takes back the same rule anywhere in the same list.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import re2

from blocklists.formats.lines import MAX_LINE, lines
from blocklists.formats.modifiers import Modifiers, parse_modifiers
from blocklists.formats.reader import LineError, LineReader, Reason, normal_name
from blocklists.formats.suffixes import is_public_suffix
from policy.index import pattern_options
from policy.rules import Action, Rule, Scope, Traits

MAX_EXPRESSION = 1000  # characters
MAX_EXPRESSIONS = 10_000  # in one list; likewise those below
MAX_PROGRAM = 1_000_000  # RE2 instructions, all expressions together
MAX_TAKEN_BACK = 100_000
MAX_TRAITS = 10_000

_EXPRESSION_MEMORY = 256 << 10  # octets; RE2 gives up on an expression that needs more
_EXPRESSION_COST = 20_000  # the most instructions that fit in it, charged for an expression that doesn't

_COSMETIC = re.compile(r"#@?[$?%]*#|\$@?\$|%%")
# Not a comment's decoration: `##########`, `## Title`.
_GENERIC_COSMETIC = re.compile(r"#@?[$?%]*#(?!#*(?:\s|$))")
_INLINE_COMMENT = re.compile(r"\s#")
_EXPRESSION = re.compile(r"/(.+?)/(?:\$(.*))?")
_ANCHORED = re.compile(r"(\|{0,2})(.*?)(\^?\|?)", re.DOTALL)
_SCOPES = {("||", "^"): Scope.SUBTREE, ("||", "^|"): Scope.SUBTREE, ("", ""): Scope.EXACT}
_PATTERN = re.compile(r"[*^|]")
_BADFILTER = re.compile(rb"badfilter", re.IGNORECASE)
_BLOCK_SUBTREE = Traits()


class Adblock(LineReader):
    """Reads a list of adblock rules."""

    def __init__(self, *, scope: Scope | None = None, allow_public_suffix: bool = False) -> None:
        """Take whether public suffixes may be named; the scope is each rule's own."""
        super().__init__(scope=scope, allow_public_suffix=allow_public_suffix)
        self._taken_back: set[Rule] = set()
        self._expressions = 0
        self._program = 0
        self._traits: set[Traits] = set()

    def look_ahead(self, data: bytes) -> None:
        """Learn what the list takes back."""
        if _BADFILTER.search(data) is None:
            return
        for _, text in lines(data):
            if "badfilter" not in text.lower() or text.startswith("!") or len(text) > MAX_LINE:
                continue
            if len(self._taken_back) >= MAX_TAKEN_BACK:
                return
            try:
                rule, takes_back = _parse(text)
            except LineError:
                continue  # it is rejected in its turn
            if takes_back:
                self._taken_back.add(_canonical(rule))

    def skips(self, text: str) -> bool:
        """Tell whether a line is a comment or a header, and no rule for elements of pages in general."""
        return super().skips(text) and _GENERIC_COSMETIC.match(text) is None

    def rules(self, text: str) -> Sequence[Rule]:
        """Return the line's rule, none where it is taken back or takes back another."""
        if text.startswith("||") and text.endswith("^"):  # nearly every line
            try:
                rule = Rule(self.name(text[2:-1]), _BLOCK_SUBTREE)
            except LineError:
                return self._read(text)
            return () if self._taken_back and rule in self._taken_back else (rule,)
        return self._read(text)

    def _read(self, text: str) -> Sequence[Rule]:
        rule, takes_back = _parse(text)
        if takes_back or self._taken_back:
            taken_back = _canonical(rule) in self._taken_back
            if takes_back and not taken_back:
                raise LineError(Reason.LIMIT)
            if taken_back:
                return ()
        if rule.pattern:
            self._compile(rule.name)
        elif is_public_suffix(rule.name) and not self._allow_public_suffix:
            raise LineError(Reason.PUBLIC_SUFFIX)
        if rule.traits != _BLOCK_SUBTREE:
            self._traits.add(rule.traits)
            if len(self._traits) > MAX_TRAITS:
                self._traits.remove(rule.traits)
                raise LineError(Reason.LIMIT)
        return (rule,)

    def _compile(self, expression: str) -> None:
        """See to it that an expression compiles. Raises `LineError`."""
        if self._expressions >= MAX_EXPRESSIONS or self._program >= MAX_PROGRAM:
            raise LineError(Reason.LIMIT)
        self._expressions += 1
        try:
            self._program += re2.compile(expression, options=_options()).programsize
        except re2.error as error:
            if b"too large" in error.args[0]:
                self._program += _EXPRESSION_COST
            raise LineError(Reason.REGEX) from error


@cache
def _options() -> Any:  # noqa: ANN401 - re2 ships no types
    options = pattern_options()
    options.max_mem = _EXPRESSION_MEMORY
    return options


def _canonical(rule: Rule) -> Rule:
    """Return a rule that equals every other way to write the same."""
    traits = rule.traits
    if traits.types or traits.unless:
        traits = traits._replace(types=tuple(sorted(traits.types)), unless=tuple(sorted(traits.unless)))
        return rule._replace(traits=traits)
    return rule


def _parse(text: str) -> tuple[Rule, bool]:
    """Return a line's rule, and whether the line takes it back. Raises `LineError`."""
    text = _without_comment(text)
    action = Action.ALLOW if text.startswith("@@") else Action.BLOCK
    body, given, is_expression = _split(text.removeprefix("@@"))
    important, takes_back, types, unless = Modifiers() if given is None else parse_modifiers(given)
    name, scope = (_expression(body), Scope.SUBTREE) if is_expression else _listed(body)
    return Rule(name, Traits(scope, action, important, types, unless), is_expression), takes_back


def _without_comment(text: str) -> str:
    comment = _INLINE_COMMENT.search(text)
    if comment is None:
        return text
    if _GENERIC_COSMETIC.match(text, comment.end() - 1):  # `a.example ##.banner` is no block of a.example
        raise LineError(Reason.COSMETIC)
    return text[: comment.start()].rstrip()


def _split(text: str) -> tuple[str, str | None, bool]:
    """Return what a rule matches, its modifiers if it has any, and whether it is a regular expression."""
    expression = _EXPRESSION.fullmatch(text)
    if expression is not None:
        return expression[1], expression[2], True
    if _COSMETIC.search(text):
        raise LineError(Reason.COSMETIC)
    body, dollar, modifiers = text.partition("$")
    if len(body.split()) > 1 or body != body.strip() or not text:  # blanks behind the $ are a modifier's own
        raise LineError(Reason.SYNTAX)
    return body, modifiers if dollar else None, False


def _expression(text: str) -> str:
    if "/" in text:  # no name holds one: it is about the rest of an address
        raise LineError(Reason.PATH)
    if len(text) > MAX_EXPRESSION or not text.isprintable():
        raise LineError(Reason.REGEX)
    return text


def _listed(body: str) -> tuple[str, Scope]:
    """Return the name that a rule is for, in normal form, and how far it reaches."""
    anchored = _ANCHORED.fullmatch(body)
    assert anchored is not None  # it matches any text on one line
    before, text, after = anchored.groups()
    scope = _SCOPES.get((before, after))
    try:
        name = normal_name(text)
    except LineError as error:
        no_name = error.reason in {Reason.NAME, Reason.WILDCARD}
        if no_name and (scope is None or not text or _PATTERN.search(text)):
            raise LineError(Reason.PATTERN) from error
        raise
    if scope is None:
        raise LineError(Reason.PATTERN)
    return name, scope
