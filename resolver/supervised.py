"""What a worker and its supervisor agree on: here, so that neither loads the other for it."""

DRAIN_SECONDS = 5.0
"""How long a worker that was told to stop waits for what is in flight: the usual deadline and a second."""
LONGEST_LINE = 16 << 20
"""Octets on the control channel: settings may list thousands of upstreams, and each sign of life tells of them all."""
ROLE_LOCK = "serving.lock"
"""Each worker holds it shared; a supervisor that takes over waits for it, and holds it while it starts its own."""
TAKEOVER = "takeover"
"""A file whose change tells orphaned workers to leave."""
