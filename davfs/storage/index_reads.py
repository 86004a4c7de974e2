"""How a replica's index is read: a view of one committed state, what was read a moment ago, a close look.

May import only core.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

from davfs.core.ports import IndexView
from davfs.storage.audit import SqliteAudit
from davfs.storage.database import Database
from davfs.storage.index_view import SqliteIndexView
from davfs.storage.remembered import Remembered
from davfs.storage.schema import MEMORY

Found = TypeVar("Found")


class IndexReads(Database):
    """A replica's database, as far as its index is read. Whoever commits a change of the index does it inside of
    ``self._remembered.changing()``."""

    def __init__(self, path: Path | str) -> None:
        self._remembered = Remembered()
        self._directory = None if str(path) == MEMORY else Path(path).parent
        super().__init__(path)

    def view(self) -> AbstractContextManager[IndexView]:
        """One committed state, for the thread that asks; keep it short, an old view keeps the write-ahead log long."""
        return self._viewing_one()

    @contextmanager
    def _viewing_one(self) -> Iterator[IndexView]:
        with self._reading() as db:
            yield SqliteIndexView(db, self._directory)

    def remembered(
        self, key: Hashable, read: Callable[[IndexView], Found], small: Callable[[Found], bool] = lambda found: True
    ) -> Found:
        """See the port; ``remembered.py``."""

        def look() -> Found:
            with self._viewing_one() as view:
                return read(view)

        return self._remembered.ask(key, look, small)

    @contextmanager
    def audit(self) -> Iterator[SqliteAudit]:
        """One committed state for a close look, for one thread at a time; errors of SQLite are translated."""
        with self._reading() as db:
            yield SqliteAudit(db, self._translated)
