"""Histories of operations, the sequential model of a volume, and the search for an order that explains a history.

Linearizability (Herlihy and Wing, 1990), decided by the search of Wing and Gong (1993) with Lowe's memo of (operations
done, state). Pure: knows nothing of nodes or networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str, ...]
Tree: TypeAlias = tuple[tuple[Path, bytes | None], ...]
"""All resources below a top directory, sorted by path: content, or None for a directory."""

EMPTY: Tree = ()
READS = frozenset({"get", "list"})


@dataclass(slots=True)
class Operation:
    """One request. ``ended`` is None while, and if ever, it is unknown what came of it; times count events.

    ``outcome``: ("ok", value) or ("error", code).
    """

    client: str
    component: str
    op: tuple[Any, ...]
    invoked: int
    ended: int | None = None
    outcome: tuple[str, Any] | None = None

    def __str__(self) -> str:
        end = "?" if self.ended is None else str(self.ended)
        return f"[{self.invoked}..{end}] {self.client} {self.op} -> {self.outcome}"


def apply(tree: Tree, op: tuple[Any, ...]) -> tuple[Tree, tuple[str, Any]]:
    """What an operation does to a tree, and what it answers; checks in the order of the flows."""
    state = dict(tree)
    kind, path = op[0], op[1]
    there = _kind(state, path)
    if kind == "get":
        return tree, _get(state, path)
    if kind == "list":
        return tree, _list(state, path)
    if kind == "delete":
        if there is None:
            return tree, ("error", "not-found")
        return _without(state, path), ("ok", True)
    if kind == "move":
        return _move(tree, path, op[2], op[3])
    if kind == "mkcol":
        if there is not None:
            return tree, ("error", "already-exists")
        if _kind(state, path[:-1]) != "d":
            return tree, ("error", "parent-missing")
        state[path] = None
        return _tree(state), ("ok", True)
    if there == "d":
        return tree, ("error", "already-exists")
    if _kind(state, path[:-1]) != "d":
        return tree, ("error", "parent-missing")
    state[path] = op[2]
    return _tree(state), ("ok", there is None)


def _kind(state: dict[Path, bytes | None], path: Path) -> str | None:
    """``d``, ``f`` or None. The top directory itself (one name) always is there."""
    if len(path) <= 1:
        return "d"
    if path not in state:
        return None
    return "d" if state[path] is None else "f"


def _get(state: dict[Path, bytes | None], path: Path) -> tuple[str, Any]:
    there = _kind(state, path)
    if there is None:
        return "error", "not-found"
    return ("error", "forbidden") if there == "d" else ("ok", state[path])


def _list(state: dict[Path, bytes | None], path: Path) -> tuple[str, Any]:
    there = _kind(state, path)
    if there != "d":
        return "error", "not-found" if there is None else "not-a-collection"
    names = [(p[-1], content) for p, content in state.items() if p[:-1] == path]
    return "ok", tuple(f"{name}/" if content is None else name for name, content in sorted(names, key=lambda n: n[0]))


def _without(state: dict[Path, bytes | None], path: Path) -> Tree:
    return _tree({p: content for p, content in state.items() if p[: len(path)] != path})


def _move(tree: Tree, source: Path, target: Path, overwrite: bool) -> tuple[Tree, tuple[str, Any]]:
    state = dict(tree)
    if _kind(state, source) is None:
        return tree, ("error", "not-found")
    if _kind(state, target[:-1]) != "d":
        return tree, ("error", "parent-missing")
    replaced = _kind(state, target) is not None
    if replaced and not overwrite:
        return tree, ("error", "precondition-failed")
    state = dict(_without(state, target))
    moved = {target + p[len(source) :]: content for p, content in state.items() if p[: len(source)] == source}
    rest = dict(_without(state, source))
    return _tree({**rest, **moved}), ("ok", not replaced)


def _tree(state: dict[Path, bytes | None]) -> Tree:
    return tuple(sorted(state.items(), key=lambda item: item[0]))


def linearizable(history: list[Operation], budget: int = 2_000_000) -> bool | None:
    """Whether some order of the operations explains all outcomes; None if the search took too long to say.

    Operations without an end may have taken effect at any time after they began, or never.
    """
    operations = [o for o in history if o.ended is not None or o.op[0] not in READS]
    operations.sort(key=lambda o: o.invoked)
    needed = sum(1 << n for n, o in enumerate(operations) if o.ended is not None)
    seen: set[tuple[int, Tree]] = set()
    stack: list[tuple[int, Tree]] = [(0, EMPTY)]
    while stack:
        done, tree = stack.pop()
        if done & needed == needed:
            return True
        if (done, tree) in seen:
            continue
        seen.add((done, tree))
        budget -= 1
        if budget < 0:
            return None
        stack.extend(_next(operations, done, tree))
    return False


def _next(operations: list[Operation], done: int, tree: Tree) -> list[tuple[int, Tree]]:
    """The states after one more operation, of those that nothing which is still to be done must precede."""
    horizon = min((o.ended for n, o in enumerate(operations) if not done >> n & 1 and o.ended is not None), default=None)
    following = []
    for n, operation in enumerate(operations):
        if horizon is not None and operation.invoked > horizon:
            break
        if done >> n & 1:
            continue
        after, outcome = apply(tree, operation.op)
        if operation.ended is None:
            if after != tree:  # an unknown one that changes nothing might as well be left out
                following.append((done | 1 << n, after))
        elif outcome == operation.outcome:
            following.append((done | 1 << n, after))
    return following
