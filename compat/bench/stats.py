"""Samples and what is made of them: medians, percentiles, ratios. Pure arithmetic, no IO."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


def median(seconds: Sequence[float]) -> float:
    """The middle sample (mean of the two middle ones for an even number). ValueError when empty."""
    if not seconds:
        raise ValueError("no samples")
    return statistics.median(seconds)


def percentile(seconds: Sequence[float], percent: float) -> float:
    """The smallest sample that at least `percent` of all do not exceed (nearest rank).

    With fewer than 20 samples the 95th is simply the largest. ValueError when empty.
    """
    if not seconds:
        raise ValueError("no samples")
    if not 0 < percent <= 100:
        raise ValueError(f"percent must be above 0 and at most 100, not {percent}")
    rank = math.ceil(len(seconds) * percent / 100)
    return sorted(seconds)[rank - 1]


@dataclass
class Samples:
    """All samples of one run, in seconds per request, by operation and server."""

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, operation: str, server: str, seconds: Sequence[float]) -> None:
        """Adds one turn's samples."""
        self.seconds.setdefault((operation, server), []).extend(seconds)

    def of(self, operation: str, server: str) -> list[float]:
        """The samples of one cell, [] when the server never ran the operation."""
        return self.seconds.get((operation, server), [])

    def ratio(self, operation: str, ours: str, theirs: str) -> float | None:
        """How many times faster `ours` is than `theirs`: their median over our median.

        None when one of them has no samples.
        """
        mine, other = self.of(operation, ours), self.of(operation, theirs)
        if not mine or not other:
            return None
        return median(other) / median(mine)
