"""What the scrub and the collector did last, taken from a book at the start of a node and kept in it (``core/book_port.py``).

A book that fails costs what it would have shown, never the work itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from davfs.core.book_port import Book
from davfs.core.errors import DavfsError

Entry = TypeVar("Entry")

log = logging.getLogger(__name__)


def taken(book: Book | None, of_wire: Callable[[Mapping[str, Any]], Entry]) -> Iterator[Entry]:
    """The entries of a book, but for those that ``of_wire`` cannot read."""
    for values in book.load() if book is not None else ():
        try:
            entry = of_wire(values)
        except (TypeError, KeyError, ValueError) as error:
            log.warning("an entry of %s is not readable: %s", book, error)
        else:
            yield entry


def keep(book: Book | None, entries: Sequence[Mapping[str, Any]]) -> None:
    """Keep these instead."""
    if book is None:
        return
    try:
        book.save(entries)
    except DavfsError as error:
        log.warning("%s could not be kept: %s", book, error)
