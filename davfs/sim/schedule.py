"""What a seed stands for: how large the cluster is, what the volume's policy says, what befalls it, how much clients do.

Not every schedule has every kind of fault: those that have few kinds find what the others drown (swarm testing, Groce and
others, 2012). Pure but for the seeded generator.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from davfs.core.model import AVAILABLE, STRICT
from davfs.sim.faults import KINDS, Troubles

STEPS = 60
CLIENTS = 4


@dataclass(frozen=True, slots=True)
class Schedule:
    """One history before it happens. ``skip``: the numbers of faults that are left out of it; ``members``: nodes join and are
    removed (``administrators.py``, whose doings have numbers below 0)."""

    seed: int
    steps: int = STEPS
    nodes: int = 3
    clients: int = CLIENTS
    replicas: int = 3
    consistency: str = STRICT
    trash_days: int = 0
    troubles: Troubles = field(default_factory=Troubles)
    skip: frozenset[int] = frozenset()
    members: bool = False

    def __str__(self) -> str:
        kinds = " ".join(f"{kind}={getattr(self.troubles, kind)}" for kind in KINDS if getattr(self.troubles, kind))
        return (
            f"seed {self.seed}: {self.nodes} nodes, {self.replicas} replicas, {self.consistency}, trash {self.trash_days} days,"
            f" {self.clients} clients, {self.steps} steps, a fault every {self.troubles.every_s} s ({kinds or 'none'}),"
            f" strikes {self.troubles.strike}{', nodes come and go' if self.members else ''}"
        )


def general(seed: int, steps: int = STEPS, nodes: int = 0, members: bool = False) -> Schedule:
    """The schedule of a seed. ``nodes``: so many instead of three or five; ``members``: the same, and nodes come and go."""
    random = Random(f"{seed} schedule")  # noqa: S311  reproducible on purpose
    count = random.choice((3, 3, 3, 5))
    consistency = AVAILABLE if random.random() < 0.12 else STRICT
    trash_days = random.choice((0, 0, 7))
    every_s = random.choice((1.0, 1.5, 2.5, 4.0))
    strike = random.choice((0.0, 0.01, 0.03))
    few = random.random() < 0.6
    weights = {}
    for kind in KINDS:
        weight, left_out = random.choice((1, 2, 4)), few and random.random() < 0.6
        weights[kind] = 0 if left_out else weight
    if not any(weights.values()):
        weights["power_all"] = 1
    count = nodes or count
    return Schedule(
        seed, steps, count, CLIENTS, min(3, count), consistency, trash_days,
        Troubles(every_s=every_s, strike=strike, **weights), members=members,
    )  # fmt: skip


def without(schedule: Schedule, numbers: frozenset[int]) -> Schedule:
    """The same with more faults left out."""
    return replace(schedule, skip=schedule.skip | numbers)
