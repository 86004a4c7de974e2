"""Merges of random concurrent histories are what the oracle says, in whatever order the records come.

``DAVFS_HISTORIES``: how many histories beyond the usual 1,000 (a million take about two hours).
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from davfs.core.settling import settle
from tests.property.merging.branches import World, apply, random_world
from tests.property.merging.oracle import merged
from tests.property.merging.view import DictView

BLOCKS = 10
MORE = int(os.environ.get("DAVFS_HISTORIES", "0"))


def arrive(world: World, chance: random.Random) -> dict:
    """Merge all branches into the common history: beginnings of each in any order, several at a time; the tree."""
    facts = dict(world.common.facts)
    waiting = [list(branch.records) for branch in world.branches if branch.records]
    number = 0
    while waiting:
        branch = chance.choice(waiting)
        size = 1 + chance.randrange(len(branch))
        batch, branch[:size] = branch[:size], []
        waiting = [one for one in waiting if one]
        number += 1
        words = settle(DictView(facts, world.seen), batch, f"ffff.ffffffff.{number:012x}", f"{number:x}.ffff.ffffffff-0")
        apply(facts, words)
        DictView(facts, world.seen).tree()  # a tree after every step
    tree = DictView(facts, world.seen).tree()
    if not any(path.startswith("lost+found/") for path in tree):
        tree.pop("lost+found", None)  # what was lost for a while is back in its place
    return tree


def check(world: World, orders: int = 3) -> None:
    wanted = merged(world)
    for order in range(orders):
        assert arrive(world, random.Random(order)) == wanted, f"order {order}"


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_order_gives_what_the_oracle_says(block: int) -> None:
    for seed in range(block, 1000 + MORE, BLOCKS):
        try:
            check(random_world(random.Random(seed), 4 + seed % 4))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_histories_that_hypothesis_makes(chance: random.Random, size: int) -> None:
    """The same with histories that shrink."""
    check(random_world(chance, size), 2)
