"""What a simulated node keeps in memory, counted: the entries of all containers that its parts reach (invariant 9).

Whatever grows with the number of requests, files or clients shows here under the name of its attribute, also where nobody
thought of it. Disks are left out, and what belongs to the simulator. May import core and the simulator's own parts.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from typing import Any
from weakref import WeakSet

from davfs.core.cluster_state import REMEMBERED_RESULTS
from davfs.sim.cluster import SimNode

PARTS = ("site", "holdings", "replicas", "maintenance", "collector", "compaction", "front")
_OUTSIDE = ("davfs.sim.", "davfs.storage.", "davfs.crdt.")
_INSIDE = ("davfs.sim.loop.SimSignal",)
SLACK = 12
"""Entries that may be more by chance: requests that happen to be under way."""


def footprint(node: SimNode) -> Counter[str]:
    """``Class.attribute`` -> entries in the containers that it holds, over all instances that a node's parts reach."""
    gc.collect()  # what only waits to be collected is not kept
    found: Counter[str] = Counter()
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [(part, getattr(node, part)) for part in PARTS]
    todo += [("handlers", getattr(handler, "__self__", None)) for handler in node.handlers.values()]
    while todo:
        name, value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            found[name] += len(value)
            todo += [(name, one) for pair in list(value.items()) for one in pair]
        elif isinstance(value, list | tuple | Set | WeakSet) or type(value).__name__ == "deque":
            found[name] += len(value)
            todo += [(name, one) for one in list(value)]
        elif _is_inside(value):
            todo += [(f"{type(value).__name__}.{attribute}", held) for attribute, held in _attributes(value)]
    return found


def check_growth(before: Mapping[str, int], after: Mapping[str, int], node: SimNode) -> Iterator[str]:
    """Invariant 9: nothing in a node's memory grows with what was done between two quiet moments, beyond what a bound of the
    configuration or the program allows."""
    documents = 3 * node.site.bounds.documents  # a name, and a pair for each
    bounds = {
        "ClusterState._results": REMEMBERED_RESULTS, "Replica._documents": documents, "Workspace._documents": documents,
    }  # fmt: skip
    for name, count in sorted(after.items()):
        if count > max(before.get(name, 0) * 1.25 + SLACK, bounds.get(name, 0)):
            yield f"invariant 9: {name} of {node.name} grew from {before.get(name, 0)} to {count} entries"


def _is_inside(value: Any) -> bool:
    where = f"{type(value).__module__}.{type(value).__qualname__}"
    return where in _INSIDE or (where.startswith("davfs.") and not where.startswith(_OUTSIDE))


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, slot):
                yield slot, getattr(value, slot)
