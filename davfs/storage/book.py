"""What was done last, kept on a node's disk: the passes of the scrub (a node that is restarted every day would verify nothing
otherwise), the runs of the collector.

A lost or damaged book loses nothing but what `davfs scrub status` and `davfs gc status` show, and the next verifying pass
comes later. May import only core.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from davfs.storage.files import write_durably

FORMAT = 1
SCRUBS, COLLECTIONS = ("SCRUBS", "passes"), ("COLLECTIONS", "runs")
"""(the file's name, what it calls its entries)."""

log = logging.getLogger(__name__)


class DiskBook:
    """Kept in a ``directory`` (port: :class:`davfs.core.book_port.Book`). ``kind``: SCRUBS or COLLECTIONS."""

    def __init__(self, directory: Path, kind: tuple[str, str]) -> None:
        name, self._entries = kind
        self._file = directory / name

    def __str__(self) -> str:
        return str(self._file)

    def load(self) -> list[dict[str, Any]]:
        """The entries that were kept last; none if there is no book, or none that this davfs can read."""
        try:
            book = json.loads(self._file.read_bytes())
            if book["format"] == FORMAT:
                return [dict(one) for one in book[self._entries]]
            log.warning("%s says format %s, this davfs knows %d: it begins anew", self._file, book["format"], FORMAT)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("%s is not readable, it begins anew: %s", self._file, error)
        return []

    def save(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Keep these instead. Errors as of ``write_durably``."""
        write_durably(self._file, (json.dumps({"format": FORMAT, self._entries: list(entries)}) + "\n").encode())
