"""Reading a whole list: octets to rules and rejections, line by line.

Total: whatever the octets are, each line is a rule, says nothing, or is rejected for one reason. Only what is no
list at all raises an error. Memory holds a block of lines, never the rules.
"""

from collections.abc import Iterator
from typing import NamedTuple

from blocklists.errors import UnknownFormatError
from blocklists.formats import READERS
from blocklists.formats.detection import detect, refuse_page
from blocklists.formats.lines import MAX_LINE, lines
from blocklists.formats.reader import MARKS, LineError, Reason
from policy.rules import Rule, Scope

__all__ = ["AUTO", "FORMATS", "Listing", "Parsed", "Reason", "Rejection", "read_list"]

AUTO = "auto"
FORMATS = (AUTO, *READERS)
MAX_REJECTED_TEXT = 200  # characters


class Parsed(NamedTuple):
    """A rule, and the line that it stands on. A line of several names has several."""

    line: int
    """From 1."""
    rule: Rule


class Rejection(NamedTuple):
    """A line that is no rule, or of whose names one is none. A line has one at most."""

    line: int
    """From 1."""
    text: str
    """What stands there, cut to `MAX_REJECTED_TEXT`."""
    reason: Reason


class Listing:
    """A list in one format; each iteration reads it from the start."""

    def __init__(self, data: bytes, list_format: str, scope: Scope | None, *, allow_public_suffix: bool) -> None:
        self.format = list_format
        """The format it is read in: never ``auto``."""
        self._data = data
        self._scope = scope
        self._allow_public_suffix = allow_public_suffix

    def __iter__(self) -> Iterator[Parsed | Rejection]:
        """Yield the rules and rejections in the order of their lines."""
        reader = READERS[self.format](scope=self._scope, allow_public_suffix=self._allow_public_suffix)
        reader.look_ahead(self._data)
        for number, text in lines(self._data):
            if text[0] in MARKS and reader.skips(text):
                continue
            try:
                if len(text) > MAX_LINE:
                    raise LineError(Reason.LIMIT)  # noqa: TRY301 - told like any other
                rules = reader.rules(text)
            except LineError as error:
                yield Rejection(number, text[:MAX_REJECTED_TEXT], error.reason)
                rules = error.rules
            for rule in rules:
                yield Parsed(number, rule)


def read_list(
    data: bytes,
    *,
    format: str = AUTO,  # noqa: A002 - the word of the command line and of the contract
    scope: str | None = None,
    allow_public_suffix: bool = False,
) -> Listing:
    """Return the list that the data holds.

    The scope, ``exact`` or ``subtree``, is how far names of plain lists and hosts files reach; None: as is usual in
    the format. Raises `UnknownFormatError`, or `NotAListError` for a web page.
    """
    if format not in FORMATS:
        raise UnknownFormatError(f"there is no format {format!r}, only {', '.join(FORMATS)}")
    refuse_page(data)
    list_format = detect(data) if format == AUTO else format
    return Listing(data, list_format, Scope(scope) if scope else None, allow_public_suffix=allow_public_suffix)
