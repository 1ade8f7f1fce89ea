"""What is listened to for as long as a ``with`` lasts, by a thread of its own.

A subclass says in ``begin`` how listening begins, and starts :attr:`reader` there once nothing can
be missed any more; in ``read`` what the thread does; in ``end`` how both end. Whatever goes wrong
in ``begin`` is ended before it is raised.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class Listening(ABC):
    """Begins on entry, ends on exit of a ``with``."""

    def __init__(self) -> None:
        self.reader = threading.Thread(target=self.read, daemon=True)

    def __enter__(self) -> Self:
        try:
            self.begin()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @abstractmethod
    def begin(self) -> None:
        """Begin to listen; return when nothing that comes now is missed."""

    @abstractmethod
    def end(self) -> None:
        """Stop listening, and give back what that held; also after a ``begin`` that failed."""

    @abstractmethod
    def read(self) -> None:
        """Take what comes until the end."""

    def join(self) -> None:
        """Wait for the thread, if it was started."""
        if self.reader.ident is not None:
            self.reader.join()
