"""Removing a node: only when nothing that was promised depends on it.

The state machine refuses a node that keeps a volume's records. For chunks the node first gets no new ones, and its copies
no longer count (``core/membership.py``, *leaving*). Once every upload that counted them is committed or has failed, a
majority of each volume's replicas look whether every chunk that is named on it has W copies elsewhere, really there and not
only named. Then it goes: from placement, from Raft (``voters.py``), and its certificate opens nothing any more. It is told
as removed once Raft counts it no longer: a machine that is switched off before would be one that the others have to do
without.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from davfs.cluster.collecting import ReplicaSource
from davfs.cluster.replica import Replica
from davfs.cluster.site import Site
from davfs.consensus.membership import Members
from davfs.core.cluster_state import VolumeState, value_of
from davfs.core.effects import Call, Protocol_, Reply, Sleep, Submit
from davfs.core.errors import DavfsError, InvalidInput, NodeInUse, QuorumLost, Unavailable
from davfs.core.model import AVAILABLE
from davfs.core.ports import ReplicaStore
from davfs.core.quorum import is_majority

log = logging.getLogger(__name__)

LOOK_S = 60.0
"""Seconds for one replica to look through one volume."""

ASK_S = 10.0
COMMAND_S = 5.0
BATCH = 5000
"""Digests in one question."""

RAFT_S = 30.0
"""Seconds for Raft's leader to take a node out."""

APPLY_S = 5.0
POLL_S = 0.05


