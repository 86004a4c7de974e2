"""Invariant 10 over a history of locks: nothing commits under a lock without its token, no two hold one file, none is lost.

A lock surely stands from the moment its LOCK is answered until its owner asks for its end, or until it may have run out,
counted from before it was asked for. What falls wholly inside that is judged; what only overlaps it may have come before or
after. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.faults.record import LockStory, Naked


def sure_end(story: LockStory) -> float:
    """Until when a lock surely stands."""
    runs_out = story.grant.asked + story.grant.seconds
    return runs_out if story.given_up is None else min(runs_out, story.given_up)


def judge_locks(locks: Sequence[LockStory], naked: Sequence[Naked]) -> Iterator[str]:
    """What breaks the rule."""
    by_file: dict[tuple[object, str], list[LockStory]] = {}
    for story in locks:
        by_file.setdefault((story.grant.component, story.grant.name), []).append(story)
    for (component, name), stories in by_file.items():
        for one in stories:
            held = f"{name} of {component} was locked from {one.grant.granted:.2f} ({one.grant.token})"
            for other in stories:
                if other is not one and one.grant.granted < other.grant.asked and other.grant.granted < sure_end(one):
                    yield f"invariant 10: {held}, and again at {other.grant.granted:.2f} ({other.grant.token})"
            for change in naked:
                inside = one.grant.granted < change.asked and change.answered < sure_end(one)
                if (change.component, change.name) == (component, name) and inside:
                    yield f"invariant 10: {held}, and {change.who} changed it without the token at {change.answered:.2f}"
            if one.lost is not None and one.lost[0] < one.grant.asked + one.grant.seconds:
                yield f"invariant 10: {held} and was lost: {one.lost[1]}"
