"""The search for an order that explains a history: Wing and Gong (1993) with Lowe's memo (2017), and four prunings.

Lowe: a set of operations done with the tree that they led to is looked at once. Besides: (1) a read or a refusal that may
come now and is answered as it was comes now, for it forbids nothing (a change that changes nothing here may be needed later:
the removal of a property that is not there yet); (2) of two ways to the same operations done and the
same tree, the one that left more operations of unknown outcome to choose from serves for both; (3) an unknown one comes right
before something to which it makes a difference, for it may come as late as one likes; of two that make none to each other
the first comes first; (4) orders in which few unknown ones stand in a row are tried first. May import only the model.
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
    have taken effect; ``tree``: its number. If an unknown one came ``last``: the tree ``before`` it, how many in a ``row``."""

    base: int
    mask: int
    taken: int
    tree: int
    last: int = -1
    before: int = -1
    row: int = 0


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

    def is_idle(self, state: _State, number: int, tree: int, outcome: tuple[str, Any] | None) -> bool:
        """Whether the unknown operation that came last might as well come behind this one, which leads to ``tree``."""
        if state.last < 0:
            return False
        first, answered = self.step(state.before, number)
        return (outcome is None or answered == outcome) and self.step(first, -1 - state.last)[0] == tree

    def following(self, state: _State, longest: int) -> tuple[list[_State], list[int], bool]:
        """The states to look at next, the most promising last; the candidates, for who gets stuck here; and whether a row of
        unknown operations was as long as ``longest`` allows."""
        candidates, horizon = self.candidates(state)
        changes: list[_State] = []
        for number in sorted(candidates, key=lambda n: self._ends[n] or 0.0, reverse=True):
            tree, outcome = self.step(state.tree, number)
            if outcome != self.known[number].outcome or self.is_idle(state, number, tree, outcome):
                continue
            if tree == state.tree and (outcome[0] != "ok" or self.known[number].op[0] in READS):
                return [self.done(state, number, tree)], candidates, False
            changes.append(self.done(state, number, tree))
        unknown: list[_State] = []
        for number, operation in enumerate(self.unknown):
            if operation.invoked > horizon:
                break
            if not state.taken >> number & 1:
                tree, _ = self.step(state.tree, -1 - number)
                if tree == state.tree or (number < state.last and self.is_idle(state, -1 - number, tree, None)):
                    continue  # one that changes nothing might as well be left out
                if state.row == longest:
                    return changes, candidates, True
                taken = state.taken | 1 << number
                unknown.append(_State(state.base, state.mask, taken, tree, number, state.tree, state.row + 1))
        return unknown + changes, candidates, False


def search(operations: Sequence[Timed], start: Tree, budget: int) -> Verdict:
    """Look for an order in which every operation is answered as it was, the unknown ones taking effect or not."""
    looked, verdict, longest = _Search(operations, start), Verdict(None), 1
    while _look(looked, verdict, longest, budget) and verdict.explained is None and verdict.states <= budget:
        longest *= 2
    return verdict


def _look(looked: _Search, verdict: Verdict, longest: int, budget: int) -> bool:
    """Look for one with at most so many unknown operations in a row; whether some order was left out for that. The verdict
    is undecided then, or if the budget was too small."""
    seen: dict[tuple[int, int, int], list[_State]] = {}
    stack, cut = [_State(0, 0, 0, 0)], False
    while stack:
        state = stack.pop()
        if state.base == len(looked.known):
            verdict.explained = True
            return False
        ways = seen.setdefault((state.base, state.mask, state.tree), [])
        if any(_serves(way, state) for way in ways):
            continue
        ways.append(state)
        verdict.states += 1
        if verdict.states > budget:
            return cut
        following, candidates, short = looked.following(state, longest)
        cut = cut or short
        stack.extend(following)
        done = state.base + state.mask.bit_count()
        if done > verdict.most or not verdict.stuck:
            verdict.most, verdict.stuck = done, [looked.known[number] for number in candidates]
    if not cut:
        verdict.explained = False
    return cut


def _serves(way: _State, state: _State) -> bool:
    """Whether who has looked at one way to a tree need not look at another: it has more to choose from, or as much and nothing
    that is left out behind its last unknown operation which is not left out there, too."""
    if way.taken & state.taken != way.taken:
        return False
    same = (way.last, way.before) == (state.last, state.before) and way.row <= state.row
    return way.taken != state.taken or way.last < 0 or same
