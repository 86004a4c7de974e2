"""A holder for work that no client waits for: compaction, collection, emptying the trash (design, section 5, end).

Only a holder writes records. If this node serves the volume, its holder is lent. A volume that nobody holds is assigned
like by any client, under a grant that *yields*: whoever else asks for the volume is granted it at once, and seals the
replicas against this one as against any holder before it.
"""

from __future__ import annotations

import logging

from davfs.cluster.assign import take
from davfs.cluster.holder import Holder
from davfs.cluster.holdings import Holdings
from davfs.cluster.lagging import Credentials
from davfs.cluster.replicas import Replicas
from davfs.cluster.site import Site
from davfs.core.cluster_state import value_of
from davfs.core.effects import Protocol_, Sleep, Spawn, Submit
from davfs.core.errors import DavfsError, VolumeHeld

log = logging.getLogger(__name__)


class Loan:
    """A holder to work with until ``over()``; then, or when the work is done, ``end()`` must be driven."""

    def __init__(self, site: Site, holder: Holder, own: bool) -> None:
        self.holder = holder
        self._site = site
        self._own = own

    def over(self) -> bool:
        """Whether somebody else wants the volume, or this node holds it no longer."""
        tenure = self._site.state.volumes[self.holder.credentials.volume].tenure if self._known() else None
        return tenure is None or tenure.last != self.holder.credentials.epoch or not self.holder.leased

    def _known(self) -> bool:
        return self.holder.credentials.volume in self._site.state.volumes

    def end(self) -> Protocol_[None]:
        """Give back what was taken for the work."""
        if not self._own:
            return
        try:
            if self.over():
                self.holder.depose("somebody else wants the volume")
                yield from self.holder.give_back()
            else:
                yield from self.holder.release()
        except DavfsError as error:
            log.debug("volume %s: the grant of its maintenance has ended: %s", self.holder.credentials.volume, error)


class Maintenance:
    """Lends holders of this node's volumes."""

    def __init__(self, site: Site, replicas: Replicas, holdings: Holdings) -> None:
        self._site = site
        self._replicas = replicas
        self._holdings = holdings

    def may_borrow(self, volume_id: str, anyone: bool = False) -> bool:
        """Whether ``borrow`` would be of use now, as far as this node sees."""
        if (holder := self._holdings.holder(volume_id)) is not None:
            return holder.leased
        volume = self._site.state.volumes.get(volume_id)
        if volume is None or volume.tenure.grant is not None or self._replicas.trouble(volume_id):
            return False
        return anyone or self._replicas.leads(volume_id)

    def borrow(self, volume_id: str, anyone: bool = False) -> Protocol_[Loan | None]:
        """A loan; None when another node has the volume or is to take it, or when it cannot be had now. ``anyone``: for what
        this node alone knows to be due."""
        holder = self._holdings.holder(volume_id)
        if holder is not None:
            return Loan(self._site, holder, own=False) if holder.leased else None
        if not self.may_borrow(volume_id, anyone):
            return None
        volume = self._site.state.volume(volume_id)
        since = self._site.clock.now()

        def granted(credentials: Credentials, digest: str, asked: float) -> None:
            nonlocal since
            since = asked

        try:
            taken = yield from take(self._site, volume, self._replicas.get(volume_id), granted, yields=True)
        except VolumeHeld:
            return None
        except DavfsError as error:
            log.info("volume %s cannot be taken for maintenance now: %s", volume.name, error)
            return None
        taken.refreshed(since)
        yield Spawn(self._keep(taken), "loan")
        return Loan(self._site, taken, own=True)

    def _keep(self, holder: Holder) -> Protocol_[None]:
        """Refresh the token for as long as the holder works."""
        credentials = holder.credentials
        held = [(credentials.volume, list(credentials.epoch), holder.digest)]
        while not holder.log.stopped:
            first_sent = self._site.clock.now()
            try:
                command = (self._site.request_id(), "refresh", held)
                if value_of((yield Submit(command, self._site.timing.ttl / 2))):
                    holder.depose("somebody else has taken the volume")
                else:
                    holder.refreshed(first_sent)
            except DavfsError as error:
                log.info("volume %s: the token of its maintenance was not refreshed: %s", credentials.volume, error)
            yield Sleep(self._site.timing.ttl / 5)
