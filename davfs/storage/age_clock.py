"""The clock that chunks age by: nanoseconds that this node has been running, kept on its disk. May import only core.

It never runs back and stands still while the node is down, so nothing seems older than it is, whatever the wall clock
does. After a kill it goes on from where it was last saved: what was touched since is then younger still. Its origin is
the wall clock of the first start, so that files of a time before it (whose mtimes are wall-clock times) are old.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from davfs.core.errors import CorruptData, UnknownFormat
from davfs.storage.files import write_durably

FORMAT = 1
NAME = "AGE"


class AgeClock:
    """Kept in ``file``. ``seconds``: a clock that never steps (CLOCK_BOOTTIME). Thread-safe: one number is read."""

    def __init__(self, file: Path, seconds: Callable[[], float]) -> None:
        self._file = file
        self._seconds = seconds
        self._offset = _load(file) - int(seconds() * 1e9)

    def now_ns(self) -> int:
        """The age of this node's disk; only differences mean anything."""
        return self._offset + int(self._seconds() * 1e9)

    def save(self) -> None:
        """Keep how far it has come. Errors as of ``write_durably``."""
        write_durably(self._file, (json.dumps({"format": FORMAT, "ns": self.now_ns()}) + "\n").encode())


def _load(file: Path) -> int:
    try:
        value = json.loads(file.read_bytes())
        version, ns = value["format"], value["ns"]
    except FileNotFoundError:
        return time.time_ns()
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptData(f"{file} is not readable; remove it: chunks then begin to age anew") from error
    if version != FORMAT:
        raise UnknownFormat(f"{file} says format {version}; this davfs knows format {FORMAT}: start the version that wrote it")
    if type(ns) is not int:
        raise CorruptData(f"{file} is not readable; remove it: chunks then begin to age anew")
    return ns
