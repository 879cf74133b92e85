"""Something that goes on in a thread of its own for as long as a `with` statement lasts."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Background(ABC):
    """Work in a thread, which ends soon after it is told to."""

    def __init__(self, *, daemon: bool = False) -> None:
        self.told_to_end = threading.Event()
        self._thread = threading.Thread(target=self.run, daemon=daemon)

    @abstractmethod
    def run(self) -> None:
        """Work until `told_to_end` is set. Not to be called: entering does."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.told_to_end.set()
        self._thread.join()
