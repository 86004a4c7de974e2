"""What a node still has of volumes that were deleted: kept for a while, then removed, chunks and records alike.

Raft remembers which volumes were deleted; one that it merely does not know (a node that has just begun, a Raft that was
restored from an older state) is left alone. The while counts on the node's own clock from when it first noticed, which a mark
beside the chunks keeps.
"""

from __future__ import annotations

import logging

from davfs.cluster.replicas import Replicas
from davfs.cluster.site import Site
from davfs.core.chunk_port import VolumeFolders
from davfs.core.effects import Protocol_, Sleep
from davfs.core.errors import DavfsError

log = logging.getLogger(__name__)

LOOK_S = 60.0


class DeletedVolumes:
    """The background task of one node. ``keep_s``: seconds for which a deleted volume's data is kept."""

    def __init__(self, site: Site, folders: VolumeFolders, replicas: Replicas, keep_s: float) -> None:
        self._site = site
        self._folders = folders
        self._replicas = replicas
        self._keep = keep_s
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> Protocol_[None]:
        """Look now and then."""
        while not self._stopped:
            yield Sleep(min(LOOK_S, self._keep / 4))
            yield from self.look()

    def look(self) -> Protocol_[None]:
        """Mark what was deleted since the last time, and remove what was marked long enough ago."""
        for volume in sorted({*self._folders.volumes(), *self._site.stored()}):
            state = self._site.state
            if volume in state.volumes or volume not in state.deleted or self._stopped:
                continue
            try:
                since = self._folders.deleted_since(volume)
                if self._site.chunks.age_ns() - since >= self._keep * 1e9:
                    yield from self._remove(volume)
            except DavfsError as error:
                log.warning("the data of the deleted volume %s could not be removed: %s", volume, error)

    def _remove(self, volume: str) -> Protocol_[None]:
        self._replicas.discard(volume)
        if volume in self._site.stored():
            self._site.drop_store(volume)
        while not self._folders.drop(volume):
            yield Sleep(0.05)
        log.warning("the data of the deleted volume %s was removed", volume)
