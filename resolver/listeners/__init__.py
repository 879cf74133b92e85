"""The sockets that clients reach: framing alone; the engine does the rest."""
