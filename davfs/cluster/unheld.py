"""Late records of volumes that nobody holds: the node whose replica has some takes such a volume until they are settled.

Whoever wants the volume meanwhile gets it at once (``maintenance.py``), and settles them itself.
"""

from __future__ import annotations

import logging

from davfs.cluster.maintenance import Maintenance
from davfs.cluster.replica import Replica
from davfs.cluster.replicas import Replicas
from davfs.cluster.site import Site
from davfs.core.effects import Protocol_, Sleep
from davfs.core.errors import DavfsError

log = logging.getLogger(__name__)

LIMIT_S = 60.0
"""A volume whose late records wait for something else is given back after this, and taken again later."""


class UnheldLate:
    """The background task of one node."""

    def __init__(self, site: Site, replicas: Replicas, maintenance: Maintenance) -> None:
        self._site = site
        self._replicas = replicas
        self._maintenance = maintenance
        self._stopped = False

    def stop(self) -> None:
        """Take nothing more."""
        self._stopped = True

    def run(self) -> Protocol_[None]:
        """Look again and again."""
        while not self._stopped:
            yield Sleep(self._site.timing.compaction)
            for replica in self._replicas.all():
                volume = self._site.state.volumes.get(replica.volume)
                if replica.store.late and volume is not None and volume.tenure.grant is None:
                    try:
                        yield from self._settle(replica)
                    except DavfsError as error:
                        log.info("volume %s: its late records are settled later: %s", volume.name, error)

    def _settle(self, replica: Replica) -> Protocol_[None]:
        """Hold the volume while its holder's task settles what there is (``late.py``)."""
        loan = yield from self._maintenance.borrow(replica.volume, anyone=True)
        if loan is None:
            return
        ends = self._site.clock.now() + LIMIT_S
        while not loan.over() and self._site.clock.now() < ends and not self._stopped:
            try:
                replica.store.drop_late()
            except DavfsError as error:
                log.info("volume %s: %s", replica.volume, error)
                break
            if not replica.store.late:
                break
            yield Sleep(self._site.timing.heartbeat)
        yield from loan.end()
