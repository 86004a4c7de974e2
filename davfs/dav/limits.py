"""How many requests may work at once, however many clients there are.

Threads are cheap and a slow client keeps one busy; work is not. A request counts as working except while it waits for
its client's bytes, for the client to take the answer's, or for another node. Knows neither HTTP nor cheroot.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

WORKING = "davfs.working"  # where a request's turn stands in its WSGI environment
ENTRY_LIMIT = 10.0  # seconds that a request waits for its turn before it is told to come back
RETURN_LIMIT = 5.0  # seconds that it waits for its turn again after a pause, then goes on all the same


class WorkLimit:
    """At most ``most`` requests work at once."""

    def __init__(self, most: int) -> None:
        self._turns = threading.Semaphore(most)

    def begin(self) -> Working | None:
        """Wait for a turn; None when there was none for ten seconds."""
        return Working(self._turns) if self._turns.acquire(timeout=ENTRY_LIMIT) else None


class Working:
    """One request's turn. ``waiting`` stands around every wait for the client or for another node."""

    def __init__(self, turns: threading.Semaphore) -> None:
        self._turns = turns
        self._held = True

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Give the turn to others meanwhile. The wait for a turn after it has a limit: those in front may be waiting for
        this very request."""
        held = self._held
        self.end()
        try:
            yield
        finally:
            if held:
                self._held = self._turns.acquire(timeout=RETURN_LIMIT)

    def end(self) -> None:
        """Give the turn to others for good."""
        if self._held:
            self._held = False
            self._turns.release()
