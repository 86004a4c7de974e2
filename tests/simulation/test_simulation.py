"""The flows under the simulator's plain faults, of nodes and network: what they do is not nothing, and breaks no invariant."""

from davfs.sim.simulation import Simulation


def test_the_seeds_make_trouble() -> None:
    """What is checked must have happened: takeovers, unknown outcomes, logs that had to be cut."""
    verdicts = [Simulation(seed).run() for seed in range(12)]
    assert [verdict.failures for verdict in verdicts] == [[]] * 12
    figures = [verdict.figures for verdict in verdicts]
    assert sum(f["epochs"] for f in figures) > 12 * 3
    assert sum(f["unknown"] for f in figures) > 12
    assert sum(f["records"] for f in figures) > 12 * 8
    assert sum(f["cuts"] for f in figures) > 0
