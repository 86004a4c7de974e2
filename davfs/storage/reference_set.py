"""A large set of names in a scratch database: exact, sorted, and small in memory whatever its size. May import only core.

A table keyed by the name itself, without journal and syncs: it lives for one run of the collector and is worth nothing
after a crash. Digests are kept as 32 bytes. A million of them take about 40 MB of disk and 8 MiB of memory; a Bloom filter
would take less and be wrong in one of some thousand cases, each of them a chunk that never goes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from davfs.core.errors import DavfsError
from davfs.storage.schema import translate

_CACHE_KIB = 8 << 10
_DIGEST_LENGTH = 64


class ReferenceSet:
    """Port: :class:`davfs.core.chunk_port.References`. ``path``: a file that is there for nobody else, or ``":memory:"``.

    Name it so that a leftover is removed at the next start (``storage/files.py``, TEMPORARY).
    """

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)
        self._lock = threading.Lock()
        if self._path != ":memory:":
            Path(self._path).unlink(missing_ok=True)
        try:
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
                self._db.execute(f"PRAGMA {setting}").fetchall()
            self._db.execute("CREATE TABLE name (name BLOB PRIMARY KEY) WITHOUT ROWID")
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def add(self, names: Iterable[str]) -> None:
        """Put names into the set."""
        rows = [(_packed(name),) for name in names]
        with self._lock:
            try:
                self._db.execute("BEGIN")
                self._db.executemany("INSERT OR IGNORE INTO name VALUES (?)", rows)
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise self._failure(error) from error

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those that are not in the set."""
        with self._lock:
            try:
                return [
                    name
                    for name in names
                    if self._db.execute("SELECT 1 FROM name WHERE name = ?", (_packed(name),)).fetchone() is None
                ]
            except sqlite3.Error as error:
                raise self._failure(error) from error

    def count(self) -> int:
        """How many there are."""
        with self._lock:
            number: int = self._db.execute("SELECT count(*) FROM name").fetchone()[0]
            return number

    def close(self) -> None:
        """Forget it all."""
        with self._lock:
            self._db.close()
            if self._path != ":memory:":
                Path(self._path).unlink(missing_ok=True)

    def _failure(self, error: sqlite3.Error) -> DavfsError:
        return translate(error, self._path, writing=False)


def _packed(name: str) -> bytes:
    if len(name) == _DIGEST_LENGTH:
        try:
            return bytes.fromhex(name)
        except ValueError:
            pass
    return name.encode()
