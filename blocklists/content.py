"""What is no text, and so no list: told from the octets, before anybody reads lines in them.

A list in which a few octets went wrong is still a list, and its reader rejects those lines.
"""

from blocklists.errors import NotAListError

_MAGIC = {
    b"\x89PNG\r\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF87a": "a GIF image",
    b"GIF89a": "a GIF image",
    b"\x7fELF": "a program",
    b"SQLite format 3\0": "an SQLite database",
    b"%PDF-": "a PDF document",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
# Of the control characters, those that no text has. Of octets without a pattern (what is compressed or encrypted)
# they are a tenth, of programs and databases more.
_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\v\f\r\x1a\x1b"))
_MANY = 0.05
_SAMPLE = 8 << 10  # octets


def refuse_binary(data: bytes) -> None:
    """Raise `NotAListError` when the data is no text."""
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise NotAListError(f"{what}, not a list")
    if is_binary(data):
        raise NotAListError("neither text nor packed in gzip, zstd, zip or tar, so not a list")


def is_binary(data: bytes) -> bool:
    """Tell whether some data is no text: the whole of it, or its beginning, its middle or its end."""
    if len(data) <= 3 * _SAMPLE:
        return _has_many_controls(data)
    return any(_has_many_controls(data[start : start + _SAMPLE]) for start in (0, len(data) // 2, len(data) - _SAMPLE))


def _has_many_controls(sample: bytes) -> bool:
    return len(sample) - len(sample.translate(None, _CONTROLS)) > _MANY * len(sample)
