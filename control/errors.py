"""What can go wrong in the supervisor, each error a sentence for the operator."""

from admin_api.control import ControlError

__all__ = ["AlreadyServingError", "ControlError", "ListenError", "NoIndexError", "PublishError", "StateError"]


class StateError(ControlError):
    """The state directory can't be used."""


class AlreadyServingError(ControlError):
    """Another service runs on the same state directory."""


class PublishError(ControlError):
    """A policy could not be brought to every worker."""


class NoIndexError(PublishError):
    """There is no index to publish with before one is compiled."""


class ListenError(ControlError):
    """An address can't be listened on."""
