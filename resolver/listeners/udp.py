"""UDP, drained in bursts."""

import asyncio
import socket
import time
from contextlib import suppress

from resolver.engine import Engine
from resolver.listeners.binding import bind
from setting_values import Endpoint

BURST = 64
REST_SECONDS = 0.1
"""How long nothing is read where reading fails: the socket stays readable, and we would do nothing but look again."""
MAX_DATAGRAM = 4096


class UdpListener:
    """Drains one UDP socket."""

    def __init__(self, endpoint: Endpoint, engine: Engine) -> None:
        self._engine = engine
        self._sock = bind(endpoint, socket.SOCK_DGRAM)
        self._resting: asyncio.TimerHandle | None = None
        self._read()

    def _read(self) -> None:
        self._resting = None
        asyncio.get_running_loop().add_reader(self._sock, self._readable)

    def _rest(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.remove_reader(self._sock):  # not where reading has stopped for good
            self._resting = loop.call_later(REST_SECONDS, self._read)

    def _readable(self) -> bool:
        """Take a burst; False when nothing is left."""
        recvfrom = self._sock.recvfrom
        burst = []
        received = time.time_ns() // 1000
        try:
            for _ in range(BURST):
                burst.append(recvfrom(MAX_DATAGRAM))  # noqa: PERF401 - what came before an error is kept
        except (BlockingIOError, InterruptedError):  # nothing more
            pass
        except OSError:  # an error that belongs to a reply of ours, or the socket's own
            if not burst:
                self._rest()
        self._engine.take_burst(burst, self._sock.sendto, received)
        self._engine.flush()
        return len(burst) == BURST

    def stop_reading(self) -> None:
        """Take what has arrived, and no more; replies still leave."""
        asyncio.get_running_loop().remove_reader(self._sock)
        if self._resting is not None:
            self._resting.cancel()
        with suppress(OSError):
            # A connected socket is given no more: what arrives from now on goes to the other workers' sockets.
            self._sock.connect(self._sock.getsockname())
        while self._readable():
            pass

    def close(self) -> None:
        """Let go of the socket."""
        self._sock.close()
