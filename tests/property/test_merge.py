"""Merges of random concurrent histories are what the oracle says, in whatever order the records come."""

from __future__ import annotations

import random

import pytest

from davfs.core.settling import Words, settle
from tests.property.merging.branches import World, apply, random_world
from tests.property.merging.oracle import merged
from tests.property.merging.view import DictView


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


def check(seed: int, size: int = 6) -> None:
    world = random_world(seed, size)
    wanted = merged(world)
    for order in range(3):
        assert arrive(world, random.Random(order)) == wanted, f"seed {seed}, order {order}"


@pytest.mark.parametrize("block", range(10))
def test_every_order_gives_what_the_oracle_says(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        check(seed, 4 + seed % 4)
