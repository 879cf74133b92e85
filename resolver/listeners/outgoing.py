"""What a client is sent: at once as far as the kernel takes it, the rest as the client reads."""

import asyncio
import socket
from collections.abc import Callable

NOT_NOW = (BlockingIOError, InterruptedError)


class Outgoing:
    """The sending half of one socket."""

    def __init__(self, sock: socket.socket, moved: Callable[[], None]) -> None:
        """Send through a connected socket; `moved` is called when the kernel has taken more of what was left."""
        self.is_lost = False
        """Whether the client can't be reached any more."""
        self._sock = sock
        self._moved: Callable[[], None] | None = moved
        self.unsent = 0
        """Octets that the kernel has not taken yet."""
        self._left = bytearray()

    def send(self, data: bytes) -> None:
        """Send octets, after those that are left."""
        if self.unsent:
            self._left += data
            self.unsent = len(self._left)
            return
        sent = self._try(data)
        if sent < len(data) and not self.is_lost:
            self._left += data[sent:]
            self.unsent = len(self._left)
            asyncio.get_running_loop().add_writer(self._sock, self._writable)

    def _writable(self) -> None:
        del self._left[: self._try(self._left)]
        self.unsent = len(self._left)
        if not self.unsent:
            asyncio.get_running_loop().remove_writer(self._sock)
        if self._moved is not None:
            self._moved()

    def _try(self, data: bytes | bytearray) -> int:
        """Return how many octets the kernel took."""
        try:
            return self._sock.send(data)
        except NOT_NOW:
            return 0
        except OSError:
            self.is_lost = True
            return 0

    def stop(self) -> None:
        """Send nothing more, and let go of whom to tell."""
        asyncio.get_running_loop().remove_writer(self._sock)
        self._moved = None
