"""The flows under the seeded simulator: faults break no invariant, and a seed is one history."""

import os
import subprocess
import sys

import pytest

from davfs.sim.simulation import Simulation

RUN = "from davfs.cli.main import main; raise SystemExit(main(['sim', '--seed', '{}', '--trace']))"


@pytest.mark.parametrize("seed", range(20))
def test_invariants_hold_under_faults(seed: int) -> None:
    verdict = Simulation(seed).run()
    assert not verdict.failures, f"{verdict.summary()}: {verdict.failures}; see davfs sim --seed {seed} --trace"


@pytest.mark.parametrize("seed", range(100, 105))
def test_invariants_hold_with_five_nodes(seed: int) -> None:
    verdict = Simulation(seed, nodes=5).run()
    assert not verdict.failures, f"{verdict.summary()}: {verdict.failures}"


def test_the_seeds_make_trouble() -> None:
    """What is checked must have happened: takeovers, unknown outcomes, logs that had to be cut."""
    figures = [Simulation(seed).run().figures for seed in range(12)]
    assert sum(f["epochs"] for f in figures) > 12 * 3
    assert sum(f["unknown"] for f in figures) > 12
    assert sum(f["records"] for f in figures) > 12 * 8
    assert sum(f["cuts"] for f in figures) > 0


def test_a_seed_is_one_history_whatever_the_hash_seed() -> None:
    traces = {_trace(7, hash_seed) for hash_seed in ("0", "1", "random")}
    assert len(traces) == 1
    assert traces.pop().count(b"\n") > 100


def _trace(seed: int, hash_seed: str) -> bytes:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", RUN.format(seed)], env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
