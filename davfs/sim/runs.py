"""Many seeds, one after the other or in several processes, and what came of them all."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from davfs.sim.schedule import Schedule
from davfs.sim.simulation import Simulation, Verdict

PROGRESS_S = 10.0
_SUMMED = ("done", "unknown", "refused", "records", "epochs", "wiped", "snapshots", "changes", "collected", "joined", "removed")


@dataclass(slots=True)
class Total:
    """What a run of many seeds did. ``failed``: (seed, its failures)."""

    wanted: int
    done: int = 0
    seconds: float = 0.0
    figures: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, list[str]]] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """Count one verdict in."""
        self.done += 1
        self.figures.update({name: int(verdict.figures[name]) for name in _SUMMED})
        self.faults.update(verdict.faults)
        if verdict.failures:
            self.failed.append((verdict.seed, verdict.failures))

    def progress(self) -> str:
        """One line."""
        rate = self.done / self.seconds if self.seconds else 0.0
        left = (self.wanted - self.done) / rate if rate else 0.0
        return f"{self.done} of {self.wanted} seeds, {len(self.failed)} failed, {rate:.1f} a second, {left:.0f} s left"

    def lines(self) -> Iterator[str]:
        """The end of a run."""
        figures = ", ".join(f"{self.figures[name]} {name}" for name in _SUMMED)
        yield f"{self.done} seeds in {self.seconds:.0f} s: {len(self.failed)} failed ({figures})"
        yield "faults: " + (", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items())) or "none")
        if self.failed:
            yield f"failed seeds: {' '.join(str(seed) for seed, _ in self.failed)}"


def play(plan: Schedule) -> Verdict:
    """One schedule."""
    return Simulation.of(plan).run()


def play_all(
    plans: Sequence[Schedule], jobs: int, told: Callable[[Verdict], None], progress: Callable[[str], None]
) -> Total:
    """Play schedules in ``jobs`` processes; ``told`` of each verdict as it comes, ``progress`` of a line now and then."""
    total, began, last = Total(len(plans)), time.monotonic(), time.monotonic()
    for verdict in _verdicts(plans, jobs):
        total.add(verdict)
        now = time.monotonic()
        total.seconds = now - began
        told(verdict)
        if now - last >= PROGRESS_S:
            last = now
            progress(total.progress())
    return total


def _verdicts(plans: Sequence[Schedule], jobs: int) -> Iterator[Verdict]:
    if jobs == 1:
        yield from map(play, plans)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, _be_quiet) as pool:
        yield from pool.imap_unordered(play, plans, chunksize=4)


def _be_quiet() -> None:
    logging.disable(logging.CRITICAL)  # simulated nodes complain of simulated faults
