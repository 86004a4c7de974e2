"""Which volumes this node holds, who holds the others, and taking over what nobody holds, as protocols.

A token is taken with the first request, refreshed while anyone uses the volume, and freed when it is idle or the node
stops (design, section 7). ``gateway.py`` drives these with threads, the simulator with its loop. May not import either.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

from davfs.cluster import entering, replacing
from davfs.cluster.api import Forward
from davfs.cluster.assign import take
from davfs.cluster.holder import Holder
from davfs.cluster.lagging import Credentials
from davfs.cluster.replicas import Replicas
from davfs.cluster.site import Site
from davfs.core.cluster_state import VolumeState, value_of
from davfs.core.effects import Protocol_, Sleep, Spawn, Submit, Wait
from davfs.core.errors import DavfsError, NotHolder, Unavailable, VolumeHeld, VolumeNotFound
from davfs.core.model import AVAILABLE, Epoch

log = logging.getLogger(__name__)

CONFIRM_EVERY_S = 1.0
"""How long this node's word that there is no volume of some name is good, after Raft has confirmed it."""

RECHECK_S = 0.5
"""How long a holder that just failed a forward is avoided before it is tried again, if it answers other nodes."""


@dataclass(slots=True)
class Opening:
    """A grant that does not serve yet. ``since``: when its last successful grant or refresh was first sent."""

    credentials: Credentials
    digest: str
    since: float


