"""The connections to a replica's database: one that writes, several that read, and what their errors mean.

Every step is a transaction. A failed sync poisons the database: nothing is written any more. May import only core.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from davfs.core.errors import CorruptData, DavfsError, StoreDamaged, StorePoisoned, Unavailable
from davfs.storage.files import poisoned
from davfs.storage.schema import MEMORY, open_reader, open_writer, translate

_IDLE_READERS = 8
_PATIENCE_S = 10.0

_log = logging.getLogger(__name__)


class Database(ABC):
    """A replica's database, open. Thread-safe; readers do not wait for the writer, but for one that replaces it all."""

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)
        self._memory = self._path == MEMORY
        self._lock = threading.RLock()  # the writer's
        self._pool = threading.Condition()
        self._readers: list[sqlite3.Connection] = []
        self._reading_now = 0
        self._replacing = False
        self._closed = False
        self._viewing = 0
        self._poison = ""
        self._damage = ""
        self._full_sync = True
        self._db = open_writer(self._path)
        try:
            self._read_state()
        except sqlite3.Error as error:
            self._db.close()
            raise translate(error, self._path, writing=False) from error
        except BaseException:
            self._db.close()
            raise

    @property
    def broken(self) -> str:
        """Why the database is of no use until somebody has looked after it: damage, or a failed sync. "" as far as is known."""
        return self._poison or self._damage

    @abstractmethod
    def _read_state(self) -> None:
        """Read what is kept in memory too, when the database is opened or replaced."""

    def close(self) -> None:
        """Close; reads that are under way end as they are. Idempotent."""
        with self._lock, self._pool:
            if not self._closed:
                self._closed = True
                for reader in self._readers:
                    reader.close()
                self._readers.clear()
                self._db.close()

    @contextmanager
    def _nobody_reading(self) -> Iterator[None]:
        """Wait until no view is open, and keep new ones waiting; :class:`Unavailable` if one stays open."""
        with self._pool:
            self._replacing = True
            try:
                if not self._pool.wait_for(lambda: not self._reading_now, _PATIENCE_S):
                    raise Unavailable(f"{self._path} is being read all the time; it is replaced later")
                for reader in self._readers:
                    reader.close()
                self._readers.clear()
                yield
            finally:
                self._replacing = False
                self._pool.notify_all()

    @contextmanager
    def _writing(self, durable: bool) -> Iterator[sqlite3.Connection]:
        """A write transaction, which the body commits itself; rolled back if it does not."""
        with self._lock:
            if self._poison:
                raise poisoned(self._poison)
            if self._viewing:
                raise RuntimeError("a replica in memory cannot be written while a view of it is open")
            try:
                self._check_open()
                if durable is not self._full_sync:
                    self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                    self._full_sync = durable
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
            except sqlite3.Error as error:
                raise self._failed(error) from error
            finally:
                self._roll_back()

    def _roll_back(self) -> None:
        try:
            if not self._closed and self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._poison = self._poison or f"{self._path} could not undo a transaction ({error})"

    def _failed(self, error: sqlite3.Error) -> DavfsError:
        failure = self._noted(translate(error, self._path, writing=True))
        if isinstance(failure, StorePoisoned):
            self._poison = f"writing {self._path} failed ({error})"
            _log.critical("%s: this replica takes no more records", self._poison)
        return failure

    def _noted(self, failure: DavfsError) -> DavfsError:
        """Damage is remembered: who serves the volume from here has to stop, whatever else can still be read."""
        if not isinstance(failure, CorruptData):
            return failure
        if not self._damage:
            self._damage = failure.message
            _log.critical("%s", failure.message)
        return StoreDamaged(failure.message)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of SQLite in what only reads, as davfs's own."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._noted(translate(error, self._path, writing=False)) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: everything read in it is one state."""
        if self._memory:
            with self._lock:
                self._check_open()
                self._viewing += 1
                try:
                    with self._translated():
                        yield self._db
                finally:
                    self._viewing -= 1
            return
        reader = self._take_reader()
        try:
            with self._translated():
                reader.execute("BEGIN")
                yield reader
        finally:
            self._give_back(reader)

    def _take_reader(self) -> sqlite3.Connection:
        with self._pool:
            if not self._pool.wait_for(lambda: not self._replacing, _PATIENCE_S):
                raise Unavailable(f"{self._path} is being replaced")
            self._check_open()
            self._reading_now += 1
            if self._readers:
                return self._readers.pop()
        try:
            return open_reader(self._path)
        except sqlite3.Error as error:
            self._read_ended()
            raise translate(error, self._path, writing=False) from error

    def _read_ended(self) -> None:
        with self._pool:
            self._reading_now -= 1
            self._pool.notify_all()

    def _give_back(self, reader: sqlite3.Connection) -> None:
        try:
            if reader.in_transaction:
                reader.execute("ROLLBACK")
            with self._pool:
                if len(self._readers) < _IDLE_READERS and not self._closed:
                    self._readers.append(reader)
                    return
            reader.close()
        except sqlite3.Error:
            reader.close()
        finally:
            self._read_ended()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(f"the replica {self._path} is closed")
