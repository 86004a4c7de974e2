"""Documents as they were read last, for whoever reads them next: a holder needs each cold one twice, to change it and to
apply the change. May import only core."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from threading import Lock

from davfs.core.ports import StoredDocument

KEPT = 8
KEPT_BYTES = 64 * 1024
"""So many documents, of so many bytes at most each."""


class Lately:
    """Each is given once. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: OrderedDict[str, StoredDocument] = OrderedDict()
        self._state = 0  # goes up with every change of any document

    def take(self, name: str) -> tuple[StoredDocument | None, int]:
        """(the document, if it was read lately, the state that it is of or that a read which begins now is of)."""
        with self._lock:
            return self._found.pop(name, None), self._state

    def keep(self, name: str, found: StoredDocument, state: int) -> None:
        """Keep what was read, unless something has changed since the read began."""
        if len(found.snapshot or b"") + sum(map(len, found.changes)) > KEPT_BYTES:
            return
        with self._lock:
            if state == self._state:
                self._found[name] = found
                while len(self._found) > KEPT:
                    self._found.popitem(last=False)

    @contextmanager
    def changing(self, names: Collection[str]) -> Iterator[None]:
        """Around the commit of a transaction that changed these documents: nobody gets what they were before it."""
        with self._lock:
            try:
                yield
            finally:
                self._state += 1
                for name in names:
                    self._found.pop(name, None)

    def forget(self) -> None:
        """Everything may be another now."""
        with self._lock:
            self._state += 1
            self._found.clear()
