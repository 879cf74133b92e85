"""What a stored value must look like. Pure: no database.

Each check returns the value in normal form or raises `ValueError` with a sentence for people. `Checks` runs several
and reports all that failed together, so that an administrator mends a form once.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import ParamSpec, TypeVar

from policy.names import InvalidNameError, normalise
from storage.errors import InvalidError, Problem

MAX_TEXT = 500
MAX_LOCATION = 2000
MAX_ID = 2**63 - 1
LATEST = 253_402_300_799_999_999
"""The last microsecond of the year 9999, behind which no calendar library follows."""

_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291 section 2.5.5.2

T = TypeVar("T")
P = ParamSpec("P")
E = TypeVar("E", bound=StrEnum)


class Checks:
    """Collects what is wrong, field by field."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def take(self, field: str, check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Run one check; on failure note it under the field and return None."""
        try:
            return check(*args, **kwargs)
        except ValueError as error:
            self.problems.append(Problem(field, str(error)))
            return None

    def refuse(self, field: str, message: str) -> None:
        """Note a problem that the caller found itself."""
        self.problems.append(Problem(field, message))

    def finish(self) -> None:
        """Raise `InvalidError` with every problem noted, if any was."""
        if self.problems:
            raise InvalidError.of(self.problems)


def domain(value: str) -> str:
    """Return a domain name in normal form. Public suffixes and single labels are names too."""
    try:
        return normalise(value.strip())
    except InvalidNameError as error:
        raise ValueError(str(error)) from error


def text(value: str, *, limit: int = MAX_TEXT, required: bool = False) -> str:
    """Return a text without the blanks around it. Control characters and half a surrogate pair are no text."""
    value = value.strip()
    if required and not value:
        raise ValueError("must not be blank")
    if len(value) > limit:
        raise ValueError(f"must not be longer than {limit} characters")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise ValueError("must not hold control characters")
    return value


def key(value: str) -> str:
    """Return a key that people can type in commands and addresses."""
    if _KEY.fullmatch(value) is None:
        raise ValueError(
            f"must be 1 to 63 of a-z, 0-9, '-' and '_', and begin with a letter or digit, not {value[:80]!r}"
        )
    return value


def one_of(kind: type[E], value: str) -> E:
    """Return the member of an enumeration that has the value."""
    try:
        return kind(value)
    except ValueError as error:
        raise ValueError(f"must be {_alternatives(kind)}, not {str(value)[:80]!r}") from error


def _alternatives(kind: type[StrEnum]) -> str:
    values = [str(member) for member in kind]
    return " or ".join([", ".join(values[:-1]), values[-1]]) if len(values) > 1 else values[0]


def cidr(value: str) -> str:
    """Return a network in CIDR notation; a bare address is the network of that one address."""
    value = value.strip()
    try:
        if "%" in value:
            raise ValueError(value)  # noqa: TRY301 - a zone means something on one host only (RFC 4007 section 11)
        network = ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError(f"must be an address or a network such as 10.1.2.0/24, not {value[:80]!r}") from error
    if network.network_address != ipaddress.ip_interface(value).ip:
        raise ValueError(f"{value} has bits set behind its prefix: did you mean {network}?")
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        # Clients of either family are known by the address that they have, never by its mapped form.
        inner = int(network.network_address) & 0xFFFFFFFF
        return f"{ipaddress.IPv4Address(inner)}/{network.prefixlen - 96}"
    return str(network)


def address(value: str) -> str:
    """Return an IPv4 or IPv6 address in its shortest form."""
    try:
        if "%" in value:
            raise ValueError(value)  # noqa: TRY301 - as in `cidr`
        return str(ipaddress.ip_address(value.strip()))
    except ValueError as error:
        raise ValueError(f"must be an IP address, not {value[:80]!r}") from error


def many(values: Iterable[str], check: Callable[[str], str], *, limit: int) -> tuple[str, ...]:
    """Return every value checked, each once, in the order given."""
    found = tuple(dict.fromkeys(check(value) for value in values))
    if len(found) > limit:
        raise ValueError(f"must not hold more than {limit}")
    return found


def future(value: int, now: int) -> int:
    """Return a time that lies after now."""
    if value <= now:
        raise ValueError("must be in the future")
    if value > LATEST:
        raise ValueError("must be before the year 10000")
    return value


def identifier(value: int) -> bool:
    """Tell whether a number can be the id of a row at all."""
    return 0 < value <= MAX_ID
