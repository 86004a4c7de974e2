"""Replica databases in memory, for the simulator: opened from an image, and writes that fail as on a disk. Imports nothing."""

from __future__ import annotations

import sqlite3


def open_image(image: bytes) -> sqlite3.Connection:
    """A database in memory that holds what ``sqlite3.Connection.serialize`` gave."""
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    db.deserialize(image)
    return db


def failure(full: bool) -> sqlite3.OperationalError:
    """What SQLite says when a write finds the disk ``full``, or failing (EIO)."""
    error = sqlite3.OperationalError("a simulated disk is full" if full else "a simulated disk fails")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_IOERR
    return error
