"""Public suffixes: names such as ``co.uk`` below which strangers register theirs.

Knows the ICANN part of the public suffix list alone. Its private part (``github.io``) names services, which a list
may well block.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import publicsuffixlist

from policy.names import normalise


class _Suffixes(NamedTuple):
    names: frozenset[str]
    wildcards: frozenset[str]
    """Names below which every label is a public suffix: ``ck`` for ``*.ck``."""
    exceptions: frozenset[str]
    """Names below those that are none: ``www.ck`` for ``!www.ck``."""


def is_public_suffix(name: str) -> bool:
    """Tell whether a name in normal form is one label, or an ICANN public suffix."""
    names, wildcards, exceptions = _suffixes()
    if name in names or "." not in name:
        return True
    return name[name.index(".") + 1 :] in wildcards and name not in exceptions


@cache
def _suffixes() -> _Suffixes:
    names, wildcards, exceptions = set(), set(), set()
    with Path(publicsuffixlist.PSLFILE).open(encoding="utf-8") as file:
        for rule in _icann_rules(file):
            if rule.startswith("*."):
                wildcards.add(normalise(rule[2:]))
            elif rule.startswith("!"):
                exceptions.add(normalise(rule[1:]))
            else:
                names.add(normalise(rule))
    # A block of `kobe.jp` would reach further than one of any suffix that `*.kobe.jp` makes.
    return _Suffixes(frozenset(names | wildcards), frozenset(wildcards), frozenset(exceptions))


def _icann_rules(lines: Iterable[str]) -> Iterator[str]:
    """Yield the rules between the ICANN markers; a rule ends at white space (https://publicsuffix.org/list/)."""
    inside = False
    for line in lines:
        if line.startswith("// ==="):
            if "ICANN DOMAINS" in line:
                inside = "BEGIN" in line
        elif inside and line.strip() and not line.startswith("//"):
            yield line.split(maxsplit=1)[0]
