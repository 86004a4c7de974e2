"""Who may belong to the cluster: join tokens, admitted nodes, removed ones, and the next step towards what is wanted.

A join token is spent by the node that it admits. An admitted node becomes one of the cluster's nodes when it has started
and registered itself. A removed name is never used again, so that a certificate for it opens nothing, whoever kept it,
and no manifest that still names it can mean another machine. Tables are replaced, never changed. Pure: core only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from davfs.core.errors import AlreadyExists, Forbidden, InvalidInput, NodeNotFound
from davfs.core.model import NodeInfo

MOST_NODES = 7
"""All of them vote so far; more would only slow each decision."""

MOST_TOKENS = 100


@dataclass(frozen=True, slots=True)
class Membership:
    """``tokens``: id -> seconds that it is good for; ``admitted``: nodes that have not started yet; ``removed``: names;
    ``leaving``: names that get no new chunks; ``renewing``: nodes with a new disk, whose old votes go first;
    ``certifying``: token id -> the node that it gets a new certificate for; such a token admits nobody."""

    tokens: Mapping[str, float] = field(default_factory=dict)
    admitted: Mapping[str, NodeInfo] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    renewing: tuple[str, ...] = ()
    certifying: Mapping[str, str] = field(default_factory=dict)


def add_token(
    table: Membership, token_id: str, ttl_s: float, node: str = "", nodes: Collection[str] = ()
) -> Membership:
    """With one more token that admits one node; or, for a ``node`` among ``nodes``, gets it a new certificate."""
    if node and node not in nodes and node not in table.admitted:
        raise NodeNotFound(f"there is no node {node!r}")
    if len(table.tokens) >= MOST_TOKENS:
        raise InvalidInput(f"there are {MOST_TOKENS} unused join tokens; wait until some have expired")
    certifying = {**table.certifying, token_id: node} if node else table.certifying
    return replace(table, tokens={**table.tokens, token_id: ttl_s}, certifying=certifying)


def drop_token(table: Membership, token_id: str) -> Membership:
    """Without a token: it has expired."""
    tokens = {key: ttl for key, ttl in table.tokens.items() if key != token_id}
    return replace(table, tokens=tokens, certifying={key: node for key, node in table.certifying.items() if key in tokens})


def spend_on(table: Membership, token_id: str, name: str) -> Membership:
    """Spend a token for a node's new certificate; :class:`Forbidden` if it is for another node, or not there (any more)."""
    if token_id not in table.tokens or table.certifying.get(token_id) != name:
        raise Forbidden(f"the token was used already, has expired, or is not `davfs node token --renew {name}`'s")
    return drop_token(table, token_id)


def admit(table: Membership, nodes: Mapping[str, NodeInfo], token_id: str, info: NodeInfo) -> Membership:
    """Spend a token for a new node; :class:`Forbidden` if there is no such token (any more)."""
    if token_id not in table.tokens or token_id in table.certifying:
        raise Forbidden("the join token was used already or has expired; make another with `davfs node token`")
    if info.name in table.removed:
        raise AlreadyExists(f"a node {info.name!r} was removed, and its name is not used again; choose another")
    if info.name in nodes or info.name in table.admitted:
        raise AlreadyExists(f"there is a node {info.name!r} already; choose another name")
    if len(nodes) + len(table.admitted) >= MOST_NODES:
        raise InvalidInput(f"the cluster has {MOST_NODES} nodes, and more cannot join so far")
    table = drop_token(table, token_id)
    return replace(table, admitted={**table.admitted, info.name: info})


def register(table: Membership, nodes: Mapping[str, NodeInfo], info: NodeInfo) -> Membership:
    """A node says that it runs, with its addresses. :class:`Forbidden` if it is not the one that is known by that name."""
    if info.name in table.removed:
        raise Forbidden(f"{info.name} was removed from the cluster; to come back it joins anew, under another name")
    known = nodes.get(info.name)
    check_disk(known, info.incarnation)
    return replace(table, admitted={name: node for name, node in table.admitted.items() if name != info.name})


def check_disk(known: NodeInfo | None, incarnation: str) -> None:
    """:class:`Forbidden` if a node has another data directory than the one that it is known by (""  on either side: any)."""
    if known is not None and known.incarnation and incarnation and known.incarnation != incarnation:
        raise Forbidden(
            f"{known.name} has another data directory than the one that it joined with: its disk was replaced or wiped,"
            f" and what it voted is forgotten. `davfs node readmit {known.name}` lets it in as a new member"
        )


def renew(table: Membership, nodes: Mapping[str, NodeInfo], name: str) -> Membership:
    """With a node whose disk was replaced: it goes from Raft, and comes back as one that never voted."""
    if name not in nodes:
        raise NodeNotFound(f"there is no node {name!r}")
    return replace(table, renewing=tuple(sorted({*table.renewing, name})))


def renewed(table: Membership, name: str) -> Membership:
    """With a node that is out of Raft and may come back."""
    return replace(table, renewing=tuple(key for key in table.renewing if key != name))


def leave(table: Membership, nodes: Mapping[str, NodeInfo], name: str) -> Membership:
    """With a node that gets no new chunks from now on."""
    if name not in nodes:
        raise NodeNotFound(f"there is no node {name!r}")
    return replace(table, leaving=tuple(sorted({*table.leaving, name})))


def stay(table: Membership, name: str) -> Membership:
    """With a node that gets new chunks again."""
    return replace(table, leaving=tuple(key for key in table.leaving if key != name))


def remove(table: Membership, nodes: Mapping[str, NodeInfo], name: str) -> Membership:
    """Without a node, for ever. One that has started must be leaving before."""
    if name not in table.leaving and name not in table.admitted:
        raise NodeNotFound(f"there is no node {name!r}" if name not in nodes else f"{name} does not leave")
    admitted = {key: node for key, node in table.admitted.items() if key != name}
    return replace(renewed(stay(table, name), name), admitted=admitted, removed=(*table.removed, name))


def next_members(
    voters: Collection[str], learners: Collection[str], nodes: Collection[str], table: Membership
) -> tuple[set[str], set[str]] | None:
    """The next single step of Raft's membership towards the cluster's: (voters, learners); None when there is none.

    Who was removed, or has a new disk, goes first. A newcomer becomes a learner as soon as it is admitted, and a voter when
    it runs.
    """
    for name in sorted({*voters, *learners}):
        if name in table.removed or name in table.renewing:
            return set(voters) - {name}, set(learners) - {name}
    for name in sorted({*table.admitted, *nodes}):
        if name not in voters and name not in learners and name not in table.renewing:
            return set(voters), {*learners, name}
    for name in sorted(learners):
        if name in nodes:
            return {*voters, name}, set(learners) - {name}
    return None


# --- at rest --------------------------------------------------------------------------------------------------------------


def dump(table: Membership) -> dict[str, Any]:
    """Plain values for the snapshot of Raft's state."""
    return {
        "tokens": dict(table.tokens),
        "admitted": [asdict(node) for node in table.admitted.values()],
        "removed": list(table.removed),
        "leaving": list(table.leaving),
        "renewing": list(table.renewing),
        "certifying": dict(table.certifying),
    }


def load(value: Mapping[str, Any]) -> Membership:
    """The inverse of :func:`dump`; what an older snapshot lacks is empty."""
    return Membership(
        dict(value.get("tokens", {})),
        {node["name"]: NodeInfo(**node) for node in value.get("admitted", [])},
        tuple(value.get("removed", [])),
        tuple(value.get("leaving", [])),
        tuple(value.get("renewing", [])),
        dict(value.get("certifying", {})),
    )
