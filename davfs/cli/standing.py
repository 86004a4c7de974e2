"""How far the replicas of a volume are, as `davfs volume show` tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from davfs.cli.remote import Remote

MIB = 1 << 20


def collect(remote: Remote, volume: Mapping[str, Any]) -> dict[str, Any]:
    """Node -> what it says of its replica of the volume; None of one that does not answer."""
    answers = remote.ask_all("node.replicas")
    found: dict[str, Any] = {}
    for node in volume["replicas"]:
        said = answers.get(node)
        found[node] = None if said is None else next((one for one in said if one["volume"] == volume["name"]), None)
    return found


def describe(standing: Mapping[str, Any]) -> list[str]:
    """A line for each replica."""
    newest = max((one["committed"][1] for one in standing.values() if one is not None), default=0)
    return [f"replica on {node}: {_state(one, newest)}" for node, one in standing.items()]


def _state(one: Mapping[str, Any] | None, newest: int) -> str:
    if one is None:
        return "does not answer"
    committed, floor = one["committed"][1], one["floor"][1]
    if one["catching"] is not None:
        done, total = one["catching"]
        share = f"{done * 100 // total} % of {total / MIB:.1f} MiB" if total else "about to begin"
        return f"catching up by a snapshot, {share}; {newest - committed} changes behind"
    behind = f", {newest - committed} changes behind" if newest > committed else ""
    return f"at change {committed}{behind}; its log begins at {floor + 1}"
