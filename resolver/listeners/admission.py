"""Who may hold a connection: within limits, the newest comers, at the cost of those that have been silent longest."""

import socket
from collections.abc import Iterable

from resolver.engine import Engine
from resolver.listeners.connection import Connection, Service
from resolver.listeners.limits import Limits


class Connections:
    """All of a worker's connections from clients, over whatever transport."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._by_peer: dict[str, set[Connection]] = {}
        self._open: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._open)

    def take(self, sock: socket.socket, peer: str, service: Service) -> None:
        """Serve an accepted connection, in the place of another if there are as many as there may be.

        A client that is at its limit loses one of its own, however many others there are.
        """
        limits = self._limits
        own = self._by_peer.get(peer, ())
        if len(own) >= limits.connections_each:
            _longest_silent(own).abort()
        elif len(self._open) >= limits.connections:
            _longest_silent(self._open).abort()
        connection = Connection(sock, peer, service, self._engine, limits, self._leave)
        self._open.add(connection)
        self._by_peer.setdefault(peer, set()).add(connection)

    def _leave(self, connection: Connection) -> None:
        self._open.discard(connection)
        own = self._by_peer.get(connection.peer, set())
        own.discard(connection)
        if not own:
            self._by_peer.pop(connection.peer, None)

    def give_one_up(self) -> bool:
        """Let go of the connection that has been silent longest, for its descriptor; False: there is none."""
        if not self._open:
            return False
        _longest_silent(self._open).abort()
        return True

    def look(self, now: float) -> None:
        """End those whose time is over, on the monotonic clock."""
        for connection in list(self._open):
            connection.look_at(now)

    def end(self) -> None:
        """End all: each sends what it has."""
        for connection in list(self._open):
            connection.end()

    @property
    def unsent(self) -> bool:
        """Tell whether any has octets that the kernel has not taken yet."""
        return any(connection.unsent for connection in self._open)

    def abort(self) -> None:
        """Close all at once."""
        for connection in list(self._open):
            connection.abort()


def _longest_silent(connections: Iterable[Connection]) -> Connection:
    """Return the one that is missed least: at its end, without a question that waits, silent for longest."""
    return min(connections, key=lambda one: (not one.is_ending, one.in_flight > 0, one.last_active))
