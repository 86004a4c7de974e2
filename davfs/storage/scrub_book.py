"""The last passes of the scrub, kept on a node's disk: a node that is restarted every day would verify nothing otherwise.

A lost or damaged book loses nothing but what `davfs scrub status` shows, and the next verifying pass comes later. May import
only core.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from davfs.storage.files import write_durably

FORMAT = 1
NAME = "SCRUBS"

log = logging.getLogger(__name__)


class ScrubBook:
    """Kept in a ``directory``; passes are plain values (``cluster/scrub.py``, ``Pass.wire``)."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / NAME

    def load(self) -> list[dict[str, Any]]:
        """The passes that were kept last; none if there is no book, or none that this davfs can read."""
        try:
            book = json.loads(self._file.read_bytes())
            if book["format"] == FORMAT:
                return [dict(one) for one in book["passes"]]
            log.warning("%s says format %s, this davfs knows %d: the scrub begins anew", self._file, book["format"], FORMAT)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("%s is not readable, the scrub begins anew: %s", self._file, error)
        return []

    def save(self, passes: Sequence[Mapping[str, Any]]) -> None:
        """Keep these instead. Errors as of ``write_durably``."""
        write_durably(self._file, (json.dumps({"format": FORMAT, "passes": list(passes)}) + "\n").encode())
