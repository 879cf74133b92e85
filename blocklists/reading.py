"""Reading what was fetched, a list or an archive of lists, as parts of a source: each with its rules and rejections.

A plain list is one part without a name, filed under the source's own category. The one place where it is decided
whether something is read as UT1's layout.
"""

from collections.abc import Iterator
from typing import NamedTuple

from blocklists.errors import NotAListError
from blocklists.listing import AUTO, UT1, read_list
from blocklists.unpacking import is_archive, members, unpack
from blocklists.ut1 import ArchivePart, is_ut1, read_archive

LIMIT = 1 << 30
"""Octets, unpacked."""
MAY_BE_ARCHIVES = (AUTO, UT1)
"""Formats that want an archive in one piece."""


class Content(NamedTuple):
    """What was fetched, ready to be read once."""

    format: str
    """The format it is read in: never ``auto``."""
    parts: Iterator[ArchivePart]


def read(
    data: bytes,
    *,
    format: str = AUTO,  # noqa: A002 - the word of the command line and of the contract
    scope: str | None = None,
    allow_public_suffix: bool = False,
) -> Content:
    """Return the parts of a list's text, or of an archive. Raises `ListError`, `UnpackError`."""
    archived = is_archive(data, LIMIT)
    if format == UT1 and not archived:
        raise NotAListError("no archive of directories that each hold a list")
    if format == UT1 or (format == AUTO and archived and is_ut1(name for name, _ in members(data, LIMIT))):
        parts = read_archive(lambda: members(data, LIMIT), scope=scope, allow_public_suffix=allow_public_suffix)
        return Content(UT1, parts)
    text = unpack(data, LIMIT) if archived else data
    listing = read_list(text, format=format, scope=scope, allow_public_suffix=allow_public_suffix)
    return Content(listing.format, iter([ArchivePart("", None, "", (listing,))]))
