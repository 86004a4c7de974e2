"""Expiry of tokens and DAV locks: the Raft leader's word, after their whole time without a refresh on its own clock.

No wall clock decides anything, and no clock is compared with another's: a leader watches refresh counts, and a new
leader begins to watch anew, so that a token or lock may live longer than its time and never shorter (section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from davfs.cluster.site import Site
from davfs.core.effects import Protocol_, Sleep, Submit
from davfs.core.errors import DavfsError


class Expiry:
    """The leader's watch over everything that ends by time. ``is_leader`` and ``term`` come from Raft."""

    def __init__(self, site: Site, is_leader: Callable[[], bool], term: Callable[[], int]) -> None:
        self._site = site
        self._is_leader = is_leader
        self._term = term
        self._seen: dict[tuple[str, ...], tuple[Any, float]] = {}
        self._noticed: dict[str, tuple[Any, float]] = {}  # volume -> (grant and refreshes, since when), on every node
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> Protocol_[None]:
        """The background task; on a node that does not lead it only forgets what it saw."""
        term = -1
        while not self._stopped:
            yield Sleep(min(0.25, self._site.timing.ttl / 10))
            self._notice()
            if not self._is_leader() or self._term() != term:
                term = self._term()
                self._seen.clear()
                continue
            for command in self.due():
                try:
                    yield Submit((self._site.request_id(), *command), self._site.timing.call)
                except DavfsError:
                    break  # no longer leader, or no majority: whoever leads next watches anew

    def remaining(self, volume_id: str) -> float:
        """About how many seconds a volume's grant lasts unless it is refreshed; 0.0 without one. Advice, decides nothing."""
        volume = self._site.state.volumes.get(volume_id)
        grant = volume.tenure.grant if volume is not None else None
        if grant is None:
            return 0.0
        mark, since = self._noticed.get(volume_id, (None, 0.0))
        if mark != (grant.epoch, grant.refreshes):
            return grant.ttl_s
        return max(0.0, grant.ttl_s - (self._site.clock.now() - since))

    def _notice(self) -> None:
        noticed = {}
        for volume in self._site.state.volumes.values():
            if (grant := volume.tenure.grant) is not None:
                mark = (grant.epoch, grant.refreshes)
                known = self._noticed.get(volume.id)
                noticed[volume.id] = known if known is not None and known[0] == mark else (mark, self._site.clock.now())
        self._noticed = noticed

    def due(self) -> list[tuple[Any, ...]]:
        """The commands for everything whose time has passed unrefreshed, as far as this leader has seen."""
        now = self._site.clock.now()
        watched = list(self._watched())
        commands = []
        for key, mark, ttl, command in watched:
            known = self._seen.get(key)
            if known is None or known[0] != mark:
                self._seen[key] = (mark, now)
            elif now - known[1] >= ttl:
                commands.append(command)
        alive = {key for key, *_ in watched}
        self._seen = {key: seen for key, seen in self._seen.items() if key in alive}
        return commands

    def _watched(self) -> Iterator[tuple[tuple[str, ...], Any, float, tuple[Any, ...]]]:
        for token_id, ttl_s in self._site.state.membership.tokens.items():
            yield ("join", token_id), None, ttl_s, ("token_expire", token_id)
        for volume in self._site.state.volumes.values():
            if (grant := volume.tenure.grant) is not None:
                expire: tuple[Any, ...] = ("expire", volume.id, list(grant.epoch), grant.refreshes)
                yield (volume.id,), (grant.epoch, grant.refreshes), grant.ttl_s, expire
            for lock in volume.locks.values():
                expire = ("lock_expire", volume.id, lock.token, lock.refreshes)
                yield (volume.id, lock.token), lock.refreshes, float(lock.timeout_s), expire
