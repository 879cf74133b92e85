"""What can go wrong with a blocklist, by whose fault it is.

Every message is one sentence that an administrator can act on.
"""


class BlocklistError(Exception):
    """Base of everything that this package raises."""


class ListError(BlocklistError):
    """The list as a whole can't be used."""


class NotAListError(ListError):
    """The content is no list at all."""


class UnknownFormatError(ListError):
    """No format has this name."""


class FetchError(BlocklistError):
    """A list could not be brought here."""

    def __init__(self, location: str, reason: str) -> None:
        """Say where and why; the location without its password."""
        self.location = location
        self.reason = reason
        super().__init__(f"{location} could not be fetched: {reason}")


class LocationError(FetchError):
    """The operator's to mend: the location is wrong, or what it names is not allowed."""


class UnreachableError(FetchError):
    """The network's: no answer came, or not all of it."""


class RemoteError(FetchError):
    """The publisher's: what was sent is an error, damaged, or not to be trusted."""


class BusyError(RemoteError):
    """The server can't answer for now, and says so."""


class TooLargeError(RemoteError):
    """More than the limits allow."""