class Holdings:
    """The grants of one node. Thread-safe."""

    def __init__(self, site: Site, replicas: Replicas) -> None:
        self._site = site
        self._replicas = replicas
        self._lock = Lock()
        self._holders: Mapping[str, Holder] = {}
        self._taking: set[str] = set()
        self._leaving: set[str] = set()  # held although others keep the volume now: given up in a moment
        self._opening: dict[str, Opening] = {}
        self._leader_seen = site.clock.now()
        self._changed = site.make_signal()
        self._stopped = False
        self._confirmed_at = float("-inf")  # when Raft last confirmed what this node knows

    def held(self) -> list[str]:
        """The ids of the volumes that this node holds, as far as it knows."""
        return list(self._holders)

    def holders(self) -> list[Holder]:
        """The same, as holders."""
        return list(self._holders.values())

    @property
    def stopped(self) -> bool:
        return self._stopped

    def serving(self) -> list[Holder]:
        """The holders of the volumes that this node serves right now."""
        return [holder for holder in self._holders.values() if holder.leased]

    def holder(self, volume_id: str) -> Holder | None:
        """The holder of a volume that this node serves, if it does."""
        return self._holders.get(volume_id)

    # --- routing ----------------------------------------------------------------------------------------------------

    def find(self, volume: str, forwarded: bool, avoid: Forward | None = None) -> Protocol_[Holder | Forward]:
        """The holder if this node serves the volume (taking it if it is free), else where to forward.

        See ``api.Drive.route`` for ``forwarded``, ``avoid`` and the errors.
        """
        timing = self._site.timing
        deadline = self._site.clock.now() + 2 * timing.ttl + 3
        recheck = self._site.clock.now() + RECHECK_S
        reason = "nobody serves the volume right now"
        while not self._stopped and self._site.clock.now() < deadline:
            state = yield from self._known(volume)
            holder = yield from self._serving(state.id)
            if holder is not None:
                return holder
            if not self._led():
                if (target := self._cut_off_with(state, forwarded)) is not None:
                    return target
                raise Unavailable(f"{volume}: too few nodes answer each other; start more of them, then try again")
            grant = state.tenure.grant
            if grant is None or grant.yields:
                try:
                    target = yield from self._take_or_find(state, avoid)
                except VolumeHeld:
                    continue  # somebody was faster
                except DavfsError as error:
                    raise Unavailable(f"{volume} cannot be taken over now: {error.message}") from error
                if target is not None:
                    if forwarded:
                        raise NotHolder(f"{self._site.node} has no replica of {volume} to serve it from", holder=None)
                    return target
                continue
            if grant.address not in self._site.state.nodes:
                who = f"a program ({grant.address})" if grant.address else "a program"
                raise VolumeHeld(f"{volume} is held by {who}, not by a gateway", holder=grant.address)
            target = Forward(grant.address, str(grant.epoch), partial(self._ended, state.id, grant.epoch))
            if grant.address == self._site.node:
                reason = "this node is still taking the volume over"
            elif forwarded:
                raise NotHolder(f"{grant.address} holds {volume}", holder=grant.address)
            elif target != avoid or (self._site.clock.now() >= recheck and self._site.up(grant.address)):
                return target  # if it failed a moment ago and answers now, it is worth another try
            else:
                reason = f"{grant.address}, who holds it, does not answer"
            yield from self._wait_for_change(state, deadline)
        raise Unavailable(f"{volume}: {reason}; try again shortly")

    def _cut_off_with(self, volume: VolumeState, forwarded: bool) -> Forward | None:
        """The holder of an available volume, if it was cut off together with this node."""
        grant = volume.tenure.grant
        if grant is None or forwarded or volume.policy.consistency != AVAILABLE or not self._site.up(grant.address):
            return None
        if grant.address == self._site.node or grant.address not in self._site.state.nodes:
            return None
        return Forward(grant.address, str(grant.epoch), partial(self._ended, volume.id, grant.epoch))

    def _ended(self, volume_id: str, epoch: Epoch) -> bool:
        """Whether a grant is over, as Raft shows it here."""
        volume = self._site.state.volumes.get(volume_id)
        return volume is None or volume.tenure.grant is None or volume.tenure.grant.epoch != epoch

    def _known(self, volume: str) -> Protocol_[VolumeState]:
        """The volume as Raft shows it; a node that has just started knows of none yet, and must not answer 404 for that."""
        try:
            return self._site.state.volume_named(volume)
        except VolumeNotFound:
            if self._site.clock.now() - self._confirmed_at < CONFIRM_EVERY_S:
                raise
        began = self._site.clock.now()
        try:
            yield Submit((self._site.request_id(), "noop"), self._site.timing.call)  # once applied, all before it is
        except DavfsError as error:
            raise Unavailable(f"this node does not know yet whether there is a volume {volume}: {error.message}") from error
        self._confirmed_at = began
        return self._site.state.volume_named(volume)

    def _led(self) -> bool:
        """False when no leader has been known for longer than an election takes: waiting would be of no use."""
        now = self._site.clock.now()
        if self._site.leader_known():
            self._leader_seen = now
        return now - self._leader_seen <= self._site.timing.leaderless

    def _serving(self, volume_id: str) -> Protocol_[Holder | None]:
        holder = self._holders.get(volume_id)
        if holder is None:
            return None
        self._depose_if_broken(holder)
        if holder.log.stopped:
            yield from self._drop(holder)
            return None
        return holder if self._is_usable(holder) else None

    def _depose_if_broken(self, holder: Holder) -> None:
        """Who serves a volume from a damaged replica shows what is not so, and can commit nothing: others can."""
        if (broken := holder.replica.store.broken) and not holder.log.stopped:
            holder.depose(f"this node's own replica is of no use: {broken}")

    def _is_usable(self, holder: Holder) -> bool:
        return holder.leased and holder.credentials.volume not in self._leaving

    def _take_or_find(self, volume: VolumeState, avoid: Forward | None = None) -> Protocol_[Forward | None]:
        """Take a free volume (None: look again), or name a node that can, another than was just tried if there is one."""
        if self._site.node not in volume.replicas or (trouble := self._replicas.trouble(volume.id)):
            staying = [node for node in volume.replicas if node in volume.replica_set.next_nodes] or list(volume.replicas)
            others = [node for node in (*staying, *volume.replicas) if node != self._site.node]
            candidates = [node for node in others if self._site.up(node)] or others
            untried = [node for node in candidates if avoid is None or node != avoid.node] or candidates
            if not untried:
                raise Unavailable(f"this node's replica is of no use: {trouble}")
            return Forward(untried[0], "free", lambda: not self._site.up(untried[0]))
        with self._lock:
            mine = volume.id not in self._taking
            self._taking.add(volume.id)
        if not mine:
            yield Wait(self._changed, lambda: volume.id not in self._taking, self._site.timing.commit)
            return None
        try:
            replica = self._replicas.get(volume.id)
            holder = yield from take(self._site, volume, replica, self._granted)
            holder.refreshed(self._opening[volume.id].since)
            with self._lock:
                self._holders = {**self._holders, volume.id: holder}
            log.info("volume %s: held from epoch %s on", volume.name, holder.credentials.epoch)
        finally:
            with self._lock:
                self._taking.discard(volume.id)
                self._opening.pop(volume.id, None)
            self._changed.notify()
            self._site.applied.notify()  # requests that other nodes sent here meanwhile wait for this one to serve
        return None

    def _wait_for_change(self, volume: VolumeState, deadline: float) -> Protocol_[None]:
        before = volume.tenure
        state = self._site.state

        def changed() -> bool:
            now = state.volumes.get(volume.id)
            holder = self._holders.get(volume.id)
            # Not whether it serves: its lease may have run out.
            served = holder is not None and (self._is_usable(holder) or holder.log.stopped)
            free = now is None or now.tenure.grant is None or now.tenure.grant.yields
            return served or free or (now is not None and now.tenure.last != before.last)

        yield Wait(self._site.applied, changed, min(RECHECK_S, max(0.05, deadline - self._site.clock.now())))

    # --- the end of a grant -----------------------------------------------------------------------------------------

    def _forget(self, holder: Holder) -> bool:
        """Take a holder off the map; False if somebody else did so already."""
        volume_id = holder.credentials.volume
        with self._lock:
            if self._holders.get(volume_id) is not holder:
                return False
            self._holders = {key: value for key, value in self._holders.items() if key != volume_id}
            return True

    def _drop(self, holder: Holder) -> Protocol_[None]:
        """Forget a holder that stopped, and free its grant so that the next is not waited for."""
        if not self._forget(holder):
            return
        try:
            yield from holder.give_back()
        except DavfsError as error:
            log.info("volume %s: its grant ends by expiry: %s", holder.credentials.volume, error)

    def _release(self, holder: Holder) -> Protocol_[None]:
        """Free a volume in order: its records are flushed first."""
        if not self._forget(holder):
            return
        try:
            yield from holder.release()
        except DavfsError as error:
            log.info("volume %s: it could not be freed and expires instead: %s", holder.credentials.volume, error)
        self._changed.notify()

    # --- tokens -----------------------------------------------------------------------------------------------------

    def keep(self) -> Protocol_[None]:
        """The background task: refresh all tokens with one command, free what is idle, drop what ended."""
        while not self._stopped:
            yield Sleep(self._site.timing.ttl / 5)
            self._led()
            for holder in list(self._holders.values()):
                # In tasks of their own: freeing one volume may wait, and must not cost the others their refresh.
                self._depose_if_broken(holder)
                if holder.log.stopped:
                    yield Spawn(self._drop(holder), "drop")
                elif holder.credentials.volume not in self._site.state.volumes:
                    holder.depose("it was deleted")
                elif self._site.node not in holder.state().replica_set.members:
                    yield from self._leave(holder)
                elif self._idle(holder):
                    yield Spawn(self._release(holder), "release")
                elif entering.claim_is_over(holder):
                    yield Spawn(self._close_claim(holder), "close-claim")
            yield from self._keep_replicas()
            yield from self._refresh(dict(self._holders))

    def _leave(self, holder: Holder) -> Protocol_[None]:
        """Give up a volume that others keep now: what is on its way may end, what comes meanwhile waits for the next."""
        if holder.credentials.volume not in self._leaving:
            self._leaving.add(holder.credentials.volume)
            yield Spawn(self._drain(holder), "leave")

    def _drain(self, holder: Holder) -> Protocol_[None]:
        try:
            yield Sleep(self._site.timing.drain)
            yield from self._release(holder)
        finally:
            self._leaving.discard(holder.credentials.volume)
            self._site.applied.notify()

    def _keep_replicas(self) -> Protocol_[None]:
        """Carry out changes of replicas: of what is held, and of volumes that nobody holds."""
        for volume in list(self._site.state.volumes.values()):
            holder = self._holders.get(volume.id)
            if holder is None:
                if replacing.may_take(self._site, volume) and volume.id not in self._taking:
                    yield Spawn(self._take_for_change(volume), "take")
            elif holder.leased and not holder.replacing and replacing.is_due(holder):
                yield Spawn(replacing.carry_out(holder), "replace")

    def _take_for_change(self, volume: VolumeState) -> Protocol_[None]:
        try:
            yield from self._take_or_find(volume)
        except DavfsError as error:
            log.info("volume %s: not taken for the change of its replicas: %s", volume.name, error)

    def _granted(self, credentials: Credentials, digest: str, since: float) -> None:
        """A grant whose volume is still being adopted is refreshed too: that may take longer than its time."""
        self._opening[credentials.volume] = Opening(credentials, digest, since)

    def _refresh(self, holders: Mapping[str, Holder]) -> Protocol_[None]:
        opening = {key: value for key, value in list(self._opening.items()) if key not in holders}
        grants: list[Holder | Opening] = [*holders.values(), *opening.values()]
        if not grants:
            return
        held = [(g.credentials.volume, list(g.credentials.epoch), g.digest) for g in grants]
        first_sent = self._site.clock.now()
        try:
            result = yield Submit((self._site.request_id(), "refresh", held), self._site.timing.ttl / 2)
            refused = value_of(result)
        except DavfsError as error:
            log.info("tokens could not be refreshed: %s", error)
            return
        for volume_id, begun in opening.items():
            if volume_id not in refused:
                begun.since = first_sent
        for volume_id, holder in holders.items():
            if volume_id in refused:
                holder.depose("its token was refused")
            else:
                holder.refreshed(first_sent)

    def _idle(self, holder: Holder) -> bool:
        quiet = self._site.clock.now() - holder.used_at > self._site.timing.idle
        state = holder.state()
        changing = replacing.can_go_on(self._site, state)
        in_use = changing or holder.sessions.live() or holder.locks() or holder.gates.busy or state.session
        return quiet and not in_use and not holder.alone

    def _close_claim(self, holder: Holder) -> Protocol_[None]:
        """End the claim of a session that is over: the next may have the volume, or it becomes free."""
        claimed = holder.state().session
        try:
            if claimed is not None:
                yield from entering.close_claim(holder, claimed)
        except DavfsError as error:
            log.info("volume %s: the claim of %s is closed later: %s", holder.credentials.volume, claimed, error)

    def sessions(self) -> list[dict[str, Any]]:
        """The live sessions of the volumes that this node holds (``entering.describe``)."""
        known = self._site.state.volumes
        held = [holder for volume, holder in self._holders.items() if volume in known and holder.leased]
        return [one for holder in held for one in entering.describe(holder)]

    def stop(self) -> Protocol_[None]:
        """Free every volume: the next holder then waits for nothing."""
        self._stopped = True
        for holder in list(self._holders.values()):
            yield from self._release(holder)
