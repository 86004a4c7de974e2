"""The state machine that Raft replicates: nodes, who may join, volumes, tokens with epochs, DAV locks, accounts.

A command is a plain tuple ``(request id, verb, *arguments)`` and its result ``("ok", value)`` or
``("error", code, message, data)``: commands never raise (a command that raises would stall PySyncObj for ever) and are
idempotent by their request id. State is replaced, never changed in place, so that any thread may read it at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import msgpack

from davfs.core import accounts, certificates, grants, locks, membership, replica_set, sessions
from davfs.core.errors import (
    AlreadyExists,
    DavfsError,
    InvalidInput,
    Locked,
    LockTokenMismatch,
    NodeInUse,
    NodeNotFound,
    StaleEpoch,
    UnknownFormat,
    VolumeHeld,
    VolumeNotFound,
    by_code,
)
from davfs.core.grants import Grant, Tenure
from davfs.core.model import DavLock, Epoch, NodeInfo, VolumeInfo, VolumePolicy
from davfs.core.names import check_volume_name
from davfs.core.replica_set import ReplicaSet
from davfs.core.sessions import SessionKey

FORMAT = 1
REMEMBERED_RESULTS = 10_000


@dataclass(frozen=True, slots=True)
class VolumeState:
    """A volume as Raft holds it. ``replica_set``: the nodes that keep its records; ``session``: who has an exclusive volume
    to itself."""

    id: str
    name: str
    policy: VolumePolicy
    replica_set: ReplicaSet
    tenure: Tenure = field(default_factory=Tenure)
    locks: Mapping[str, DavLock] = field(default_factory=dict)
    session: SessionKey | None = None

    @property
    def replicas(self) -> tuple[str, ...]:
        return self.replica_set.nodes

    @property
    def incarnations(self) -> Mapping[str, str]:
        """The replica store of each node that may vote (design, section 3)."""
        return self.replica_set.incarnations

    def info(self) -> VolumeInfo:
        grant = self.tenure.grant
        return VolumeInfo(
            self.id, self.name, self.policy, self.replicas, self.tenure.last, None if grant is None else grant.address
        )


def value_of(result: Any) -> Any:
    """The value of a command's result; raises the error that it reports."""
    if result[0] == "ok":
        return result[1]
    _, code, message, data = result
    raise by_code(code)(message, **data)


