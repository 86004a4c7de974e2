"""The drive as one node sees it: which volumes it holds, who holds the others, and taking over what nobody holds.

Implements ``api.Drive``. A token is taken with the first request, refreshed while anyone uses the volume, and freed when
it is idle or the node stops (design, section 7).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from threading import Lock
from typing import Any

from davfs.cluster.api import Forward
from davfs.cluster.assign import take
from davfs.cluster.holder import Holder
from davfs.cluster.replicas import Replicas
from davfs.cluster.site import Site
from davfs.cluster.threads import ThreadRuntime, ThreadSignal
from davfs.cluster.volume import HeldVolume
from davfs.core.cluster_state import VolumeState, value_of
from davfs.core.effects import Protocol_, Sleep, Submit, Wait
from davfs.core.errors import DavfsError, InvalidInput, NotHolder, Unavailable, VolumeHeld
from davfs.core.model import VolumeInfo, VolumePolicy

log = logging.getLogger(__name__)

RECHECK_S = 1.5
"""How long a holder that just failed a forward is avoided before it is tried again, if it answers other nodes."""


class Gateway:
    """All volumes through one node. Thread-safe."""

    def __init__(self, site: Site, replicas: Replicas, runtime: ThreadRuntime) -> None:
        self._site = site
        self._replicas = replicas
        self._runtime = runtime
        self._lock = Lock()
        self._holders: Mapping[str, Holder] = {}
        self._taking: set[str] = set()
        self._changed = ThreadSignal()
        self._stopped = False

    @property
    def node(self) -> str:
        return self._site.node

    def volumes(self) -> list[VolumeInfo]:
        return sorted((volume.info() for volume in self._site.state.volumes.values()), key=lambda info: info.name)

    def create_volume(self, name: str, policy: VolumePolicy) -> VolumeInfo:
        """Create a volume on as many replicas as its policy says; :class:`Unavailable` while fewer nodes have joined."""
        nodes = sorted(self._site.state.nodes)
        volume_id = self._site.random.token(16).hex()
        count = policy.replicas
        if len(nodes) < max(count, policy.copies):
            raise Unavailable(f"only {len(nodes)} nodes have joined so far, and the policy wants more; try again")
        if policy.write_quorum > policy.copies:
            raise InvalidInput(f"write_quorum {policy.write_quorum} is more than copies {policy.copies}")
        # Each volume begins elsewhere in the ring of nodes, so that replicas spread.
        start = int(volume_id[:8], 16) % len(nodes)
        replicas = [nodes[(start + n) % len(nodes)] for n in range(count)]
        command = (self._site.request_id(), "volume_create", volume_id, name, asdict(policy), replicas)
        self._runtime.run(_submit(command, self._site.timing.call))
        return self._site.state.volume(volume_id).info()

    # --- routing ----------------------------------------------------------------------------------------------------

    def route(self, volume: str, *, forwarded: bool, avoid: Forward | None = None) -> HeldVolume | Forward:
        """See ``api.Drive.route``."""
        timing = self._site.timing
        deadline = self._site.clock.now() + 2 * timing.ttl + 3
        recheck = self._site.clock.now() + RECHECK_S
        reason = "nobody serves the volume right now"
        while not self._stopped and self._site.clock.now() < deadline:
            state = self._site.state.volume_named(volume)
            holder = self._serving(state.id)
            if holder is not None:
                return HeldVolume(self._runtime, holder)
            grant = state.tenure.grant
            if grant is None:
                try:
                    target = self._take_or_find(state)
                except VolumeHeld:
                    continue  # somebody was faster
                except DavfsError as error:
                    raise Unavailable(f"{volume} cannot be taken over now: {error.message}") from error
                if target is not None:
                    if forwarded:
                        raise NotHolder(f"{self.node} keeps no replica of {volume}", holder=None)
                    return target
                continue
            if grant.address not in self._site.state.nodes:
                who = f"a program ({grant.address})" if grant.address else "a program"
                raise VolumeHeld(f"{volume} is held by {who}, not by a gateway", holder=grant.address)
            target = Forward(grant.address, str(grant.epoch))
            if grant.address == self.node:
                reason = "this node is still taking the volume over"
            elif forwarded:
                raise NotHolder(f"{grant.address} holds {volume}", holder=grant.address)
            elif target != avoid or (self._site.clock.now() > recheck and self._site.up(grant.address)):
                return target  # if it failed a moment ago and answers now, it is worth another try
            else:
                reason = f"{grant.address}, who holds it, does not answer"
            self._wait_for_change(state, deadline)
        raise Unavailable(f"{volume}: {reason}; try again shortly")

    def _serving(self, volume_id: str) -> Holder | None:
        holder = self._holders.get(volume_id)
        if holder is None:
            return None
        now = self._site.clock.now()
        if holder.log.stopped:
            self._drop(volume_id, holder)
            return None
        if not holder.serving or now >= holder.lease_until:
            return None
        return holder

    def _take_or_find(self, volume: VolumeState) -> Forward | None:
        """Take a free volume (None: look again), or name a node that can."""
        if self.node not in volume.replicas:
            candidates = [node for node in volume.replicas if self._site.up(node)] or list(volume.replicas)
            return Forward(candidates[0], "free")
        with self._lock:
            mine = volume.id not in self._taking
            self._taking.add(volume.id)
        if not mine:
            self._changed.wait(lambda: volume.id not in self._taking, self._site.timing.commit)
            return None
        try:
            replica = self._replicas.get(volume.id)
            holder = self._runtime.run(take(self._site, volume, replica))
            with self._lock:
                self._holders = {**self._holders, volume.id: holder}
            log.info("volume %s: held from epoch %s on", volume.name, holder.credentials.epoch)
        finally:
            with self._lock:
                self._taking.discard(volume.id)
            self._changed.notify()
        return None

    def _wait_for_change(self, volume: VolumeState, deadline: float) -> None:
        before = volume.tenure
        state = self._site.state

        def changed() -> bool:
            now = state.volumes.get(volume.id)
            holder = self._holders.get(volume.id)
            return now is None or now.tenure.grant is None or now.tenure.last != before.last or (
                holder is not None and (holder.serving or holder.log.stopped)
            )

        self._runtime.run(_wait(self._site, changed, min(1.0, max(0.05, deadline - self._site.clock.now()))))

    def _drop(self, volume_id: str, holder: Holder) -> None:
        """Forget a holder that stopped, and free its grant so that the next is not waited for."""
        with self._lock:
            if self._holders.get(volume_id) is not holder:
                return
            self._holders = {key: value for key, value in self._holders.items() if key != volume_id}
        try:
            self._runtime.run(holder.give_back())
        except DavfsError as error:
            log.info("volume %s: its grant ends by expiry: %s", volume_id, error)

    # --- tokens -----------------------------------------------------------------------------------------------------

    def keep_tokens(self) -> Protocol_[None]:
        """The background task: refresh all tokens with one command, free what is idle, drop what ended."""
        timing = self._site.timing
        while not self._stopped:
            yield Sleep(timing.ttl / 5)
            for volume_id, holder in list(self._holders.items()):
                if holder.log.stopped:
                    self._drop(volume_id, holder)
                elif self._idle(holder):
                    yield from self._release(volume_id, holder)
            yield from self._refresh(dict(self._holders))

    def _refresh(self, holders: Mapping[str, Holder]) -> Protocol_[None]:
        if not holders:
            return
        held = [(h.credentials.volume, list(h.credentials.epoch), h.digest) for h in holders.values()]
        first_sent = self._site.clock.now()
        try:
            result = yield Submit((self._site.request_id(), "refresh", held), self._site.timing.ttl / 2)
            refused = value_of(result)
        except DavfsError as error:
            log.info("tokens could not be refreshed: %s", error)
            return
        for volume_id, holder in holders.items():
            if volume_id in refused:
                holder.depose("its token was refused")
            else:
                holder.refreshed(first_sent)

    def _idle(self, holder: Holder) -> bool:
        quiet = self._site.clock.now() - holder.used_at
        return quiet > self._site.timing.idle and not holder.locks() and not holder.gates.busy

    def _release(self, volume_id: str, holder: Holder) -> Protocol_[None]:
        try:
            yield from holder.release()
        except DavfsError as error:
            log.info("volume %s: it could not be freed and expires instead: %s", volume_id, error)
        with self._lock:
            self._holders = {key: value for key, value in self._holders.items() if value is not holder}
        self._changed.notify()

    def stop(self) -> None:
        """Free every volume: the next holder then waits for nothing."""
        self._stopped = True
        for volume_id, holder in list(self._holders.items()):
            self._runtime.run(self._release(volume_id, holder))


def _submit(command: tuple[Any, ...], timeout: float) -> Protocol_[Any]:
    return value_of((yield Submit(command, timeout)))


def _wait(site: Site, ready: Callable[[], bool], timeout: float) -> Protocol_[bool]:
    return bool((yield Wait(site.applied, ready, timeout)))
