"""What an administrator asks of a node: the ``admin.*`` and ``node.*`` methods of node-to-node HTTP.

Every method is ``(peer, args, blob) -> (value, b"")`` and answers plain values. Only nodes of the cluster reach them:
the command line speaks with the certificate of the node whose configuration it is given. Never waits without a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol, TypeAlias

from davfs import __version__
from davfs.core import grants, replica_set
from davfs.core.cluster_state import ClusterState, VolumeState, value_of
from davfs.core.errors import ConfigError, InvalidInput, Unavailable, VolumeHeld
from davfs.core.model import Epoch, VolumeInfo, VolumePolicy
from davfs.node.config import NodeConfig, check_policy, cluster_fingerprint, cluster_settings, difference

Handler: TypeAlias = Callable[[str, dict[str, Any], bytes], tuple[Any, bytes]]

COMMAND_TIMEOUT = 5.0
STATUS_TIMEOUT = 1.0


class Raft(Protocol):
    """What the methods need of consensus."""

    @property
    def leader(self) -> str | None: ...

    @property
    def term(self) -> int: ...

    def submit(self, command: tuple[Any, ...], timeout: float) -> Any: ...

    def barrier(self, timeout: float) -> None: ...


def until_when(error: VolumeHeld, left: float) -> VolumeHeld:
    """The same refusal, saying also how many seconds the grant lasts unless it is refreshed."""
    known = error.data | {"expires_in_s": round(left, 1)}
    return VolumeHeld(f"{error.message}; its token ends in {left:.1f} s unless it is refreshed", **known)


class Admin:
    """The methods over one node's parts. ``new_id`` gives fresh request ids, ``voters`` the names of those who vote;
    ``certificate`` tells of this node's (``Renewal.status``), ``alone`` which volumes it serves while it is cut off, and
    ``remaining`` how many seconds a volume's grant lasts unless it is refreshed, as advice."""

    def __init__(
        self,
        config: NodeConfig,
        state: ClusterState,
        raft: Raft,
        create_volume: Callable[[str, VolumePolicy], VolumeInfo],
        new_id: Callable[[], str],
        voters: Callable[[], Sequence[str]] | None = None,
        certificate: Callable[[], Mapping[str, Any] | None] = lambda: None,
        alone: Callable[[], Sequence[str]] = lambda: (),
        remaining: Callable[[str], float] = lambda volume: 0.0,
    ) -> None:
        self._config = config
        self._state = state
        self._raft = raft
        self._create_volume = create_volume
        self._new_id = new_id
        self._certificate = certificate
        self._alone = alone
        self._remaining = remaining
        self._voters = voters or (lambda: [member.name for member in config.cluster.nodes])

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        return {
            "node.status": _method(self.node_status),
            "node.meet": _method(self.meet),
            "admin.status": _method(self.status),
            "admin.volume_create": _method(self.volume_create),
            "admin.volume_list": _method(self.volume_list),
            "admin.volume_show": _method(self.volume_show),
            "admin.volume_quota": _method(self.volume_quota),
            "admin.volume_delete": _method(self.volume_delete),
            "admin.volume_assign": _method(self.volume_assign),
            "admin.volume_refresh": _method(self.volume_refresh),
            "admin.volume_free": _method(self.volume_free),
        }

    # --- this node alone: never waits -------------------------------------------------------------------------------

    def node_status(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """What this node knows by itself."""
        return {
            "name": self._config.name,
            "version": __version__,
            "fingerprint": cluster_fingerprint(self._config),
            "leader": self._raft.leader,
            "term": self._raft.term,
            "volumes": sorted(volume.name for volume in self._state.volumes.values()),
            "certificate": self._certificate(),
            "alone": list(self._alone()),
        }

    def meet(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Compare cluster settings; :class:`ConfigError` with what differs."""
        mine = cluster_settings(self._config)
        if differs := difference(mine, args["settings"]):
            raise ConfigError(f"the settings of node {self._config.name} (here) and those of its peer (there): {differs}")
        return {"name": self._config.name, "fingerprint": cluster_fingerprint(self._config)}

    # --- the cluster ------------------------------------------------------------------------------------------------

    def status(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Nodes, Raft leader and term, volumes. ``fresh`` is false when no majority confirms what is shown."""
        try:
            self._raft.barrier(STATUS_TIMEOUT)
            fresh = True
        except Unavailable:
            fresh = False
        return {
            "node": self._config.name,
            "fresh": fresh,
            "leader": self._raft.leader,
            "term": self._raft.term,
            "nodes": self._nodes(),
            "voters": list(self._voters()),
            "volumes": self._volumes(),
        }

    def volume_list(self, args: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The volumes, sorted by name."""
        self._raft.barrier(COMMAND_TIMEOUT)
        return self._volumes()

    def volume_show(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """One volume with its policy, grant, DAV locks and the replica stores that may vote; ``session``: account, address
        and User-Agent of the session that has it to itself."""
        volume = self._named(args)
        grant = volume.tenure.grant
        return {
            **_summary(volume),
            "policy": asdict(volume.policy),
            "grant": None if grant is None else {"ttl": grant.ttl_s, "refreshes": grant.refreshes},
            "session": None if volume.session is None else list(volume.session),
            **replica_set.dump(volume.replica_set),
            "locks": [{**asdict(lock), "path": "/" + "/".join(lock.path)} for lock in volume.locks.values()],
        }

    def volume_create(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Create a volume; ``policy`` holds what differs from the cluster's defaults."""
        policy = check_policy(self._config.cluster, args.get("policy") or {}, len(self._state.nodes))
        joined, wanted = sorted(self._state.nodes), max(policy.copies, policy.replicas)
        if len(joined) < wanted:
            # Fewer replicas than the policy promises would stay fewer: better to wait for the others to start.
            raise Unavailable(f"the policy wants {wanted} nodes and only {len(joined)} have joined ({', '.join(joined)})")
        info = self._create_volume(_text(args, "name"), policy)
        return {"name": info.name, "id": info.id, "replicas": list(info.replicas), "policy": asdict(info.policy)}

    def volume_quota(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Change how many bytes a volume may hold; 0: no limit. What is there stays."""
        volume = self._named(args)
        return {"name": volume.name, "quota": self._command(args, "volume_quota", volume.id, args.get("quota"))}

    def volume_delete(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Delete a volume that no program or gateway holds, unless ``force``."""
        volume = self._named(args)
        if volume.tenure.grant is not None and not volume.tenure.grant.yields and not args.get("force"):
            raise VolumeHeld(
                f"volume {volume.name!r} is held through {volume.tenure.grant.address or 'a program'}; "
                "free it first, or force the deletion",
                holder=volume.tenure.grant.address,
            )
        self._command(args, "volume_delete", volume.id)
        return {"name": volume.name, "id": volume.id}

    # --- tokens by hand (design, section 2: Assign steps 1, 2, 5; Free steps 1 to 3) ------------------------------------

    def volume_assign(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Grant a volume to the bearer of the token whose digest this is; :class:`VolumeHeld` while another has it."""
        volume = self._named(args)
        address = str(args.get("address") or "")
        if address in self._state.nodes:
            raise InvalidInput(f"{address!r} is a node's name: requests would be forwarded to it; give another address")
        ttl = float(args.get("ttl") or self._config.cluster.token_ttl)
        try:
            epoch = self._command(args, "assign", volume.id, _text(args, "token_digest"), address, ttl)
        except VolumeHeld as error:
            raise until_when(error, self._remaining(volume.id)) from None
        return {"name": volume.name, "id": volume.id, "epoch": list(epoch), "ttl": ttl}

    def volume_refresh(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Refresh a grant; :class:`StaleEpoch` or :class:`TokenRefused` when it is not the current one."""
        volume = self._named(args)
        epoch, digest = _epoch(args), _text(args, "token_digest")
        if volume.id in self._command(args, "refresh", [(volume.id, epoch, digest)]):
            # The command tells only that it refused; the table itself says why.
            grants.check(self._state.volume(volume.id).tenure, Epoch(*epoch), digest)
            raise Unavailable("the grant changed meanwhile; ask again")
        return {"name": volume.name, "epoch": epoch}

    def volume_free(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """End a grant by its bearer's word."""
        volume = self._named(args)
        self._command(args, "free", volume.id, _epoch(args), _text(args, "token_digest"))
        return {"name": volume.name}

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _nodes(self) -> list[dict[str, Any]]:
        """Those of the configuration that were not removed, those that joined, and those that may: not started yet."""
        table = self._state.membership
        listed = {member.name: member.info() for member in self._config.cluster.nodes}
        known = {**listed, **table.admitted, **self._state.nodes}
        return [
            {"name": node.name, "dav": node.dav, "rpc": node.rpc, "started": node.name in self._state.nodes}
            for node in sorted(known.values(), key=lambda node: node.name)
            if node.name not in table.removed
        ]

    def _volumes(self) -> list[dict[str, Any]]:
        return [_summary(volume) for volume in sorted(self._state.volumes.values(), key=lambda v: v.name)]

    def _named(self, args: Mapping[str, Any]) -> VolumeState:
        """The volume as of now: no local read decides anything before the log has caught up."""
        self._raft.barrier(COMMAND_TIMEOUT)
        return self._state.volume_named(_text(args, "name"))

    def _command(self, args: Mapping[str, Any], verb: str, *arguments: Any) -> Any:
        """Replicate a command. Under the asker's request id, so that asking another node again does it once."""
        request_id = str(args.get("request_id") or self._new_id())
        return value_of(self._raft.submit((request_id, verb, *arguments), COMMAND_TIMEOUT))


def _method(answer: Callable[[Mapping[str, Any]], Any]) -> Handler:
    return lambda _peer, args, _blob: (answer(args), b"")


def _summary(volume: VolumeState) -> dict[str, Any]:
    grant = volume.tenure.grant
    return {
        "name": volume.name,
        "id": volume.id,
        "holder": None if grant is None or grant.yields else grant.address,
        "epoch": volume.tenure.last.counter,
        "incarnation": volume.tenure.last.incarnation,
        "replicas": list(volume.replicas),
        "mode": volume.policy.mode,
    }


def _text(args: Mapping[str, Any], key: str) -> str:
    value = args.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{key} must be a text that is not empty")
    return value


def _epoch(args: Mapping[str, Any]) -> list[int]:
    value = args.get("epoch")
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(part, int) for part in value):
        raise InvalidInput("epoch must be [incarnation, counter]")
    return value
