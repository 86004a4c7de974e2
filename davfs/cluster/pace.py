"""Background work in small steps: as long as a step took, so long the node is left to others (after Garage's tranquilizer)."""

from __future__ import annotations

from davfs.core.effects import Protocol_, Sleep
from davfs.core.ports import Clock

LEAST_S = 0.002
MOST_S = 1.0


class Pace:
    """``rest`` between two steps. ``calm``: rest for so many times what the step took."""

    def __init__(self, clock: Clock, calm: float = 1.0) -> None:
        self._clock = clock
        self._calm = calm
        self._began = clock.now()

    def rest(self) -> Protocol_[None]:
        """Sleep, and begin the next step."""
        took = self._clock.now() - self._began
        yield Sleep(min(MOST_S, max(LEAST_S, took * self._calm)))
        self._began = self._clock.now()
