"""How an upstream is doing, in the service log: a line when it begins to fail and one when it works again."""

import logging

log = logging.getLogger(__name__)

MOST_CHARACTERS = 200  # of a reason, which may quote the upstream
QUIET_SECONDS = 60.0  # one that fails and works by turns is spoken of so often


class Standing:
    """Whether an upstream's failure has been told."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_told = False
        self._quiet_until = float("-inf")

    def failed(self, reason: str, now: float) -> None:
        """Tell why it fails, if it worked before. The time is in seconds on the monotonic clock."""
        if not self._is_told and now >= self._quiet_until:
            self._is_told = True
            self._quiet_until = now + QUIET_SECONDS
            log.warning("upstream %s: %s", self._name, "".join(filter(str.isprintable, reason))[:MOST_CHARACTERS])

    def worked(self) -> None:
        """Tell that it works, if it was said to fail."""
        if self._is_told:
            self._is_told = False
            log.warning("upstream %s answers again", self._name)
