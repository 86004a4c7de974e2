"""How a volume's other replicas stand, asked now and then: one that cannot be used, and one that lags while nobody holds it.

A replica that was away gets what it missed from the holder. If nobody holds the volume any more it would wait for the next
one, and a majority without it might be lost before: so of the replicas that have got furthest the first takes the volume
until the others have everything. Whoever wants the volume meanwhile gets it at once (``maintenance.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from davfs.cluster.maintenance import Maintenance
from davfs.cluster.replica import Replica
from davfs.cluster.replicas import Replicas
from davfs.cluster.site import Site
from davfs.core.effects import Call, Gather, Outcomes, Protocol_, Reply, Sleep
from davfs.core.errors import DavfsError
from davfs.core.model import Position, position

log = logging.getLogger(__name__)

LOOK_S = 30.0
LIMIT_S = 60.0
"""A volume whose replicas do not get on is given back after this; one that fetches a snapshot does."""

PATIENCE_S = 600.0
"""Replicas that stand as they stood before the last try are tried again after this."""


class Standing:
    """The background task of one node. ``look_s``: how often the others are asked."""

    def __init__(self, site: Site, replicas: Replicas, maintenance: Maintenance, look_s: float = LOOK_S) -> None:
        self._site = site
        self._replicas = replicas
        self._maintenance = maintenance
        self._look_s = look_s
        self._tried: dict[str, tuple[Mapping[str, Position], float]] = {}  # volume -> how they stood, until when to wait
        self._stopped = False

    def stop(self) -> None:
        """Take nothing more."""
        self._stopped = True

    def run(self) -> Protocol_[None]:
        """Look again and again."""
        while not self._stopped:
            yield Sleep(self._look_s)
            kept = {replica.volume: replica for replica in self._replicas.all()}
            for volume, standing in (yield from self._ask(list(kept))).items():
                try:
                    if self._is_to_help(volume, standing):
                        yield from self._help(kept[volume], standing)
                except DavfsError as error:
                    log.info("volume %s: replicas that lag are brought up to date later: %s", volume, error)

    def _ask(self, kept: list[str]) -> Protocol_[dict[str, dict[str, Position]]]:
        """volume -> where each of its replicas stands that answers and can be used. Notes those that say that they cannot."""
        asked: dict[str, list[str]] = {}
        for volume in kept:
            state = self._site.state.volumes.get(volume)
            for node in () if state is None else state.replica_set.members:
                if node == self._site.node or self._site.up(node):
                    asked.setdefault(node, []).append(volume)
        calls = [
            Call(node, "replica.standing", {"volumes": volumes}, timeout=self._site.timing.call)
            for node, volumes in asked.items()
        ]
        outcomes: Outcomes = yield Gather(calls)
        found: dict[str, dict[str, Position]] = {volume: {} for volume in kept}
        broken: dict[str, set[str]] = {volume: set() for volume in kept}
        for node, outcome in outcomes.items():
            if isinstance(outcome, Reply):
                for volume, last in zip(asked[node], outcome.value["last"], strict=True):
                    if last is None:
                        broken[volume].add(node)
                    else:
                        found[volume][node] = position(last)
        self._replicas.broken = {volume: frozenset(nodes) for volume, nodes in broken.items()}
        return found

    def _is_to_help(self, volume: str, standing: Mapping[str, Position]) -> bool:
        """Whether nobody holds the volume, a replica lags, and this node is the one to bring it up to date."""
        state = self._site.state.volumes.get(volume)
        if state is None or state.tenure.grant is not None or self._site.node not in standing:
            return False
        furthest = max(standing.values())
        if all(last == furthest for last in standing.values()):
            return False
        helper = next(node for node in state.replica_set.members if standing.get(node) == furthest)
        before, until = self._tried.get(volume, ({}, 0.0))
        return helper == self._site.node and (before != standing or self._site.clock.now() >= until)

    def _help(self, replica: Replica, standing: Mapping[str, Position]) -> Protocol_[None]:
        """Hold the volume until those who answer have everything."""
        now = self._site.clock.now
        loan = yield from self._maintenance.borrow(replica.volume, anyone=True)
        if loan is None:
            return
        ends = now() + LIMIT_S
        while not loan.over() and not self._stopped:
            fetching = any(f.catching is not None for f in loan.holder.log.followers.by_node.values())
            if not fetching and (loan.holder.is_flushed() or now() >= ends):
                break
            yield Sleep(self._site.timing.heartbeat)
        yield from loan.end()
        self._tried[replica.volume] = ((yield from self._ask([replica.volume]))[replica.volume], now() + PATIENCE_S)
        log.info("volume %s, which nobody held: replicas that lagged were sent what they missed", replica.volume)
