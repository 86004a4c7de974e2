"""A volume's replicas come, go and take each other's place while nodes crash, pause and are cut off: nothing is lost.

Random faults, which strike the holder just as Raft has taken a step of the change. (``schedules.py`` plays two histories of
such a change step by step.)
"""

from __future__ import annotations

import pytest

from davfs.sim.faults import Troubles
from davfs.sim.simulation import Simulation, Verdict

TROUBLES = Troubles(replace=8)


def simulated(seed: int) -> Verdict:
    return Simulation(seed, nodes=5, replicas=3, troubles=TROUBLES).run()


@pytest.mark.parametrize("seed", range(10))
def test_replicas_change_under_faults(seed: int) -> None:
    verdict = simulated(seed)
    assert not verdict.failures, f"{verdict.summary()}: {verdict.failures}"


def test_the_seeds_change_replicas() -> None:
    assert sum(simulated(seed).figures["changes"] for seed in range(5)) > 5 * 3
