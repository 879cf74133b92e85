"""Octets to numbered lines of text, whatever the octets are.

A line ends with LF, CRLF or CR; the text is UTF-8 with or without a byte order mark, a line that isn't is Latin-1.
"""

import re
from collections.abc import Iterator

MAX_LINE = 64 << 10
"""Characters. A longer line comes out cut, one character longer than this, for its reader to reject."""

_BLOCK = 1 << 20
_MAX_OCTETS = 4 * (MAX_LINE + 1)  # of a line one character too long, in UTF-8
_VISIBLE = re.compile(rb"\S")
_BYTE_ORDER_MARK = "\ufeff"


def lines(data: bytes, *, indented: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the lines that aren't blank, without the white space around them, each with its number from 1.

    Where they come `indented`, a line that begins with white space keeps a blank of it.
    """
    number = 0
    for block in _blocks(data):
        for text in _texts(block):
            number += 1
            stripped = text.strip()
            if stripped:
                yield number, " " + stripped if indented and text[0].isspace() else stripped


def _blocks(data: bytes) -> Iterator[bytes]:
    """Cut at line ends, so that memory holds a block of lines and never all of them."""
    start = 0
    while start < len(data):
        stop = _last_line_end(data, start, start + _BLOCK)
        if stop:
            yield data[start:stop]
        else:
            stop = _next_line_end(data, start + _BLOCK)
            yield _beginning(data, start, stop)
        start = stop


def _last_line_end(data: bytes, start: int, stop: int) -> int:
    """Return the offset behind the last line end that begins between the two, 0 where none does."""
    if stop >= len(data):
        return len(data)
    line_feed = data.rfind(b"\n", start, stop)
    if line_feed >= 0:
        return line_feed + 1
    carriage_return = data.rfind(b"\r", start, stop)
    if carriage_return < 0:
        return 0
    return carriage_return + (2 if data.startswith(b"\r\n", carriage_return) else 1)


def _next_line_end(data: bytes, start: int) -> int:
    while start < len(data):
        block = data[start : start + _BLOCK]
        found = [offset for offset in (block.find(b"\n"), block.find(b"\r")) if offset >= 0]
        if found:
            end = start + min(found)
            return end + (2 if data.startswith(b"\r\n", end) else 1)
        start += _BLOCK
    return len(data)


def _beginning(data: bytes, start: int, stop: int) -> bytes:
    """Return of a line longer than a block what tells a reader that it is too long, or all but its white space."""
    visible = _VISIBLE.search(data, start, stop)
    if visible is None:
        return b"\n"
    return data[visible.start() : min(stop, visible.start() + _MAX_OCTETS)]


def _texts(block: bytes) -> Iterator[str]:
    # Not splitlines() of the text: it also splits at form feeds and the like.
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    block = block.removesuffix(b"\n")
    if block.isascii():
        return iter(block.decode().split("\n"))
    return map(_decoded, block.split(b"\n"))


def _decoded(line: bytes) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode("latin-1")
    stripped = text.strip()
    return stripped[1:] if stripped.startswith(_BYTE_ORDER_MARK) else text
