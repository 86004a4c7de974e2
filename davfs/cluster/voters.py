"""The leader's task that brings Raft's membership, step by step, to what the cluster's state says it should be.

The state says who is admitted, runs or was removed (``core/membership.py``); Raft's log says who follows and who votes. A
node that dies between the two leaves work for the next leader, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from davfs.consensus.membership import Members, members
from davfs.core import membership
from davfs.core.cluster_state import ClusterState
from davfs.core.effects import Protocol_, Reconfigure, Sleep, Submit
from davfs.core.errors import DavfsError

log = logging.getLogger(__name__)

LOOK_S = 0.2
CHANGE_S = 3.0


class Raft(Protocol):
    """What the task needs of consensus."""

    @property
    def is_leader(self) -> bool: ...

    @property
    def members(self) -> Members: ...

    def hand_over(self) -> None: ...


class Voters:
    """``name``: of this node; ``new_id`` gives fresh request ids."""

    def __init__(self, name: str, raft: Raft, state: ClusterState, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._name = name
        self._raft = raft
        self._state = state
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def run(self, fail: Callable[[str], None]) -> Protocol_[None]:
        """The background task; on a node that does not lead it waits. ``fail`` ends a node that was removed."""
        while not self._stopped:
            yield Sleep(LOOK_S)
            try:
                if self._raft.is_leader:
                    yield from self.step()
                elif self._name in self._state.membership.removed:
                    fail(f"{self._name} was removed from the cluster; its data may be deleted")
                    return
            except DavfsError as error:
                log.info("Raft's members did not change yet: %s", error)

    def step(self) -> Protocol_[None]:
        """Make the next change, if one is due and Raft is ready for it; it is asked for again until it is done."""
        before = self._raft.members
        wanted = membership.next_members(*before, self._state.nodes, self._state.membership)
        for name in self._state.membership.renewing:
            if name not in before.everyone:  # and that is committed, or this leader could not have gone on
                yield Submit((f"renewed {name} {self._new_id()}", "node_renewed", name), CHANGE_S)
        if wanted is None:
            return
        after = members(*wanted)
        if self._name not in after.voters:
            self._raft.hand_over()
        elif (yield Reconfigure(before, after, CHANGE_S)):
            log.info("Raft: voters %s; learners %s", ", ".join(after.voters), ", ".join(after.learners) or "none")
