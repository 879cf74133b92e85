"""Reading a whole list: octets to rules and rejections, line by line.

Total: whatever the octets are, each line is a rule, says nothing, or is rejected for one reason. Only what is no
list at all raises an error. Memory holds a block of lines, never the rules.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from blocklists.errors import NotAListError, UnknownFormatError
from blocklists.formats import READERS
from blocklists.formats.detection import detect, refuse_page
from blocklists.formats.lines import MAX_LINE, lines
from blocklists.formats.reader import MARKS, LineError, LineReader, Reason
from policy.rules import Rule, Scope

__all__ = ["AUTO", "FORMATS", "UT1", "Listing", "Parsed", "Reason", "Rejection", "read_list"]

AUTO = "auto"
UT1 = "ut1"
FORMATS = (AUTO, *READERS, UT1)
_new = tuple.__new__  # builds a named tuple in half the time that its class takes: a tenth of what a line costs
MAX_REJECTED_TEXT = 200  # characters


class Parsed(NamedTuple):
    """A rule, and the line that it stands on. A line of several names has several."""

    line: int
    """From 1."""
    rule: Rule
    file: str = ""
    """The file of an archive that the line is of; empty for what was fetched as one list."""


class Rejection(NamedTuple):
    """A line that is no rule, or of whose names one is none. A line has one at most."""

    line: int
    """From 1."""
    text: str
    """What stands there, cut to `MAX_REJECTED_TEXT`."""
    reason: Reason
    file: str = ""
    """As of `Parsed`."""


class Listing:
    """A list in one format; each iteration reads it from the start."""

    def __init__(self, data: bytes, list_format: str, reader: Callable[[], LineReader], *, file: str = "") -> None:
        self.format = list_format
        """The format it is read in: never ``auto``."""
        self.file = file
        """Its name in the archive that it comes from; empty for what was fetched as one list."""
        self._data = data
        self._reader = reader

    def __iter__(self) -> Iterator[Parsed | Rejection]:
        """Yield the rules and rejections in the order of their lines."""
        reader = self._reader()
        reader.look_ahead(self._data)
        file = self.file
        for number, text in lines(self._data, indented=reader.indented):
            if text[0] in MARKS and reader.skips(text):
                continue
            try:
                if len(text) > MAX_LINE:
                    raise LineError(Reason.LIMIT)  # noqa: TRY301 - told like any other
                rules = reader.rules(text)
            except LineError as error:
                yield Rejection(number, text.lstrip()[:MAX_REJECTED_TEXT], error.reason, file)
                rules = error.rules
            for rule in rules:
                yield _new(Parsed, (number, rule, file))


def read_list(
    data: bytes,
    *,
    format: str = AUTO,  # noqa: A002 - the word of the command line and of the contract
    scope: str | None = None,
    allow_public_suffix: bool = False,
) -> Listing:
    """Return the list that the data holds.

    The scope, ``exact`` or ``subtree``, is how far names of plain lists and hosts files reach; None: as is usual in
    the format. Raises `UnknownFormatError`, or `NotAListError` for a web page and for what is no single list.
    """
    if format not in FORMATS:
        raise UnknownFormatError(f"there is no format {format!r}, only {', '.join(FORMATS)}")
    refuse_page(data)
    if format == UT1:
        raise NotAListError("no archive, and format ut1 is of archives alone")
    list_format = detect(data) if format == AUTO else format
    reader = partial(
        READERS[list_format], scope=Scope(scope) if scope else None, allow_public_suffix=allow_public_suffix
    )
    return Listing(data, list_format, reader)