class ClusterState:
    """Nodes, volumes and what is granted on them. See the ``_do_*`` methods for the commands."""

    def __init__(self) -> None:
        self.incarnation = 1
        self.nodes: Mapping[str, NodeInfo] = {}
        self.membership = membership.Membership()
        self.volumes: Mapping[str, VolumeState] = {}
        self.accounts: accounts.Accounts = {}
        self.certificates = certificates.Certificates()
        self.deleted: frozenset[str] = frozenset()  # the ids of volumes that there were
        self._results: dict[str, Any] = {}
        self._verbs: dict[str, Callable[..., Any]] = {
            name.removeprefix("_do_"): getattr(self, name) for name in dir(self) if name.startswith("_do_")
        }

    # --- reads ------------------------------------------------------------------------------------------------------

    def volume_named(self, name: str) -> VolumeState:
        for volume in self.volumes.values():
            if volume.name == name:
                return volume
        raise VolumeNotFound(f"there is no volume {name!r}")

    def volume(self, volume_id: str) -> VolumeState:
        try:
            return self.volumes[volume_id]
        except KeyError:
            raise VolumeNotFound(f"there is no volume with id {volume_id}") from None

    def storing(self) -> dict[str, NodeInfo]:
        """The nodes that new chunks go to."""
        return {name: node for name, node in self.nodes.items() if name not in self.membership.leaving}

    # --- the state machine ------------------------------------------------------------------------------------------

    def apply(self, command: tuple[Any, ...]) -> Any:
        request_id = ""
        try:
            request_id, verb, *arguments = command
            if request_id in self._results:
                return self._results[request_id]
            result: Any = ("ok", self._verbs[verb](*arguments))
        except DavfsError as error:
            result = ("error", error.code, error.message, error.data)
        except Exception as error:  # noqa: BLE001  a malformed command must not stop the log
            return ("error", InvalidInput.code, f"malformed command: {error}", {})
        self._results[request_id] = result
        while len(self._results) > REMEMBERED_RESULTS:
            del self._results[next(iter(self._results))]
        return result

    def dump(self) -> bytes:
        """The whole state, msgpack, behind a format number."""
        state = {
            "incarnation": self.incarnation,
            "nodes": [asdict(node) for node in self.nodes.values()],
            "membership": membership.dump(self.membership),
            "volumes": [_dump_volume(volume) for volume in self.volumes.values()],
            "accounts": accounts.dump(self.accounts),
            "certificates": certificates.dump(self.certificates),
            "deleted": sorted(self.deleted),
            "results": list(self._results.items()),
        }
        return bytes(msgpack.packb([FORMAT, state], use_bin_type=True))

    def load(self, data: bytes) -> None:
        version, state = msgpack.unpackb(data, raw=False, strict_map_key=False)
        if version != FORMAT:
            raise UnknownFormat(f"cluster state format {version} is unknown here (known: {FORMAT})")
        self.incarnation = state["incarnation"]
        self.nodes = {node["name"]: NodeInfo(**node) for node in state["nodes"]}
        self.membership = membership.load(state.get("membership", {}))
        self.volumes = {volume["id"]: _load_volume(volume) for volume in state["volumes"]}
        self.accounts = accounts.load(state.get("accounts", []))
        self.certificates = certificates.load(state.get("certificates", {}))
        self.deleted = frozenset(state.get("deleted", []))
        self._results = {request: _load_result(result) for request, result in state["results"]}

    def _replace(self, volume: VolumeState) -> None:
        self.volumes = {**self.volumes, volume.id: volume}

    # --- commands: nodes and volumes --------------------------------------------------------------------------------

    def _do_noop(self) -> None:
        """A barrier: once it is applied, everything before it is."""

    def _do_node_set(
        self, name: str, dav: str, zone: str, weight: float, incarnation: str, rpc: str = "", forward: str = ""
    ) -> None:
        """A node says that it runs, and where."""
        info = NodeInfo(name, dav, zone, weight, incarnation, rpc, forward)
        self.membership = membership.register(self.membership, self.nodes, info)
        self.nodes = {**self.nodes, name: info}

    def _do_token_add(self, token_id: str, ttl_s: float, node: str = "") -> None:
        """A token that admits one node, or gets a new certificate for the ``node`` that it names."""
        self.membership = membership.add_token(self.membership, token_id, ttl_s, node, self.nodes)

    def _do_token_expire(self, token_id: str) -> None:
        self.membership = membership.drop_token(self.membership, token_id)

    def _do_node_admit(self, token_id: str, node: dict[str, Any]) -> None:
        """Spend a join token for a new node."""
        self.membership = membership.admit(self.membership, self.nodes, token_id, NodeInfo(**node))

    def _do_cert_issue(self, serial: str, name: str, ends: int, token_id: str = "") -> None:
        """A certificate is signed; with the token that it is signed for, which is spent."""
        if token_id:
            self.membership = membership.spend_on(self.membership, token_id, name)
        self.certificates = certificates.issue(self.certificates, serial, name, ends)

    def _do_cert_see(self, serial: str, name: str, ends: int) -> None:
        self.certificates = certificates.see(self.certificates, serial, name, ends)

    def _do_cert_revoke(self, what: str) -> list[str]:
        """Revoke a certificate by its serial number, or all of a name; the serial numbers."""
        self.certificates, serials = certificates.revoke(self.certificates, what, self.nodes)
        return serials

    def _do_node_leave(self, name: str) -> None:
        """A node that is to be removed gets no new chunks; refused while it keeps a volume's records."""
        self._no_replica(name)
        self.membership = membership.leave(self.membership, self.nodes, name)

    def _do_node_renew(self, name: str) -> None:
        """A node's disk was replaced: it may come back once Raft has done without it."""
        self.membership = membership.renew(self.membership, self.nodes, name)

    def _do_node_renewed(self, name: str) -> None:
        """Raft has done without the node: whatever it comes with is new."""
        if name in self.membership.renewing:
            self.membership = membership.renewed(self.membership, name)
            self.nodes = {**self.nodes, name: replace(self.nodes[name], incarnation="")}

    def _do_node_stay(self, name: str) -> None:
        self.membership = membership.stay(self.membership, name)

    def _do_node_remove(self, name: str) -> None:
        """Remove a node that leaves, or one that never started. Its name is not used again."""
        self._no_replica(name)
        self.membership = membership.remove(self.membership, self.nodes, name)
        self.nodes = {key: node for key, node in self.nodes.items() if key != name}

    def _no_replica(self, name: str) -> None:
        kept = sorted(volume.name for volume in self.volumes.values() if name in volume.replica_set.followed)
        if kept:
            raise NodeInUse(
                f"{name} keeps the records of {', '.join(kept)}: let another node keep them first, with"
                f" `davfs volume replace-replica {kept[0]} {name} OTHER`", volumes=kept,
            )  # fmt: skip

    def _do_volume_create(self, volume_id: str, name: str, policy: dict[str, Any], replicas: list[str]) -> list[Any]:
        check_volume_name(name)
        if volume_id in self.volumes or any(volume.name == name for volume in self.volumes.values()):
            raise AlreadyExists(f"there is a volume {name!r} already", name=name)
        if not replicas or len(set(replicas)) != len(replicas):
            raise InvalidInput("a volume needs distinct replicas")
        if going := set(replicas) & {*self.membership.leaving, *self.membership.removed}:
            raise InvalidInput(f"{', '.join(sorted(going))} leaves the cluster and keeps no new volume")
        self._replace(VolumeState(volume_id, name, VolumePolicy(**policy), ReplicaSet(tuple(replicas))))
        return [volume_id, name]

    def _do_volume_quota(self, volume_id: str, quota: int) -> int:
        """Change how much a volume may hold; 0: no limit."""
        if type(quota) is not int or quota < 0:
            raise InvalidInput("a quota is a number of bytes, 0 for none")
        volume = self.volume(volume_id)
        self._replace(replace(volume, policy=replace(volume.policy, quota=quota)))
        return quota

    def _do_volume_delete(self, volume_id: str) -> None:
        self.volume(volume_id)
        self.volumes = {key: volume for key, volume in self.volumes.items() if key != volume_id}
        self.deleted |= {volume_id}
        self.accounts = accounts.forget_volume(self.accounts, volume_id)

    # --- commands: who keeps a volume's records ---------------------------------------------------------------------

    def _do_replica_admit(self, volume_id: str, node: str, incarnation: str, epoch: list[int] | None) -> None:
        """Let a node's replica store vote. The first store of a node is admitted freely; one that replaces it (the disk
        was wiped) only by the holder (``epoch``), who has brought it up to date before."""
        volume = self.volume(volume_id)
        known = volume.incarnations.get(node)
        if known == incarnation:
            return
        if known is not None:
            self._held(volume_id, epoch or [0, 0])
        self._set_replicas(volume, replica_set.admit(volume.replica_set, node, incarnation))

    def _do_replicas_want(self, volume_id: str, add: str, remove: str) -> int:
        """An administrator's word that a node comes, goes, or takes the place of another; the version of the set then."""
        volume = self.volume(volume_id)
        if add and add not in self.nodes:
            raise NodeNotFound(f"there is no node {add!r}")
        if add in self.membership.leaving or add in self.membership.renewing:
            raise InvalidInput(f"{add} leaves the cluster or waits for a new disk, and keeps no more volumes")
        self._set_replicas(volume, replica_set.want(volume.replica_set, add, remove))
        return self.volume(volume_id).replica_set.version

    def _do_replicas_join(self, volume_id: str, epoch: list[int], version: int, incarnation: str) -> None:
        """The holder's word that the newcomer has caught up: from now on both sets decide."""
        volume = self._held(volume_id, epoch)
        self._set_replicas(volume, replica_set.join(volume.replica_set, version, incarnation))

    def _do_replicas_done(self, volume_id: str, epoch: list[int], version: int) -> None:
        """The holder's word that majorities of both sets hold all that was ever acknowledged: the new set decides."""
        volume = self._held(volume_id, epoch)
        table = replica_set.done(volume.replica_set, version)
        volume = replace(volume, policy=replace(volume.policy, replicas=len(table.nodes)))
        self._set_replicas(volume, table)

    def _do_replicas_cancel(self, volume_id: str, version: int) -> None:
        """An administrator's word that a change that is not done is not wanted any more."""
        volume = self.volume(volume_id)
        self._set_replicas(volume, replica_set.cancel(volume.replica_set, version))

    def _set_replicas(self, volume: VolumeState, table: ReplicaSet) -> None:
        self._replace(replace(volume, replica_set=table))

    # --- commands: tokens -------------------------------------------------------------------------------------------

    def _do_assign(self, volume_id: str, digest: str, address: str, ttl_s: float, yields: bool = False) -> list[int]:
        volume = self.volume(volume_id)
        tenure = grants.assign(volume.tenure, self.incarnation, digest, address, ttl_s, yields)
        if volume.locks and address not in self.nodes:
            # A gateway enforces DAV locks; a program knows nothing of them and waits until they end (section 7).
            raise Locked(f"people hold {len(volume.locks)} DAV locks in {volume.name!r}; a program has to wait for them")
        if volume.session is not None and address not in self.nodes:
            raise VolumeHeld(f"{volume.session} has the exclusive volume {volume.name!r} to itself", holder=str(volume.session))
        self._replace(replace(volume, tenure=tenure))
        return list(tenure.last)

    def _do_epochs_raise(self, volume_id: str, sealed: list[int]) -> int:
        """A replica is sealed at an epoch. One that was never granted tells that this state is an older one than there was:
        grants begin anew above all of its time. The cluster's incarnation then."""
        epoch = Epoch(*sealed)
        if epoch > self.volume(volume_id).tenure.last:
            self.incarnation = max(self.incarnation, epoch.incarnation + 1)
        return self.incarnation

    def _do_refresh(self, held: list[tuple[str, list[int], str]]) -> list[str]:
        """Refresh many tokens at once; the ids of the volumes whose token is no longer good."""
        refused = []
        for volume_id, epoch, digest in held:
            try:
                volume = self.volume(volume_id)
                self._replace(replace(volume, tenure=grants.refresh(volume.tenure, Epoch(*epoch), digest)))
            except DavfsError:
                refused.append(volume_id)
        return refused

    def _do_free(self, volume_id: str, epoch: list[int], digest: str) -> None:
        volume = self.volume(volume_id)
        self._replace(replace(volume, tenure=grants.free(volume.tenure, Epoch(*epoch), digest)))

    def _do_expire(self, volume_id: str, epoch: list[int], refreshes: int) -> None:
        volume = self.volume(volume_id)
        self._replace(replace(volume, tenure=grants.expire(volume.tenure, Epoch(*epoch), refreshes)))

    # --- commands: DAV locks ----------------------------------------------------------------------------------------

    def _held(self, volume_id: str, epoch: list[int]) -> VolumeState:
        """What only a holder may do carries its epoch and is refused if that is not current."""
        volume = self.volume(volume_id)
        if volume.tenure.grant is None or volume.tenure.grant.epoch != Epoch(*epoch):
            raise StaleEpoch("the command comes from a holder that no longer is one")
        return volume

    def _do_lock(self, volume_id: str, epoch: list[int], wanted: dict[str, Any]) -> None:
        volume = self._held(volume_id, epoch)
        lock = _load_lock(wanted)
        self._replace(replace(volume, locks=locks.granted(volume.locks, lock)))

    def _do_lock_refresh(self, volume_id: str, epoch: list[int], token: str, timeout_s: int) -> None:
        volume = self._held(volume_id, epoch)
        if token not in volume.locks:
            raise LockTokenMismatch("there is no such lock any more")
        lock = volume.locks[token]
        lock = replace(lock, timeout_s=timeout_s, refreshes=lock.refreshes + 1)
        self._replace(replace(volume, locks={**volume.locks, token: lock}))

    def _do_unlock(self, volume_id: str, epoch: list[int], tokens: list[str]) -> list[str]:
        """End locks by their owners' or the holder's word; the tokens of those that there were."""
        volume = self._held(volume_id, epoch)
        self._replace(replace(volume, locks={k: v for k, v in volume.locks.items() if k not in tokens}))
        return [token for token in tokens if token in volume.locks]

    def _do_lock_break(self, volume_id: str, token: str, by: str) -> dict[str, Any]:
        """End a lock by an administrator's word, whoever holds the volume; the lock. ``by``: who, for the record."""
        volume = self.volume(volume_id)
        if token not in volume.locks:
            raise LockTokenMismatch("there is no such lock any more")
        self._replace(replace(volume, locks={k: v for k, v in volume.locks.items() if k != token}))
        return asdict(volume.locks[token])

    def _do_lock_expire(self, volume_id: str, token: str, refreshes: int) -> None:
        """The leader's word that a lock was not refreshed for its whole time; nothing happens if it was since."""
        volume = self.volume(volume_id)
        lock = volume.locks.get(token)
        if lock is not None and lock.refreshes == refreshes:
            self._replace(replace(volume, locks={k: v for k, v in volume.locks.items() if k != token}))

    # --- commands: the session that has an exclusive volume to itself ----------------------------------------------------

    def _do_session_claim(self, volume_id: str, epoch: list[int], key: list[str]) -> None:
        volume = self._held(volume_id, epoch)
        self._replace(replace(volume, session=sessions.claim(volume.session, SessionKey(*key))))

    def _do_session_release(self, volume_id: str, epoch: list[int], key: list[str]) -> None:
        volume = self._held(volume_id, epoch)
        self._replace(replace(volume, session=sessions.release(volume.session, SessionKey(*key))))

    # --- commands: accounts -----------------------------------------------------------------------------------------

    def _do_account(self, change: str, *arguments: Any) -> None:
        """Change the table of accounts (``accounts.CHANGES``)."""
        self.accounts = accounts.CHANGES[change](self.accounts, *arguments)


def _load_lock(value: dict[str, Any]) -> DavLock:
    return DavLock(**{**value, "path": tuple(value["path"])})


def _dump_volume(volume: VolumeState) -> dict[str, Any]:
    plain = asdict(volume)
    del plain["replica_set"]
    return plain | replica_set.dump(volume.replica_set)


def _load_volume(value: dict[str, Any]) -> VolumeState:
    tenure = value["tenure"]
    grant = tenure["grant"]
    return VolumeState(
        value["id"],
        value["name"],
        VolumePolicy(**value["policy"]),
        replica_set.load(value),
        Tenure(
            Epoch(*tenure["last"]),
            None if grant is None else Grant(**{**grant, "epoch": Epoch(*grant["epoch"])}),
            tenure.get("ended", ""),
            tenure.get("ended_digest", ""),
        ),
        {token: _load_lock(lock) for token, lock in value["locks"].items()},
        None if value.get("session") is None else SessionKey(*value["session"]),
    )


def _load_result(result: list[Any]) -> tuple[Any, ...]:
    return tuple(result)
