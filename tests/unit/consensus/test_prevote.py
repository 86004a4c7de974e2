"""Who is asked before an election, and who agrees."""

from __future__ import annotations

import pytest

from davfs.consensus.prevote import Canvass, approves


@pytest.mark.parametrize("voters", [2, 3, 4, 5, 7])
def test_a_majority_is_told_once_and_counts_each_peer_once(voters: int) -> None:
    canvass = Canvass(voters)
    number = canvass.begin()
    told = []
    for count in range(1, voters):
        reached = canvass.approve(f"p{count}", number)
        assert not canvass.approve(f"p{count}", number)
        if reached:
            told.append(count + 1)  # with the member itself
    assert told == [voters // 2 + 1]


def test_answers_to_an_earlier_round_do_not_count() -> None:
    canvass = Canvass(5)
    first = canvass.begin()
    assert not canvass.approve("b", first)
    second = canvass.begin()
    assert not canvass.approve("c", first)
    assert not canvass.approve("b", second)
    assert canvass.approve("c", second)


@pytest.mark.parametrize(
    ("asking", "leads", "silent_for", "expected"),
    [
        ((3, 10), False, 1.0, True),
        ((3, 11), False, 1.0, True),
        ((4, 1), False, 1.0, True),
        ((3, 9), False, 1.0, False),
        ((2, 99), False, 1.0, False),
        ((3, 10), True, 1.0, False),
        ((3, 10), False, 0.1, False),
    ],
)
def test_who_agrees(asking: tuple[int, int], leads: bool, silent_for: float, expected: bool) -> None:
    assert approves((3, 10), asking, leads=leads, silent_for=silent_for, patience=0.25) is expected
