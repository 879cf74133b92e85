"""Everything that querylog raises, named for whose fault it is."""


class QuerylogError(Exception):
    """Base of everything that querylog raises."""


class StoreDownError(QuerylogError):
    """The store can't be reached or can't be used just now. The message is one sentence without credentials."""


class ShipperBusyError(StoreDownError):
    """Another process ships from this state directory just now."""


class DamagedSegmentError(QuerylogError):
    """A segment's batches are whole but don't fit together."""

    def __init__(self, segment: str, reason: str) -> None:
        super().__init__(f"{segment}: {reason}")
        self.segment = segment


class InvalidQueryError(QuerylogError):
    """The caller's query can't be answered: a field and what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
