"""Domain names as text: one normal form, and the key under which the index files them.

The normal form is lower case, A-labels, no trailing dot: ``www.example.com``. The root is the empty string.
The key is the same name read from the root, closed with a dot: ``com.example.www.``. So a name lies in a
subtree exactly when the subtree's key is a prefix of its own.
"""

import re
from collections.abc import Iterator

import idna

MAX_NAME = 253  # RFC 1035 section 3.1: 255 octets on the wire are 253 characters of text
MAX_LABEL = 63  # RFC 1035 section 3.1
MAX_TEXT = 1000  # characters; no name is as long, however it is written, and to map more takes long

# Letters, digits and hyphens (RFC 1123 section 2.1), and the underscore that service names carry (RFC 8552).
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# Nearly every name in lists: in normal form already, of several labels, and no longer than one label may be. Known for
# what it is in 0.3 us, half of what the whole way takes.
_PLAIN_NAME = re.compile(r"(?:[a-z0-9_]++(?:-++[a-z0-9_]++)*+\.)++[a-z_][a-z0-9_]*+(?:-++[a-z0-9_]++)*+")
# UTS 46 also maps these to the dot.
_IDEOGRAPHIC_DOTS = str.maketrans({"\u3002": ".", "\uff0e": ".", "\uff61": "."})


class InvalidNameError(ValueError):
    """The text is no domain name that a rule or an exception can be written for."""


class AddressNotNameError(InvalidNameError):
    """The last label is all digits: an IPv4 address or a piece of one, never a name (RFC 3696 section 2)."""


def normalise(text: str) -> str:
    """Return the normal form of a name of at least one label.

    Lower-cases, drops one trailing dot and maps Unicode to A-labels (UTS 46). Raises `AddressNotNameError` when
    the last label is all digits, `InvalidNameError` for every other text that is no host-like name.
    """
    if len(text) <= MAX_LABEL and _PLAIN_NAME.fullmatch(text):
        return text
    name = text.lower() if text.isascii() else _to_a_labels(text)
    name = name.removesuffix(".")
    if len(name) > MAX_NAME or _NAME.fullmatch(name) is None:
        raise InvalidNameError(f"not a domain name: {text[:80]!r}")
    if name[name.rfind(".") + 1 :].isdigit():
        raise AddressNotNameError(f"an address, not a domain name: {text[:80]!r}")
    return name


def _to_a_labels(name: str) -> str:
    if len(name) > MAX_TEXT:
        raise InvalidNameError(f"not a domain name: {name[:80]!r}")
    # Labels that are already ASCII are left alone: names in use carry underscores, which IDNA refuses. Only those are
    # lower-cased here: UTS 46 maps the others, and a capital sigma never to the final one, as Python would.
    labels = name.translate(_IDEOGRAPHIC_DOTS).split(".")
    try:
        return ".".join(
            label.lower() if label.isascii() else idna.encode(label, uts46=True).decode() for label in labels
        )
    except (idna.IDNAError, UnicodeError) as error:
        raise InvalidNameError(f"not a domain name: {name[:80]!r}") from error


def key_of(name: str) -> str:
    """Return the index key of a name in normal form: ``www.example.com`` -> ``com.example.www.``."""
    return ".".join(name.split(".")[::-1]) + "."


def name_of(key: str) -> str:
    """Return the name of an index key: the inverse of `key_of`."""
    return ".".join(reversed(key[:-1].split(".")))


def lineage(name: str) -> Iterator[str]:
    """Yield a name in normal form, and then its parents, the nearest first: ``www.a.example``, ``a.example``, ..."""
    while name:
        yield name
        name = name.partition(".")[2]


def is_within(name: str, subtree: str) -> bool:
    """Tell whether a name is the subtree's apex or below it; both in normal form."""
    return name == subtree or name.endswith("." + subtree)
