"""Gates: changes of overlapping paths commit one after the other, all others at the same time.

Two changes overlap when a path of one is equal to, above or below a path of the other; each is served in the order of
arrival. LOCK takes the gate like any change, so none slips under a lock that is being granted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from davfs.core.canonical import place
from davfs.core.effects import Protocol_, Signal, Wait
from davfs.core.errors import Unavailable
from davfs.core.model import Path


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A change's place in the queue."""

    paths: Sequence[Path]  # as they are compared

    def overlaps(self, other: Ticket) -> bool:
        return any(a[: len(b)] == b or b[: len(a)] == a for a in self.paths for b in other.paths)


class Gates:
    """The queue of one volume's changes."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._lock = Lock()
        self._queue: tuple[Ticket, ...] = ()

    def enter(self, paths: Sequence[Path], timeout: float) -> Protocol_[Ticket]:
        """Wait until no earlier change overlaps; give the ticket to ``leave`` whatever happens then."""
        ticket = Ticket([place(path) for path in paths])
        with self._lock:
            self._queue = (*self._queue, ticket)
        try:
            entered = self._is_first(ticket)
            if not entered:
                entered = yield Wait(self._signal, lambda: self._is_first(ticket), timeout)
        except BaseException:
            self.leave(ticket)
            raise
        if not entered:
            self.leave(ticket)
            raise Unavailable("another change of the same path takes too long; try again")
        return ticket

    def leave(self, ticket: Ticket) -> None:
        with self._lock:
            self._queue = tuple(other for other in self._queue if other is not ticket)
        self._signal.notify()

    @property
    def busy(self) -> bool:
        """Whether any change is on its way."""
        return bool(self._queue)

    def _is_first(self, ticket: Ticket) -> bool:
        for other in self._queue:
            if other is ticket:
                return True
            if other.overlaps(ticket):
                return False
        return False
