"""Where the nodes are: as this node's file says for those that it lists, else as they said when they joined.

The file goes first so that a cluster whose machines got new addresses while it was off can come up again: nothing can be
learned from Raft before its members reach each other.
"""

from __future__ import annotations

from davfs.core.cluster_state import ClusterState
from davfs.core.errors import InvalidInput, NodeNotFound
from davfs.core.model import NodeInfo
from davfs.node.config import Address, NodeConfig, parse_address


class Addresses:
    """name -> (host, port) of a node's private listeners; :class:`NodeNotFound` where nothing is known."""

    def __init__(self, config: NodeConfig, state: ClusterState) -> None:
        self._listed = {member.name: member for member in config.cluster.nodes}
        self._state = state

    def rpc(self, name: str) -> Address:
        """Of the node-to-node listener."""
        listed = self._listed.get(name)
        return listed.rpc if listed is not None else _parsed(name, self._known(name).rpc)

    def forward(self, name: str) -> Address:
        """Of the listener for forwarded requests."""
        listed = self._listed.get(name)
        return listed.forward if listed is not None else _parsed(name, self._known(name).forward)

    def _known(self, name: str) -> NodeInfo:
        info = self._state.nodes.get(name) or self._state.membership.admitted.get(name)
        if info is None:
            raise NodeNotFound(f"there is no node {name!r} in the cluster")
        return info


def _parsed(name: str, text: str) -> Address:
    try:
        return parse_address(text)
    except InvalidInput:
        raise NodeNotFound(f"the address of {name} is not known yet") from None
