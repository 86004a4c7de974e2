"""The drive as one node sees it, for the threads of the DAV side: blocking calls around ``holdings.py``.

Implements ``api.Drive``.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from davfs.cluster import uploads
from davfs.cluster.api import Forward
from davfs.cluster.holder import Holder
from davfs.cluster.holdings import Holdings
from davfs.cluster.maintenance import Maintenance
from davfs.cluster.replicas import Replicas
from davfs.cluster.site import Site
from davfs.cluster.threads import ThreadRuntime
from davfs.cluster.volume import HeldVolume
from davfs.core.cluster_state import value_of
from davfs.core.effects import Protocol_, Submit
from davfs.core.errors import InvalidInput, NotHolder, Unavailable
from davfs.core.model import VolumeInfo, VolumePolicy


class Gateway:
    """All volumes through one node. Thread-safe."""

    def __init__(self, site: Site, replicas: Replicas, runtime: ThreadRuntime) -> None:
        self._site = site
        self._runtime = runtime
        self._holdings = Holdings(site, replicas)
        self.maintenance = Maintenance(site, replicas, self._holdings)

    @property
    def node(self) -> str:
        return self._site.node

    def volumes(self) -> list[VolumeInfo]:
        return sorted((volume.info() for volume in self._site.state.volumes.values()), key=lambda info: info.name)

    def create_volume(self, name: str, policy: VolumePolicy) -> VolumeInfo:
        """Create a volume on as many replicas as its policy says; :class:`Unavailable` while fewer nodes have joined."""
        nodes = sorted(self._site.state.storing())
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

    def route(self, volume: str, *, forwarded: bool, avoid: Forward | None = None) -> HeldVolume | Forward:
        """See ``api.Drive.route``."""
        found = self._runtime.run(self._holdings.find(volume, forwarded, avoid))
        return found if isinstance(found, Forward) else HeldVolume(self._runtime, found)

    def holder(self, volume: str) -> Holder:
        """The holder if this node serves the volume, taking it if it is free; :class:`NotHolder` says who does."""
        found = self._runtime.run(self._holdings.find(volume, forwarded=True))
        if isinstance(found, Forward):
            raise NotHolder(f"{found.node} holds the volume", holder=found.node)
        return found

    def sessions(self) -> list[dict[str, Any]]:
        """The live sessions of the volumes that this node holds (``entering.describe``)."""
        return self._holdings.sessions()

    def alone(self) -> list[str]:
        """Names of the volumes that this node serves although it is cut off."""
        return sorted(holder.state().name for holder in self._holdings.holders() if holder.alone)

    def followers(self, volume_id: str) -> list[dict[str, Any]] | None:
        """How far each replica of a volume is that this node holds: node, records, failing; None for any other volume."""
        holder = self._holdings.holder(volume_id)
        if holder is None:
            return None
        found = holder.log.followers.by_node.values()
        return [{"node": one.node, "records": one.match, "failing": one.failing} for one in found]

    def keep_tokens(self) -> Protocol_[None]:
        """The background task that keeps what is held (``Holdings.keep``)."""
        return self._holdings.keep()

    def expire_uploads(self) -> Protocol_[None]:
        """The background task that removes uploads which nobody goes on with."""
        return uploads.keep_expiring(self._holdings.serving, lambda: self._holdings.stopped)

    def stop(self) -> None:
        """Free every volume: the next holder then waits for nothing."""
        self._runtime.run(self._holdings.stop())


def _submit(command: tuple[Any, ...], timeout: float) -> Protocol_[Any]:
    return value_of((yield Submit(command, timeout)))
