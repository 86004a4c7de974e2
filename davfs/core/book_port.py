"""What keeps the last of something over a restart of the node. Pure: may import only core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Book(Protocol):
    """Keeps plain values (``storage/book.py``)."""

    def load(self) -> Sequence[Mapping[str, Any]]:
        """What was kept last; nothing if that cannot be read."""
        ...

    def save(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Keep these instead."""
        ...
