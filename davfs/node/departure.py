"""Removing a node: only when nothing that was promised depends on it.

The state machine refuses a node that keeps a volume's records. For chunks the node first gets no new ones, and its copies
no longer count (``core/membership.py``, *leaving*). Once every upload that counted them is committed or has failed, a
majority of each volume's replicas look whether every chunk that is named on it has W copies elsewhere, really there and not
only named. Then it goes: from Raft, from placement, and with its certificate (``admission.py``, ``voters.py``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol

from davfs.cluster.replica import Replica
from davfs.cluster.site import Site
from davfs.core.cluster_state import VolumeState, value_of
from davfs.core.errors import DavfsError, InvalidInput, NodeInUse, NodeNotFound, QuorumLost, Unavailable
from davfs.core.quorum import is_majority
from davfs.node.admin import COMMAND_TIMEOUT, Handler, Raft
from davfs.node.config import NodeConfig
from davfs.rpc.client import RpcClient

log = logging.getLogger(__name__)

LOOK_TIMEOUT = 60.0
"""Seconds for one replica to look through one volume."""

ASK_TIMEOUT = 10.0
BATCH = 5000
"""Digests in one question."""

APPLY_S = 5.0
POLL_S = 0.05


class Stores(Protocol):
    """Where this node's replicas are (``cluster.replicas.Replicas``)."""

    def get(self, volume_id: str) -> Replica: ...


class Departure:
    """The methods over one node's parts."""

    def __init__(self, config: NodeConfig, site: Site, replicas: Stores, raft: Raft, client: RpcClient) -> None:
        self._name = config.name
        self._site = site
        self._state = site.state
        self._replicas = replicas
        self._raft = raft
        self._client = client

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        return {
            "admin.node_remove": self._remove,
            "node.needs": self._needs,
            "node.holds": self._holds,
        }

    # --- for the administrator --------------------------------------------------------------------------------------

    def _remove(self, _peer: str, args: dict[str, Any], _blob: bytes) -> tuple[Any, bytes]:
        """Remove a node; :class:`NodeInUse` says what it still holds."""
        name = _text(args, "name")
        self._raft.barrier(COMMAND_TIMEOUT)
        if name == self._name:
            raise Unavailable(f"{name} does not remove itself; use the configuration of another node")
        if name in self._state.membership.removed:
            return {"name": name, "chunks": 0}, b""
        chunks = 0
        if name in self._state.nodes:
            self._command("node_leave", name)
            try:
                self._no_programs()
                # Whoever counted on it by an older state has committed by then or lost its lease: its refresh needs Raft.
                time.sleep(self._site.timing.ttl + self._site.timing.commit)
                chunks = self._check_chunks(name)
            except DavfsError:
                self._command("node_stay", name)
                raise
        self._command("node_remove", name)
        log.warning("%s was removed from the cluster", name)
        return {"name": name, "chunks": chunks}, b""

    def _no_programs(self) -> None:
        """Programs count copies by themselves, and do not hear of a node that leaves while they hold a volume."""
        grants = {volume.name: volume.tenure.grant for volume in self._state.volumes.values()}
        held = [name for name, grant in sorted(grants.items()) if grant and grant.address not in self._state.nodes]
        if held:
            raise NodeInUse(f"programs hold {', '.join(held)}: stop them first, then try again", volumes=held)

    def _check_chunks(self, name: str) -> int:
        """How many chunks are named on a node; :class:`NodeInUse` if one of them has fewer than W copies elsewhere."""
        total = 0
        for volume in list(self._state.volumes.values()):
            named, short = self._ask_replicas(volume, name)
            if short:
                raise NodeInUse(
                    f"{short} of the {named} chunks of {volume.name!r} that {name} holds have fewer than"
                    f" {volume.policy.write_quorum} copies on other nodes that answer; start the others, or read those"
                    " files and write them anew",
                    volumes=[volume.name],
                )
            total += named
        return total

    def _ask_replicas(self, volume: VolumeState, name: str) -> tuple[int, int]:
        """(chunks named on the node, those short of copies): the worst that a majority of the replicas say."""
        answers, troubles = {}, []
        for node in volume.replicas:
            try:
                answers[node] = self._ask(node, "node.needs", {"volume": volume.id, "name": name}, LOOK_TIMEOUT)
            except DavfsError as error:
                troubles.append(f"{node}: {error.message}")
        if not is_majority(answers, volume.replicas):
            raise QuorumLost(f"too few replicas of {volume.name!r} could be asked ({'; '.join(troubles)})")
        return max(a["named"] for a in answers.values()), max(a["short"] for a in answers.values())

    # --- for other nodes --------------------------------------------------------------------------------------------

    def _needs(self, _peer: str, args: dict[str, Any], _blob: bytes) -> tuple[Any, bytes]:
        """Look through this node's replica of a volume: how many chunks are named on a node, and how many need it."""
        volume, name = self._state.volume(_text(args, "volume")), _text(args, "name")
        replica = self._replicas.get(volume.id)
        self._wait_applied(replica, volume.name)
        with replica.store.view() as view:
            digests = sorted({chunk.digest for chunk in view.chunks() if name in chunk.nodes})
        copies = dict.fromkeys(digests, 0)
        others = [node for node in self._state.storing() if node != name]
        for start in range(0, len(digests), BATCH):
            batch = digests[start : start + BATCH]
            for node in others:
                try:
                    held = self._ask(node, "node.holds", {"volume": volume.id, "digests": batch}, ASK_TIMEOUT)
                except DavfsError as error:
                    log.info("%s does not say what it holds: %s", node, error)
                    continue
                for digest, there in zip(batch, held, strict=True):
                    copies[digest] += there
        short = sum(count < volume.policy.write_quorum for count in copies.values())
        return {"named": len(digests), "short": short}, b""

    def _wait_applied(self, replica: Replica, volume: str) -> None:
        """What is in the log now may have been acknowledged: it must be in the index before that is looked through."""
        wanted, deadline = replica.store.last.seq, time.monotonic() + APPLY_S
        while replica.store.committed.seq < wanted:
            if time.monotonic() > deadline:
                raise Unavailable(f"{volume!r} has records that no holder has committed yet: list its files, then try again")
            time.sleep(POLL_S)

    def _holds(self, _peer: str, args: dict[str, Any], _blob: bytes) -> tuple[Any, bytes]:
        """For each digest, whether this node has a copy (verified when it is read and scrubbed, not now)."""
        volume, digests = _text(args, "volume"), args.get("digests")
        if not isinstance(digests, list) or not all(isinstance(digest, str) for digest in digests):
            raise InvalidInput("digests must be a list of texts")
        return [self._site.chunks.has(volume, digest) for digest in digests], b""

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _ask(self, node: str, method: str, args: dict[str, Any], timeout: float) -> Any:
        if node == self._name:
            return self.handlers()[method](node, args, b"")[0]
        if node not in self._state.nodes:
            raise NodeNotFound(f"there is no node {node!r}")
        return self._client.call(node, method, args, timeout=timeout)[0]

    def _command(self, verb: str, name: str) -> Any:
        return value_of(self._raft.submit((self._site.request_id(), verb, name), COMMAND_TIMEOUT))


def _text(args: Mapping[str, Any], key: str) -> str:
    value = args.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{key} must be a text that is not empty")
    return value
