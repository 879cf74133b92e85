"""Which format a list is in, told from its content: the one whose shape most of its first lines have."""

import re
from collections import Counter
from itertools import islice

from blocklists.errors import NotAListError
from blocklists.formats.lines import lines
from blocklists.formats.reader import MARKS, is_header, without_comment

SAMPLE = 1000  # lines that say something
_LONGEST_PREAMBLE = 20_000  # lines

_NAME = r"[\w-]+(?:\.[\w-]+)+\.?"  # more or less: whether it is one, the format's reader tells
# Of several that fit a line, the first.
_SHAPES = {
    "dnsmasq": re.compile(r"(?:address|local|server)\s*=\s*/.*"),
    "unbound": re.compile(r"(?:local-zone|local-data)\s*:.*"),
    "hosts": re.compile(r"(?:\d+\.\d+\.\d+\.\d+|[0-9a-f]*:[0-9a-f:.]*(?:%\w+)?)\s+\S.*", re.IGNORECASE),
    "rpz": re.compile(r"(?:\S+\s+)?(?:\d+\s+)?(?:IN\s+)?(?:CNAME|AAAA|A|SOA|NS)\s+\S.*", re.IGNORECASE),
    "adblock": re.compile(
        r"@@.*|\|.*|.*\^\|?"  # anchors
        r"|[^\s$]*\$~?[a-z][a-z0-9-]*(?:[=,].*)?"  # modifiers
        r"|[^\s#]*#@?[$?%]*#\S.*"  # elements of pages
        r"|/(?=.*[\\^(\[+]).*/"  # a regular expression
    ),
    "wildcard": re.compile(rf"(?:\*\.|\.){_NAME}"),
    "domains": re.compile(_NAME),
}
# These also hold plain names, but for themselves alone: a list that is of them says so in more than a stray line.
_ALSO_PLAIN = ("adblock", "wildcard")
_ENOUGH = 0.25  # of the plain names' number

_PAGE = re.compile(
    rb"\s*<(?:!doctype|!--|\?xml|(?:html|head|body|title|meta|script|style|link|h[1-6]|div|p|center|pre|table)\b)",
    re.IGNORECASE,
)
_UTF8_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BEGINNING = 4096  # octets


def refuse_page(data: bytes) -> None:
    """Raise `NotAListError` when the data is a web page: what many servers send in place of a list that is gone."""
    if _PAGE.match(data[:_BEGINNING].removeprefix(_UTF8_BYTE_ORDER_MARK)):
        raise NotAListError("an HTML page, not a list")


def detect(data: bytes) -> str:
    """Return the name of the format that a list is most likely in."""
    counts: Counter[str] = Counter()
    for _, text in islice(lines(data), _LONGEST_PREAMBLE):
        if is_header(text):
            return "adblock"
        shape = _shape(text)
        if shape is not None:
            counts[shape] += 1
            if counts.total() == SAMPLE:
                break
    plain = counts["domains"]
    for kind in _ALSO_PLAIN:
        if counts[kind] > _ENOUGH * plain:
            counts[kind] += plain
    return max((kind for kind in _SHAPES if counts[kind]), key=counts.__getitem__, default="domains")


def _shape(text: str) -> str | None:
    if text[0] in MARKS:
        return None
    text = without_comment(text)
    return next((kind for kind, pattern in _SHAPES.items() if pattern.fullmatch(text)), None)
