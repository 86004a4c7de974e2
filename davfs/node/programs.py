"""What a program asks of a node about volumes and tokens: the ``token.*`` methods of node-to-node HTTP.

Any node answers for the cluster. A program is known by its certificate (``program:NAME``); what it may do to a volume it
shows by its token: assign makes one known by its digest, everything else names the token itself. Records and chunks go
to the ``replica.*`` and ``chunk.*`` methods (``cluster/service.py``). Never waits without a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

from davfs.core import grants, replica_set
from davfs.core.chunking import digest_of
from davfs.core.cluster_state import ClusterState, VolumeState, value_of
from davfs.core.errors import InvalidInput, Unavailable, VolumeHeld
from davfs.core.grants import PROGRAM
from davfs.core.model import Epoch
from davfs.node.addresses import Addresses
from davfs.node.admin import COMMAND_TIMEOUT, Raft, until_when
from davfs.node.config import NodeConfig

Handler: TypeAlias = Callable[[str, dict[str, Any], bytes], tuple[Any, bytes]]

SHORTEST_TTL_S = 0.5
LONGEST_TTL_S = 3600.0
_DIGEST_LENGTH = 64

VOLUME_METHODS = (
    "replica.seal",
    "replica.append",
    "replica.confirm",
    "replica.read_log",
    "replica.read_late",
    "replica.catch_up",
    "replica.snapshot",
    "replica.snapshot_read",
    "chunk.put",
    "chunk.get",
    "chunk.check",
    "chunk.free",
    "chunk.keep",
)
"""Methods of ``cluster/service.py`` that a program may call; each checks the token that it bears."""


class Programs:
    """The methods over one node's parts.

    ``remaining``: seconds that a volume's grant lasts unless refreshed, as advice; ``new_id`` gives fresh request ids.
    """

    def __init__(
        self,
        config: NodeConfig,
        state: ClusterState,
        raft: Raft,
        remaining: Callable[[str], float],
        new_id: Callable[[], str],
    ) -> None:
        self._config = config
        self._state = state
        self._raft = raft
        self._remaining = remaining
        self._new_id = new_id
        self._addresses = Addresses(config, state)

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        methods = {
            "token.cluster": self.cluster,
            "token.volume": self.volume,
            "token.assign": self.assign,
            "token.refresh": self.refresh,
            "token.free": self.free,
            "token.admit": self.admit,
            "token.replicas": self.replicas,
        }

        def of(method: Callable[[str, Mapping[str, Any]], Any]) -> Handler:
            return lambda peer, args, _blob: (method(peer, args), b"")

        return {name: of(method) for name, method in methods.items()}

    # --- reads ------------------------------------------------------------------------------------------------------

    def cluster(self, peer: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """All nodes and volumes."""
        self._raft.barrier(COMMAND_TIMEOUT)
        volumes = sorted(self._state.volumes.values(), key=lambda volume: volume.name)
        return {"nodes": self._nodes(), "volumes": [self._described(volume) for volume in volumes]}

    def volume(self, peer: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """One volume by its name, and all nodes."""
        self._raft.barrier(COMMAND_TIMEOUT)
        return {"nodes": self._nodes(), "volume": self._described(self._state.volume_named(_text(args, "name")))}

    # --- tokens -----------------------------------------------------------------------------------------------------

    def assign(self, peer: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Grant a volume to the bearer of the token whose digest this is (design, section 2, Assign 1 and 2).

        :class:`VolumeHeld` with who holds it and until when, as far as is known; ``Locked`` while people hold DAV locks
        in it (the Raft command decides both).
        """
        self._raft.barrier(COMMAND_TIMEOUT)
        volume = self._state.volume_named(_text(args, "name"))
        digest = _text(args, "token_digest")
        if len(digest) != _DIGEST_LENGTH or set(digest) - set("0123456789abcdef"):
            raise InvalidInput("token_digest must be the 64 lower-case hex digits of the token's BLAKE3 digest")
        ttl = args.get("ttl") or self._config.cluster.token_ttl
        if not isinstance(ttl, (int, float)) or not SHORTEST_TTL_S <= ttl <= LONGEST_TTL_S:
            raise InvalidInput(f"ttl must be {SHORTEST_TTL_S:g} to {LONGEST_TTL_S:g} seconds")
        address = peer if grants.is_program(peer) else PROGRAM + peer
        try:
            epoch = self._command(args, "assign", volume.id, digest, address, float(ttl))
        except VolumeHeld as error:
            raise until_when(error, self._remaining(volume.id)) from None
        return {**self._answer(volume.id), "epoch": list(epoch), "ttl": float(ttl)}

    def refresh(self, peer: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Give a token its time anew; the refusals of ``grants.check``."""
        volume_id, epoch, digest = _bearer(args)
        if volume_id in self._command(args, "refresh", [(volume_id, epoch, digest)]):
            # The command tells only that it refused; the table, which is as new as the command, says why.
            grants.check(self._state.volume(volume_id).tenure, Epoch(*epoch), digest)
            raise Unavailable("the grant changed meanwhile; ask again")
        return self._answer(volume_id)

    def free(self, peer: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """End a grant by its bearer's word; the refusals of ``grants.check``."""
        volume_id, epoch, digest = _bearer(args)
        self._command(args, "free", volume_id, epoch, digest)
        return self._answer(volume_id)

    def admit(self, peer: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """The holder's word that a new replica store is up to date and may vote (design, section 3: wiped replicas)."""
        volume_id, epoch, digest = _bearer(args)
        self._raft.barrier(COMMAND_TIMEOUT)
        grants.check(self._state.volume(volume_id).tenure, Epoch(*epoch), digest)
        self._command(args, "replica_admit", volume_id, _text(args, "node"), _text(args, "incarnation"), epoch)
        return self._answer(volume_id)

    def replicas(self, peer: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """The holder's word about a change of replicas: that the newcomer has caught up (``step`` join), or that the
        majorities of both sets hold everything (done). See ``cluster/replacing.py``."""
        volume_id, epoch, digest = _bearer(args)
        self._raft.barrier(COMMAND_TIMEOUT)
        grants.check(self._state.volume(volume_id).tenure, Epoch(*epoch), digest)
        step, version = args.get("step"), args.get("version")
        if step not in ("join", "done") or not isinstance(version, int):
            raise InvalidInput("step must be join or done, and version the number of the set that it follows")
        incarnation = [str(args.get("incarnation") or "")] if step == "join" else []
        self._command(args, f"replicas_{step}", volume_id, epoch, version, *incarnation)
        return self._answer(volume_id)

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _answer(self, volume_id: str) -> dict[str, Any]:
        return {"nodes": self._nodes(), "volume": self._described(self._state.volume(volume_id))}

    def _nodes(self) -> list[dict[str, Any]]:
        """The nodes that have joined, with the addresses of their node-to-node listeners."""
        return [
            {"name": n.name, "dav": n.dav, "zone": n.zone, "weight": n.weight, "rpc": list(self._addresses.rpc(n.name))}
            for n in self._state.nodes.values()
        ]

    def _described(self, volume: VolumeState) -> dict[str, Any]:
        grant = volume.tenure.grant
        return {
            "id": volume.id,
            "name": volume.name,
            "policy": asdict(volume.policy),
            **replica_set.dump(volume.replica_set),
            "epoch": list(volume.tenure.last),
            "holder": None if grant is None or grant.yields else grant.address,
            "expires_in_s": None if grant is None or grant.yields else round(self._remaining(volume.id), 1),
        }

    def _command(self, args: Mapping[str, Any], verb: str, *arguments: Any) -> Any:
        """Replicate a command. Under the asker's request id, so that asking another node again does it once."""
        request_id = args.get("request_id") or self._new_id()
        if not isinstance(request_id, str):
            raise InvalidInput("request_id must be a text")
        return value_of(self._raft.submit((request_id, verb, *arguments), COMMAND_TIMEOUT))


def _text(args: Mapping[str, Any], key: str) -> str:
    value = args.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{key} must be a text that is not empty")
    return value


def _bearer(args: Mapping[str, Any]) -> tuple[str, list[int], str]:
    """(volume id, epoch, digest of the token) of a request that bears a token."""
    epoch, token = args.get("epoch"), args.get("token")
    if not isinstance(epoch, list) or len(epoch) != 2 or not all(isinstance(part, int) for part in epoch):
        raise InvalidInput("epoch must be [incarnation, counter]")
    if not isinstance(token, bytes):
        raise InvalidInput("token must be bytes")
    return _text(args, "volume"), epoch, digest_of(token)
