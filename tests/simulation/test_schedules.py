"""``davfs sim``: general schedules, in which every kind of fault meets every other. All invariants hold in every one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from davfs.cli.main import main
from davfs.cluster.followers import Followers
from davfs.sim.cluster import VOLUME_ID
from davfs.sim.faults import KINDS
from davfs.sim.minimise import Minimiser, command_of
from davfs.sim.runs import play, play_all
from davfs.sim.schedule import Schedule, general, without
from davfs.sim.simulation import Simulation, Verdict
from tests.simulation.seeds import FAILED_ONCE
from tests.simulation.stage import Stage

SEEDS = int(os.environ.get("DAVFS_SIM_SEEDS", "200"))
BLOCK = 10
RUN = "from davfs.cli.main import main; raise SystemExit(main(['sim', '--seed', '{}', '--trace']))"
EVERYTHING = 15
"""A seed in which all kinds of faults happen."""


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_invariants_hold_whatever_happens(first: int) -> None:
    faults: Counter[str] = Counter()
    for seed in range(first, min(first + BLOCK, SEEDS)):
        verdict = play(general(seed))
        faults.update(verdict.faults)
        assert not verdict.failures, f"{verdict.summary()}: {verdict.failures}; see davfs sim --seed {seed}"
    assert len(faults) > len(KINDS) / 2, "too little has happened"


@pytest.mark.parametrize("seed", [seed for seed in FAILED_ONCE if seed >= SEEDS])
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    verdict = play(general(seed))
    assert not verdict.failures, f"{FAILED_ONCE[seed]}: {verdict.failures}"


def test_a_seed_is_one_history_whatever_the_hash_seed() -> None:
    assert set(play(general(EVERYTHING)).faults) >= set(KINDS)
    traces = {_trace(EVERYTHING, hash_seed) for hash_seed in ("0", "random")}
    assert len(traces) == 1
    assert traces.pop().count(b"\n") > 100


def _trace(seed: int, hash_seed: str) -> bytes:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", RUN.format(seed)], env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


# --- stories of failures ------------------------------------------------------------------------------------------------


def test_a_failure_is_told_with_its_seed_and_made_small(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Followers, "majority_seq", lambda self, table: max(f.match for f in self.by_node.values()))
    seed = next(seed for seed in range(100) if play(general(seed)).failures)
    assert main(["sim", "--seed", str(seed)]) == 1
    told = capsys.readouterr().out
    assert f"seed {seed}: FAILED" in told
    again = told.splitlines()[-1].removeprefix("again: ").split()
    assert again[:4] == ["davfs", "sim", "--seed", str(seed)]
    assert main([*again[1:], "--quick"]) == 1, "the small one fails too"


def test_faults_that_are_not_needed_are_left_out() -> None:
    def fails(plan: Schedule) -> Verdict:
        made = [number for number in range(40) if number not in plan.skip]
        broken = plan.steps >= 10 and {7, 31} <= set(made)
        return Verdict(plan.seed, ["invariant 1: 77 is lost"] if broken else [], {}, {}, made)

    plan = general(5, steps=80)
    smallest, verdict = Minimiser(fails, attempts=200).smallest(plan, fails(plan))
    assert (smallest.steps, verdict.numbers) == (10, [7, 31])
    assert command_of(smallest).startswith("davfs sim --seed 5 --steps 10 --without strikes,0,1,2,")


def test_leaving_out_a_fault_leaves_the_others_as_they_were() -> None:
    whole = Simulation.of(general(3), tracing=True).run()
    left_out = whole.numbers[-1]
    less = Simulation.of(without(general(3), frozenset({left_out})), tracing=True).run()
    assert _faults(less.trace)[: left_out - 1] == _faults(whole.trace)[: left_out - 1]
    assert left_out not in less.numbers


def _faults(trace: list[str]) -> list[str]:
    return [line for line in trace if " fault " in line]


def test_several_processes_come_to_the_same_verdicts() -> None:
    plans = [general(seed, steps=12) for seed in range(6)]
    found: list[dict[int, str]] = []
    for jobs in (1, 2):
        verdicts: list[Verdict] = []
        total = play_all(plans, jobs, verdicts.append, print)
        assert (total.done, total.failed) == (6, [])
        found.append({verdict.seed: verdict.summary() for verdict in verdicts})
    assert found[0] == found[1]


# --- what single seeds have found ---------------------------------------------------------------------------------------


def test_a_new_store_votes_although_raft_did_not_confirm_it_at_first() -> None:
    stage = Stage()
    assert stage.ask("node-1", ("put", ("a",), b"one")).outcome == ("ok", True)
    wiped = stage.cluster.nodes["node-3"]
    wiped.lose_disk()
    stage.cluster.raft.late = 1.0  # every command gets in some time, and nobody is told
    wiped.start()
    stage.loop.run_until(lambda: False, 1.2)
    stage.cluster.raft.late = 0.0
    assert stage.ask("node-1", ("put", ("b",), b"two")).outcome == ("ok", True)
    assert stage.loop.run_until(
        lambda: stage.cluster.volume.incarnations["node-3"] == wiped.stores[VOLUME_ID].incarnation, 10
    )
    assert stage.loop.failures == []


def test_a_change_waits_until_the_replicas_that_stay_can_decide() -> None:
    """node-3 is to go while node-2 has lost its disk: of the two that would be left one could not vote, ever."""
    stage = Stage()
    assert stage.ask("node-1", ("put", ("a",), b"one")).outcome == ("ok", True)
    lost = stage.cluster.nodes["node-2"]
    lost.lose_disk()
    stage.loop.run_until(lambda: False, 1.0)
    stage.cluster.command("replicas_want", VOLUME_ID, "", "node-3")
    stage.loop.run_until(lambda: False, 3.0)
    change = stage.cluster.volume.replica_set.change
    assert change is not None
    assert not change.joint
    lost.start()
    assert stage.ask("node-1", ("put", ("b",), b"two")).outcome == ("ok", True)
    assert stage.loop.run_until(lambda: stage.cluster.volume.replicas == ("node-1", "node-2"), 20)
    assert stage.loop.failures == []
