"""What UT1's archives hold beside names: web addresses, and expressions over them, both for proxies.

A resolver sees names alone. Every line here is rejected, for what it is: none is ever read as if it were about a name.
"""

from typing import NoReturn

from blocklists.formats.reader import LineError, LineReader, Reason, normal_name


class Urls(LineReader):
    """Reads a file of addresses, mostly without their scheme: ``a.example/path``."""

    def rules(self, text: str) -> NoReturn:
        """Raise `LineError`: even a name alone stands for the pages of a site here, not for what is below it."""
        normal_name(text)
        raise LineError(Reason.URL)


class Expressions(LineReader):
    """Reads a file of regular expressions over whole addresses."""

    def rules(self, text: str) -> NoReturn:  # noqa: ARG002 - whatever it says
        """Raise `LineError`."""
        raise LineError(Reason.PATTERN)
