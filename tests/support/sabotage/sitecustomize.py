"""What Python imports at its start when this directory is on its path: a clock, a disk and sockets that fail.

The directory that $SABOTAGE names says what is wrong at the moment: ``clock`` holds how many seconds the wall clock is
ahead; while ``hang`` is there, bringing anything to the disk takes until it is gone; and while ``deaf`` is there,
datagrams from anybody and connections can't be taken from the kernel, which has them.
"""

import errno
import os
import socket
import time
from pathlib import Path
from typing import Any

_WRONG = Path(os.environ["SABOTAGE"])
_time_ns, _fdatasync, _fsync = time.time_ns, os.fdatasync, os.fsync


def _ahead() -> int:
    try:
        return int((_WRONG / "clock").read_text() or 0)
    except FileNotFoundError:
        return 0


def _set_time_ns() -> int:
    return _time_ns() + _ahead() * 1_000_000_000


def _set_time() -> float:
    return _set_time_ns() / 1e9


def _wait() -> None:
    (_WRONG / "waiting").touch()
    while (_WRONG / "hang").exists():
        time.sleep(0.01)


def _slow_fdatasync(fd: Any) -> None:
    _wait()
    _fdatasync(fd)


def _slow_fsync(fd: Any) -> None:
    _wait()
    _fsync(fd)


def _deaf(take: Any) -> Any:
    def fail_or_take(*arguments: Any) -> Any:
        if (_WRONG / "deaf").exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return take(*arguments)

    return fail_or_take


time.time_ns, time.time = _set_time_ns, _set_time
os.fdatasync, os.fsync = _slow_fdatasync, _slow_fsync
for _call in ("recvfrom", "accept"):
    setattr(socket.socket, _call, _deaf(getattr(socket.socket, _call)))
