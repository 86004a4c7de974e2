"""A failed schedule made small: fewer operations, fewer faults, as long as it still fails in the same way; and its story.

Faults have numbers and random generators of their own (``faults.py``), so leaving one out changes the others only by what
it would have done. Delta debugging (Zeller and Hildebrandt, 2002), with a bounded number of attempts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from davfs.sim.schedule import Schedule, without
from davfs.sim.simulation import Simulation, Verdict

ATTEMPTS = 60
STORY_LINES = 120
_NUMBERS = re.compile(r"[0-9a-f]{6,}|\d+(\.\d+)?")
_DULL = re.compile(r" (raft \d+: \S+ refresh|\S+ set \S+ aside)")


def kind_of(failure: str) -> str:
    """What went wrong, without the names and numbers of this history."""
    return _NUMBERS.sub("#", failure)[:60]


def command_of(plan: Schedule) -> str:
    """How to play a schedule again."""
    left_out = [*(["strikes"] if not plan.troubles.strike else []), *map(str, sorted(plan.skip))]
    joint = "=" if left_out and left_out[0].startswith("-") else " "  # a number below 0 would be taken for an option
    skipped = f" --without{joint}{','.join(left_out)}" if plan.skip or not plan.troubles.strike else ""
    members = " --members" if plan.members else ""
    return f"davfs sim --seed {plan.seed}{members} --steps {plan.steps}{skipped}"


class Minimiser:
    """``run``: plays a schedule; the simulator unless a test brings another."""

    def __init__(self, run: Callable[[Schedule], Verdict] | None = None, attempts: int = ATTEMPTS) -> None:
        self._run = run or (lambda plan: Simulation.of(plan).run())
        self._left = attempts

    def smallest(self, plan: Schedule, failed: Verdict) -> tuple[Schedule, Verdict]:
        """A smaller schedule that fails in the same way, and what came of it."""
        kind = kind_of(failed.failures[0])
        best = plan, failed

        def still(smaller: Schedule) -> bool:
            nonlocal best
            if self._left <= 0:
                return False
            self._left -= 1
            verdict = self._run(smaller)
            if not verdict.failures or kind_of(verdict.failures[0]) != kind:
                return False
            best = smaller, verdict
            return True

        while best[0].steps > 4 and still(replace(best[0], steps=best[0].steps // 2)):
            pass
        if best[0].troubles.strike:
            still(replace(best[0], troubles=replace(best[0].troubles, strike=0.0)))
        parts = 2
        while best[1].numbers and self._left > 0:
            for part in _parts(best[1].numbers, parts):
                if still(without(best[0], part)):
                    parts = max(2, parts - 1)
                    break
            else:
                if parts >= len(best[1].numbers):
                    break
                parts = min(2 * parts, len(best[1].numbers))
        return best


def _parts(numbers: list[int], count: int) -> Iterator[frozenset[int]]:
    size = -(-len(numbers) // count)
    for start in range(0, len(numbers), size):
        yield frozenset(numbers[start : start + size])


def story(plan: Schedule) -> list[str]:
    """What happens in a schedule that fails, as far as a person wants to know: the last lines before the first failure."""
    verdict = Simulation.of(plan, tracing=True).run()
    end = next((n for n, line in enumerate(verdict.trace) if " FAILURE " in line), len(verdict.trace))
    told = [line for line in verdict.trace[: end + 1] if not _DULL.search(line)]
    return [str(plan), *(["..."] if len(told) > STORY_LINES else []), *told[-STORY_LINES:], *verdict.failures]
