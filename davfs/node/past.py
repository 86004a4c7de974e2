"""A node whose disk remembers nothing takes no part in Raft before it is sure that there is nothing to remember.

It could be the successor of a node that voted and acknowledged: taking part under that name, it would break both promises.
So it asks the others. Before a cluster's first day all are blank, and a majority of blank ones may begin. Later somebody
knows it by its former data directory: then it ends, until an administrator says `davfs node readmit`, upon which Raft
first does without it and then takes it in as a member that never voted (``voters.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from davfs.core import membership
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.errors import DavfsError, Forbidden, InvalidInput, Unavailable
from davfs.core.quorum import is_majority
from davfs.node.admin import COMMAND_TIMEOUT, STATUS_TIMEOUT, Handler
from davfs.node.config import NodeConfig
from davfs.rpc.client import RpcClient

log = logging.getLogger(__name__)

ASK_TIMEOUT = 2.0


class Raft(Protocol):
    """What the methods need of consensus."""

    @property
    def blank(self) -> bool: ...

    @property
    def held(self) -> bool: ...

    def release(self) -> None: ...

    def barrier(self, timeout: float) -> None: ...

    def submit(self, command: tuple[Any, ...], timeout: float) -> Any: ...


class Past:
    """One node's part. ``incarnation``: of its data directory."""

    def __init__(
        self, config: NodeConfig, state: ClusterState, raft: Raft, client: RpcClient, incarnation: str
    ) -> None:
        self._config = config
        self._state = state
        self._raft = raft
        self._client = client
        self._incarnation = incarnation

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        return {
            "node.past": self._past,
            "admin.node_readmit": self._readmit,
        }

    def settled(self) -> bool:
        """Whether this node takes part in Raft, after asking once more if it does not; :class:`Forbidden` if it may not."""
        if not self._raft.held:
            return True
        names = [member.name for member in self._config.cluster.nodes]
        sure = {self._config.name}
        for name in names:
            if name == self._config.name:
                continue
            try:
                args = {"incarnation": self._incarnation}
                answer, _ = self._client.call(name, "node.past", args, timeout=ASK_TIMEOUT)
            except Forbidden:
                raise
            except DavfsError as error:
                log.debug("%s says nothing of this node's past: %s", name, error)
            else:
                if answer["sure"]:
                    sure.add(name)
        if not is_majority(sure, names):
            return False
        self._raft.release()
        return True

    def _remembers(self, name: str) -> bool:
        """Whether a node runs and takes part with what it knows."""
        try:
            answer, _ = self._client.call(name, "node.past", {}, timeout=ASK_TIMEOUT)
        except DavfsError:
            return False
        return not answer["blank"]

    def _past(self, peer: str, args: dict[str, Any], _blob: bytes) -> tuple[Any, bytes]:
        """Whether this node is sure that the asking one never voted; :class:`Forbidden` if it knows that it did."""
        if self._raft.blank:
            return {"sure": True, "blank": True}, b""
        try:
            self._raft.barrier(STATUS_TIMEOUT)
            sure = True
        except Unavailable:
            sure = False
        membership.check_disk(self._state.nodes.get(peer), str(args.get("incarnation") or ""))
        return {"sure": sure and peer not in self._state.membership.renewing, "blank": False}, b""

    def _readmit(self, _peer: str, args: dict[str, Any], _blob: bytes) -> tuple[Any, bytes]:
        """An administrator's word that a node's disk was replaced and that nothing with the old one will come back."""
        name, request_id = args.get("name"), args.get("request_id")
        if not isinstance(name, str) or not isinstance(request_id, str):
            raise InvalidInput("name and request_id must be texts")
        if name == self._config.name or self._remembers(name):
            raise InvalidInput(f"{name} runs with a disk that remembers what it voted; there is nothing to readmit")
        value_of(self._raft.submit((request_id, "node_renew", name), COMMAND_TIMEOUT))
        return {"name": name}, b""
