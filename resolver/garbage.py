"""Python's garbage collector, kept from holding up answers.

It frees what holds itself in a circle; everything else goes by itself. To find circles it walks all that was made since
it last looked, and now and then all there is: a hundred thousand cached answers take it a quarter of a second. So here
it looks at what is new, a millisecond at a time, and at the rest only while hardly anything is asked. That is enough,
because nothing in a worker that outlives a moment is meant to be in a circle.
"""

import gc

YOUNG = 2_000
"""Objects made, beyond those that went, before it looks at them: 1 ms."""
NEVER = 1_000_000_000
REST_SECONDS = 3600.0
QUIET = 5
"""Lookups in a second."""


class Garbage:
    """Says when the collector runs."""

    def __init__(self, now: float) -> None:
        """Take what has been loaded as lasting; times are seconds on the monotonic clock."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG, NEVER, NEVER)
        self._looked_at = now

    def look(self, now: float, lookups: int) -> None:
        """Look at everything, if so few were answered in the last second, and it has been a while."""
        if lookups <= QUIET and now - self._looked_at >= REST_SECONDS:
            self._looked_at = now
            gc.collect()