class Departure:
    """One node's part: ``remove`` carries a removal out, ``needs`` and ``holds`` answer other nodes."""

    def __init__(self, site: Site, replicas: ReplicaSource) -> None:
        self._site = site
        self._replicas = replicas

    # --- for the administrator --------------------------------------------------------------------------------------

    def remove(self, name: str, members: Callable[[], Members]) -> Protocol_[int]:
        """Remove a node; how many chunks were named on it. :class:`NodeInUse` says what it still holds; then it stays.

        ``members()``: who takes part in Raft, as far as this node knows. :class:`Unavailable` if the node is removed and
        still takes part; asking again waits again.
        """
        yield from self._submit("noop")
        state = self._site.state
        if name == self._site.node:
            raise Unavailable(f"{name} does not remove itself; use the configuration of another node")
        if name in state.membership.removed:
            yield from self._out_of_raft(name, members)
            return 0
        chunks = 0
        if name in state.nodes:
            yield from self._submit("node_leave", name)
            try:
                self._no_programs()
                # Whoever counted on it by an older state has committed by then or lost its lease: its refresh needs Raft.
                yield Sleep(self._site.timing.ttl + self._site.timing.commit)
                chunks = yield from self._check_chunks(name)
                self._check_votes(name, members())
            except DavfsError:
                yield from self._submit("node_stay", name)
                raise
        yield from self._submit("node_remove", name)
        log.warning("%s was removed from the cluster", name)
        yield from self._out_of_raft(name, members)
        return chunks

    def _check_votes(self, name: str, members: Members) -> None:
        """Whether Raft goes on without the node: it is refused by all from the moment when it is removed, and until the
        leader has taken it out of Raft its vote is one that is missing."""
        site = self._site
        lost = site.state.membership.renewing
        able = [v for v in members.voters if v != name and v not in lost and (v == site.node or site.up(v))]
        if name in members.voters and not is_majority(able, members.voters):
            raise NodeInUse(
                f"Raft needs the vote of {name}: of the others only {', '.join(able)} answer; start the rest, or readmit"
                " those that lost their disk, then try again"
            )

    def _out_of_raft(self, name: str, members: Callable[[], Members]) -> Protocol_[None]:
        ends = self._site.clock.now() + RAFT_S
        while name in members().everyone:
            if self._site.clock.now() > ends:
                raise Unavailable(
                    f"{name} is removed, but Raft still counts it: leave its machine on, and give the same command again"
                )
            yield Sleep(POLL_S)

    def _no_programs(self) -> None:
        """Programs count copies by themselves, and do not hear of a node that leaves while they hold a volume."""
        state = self._site.state
        grants = {volume.name: volume.tenure.grant for volume in state.volumes.values()}
        held = [name for name, grant in sorted(grants.items()) if grant and grant.address not in state.nodes]
        if held:
            raise NodeInUse(f"programs hold {', '.join(held)}: stop them first, then try again", volumes=held)

    def _check_chunks(self, name: str) -> Protocol_[int]:
        """How many chunks are named on a node; :class:`NodeInUse` if one of them has fewer than W copies elsewhere."""
        total = 0
        for volume in list(self._site.state.volumes.values()):
            named, short = yield from self._ask_replicas(volume, name)
            if short:
                raise NodeInUse(
                    f"{short} of the {named} chunks of {volume.name!r} that {name} holds have fewer than"
                    f" {volume.policy.write_quorum} copies on other nodes that answer; start the others, or read those"
                    " files and write them anew",
                    volumes=[volume.name],
                )
            total += named
        return total

    def _ask_replicas(self, volume: VolumeState, name: str) -> Protocol_[tuple[int, int]]:
        """(chunks named on the node, those short of copies): the worst that a majority of the replicas say."""
        answers, troubles = {}, []
        for node in volume.replicas:
            try:
                reply: Reply = yield Call(node, "node.needs", {"volume": volume.id, "name": name}, timeout=LOOK_S)
                answers[node] = reply.value
            except DavfsError as error:
                troubles.append(f"{node}: {error.message}")
        if not is_majority(answers, volume.replicas):
            raise QuorumLost(f"too few replicas of {volume.name!r} could be asked ({'; '.join(troubles)})")
        return max(a["named"] for a in answers.values()), max(a["short"] for a in answers.values())

    def _submit(self, verb: str, *arguments: Any) -> Protocol_[Any]:
        return value_of((yield Submit((self._site.request_id(), verb, *arguments), COMMAND_S)))

    # --- for other nodes --------------------------------------------------------------------------------------------

    def needs(self, _peer: str, args: Mapping[str, Any], _blob: bytes) -> Protocol_[Reply]:
        """Look through this node's replica of a volume: how many chunks are named on a node, and how many need it."""
        volume, name = self._site.state.volume(_text(args, "volume")), _text(args, "name")
        replica = yield from self._replicas.wait_for(volume.id)
        yield from self._wait_applied(replica, volume)
        with replica.store.view() as view:
            digests = sorted({chunk.digest for chunk in view.chunks() if name in chunk.nodes})
        copies = dict.fromkeys(digests, 0)
        others = [node for node in self._site.state.storing() if node != name]
        for start in range(0, len(digests), BATCH):
            batch = digests[start : start + BATCH]
            for node in others:
                try:
                    held: Reply = yield Call(node, "node.holds", {"volume": volume.id, "digests": batch}, timeout=ASK_S)
                except DavfsError as error:
                    log.info("%s does not say what it holds: %s", node, error)
                    continue
                for digest, there in zip(batch, held.value, strict=True):
                    copies[digest] += there
        short = sum(count < volume.policy.write_quorum for count in copies.values())
        return Reply({"named": len(digests), "short": short})

    def _wait_applied(self, replica: Replica, volume: VolumeState) -> Protocol_[None]:
        """What is in the log now, or late in an available volume, may have been acknowledged: it must be in the index before
        that is looked through."""
        store, ends = replica.store, self._site.clock.now() + APPLY_S
        wanted, available = store.last.seq, volume.policy.consistency == AVAILABLE
        while store.committed.seq < wanted or (available and self._has_late(store)):
            if self._site.clock.now() > ends:
                raise Unavailable(
                    f"{volume.name!r} has records that no holder has committed yet: list its files, then try again"
                )
            yield Sleep(POLL_S)

    @staticmethod
    def _has_late(store: ReplicaStore) -> bool:
        store.drop_late()
        return store.late > 0

    def holds(self, _peer: str, args: Mapping[str, Any], _blob: bytes) -> Protocol_[Reply]:
        """For each digest, whether this node has a copy (verified when it is read and scrubbed, not now)."""
        yield from ()
        volume, digests = _text(args, "volume"), args.get("digests")
        if not isinstance(digests, list) or not all(isinstance(digest, str) for digest in digests):
            raise InvalidInput("digests must be a list of texts")
        return Reply([self._site.chunks.has(volume, digest) for digest in digests])


def _text(args: Mapping[str, Any], key: str) -> str:
    value = args.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{key} must be a text that is not empty")
    return value
