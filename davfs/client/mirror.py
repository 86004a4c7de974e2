"""What a program knows of Raft's state: the nodes, its one volume, and its own grant, as the nodes' answers tell it.

Advice like any node's own view: every request is checked by the nodes that it goes to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from davfs.core import replica_set
from davfs.core.cluster_state import ClusterState, VolumeState
from davfs.core.grants import Tenure
from davfs.core.model import NodeInfo, VolumePolicy


class Mirror(ClusterState):
    """The part of the cluster's state that a holder's flows read."""

    def learn(self, answer: Mapping[str, Any]) -> VolumeState:
        """Take over what an answer of a ``token.*`` method says of nodes and volume; the volume."""
        self.nodes = {n["name"]: NodeInfo(n["name"], n["dav"], n["zone"], n["weight"]) for n in answer["nodes"]}
        told = answer["volume"]
        known = self.volumes.get(told["id"])
        volume = VolumeState(
            told["id"],
            told["name"],
            VolumePolicy(**told["policy"]),
            replica_set.load(told),
            Tenure() if known is None else known.tenure,
        )
        self.volumes = {volume.id: volume}
        return volume

    def granted(self, volume: VolumeState, tenure: Tenure) -> None:
        """Note the program's own grant."""
        self.volumes = {volume.id: replace(volume, tenure=tenure)}
