"""The sequential model of a volume: what each operation does to a tree, and what it answers (RFC 4918, as davfs reads it).

Pure and alone: imports nothing of davfs, so that it cannot share its mistakes. Histories of the simulator and of real
processes are judged by it (``history.py``). Operations, and what an ("ok", value) of each holds:

    ("get", path)                           the content
    ("list", path)                          the names, sorted; of directories with a slash behind them
    ("props", path)                         (name, value) of the dead properties, sorted
    ("put", path, content)                  whether it is new
    ("write", path, offset, bytes)          True; contents must be bytes then
    ("mkcol" | "delete", path)              True
    ("move" | "copy", source, target, overwrite)   whether nothing was at the target; COPY takes the whole tree
    ("proppatch", path, name, value)        True; None removes
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str, ...]
Properties: TypeAlias = tuple[tuple[str, str], ...]
Content: TypeAlias = Hashable
"""Of a file: its bytes, or anything else that is equal for equal bytes, like their digest. None: a directory."""

Resource: TypeAlias = tuple[Content, Properties]
Tree: TypeAlias = tuple[tuple[Path, Resource], ...]
"""All resources below the root, sorted by path. The root itself is a directory that always is there."""

Operation_: TypeAlias = tuple[Any, ...]
Outcome: TypeAlias = tuple[str, Any]

EMPTY: Tree = ()
READS = frozenset({"get", "list", "props"})
DIRECTORY: Resource = (None, ())
OK: Outcome = ("ok", True)

_CODES = {
    403: "forbidden", 404: "not-found", 405: "already-exists", 409: "parent-missing", 412: "precondition-failed",
}  # fmt: skip
CODES = frozenset(_CODES.values()) | {"not-a-collection"}
"""The refusals that tell something about the tree; any other says nothing but that nothing was changed."""


def error_of(status: int) -> str | None:
    """The code of an HTTP status that is a refusal of the model's; None for any other."""
    return _CODES.get(status)


def tree_of(resources: Mapping[Path, Content]) -> Tree:
    """A tree without properties: path -> content, None for a directory."""
    return _tree({path: (content, ()) for path, content in resources.items()})


def apply(tree: Tree, op: Operation_) -> tuple[Tree, Outcome]:
    """The tree after an operation, and its answer; checks in the order of the flows. :class:`ValueError` if there is no such
    operation."""
    state = dict(tree)
    kind, path = op[0], op[1]
    match kind:
        case "get":
            return tree, _get(state, path)
        case "list":
            return tree, _list(state, path)
        case "props":
            found = _find(state, path)
            return tree, _error("not-found") if found is None else ("ok", found[1])
        case "put":
            return _put(tree, state, path, op[2])
        case "write":
            return _write(tree, state, path, op[2], op[3])
        case "mkcol":
            return _mkcol(tree, state, path)
        case "delete":
            return (tree, _error("not-found")) if path not in state else (_without(state, path), OK)
        case "move" | "copy":
            return _transfer(tree, state, kind, path, op[2], op[3])
        case "proppatch":
            return _proppatch(tree, state, path, op[2], op[3])
    raise ValueError(f"the model knows no {kind}")


def _error(code: str) -> Outcome:
    return "error", code


def _tree(state: Mapping[Path, Resource]) -> Tree:
    return tuple(sorted(state.items(), key=lambda item: item[0]))


def _find(state: Mapping[Path, Resource], path: Path) -> Resource | None:
    return state.get(path) if path else state.get((), DIRECTORY)


def _is_directory(state: Mapping[Path, Resource], path: Path) -> bool:
    found = _find(state, path)
    return found is not None and found[0] is None


def _get(state: Mapping[Path, Resource], path: Path) -> Outcome:
    found = _find(state, path)
    if found is None:
        return _error("not-found")
    return _error("forbidden") if found[0] is None else ("ok", found[0])


def _list(state: Mapping[Path, Resource], path: Path) -> Outcome:
    if not _is_directory(state, path):
        return _error("not-found" if _find(state, path) is None else "not-a-collection")
    members = [(at[-1], content) for at, (content, _) in state.items() if at and at[:-1] == path]
    return "ok", tuple(f"{name}/" if content is None else name for name, content in sorted(members, key=lambda m: m[0]))


def _put(tree: Tree, state: dict[Path, Resource], path: Path, content: Content) -> tuple[Tree, Outcome]:
    if _is_directory(state, path):
        return tree, _error("already-exists")
    if not _is_directory(state, path[:-1]):
        return tree, _error("parent-missing")
    there = state.get(path)
    state[path] = content, there[1] if there is not None else ()
    return _tree(state), ("ok", there is None)


def _write(tree: Tree, state: dict[Path, Resource], path: Path, offset: int, data: bytes) -> tuple[Tree, Outcome]:
    found = _find(state, path)
    if found is None:
        return tree, _error("not-found")
    content, properties = found
    if content is None:
        return tree, _error("forbidden")
    if not isinstance(content, bytes):
        raise ValueError("parts are written into files whose content is given as bytes")
    state[path] = overlaid(content, offset, data), properties
    return _tree(state), OK


def overlaid(content: bytes, offset: int, data: bytes) -> bytes:
    """A file's bytes after a write at a position; what is skipped beyond the end is zeros."""
    return content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]


def _mkcol(tree: Tree, state: dict[Path, Resource], path: Path) -> tuple[Tree, Outcome]:
    if _find(state, path) is not None:
        return tree, _error("already-exists")
    if not _is_directory(state, path[:-1]):
        return tree, _error("parent-missing")
    state[path] = DIRECTORY
    return _tree(state), OK


def _without(state: Mapping[Path, Resource], path: Path) -> Tree:
    return _tree({at: resource for at, resource in state.items() if at[: len(path)] != path})


def _transfer(
    tree: Tree, state: Mapping[Path, Resource], kind: str, source: Path, target: Path, overwrite: bool
) -> tuple[Tree, Outcome]:
    shorter = min(len(source), len(target))
    if source[:shorter] == target[:shorter]:
        return tree, _error("forbidden")
    if _find(state, source) is None:
        return tree, _error("not-found")
    if not _is_directory(state, target[:-1]):
        return tree, _error("parent-missing")
    replaced = target in state
    if replaced and not overwrite:
        return tree, _error("precondition-failed")
    taken = {target + at[len(source) :]: one for at, one in state.items() if at[: len(source)] == source}
    rest = dict(_without(state, target))
    if kind == "move":
        rest = dict(_without(rest, source))
    return _tree({**rest, **taken}), ("ok", not replaced)


def _proppatch(
    tree: Tree, state: dict[Path, Resource], path: Path, name: str, value: str | None
) -> tuple[Tree, Outcome]:
    found = _find(state, path)
    if found is None:
        return tree, _error("not-found")
    properties = {**dict(found[1]), name: value}
    state[path] = found[0], tuple(sorted((n, v) for n, v in properties.items() if v is not None))
    return _tree(state), OK
