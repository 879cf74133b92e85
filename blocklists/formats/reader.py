"""What the readers of all formats share: reasons for rejection, and how a name in a list becomes a rule's.

A reader turns one line into rules or raises `LineError`. It reads one list once, and may remember earlier lines.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from blocklists.errors import BlocklistError
from blocklists.formats.suffixes import is_public_suffix
from policy.names import AddressNotNameError, InvalidNameError, normalise
from policy.rules import Rule, Scope, Traits


class Reason(StrEnum):
    """Why a line is no rule."""

    NAME = "name"  # no domain name that a rule can be written for
    ADDRESS = "address"  # an IP address or network where a name belongs
    PUBLIC_SUFFIX = "public_suffix"  # one label, or an ICANN public suffix
    URL = "url"
    PORT = "port"
    PATH = "path"
    WILDCARD = "wildcard"  # a star where none may stand
    NOT_A_SINK_ADDRESS = "not_a_sink_address"  # neither unspecified nor loopback
    LOCAL_NAME = "local_name"  # what an operating system's own hosts file holds
    NO_NAME = "no_name"
    PATTERN = "pattern"  # matches more than a name, or other than one
    MODIFIER = "modifier"  # can't be honoured by a resolver
    REGEX = "regex"  # doesn't compile, or is too long
    COSMETIC = "cosmetic"  # hides elements of web pages
    FORWARD = "forward"  # sends a name to another server
    TRIGGER = "trigger"  # looks at addresses or name servers, not at the name asked for
    ACTION = "action"  # does something other than block or allow
    SYNTAX = "syntax"  # no line of this format
    LIMIT = "limit"  # too long, or one of too many


class LineError(BlocklistError):
    """One line is no rule, or not whole; `rules` are those of its names that are well."""

    def __init__(self, reason: Reason, rules: Sequence[Rule] = ()) -> None:
        self.reason = reason
        self.rules = rules
        super().__init__(reason.value)


_HEADER = re.compile(r"\[\s*(?:adblock|adguard|ublock|abp)\b.*\]", re.IGNORECASE)
_INLINE_COMMENT = re.compile(r"\s#")
_URL = re.compile(r"[^/]*://")  # a path may hold another address
_LIKE_A_NETWORK = re.compile(r"\[?[0-9a-fA-F]*[.:][0-9a-fA-F.:]*(?:%\w+)?(?:/[0-9]+)?\]?")
_NAME_AND_PORT = re.compile(r".+:\d{1,5}")


class LineReader(ABC):
    """Reads the lines of one list; each format is a subclass."""

    indented = False
    """Whether it matters to the format that a line begins with white space: it then comes with a blank before it."""

    def __init__(self, *, scope: Scope | None = None, allow_public_suffix: bool = False) -> None:
        """Take the source's scope, for formats whose lines say none, and whether it may name public suffixes."""
        self._scope = scope
        self._allow_public_suffix = allow_public_suffix

    def look_ahead(self, data: bytes) -> None:  # noqa: B027 - most formats need not
        """Learn from the whole list what its later lines mean for its earlier ones."""

    def skips(self, text: str) -> bool:
        """Tell whether a line that begins with one of `MARKS` says nothing."""
        return text[0] in "#!" or is_header(text)

    @abstractmethod
    def rules(self, text: str) -> Sequence[Rule]:
        """Return a line's rules, none for one that says nothing. Raises `LineError`."""

    def name(self, text: str) -> str:
        """Return the normal form of a name. Raises `LineError` when no rule can be written for it."""
        name = normal_name(text)
        if is_public_suffix(name) and not self._allow_public_suffix:
            raise LineError(Reason.PUBLIC_SUFFIX)
        return name

    def rules_of(self, names: Iterable[str], traits: Traits) -> list[Rule]:
        """Return a rule for each name. Raises `LineError` with the others' rules and the first bad name's reason."""
        rules = []
        first: LineError | None = None
        for text in names:
            try:
                rules.append(Rule(self.name(text), traits))
            except LineError as error:
                first = first or error
        if first is not None:
            raise LineError(first.reason, rules)
        return rules


MARKS = frozenset("#![;")
"""What a line that says nothing begins with, in one format or another."""


def is_header(text: str) -> bool:
    """Tell whether a line is what adblock lists begin with: ``[Adblock Plus 2.0]``."""
    return text.startswith("[") and _HEADER.fullmatch(text) is not None


def normal_name(text: str) -> str:
    """Return the normal form of a name. Raises `LineError` with what the text is instead."""
    try:
        return normalise(text)
    except AddressNotNameError as error:
        raise LineError(Reason.ADDRESS) from error
    except InvalidNameError as error:
        raise LineError(_what_it_is(text)) from error


def _what_it_is(text: str) -> Reason:
    if _URL.match(text):
        return Reason.URL
    if _is_network(text):
        return Reason.ADDRESS
    if _NAME_AND_PORT.fullmatch(text):
        return Reason.PORT
    if "/" in text:
        return Reason.PATH
    return Reason.WILDCARD if "*" in text else Reason.NAME


def _is_network(text: str) -> bool:
    """Tell whether a text is an address or a network of some."""
    if not _LIKE_A_NETWORK.fullmatch(text):  # nearly always: the other way to find out costs ten times as much
        return False
    try:
        ip_network(text.removeprefix("[").removesuffix("]"), strict=False)
    except ValueError:
        return False
    return True


def without_comment(text: str) -> str:
    """Return a line without the comment at its end: white space, ``#``, and what follows."""
    if "#" in text:
        return _INLINE_COMMENT.split(text, maxsplit=1)[0].rstrip()
    return text


@lru_cache(maxsize=1024)
def is_sink_address(text: str) -> bool:
    """Tell whether an address leads nowhere: unspecified or loopback. Raises `ValueError` when it is none."""
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    return address.is_unspecified or address.is_loopback
