"""The search for an order that explains a history: Wing and Gong (1993) with Lowe's memo (2017), and three prunings.

Lowe: a set of operations done with the tree that they led to is looked at once. Besides: (1) an operation that may come now,
is answered as it was and changes nothing comes now, for it forbids nothing; (2) of two ways to the same operations done and the
same tree, the one that left more operations of unknown outcome to choose from serves for both; (3) those come last. May import
only the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from davfs.sim.model import READS, Tree, apply


class Timed(Protocol):
    """An operation of a history (``history.Operation``)."""

    @property
    def op(self) -> tuple[Any, ...]: ...
    @property
    def invoked(self) -> float: ...
    @property
    def ended(self) -> float | None: ...
    @property
    def outcome(self) -> tuple[str, Any] | None: ...


@dataclass(slots=True)
class Verdict:
    """``explained`` is None if that was not decided; else, if False: ``most`` operations fit into one order, and behind
    these none of the ``stuck``. ``states``: how many were looked at."""

    explained: bool | None
    states: int = 0
    most: int = 0
    stuck: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _State:
    """``base``: operations before it are done; ``mask``: which of those from there on; ``taken``: which of the unknown ones
    have taken effect; ``tree``: its number."""

    base: int
    mask: int
    taken: int
    tree: int


class _Search:
    def __init__(self, operations: Sequence[Timed], start: Tree) -> None:
        ordered = sorted(operations, key=lambda operation: operation.invoked)
        self.known = [operation for operation in ordered if operation.ended is not None]
        self.unknown = [o for o in ordered if o.ended is None and o.op[0] not in READS]
        self._ends = [operation.ended for operation in self.known]
        self._trees = [start]
        self._numbers = {start: 0}
        self._steps: dict[tuple[int, int], tuple[int, tuple[str, Any]]] = {}

    def step(self, tree: int, number: int) -> tuple[int, tuple[str, Any]]:
        """What an operation makes of a tree and answers. Unknown ones have numbers below 0."""
        held = self._steps.get((tree, number))
        if held is None:
            operation = self.known[number] if number >= 0 else self.unknown[-1 - number]
            after, outcome = apply(self._trees[tree], operation.op)
            if after not in self._numbers:
                self._numbers[after] = len(self._trees)
                self._trees.append(after)
            held = self._steps[tree, number] = self._numbers[after], outcome
        return held

    def candidates(self, state: _State) -> tuple[list[int], float]:
        """The operations that nothing which is still to be done precedes, and the time before which others begin too."""
        horizon, found = float("inf"), []
        for number in range(state.base, len(self.known)):
            if self.known[number].invoked > horizon:
                break
            if not state.mask >> (number - state.base) & 1:
                found.append(number)
                ended = self._ends[number]
                if ended is not None and ended < horizon:
                    horizon = ended
        return [number for number in found if self.known[number].invoked <= horizon], horizon

    def done(self, state: _State, number: int, tree: int) -> _State:
        """The state after one more of the known operations."""
        base, mask = state.base, state.mask | 1 << (number - state.base)
        while mask & 1:
            base, mask = base + 1, mask >> 1
        return _State(base, mask, state.taken, tree)

    def following(self, state: _State) -> tuple[list[_State], list[int]]:
        """The states to look at next, the most promising last; and the candidates, for who gets stuck here."""
        candidates, horizon = self.candidates(state)
        changes: list[_State] = []
        for number in sorted(candidates, key=lambda n: self._ends[n] or 0.0, reverse=True):
            tree, outcome = self.step(state.tree, number)
            if outcome != self.known[number].outcome:
                continue
            if tree == state.tree:
                return [self.done(state, number, tree)], candidates
            changes.append(self.done(state, number, tree))
        unknown: list[_State] = []
        for number, operation in enumerate(self.unknown):
            if operation.invoked > horizon:
                break
            if not state.taken >> number & 1:
                tree, _ = self.step(state.tree, -1 - number)
                if tree != state.tree:  # one that changes nothing might as well be left out
                    unknown.append(_State(state.base, state.mask, state.taken | 1 << number, tree))
        return unknown + changes, candidates


def search(operations: Sequence[Timed], start: Tree, budget: int) -> Verdict:
    """Look for an order in which every operation is answered as it was, the unknown ones taking effect or not."""
    looked = _Search(operations, start)
    verdict = Verdict(None)
    seen: dict[tuple[int, int, int], list[int]] = {}
    stack = [_State(0, 0, 0, 0)]
    while stack:
        state = stack.pop()
        if state.base == len(looked.known):
            verdict.explained = True
            return verdict
        ways = seen.setdefault((state.base, state.mask, state.tree), [])
        if any(taken & state.taken == taken for taken in ways):
            continue
        ways.append(state.taken)
        verdict.states += 1
        if verdict.states > budget:
            return verdict
        following, candidates = looked.following(state)
        stack.extend(following)
        done = state.base + state.mask.bit_count()
        if done > verdict.most or not verdict.stuck:
            verdict.most, verdict.stuck = done, [looked.known[number] for number in candidates]
    verdict.explained = False
    return verdict
