"""What was read of the index a moment ago, for whoever asks the same before the index changes. May import only core.

Clients ask for the same things again and again (a listing, then each member; a file that many open). Every change of the
index empties it, so what it gives is always the index as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

KEPT = 512

_ABSENT = object()

Found = TypeVar("Found")


class Remembered:
    """Answers by what was asked. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: dict[Hashable, Any] = {}
        self._state = 0  # goes up with every change of the index
        self._changing = 0

    def ask(self, key: Hashable, read: Callable[[], Found], small: Callable[[Found], bool]) -> Found:
        """What ``read`` gives, or gave since the last change; it reads one committed state that it begins itself.

        ``small``: whether that may stay in memory.
        """
        found: Found = self._found.get(key, _ABSENT)
        if found is not _ABSENT:
            return found
        with self._lock:
            state = self._state
        found = read()
        if small(found):
            with self._lock:
                if state == self._state and not self._changing:
                    if len(self._found) >= KEPT:
                        del self._found[next(iter(self._found))]
                    self._found[key] = found
        return found

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Around the commit of a transaction that changes the index.

        Nothing is given from before its beginning to its end: else somebody who saw the change could be followed by
        somebody who does not.
        """
        self._turn(1)
        try:
            yield
        finally:
            self._turn(-1)

    def forget(self) -> None:
        """Everything may be another now."""
        self._turn(0)

    def _turn(self, changing: int) -> None:
        with self._lock:
            self._changing += changing
            self._state += 1
            self._found = {}  # another one: whoever looks into the old one looked before the change
