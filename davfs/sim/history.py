"""Histories of operations, cut into parts that nothing connects, and the verdict on each (invariants 1 and 3).

A volume is linearizable if its parts are (Herlihy and Wing, 1990: linearizability is local), as long as no operation
touches two of them. What one operation reads or changes together is kept together here: the source and the target of MOVE and
COPY, all members of a collection that is listed, everything below one that comes and goes. May import only the model and the
search; times are whatever compares, so histories of real clocks are judged like those of the simulator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from davfs.sim.linear import Verdict, search
from davfs.sim.model import EMPTY, Path, Tree

BUDGET = 1_000_000
"""States that one part's search may look at before it gives up, some tens of seconds."""


@dataclass(slots=True)
class Operation:
    """One request. ``ended`` is None while, and if ever, it is unknown what came of it: it may take effect once at any time
    after ``invoked``, or never. ``outcome``: ("ok", value) or ("error", code); see ``model.py``."""

    client: str
    op: tuple[Any, ...]
    invoked: float
    ended: float | None = None
    outcome: tuple[str, Any] | None = None

    def __str__(self) -> str:
        end = "?" if self.ended is None else f"{self.ended:g}"
        return f"[{self.invoked:g}..{end}] {self.client} {self.op} -> {self.outcome}"


@dataclass(frozen=True, slots=True)
class Part:
    """Operations that have to be judged together. ``start``: the tree before them, as far as it concerns them."""

    operations: Sequence[Operation]
    start: Tree


def judge(history: Iterable[Operation], start: Tree = EMPTY, budget: int = BUDGET) -> list[str]:
    """Why the history is not one of a linearizable volume that began as ``start``; nothing if it is.

    A part that was not decided within ``budget`` is a failure too: what is not judged proves nothing.
    """
    operations = list(history)
    found = [*_mixed(operations, start)]
    for part in parts(operations, start):
        verdict = search(part.operations, part.start, budget)
        if not verdict.explained:
            found.append(_failure(part, verdict))
    return found


def linearizable(history: Iterable[Operation], start: Tree = EMPTY, budget: int = BUDGET) -> bool | None:
    """Whether some order of the operations explains all outcomes; None if it was not decided within the budget."""
    decided: bool | None = True
    for part in parts(list(history), start):
        verdict = search(part.operations, part.start, budget)
        if verdict.explained is False:
            return False
        if verdict.explained is None:
            decided = None
    return decided


def _failure(part: Part, verdict: Verdict) -> str:
    places = sorted({"/" + "/".join(path) for operation in part.operations for path in _paths(operation.op)})
    where = ", ".join(places[:4]) + (", ..." if len(places) > 4 else "")
    if verdict.explained is None:
        return f"invariant 3: {len(part.operations)} operations on {where} were not decided; make the history shorter"
    stuck = "; ".join(str(operation) for operation in verdict.stuck[:4])
    return (
        f"invariants 1 and 3: no order explains what clients saw of {where}: of {len(part.operations)} operations "
        f"{verdict.most} can be put in one, then none of these: {stuck}"
    )


# --- no mixed versions --------------------------------------------------------------------------------------------------


def _mixed(operations: Sequence[Operation], start: Tree) -> Iterator[str]:
    """Invariant 3: no reader sees a mixture of two versions. Says so plainly, and whatever the search has time for: what was
    read is one content that was put, with nothing else changed in it than writes of parts did."""
    bodies = {operation.op[2] for operation in operations if operation.op[0] == "put"}
    bodies |= {content for _, (content, _) in start if content is not None}
    writes = [(op.op[2], op.op[3]) for op in operations if op.op[0] == "write"]
    for read in operations:
        if read.op[0] != "get" or read.outcome is None or read.outcome[0] != "ok" or read.outcome[1] in bodies:
            continue
        seen = read.outcome[1]
        whole = isinstance(seen, bytes) and any(_is_made_of(seen, body, writes) for body in bodies)
        if not whole:
            yield f"invariant 3: a reader saw what nobody wrote, or parts of two versions: {read}"


def _is_made_of(seen: bytes, body: object, writes: Sequence[tuple[int, bytes]]) -> bool:
    """Whether each byte is of that content, or of a part that was written over it (which may itself be written over), or in
    the hole before a part. Whether whole parts are there is for the search to say."""
    if not isinstance(body, bytes):
        return False
    other = {at for at in range(max(len(seen), len(body))) if seen[at : at + 1] != body[at : at + 1]}
    for offset, data in writes:
        other -= {offset + at for at, byte in enumerate(data) if seen[offset + at : offset + at + 1] == bytes([byte])}
        other -= {at for at in range(len(body), min(offset, len(seen))) if seen[at] == 0}
    return not other


# --- parts --------------------------------------------------------------------------------------------------------------


def parts(operations: Sequence[Operation], start: Tree = EMPTY) -> list[Part]:
    """The history cut into parts that share nothing that changes, in the order of their first operations."""
    fixed = _fixed(operations, start)
    places = sorted({_place(path, fixed) for path in _all_paths(operations, start)})
    groups = {place: place for place in places}

    def top(place: Path) -> Path:
        while groups[place] != place:
            groups[place] = groups[groups[place]]
            place = groups[place]
        return place

    touched: list[Path] = []  # of each operation one place
    for operation in operations:
        first, *others = _touched(operation.op, fixed, places)
        touched.append(first)
        for other in others:
            groups[top(other)] = top(first)
    members: dict[Path, list[Operation]] = {}
    for operation, place in zip(operations, touched, strict=True):
        members.setdefault(top(place), []).append(operation)
    below: dict[Path, list[Any]] = {}
    for path, resource in start:
        below.setdefault(top(_place(path, fixed)), []).append((path, resource))
    frame = [(path, resource) for path, resource in start if path in fixed]
    return [
        Part(part, tuple(sorted({**dict(frame), **dict(below.get(group, ()))}.items())))
        for group, part in members.items()
    ]


def _paths(op: tuple[Any, ...]) -> tuple[Path, ...]:
    return (op[1], op[2]) if op[0] in ("move", "copy") else (op[1],)


def _all_paths(operations: Sequence[Operation], start: Tree) -> Iterator[Path]:
    yield ()
    yield from (path for path, _ in start)
    for operation in operations:
        yield from _paths(operation.op)


def _fixed(operations: Sequence[Operation], start: Tree) -> frozenset[Path]:
    """The collections that are there from the beginning to the end, whatever happens."""
    going: set[Path] = set()
    for operation in operations:
        kind = operation.op[0]
        if kind in ("delete", "move"):
            going.add(operation.op[1])
        if kind in ("move", "copy"):
            going.add(operation.op[2])
    directories = [path for path, (content, _) in start if content is None]
    stay = [path for path in directories if not any(path[:length] in going for length in range(len(path) + 1))]
    return frozenset([*stay, ()])


def _place(path: Path, fixed: frozenset[Path]) -> Path:
    """What stands for a path: a fixed collection for itself, what is in one for all that is below it."""
    for length in range(len(path) + 1):
        if path[:length] not in fixed:
            return path[:length]
    return path


def _touched(op: tuple[Any, ...], fixed: frozenset[Path], places: Sequence[Path]) -> list[Path]:
    """The places that an operation reads or changes together. (That a fixed collection is there is no news to anybody.)"""
    touched = [_place(path, fixed) for path in _paths(op)]
    source = touched[0]
    if source in fixed:
        if op[0] == "list":
            members = [place for place in places if place[:-1] == source and place not in fixed]
            return members or touched
        if op[0] == "copy":
            touched += [place for place in places if place[: len(source)] == source]
    return touched
