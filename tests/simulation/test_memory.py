"""Invariant 9 under random faults: what nodes keep in memory does not grow with what was done (see ``footprint.py``)."""

from __future__ import annotations

import os

import pytest

from davfs.sim.footprint import check_growth, footprint
from davfs.sim.schedule import general
from davfs.sim.simulation import Simulation
from tests.simulation import mutants

SEEDS = int(os.environ.get("DAVFS_SIM_MEMORY_SEEDS", "2"))


def grown(seed: int) -> list[str]:
    """A schedule, quiet, and twice as much again: what failed, and what has grown between the two quiet moments."""
    simulation = Simulation.of(general(seed))
    failures = list(simulation.run().failures)
    nodes = simulation.cluster.nodes
    before = {name: footprint(node) for name, node in nodes.items()}
    for _ in range(2):
        failures += [failure for failure in simulation.go_on() if failure not in failures]
    return failures + [line for name, node in nodes.items() for line in check_growth(before[name], footprint(node), node)]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_grows_whatever_breaks(seed: int) -> None:
    assert grown(seed) == []


def test_what_is_never_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    mutants.uses_never_end(monkeypatch)
    assert any("invariant 9" in failure for seed in range(4) for failure in grown(seed))
