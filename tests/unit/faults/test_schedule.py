"""Schedules of faults: a seed names one, everything comes, and nothing is asked that the design does not promise to survive."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.schedule import FULL, HARM, HOLDER, KILL, KINDS, ON_ONE_NODE, PARTITION, STOP, TTL_S, Round, Schedule

SEEDS = range(40)


def rounds(seed: int, count: int = 30, **options) -> list[Round]:
    schedule = Schedule(seed, **options)
    return [schedule.next_round() for _ in range(count)]


def test_a_seed_names_one_schedule() -> None:
    assert rounds(7) == rounds(7)
    assert rounds(7) != rounds(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_kind_comes_and_comes_evenly(seed: int) -> None:
    counts = Counter(fault.kind for one in rounds(seed, 60) for fault in one.faults)
    assert set(counts) == set(KINDS)
    assert max(counts.values()) - min(counts.values()) <= 3


@pytest.mark.parametrize("seed", SEEDS)
def test_at_most_one_disk_is_harmed_and_a_minority_struck_at_a_time(seed: int) -> None:
    for one in rounds(seed, small=(2, 4)):
        kinds = [fault.kind for fault in one.faults]
        assert 1 <= len(kinds) <= 3 and len(set(kinds)) == len(kinds)
        assert sum(kind in HARM for kind in kinds) <= 1
        alone = [fault.nodes for fault in one.faults if fault.kind in ON_ONE_NODE]
        assert len(alone) <= 2 and len(set(alone)) == len(alone) and all(len(nodes) == 1 for nodes in alone)
        for fault in one.faults:
            assert fault.kind != PARTITION or 1 <= len(fault.nodes) <= 2
            assert fault.kind != STOP or fault.seconds > TTL_S
            assert fault.kind != FULL or fault.nodes[0] in (2, 4)


def test_of_three_nodes_one_is_struck_at_a_time() -> None:
    for one in rounds(4, nodes=3, longest=5.0):
        assert sum(fault.kind in ON_ONE_NODE for fault in one.faults) <= 1
        assert all(len(fault.nodes) <= 1 and max(fault.nodes, default=1) <= 3 for fault in one.faults)
        assert all(fault.seconds <= 5.0 or fault.kind in (STOP, HOLDER) for fault in one.faults)


def test_only_what_is_asked_for_comes_and_a_round_is_as_long_as_its_faults() -> None:
    for one in rounds(3, kinds=(KILL, PARTITION)):
        assert {fault.kind for fault in one.faults} <= {KILL, PARTITION}
        assert one.seconds == max(fault.at + fault.seconds for fault in one.faults)
    assert all(len(one.faults) == 1 for one in rounds(3, kinds=(KILL,)))
