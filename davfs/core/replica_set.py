"""Which nodes keep a volume's records, and how one of them is replaced, added or removed (design, section 3).

::

    wanted -> a newcomer follows, counted by nobody -> joint: majorities of both sets -> done: the new set alone

Every step is a command of Raft and raises the set's version, and every later step names the version that it follows, so
that one which was delayed does nothing. Who may take a step and when is in ``cluster/replacing.py``; here is what it does.
Raft's own joint consensus (Ongaro's dissertation, 4.3) is the pattern, with the volume's holder as leader. Pure: core only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from davfs.core.errors import InvalidInput, ReplicaSetChanged


@dataclass(frozen=True, slots=True)
class ReplicaChange:
    """A change that is under way: ``add`` comes, ``remove`` goes, one of them may be "". ``joint``: both sets decide."""

    add: str
    remove: str
    joint: bool = False

    def __str__(self) -> str:
        if self.add and self.remove:
            return f"{self.add} in place of {self.remove}"
        return f"{self.add} as one more" if self.add else f"{self.remove} goes"


@dataclass(frozen=True, slots=True)
class ReplicaSet:
    """``nodes``: those that count; ``incarnations``: the store of each that may vote; ``change``: the one under way."""

    nodes: tuple[str, ...]
    version: int = 1
    incarnations: Mapping[str, str] = field(default_factory=dict)
    change: ReplicaChange | None = None

    @property
    def next_nodes(self) -> tuple[str, ...]:
        """The set after the change; the newcomer stands where the one that goes stood."""
        if self.change is None:
            return self.nodes
        add, remove = self.change.add, self.change.remove
        if not remove:
            return (*self.nodes, add)
        return tuple(add if node == remove else node for node in self.nodes if add or node != remove)

    @property
    def deciding(self) -> tuple[tuple[str, ...], ...]:
        """The sets of which every write and every seal needs a majority each: two while a change is joint."""
        if self.change is None or not self.change.joint:
            return (self.nodes,)
        return (self.nodes, self.next_nodes)

    @property
    def members(self) -> tuple[str, ...]:
        """All nodes of the deciding sets."""
        return tuple(dict.fromkeys(node for nodes in self.deciding for node in nodes))

    @property
    def followed(self) -> tuple[str, ...]:
        """All nodes that get the records: the members, and a newcomer that is still catching up."""
        newcomer = (self.change.add,) if self.change is not None and self.change.add else ()
        return tuple(dict.fromkeys((*self.nodes, *newcomer)))


def want(table: ReplicaSet, add: str, remove: str) -> ReplicaSet:
    """With a change that somebody wants: from now on the newcomer follows, and counts for nothing."""
    if table.change is not None:
        if (table.change.add, table.change.remove) == (add, remove):
            return table
        raise InvalidInput(f"another change is under way ({table.change}): wait for its end, or cancel it")
    if not add and not remove:
        raise InvalidInput("name the node that comes, the one that goes, or both")
    if add in table.nodes:
        raise InvalidInput(f"{add} keeps the volume's records already")
    if remove and remove not in table.nodes:
        raise InvalidInput(f"{remove} does not keep the volume's records; {', '.join(table.nodes)} do")
    if not add and len(table.nodes) == 1:
        raise InvalidInput(f"{remove} alone keeps the volume's records: name a node to take its place")
    return _stepped(replace(table, change=ReplicaChange(add, remove)))


def join(table: ReplicaSet, version: int, incarnation: str) -> ReplicaSet:
    """Joint from now on. ``incarnation``: the newcomer's store, which its holder has brought up to date ("": none)."""
    change = _at(table, version)
    if change.joint:
        raise ReplicaSetChanged("the change of replicas is joint already")
    if bool(incarnation) != bool(change.add):
        raise InvalidInput("a newcomer comes with the incarnation of its store")
    incarnations = {**table.incarnations, change.add: incarnation} if change.add else table.incarnations
    return _stepped(replace(table, incarnations=incarnations, change=replace(change, joint=True)))


def done(table: ReplicaSet, version: int) -> ReplicaSet:
    """The new set alone; what the one that went voted with is forgotten: it would come back as a newcomer."""
    change = _at(table, version)
    if not change.joint:
        raise ReplicaSetChanged("the change of replicas is not joint yet")
    kept = {node: one for node, one in table.incarnations.items() if node != change.remove}
    return _stepped(ReplicaSet(table.next_nodes, table.version, kept))


def cancel(table: ReplicaSet, version: int) -> ReplicaSet:
    """The old set alone, as before. Safe at any time before the end: the old set has decided all along."""
    change = _at(table, version)
    kept = {node: one for node, one in table.incarnations.items() if node != change.add}
    return _stepped(replace(table, incarnations=kept, change=None))


def admit(table: ReplicaSet, node: str, incarnation: str) -> ReplicaSet:
    """With the store that a member votes with from now on."""
    if node not in table.members:
        raise ReplicaSetChanged(f"{node} does not keep the volume's records (any more)")
    return replace(table, incarnations={**table.incarnations, node: incarnation})


def _at(table: ReplicaSet, version: int) -> ReplicaChange:
    if table.version != version or table.change is None:
        raise ReplicaSetChanged(f"the set of replicas has changed since (version {version}, now {table.version})")
    return table.change


def _stepped(table: ReplicaSet) -> ReplicaSet:
    return replace(table, version=table.version + 1)


# --- at rest --------------------------------------------------------------------------------------------------------------


def dump(table: ReplicaSet) -> dict[str, Any]:
    """Plain values for the snapshot of Raft's state and for programs, as items of a volume's own."""
    change = table.change
    return {
        "replicas": list(table.nodes),
        "set_version": table.version,
        "incarnations": dict(table.incarnations),
        "change": None if change is None else {"add": change.add, "remove": change.remove, "joint": change.joint},
    }


def load(value: Mapping[str, Any]) -> ReplicaSet:
    """The inverse of :func:`dump`; an older snapshot knows of no version and no change."""
    change = value.get("change")
    return ReplicaSet(
        tuple(value["replicas"]),
        value.get("set_version", 1),
        dict(value["incarnations"]),
        None if change is None else ReplicaChange(change["add"], change["remove"], change["joint"]),
    )
