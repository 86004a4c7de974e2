"""Wrong versions of the flows, each with one safeguard of the design taken out. The checkers must find each of them."""

from collections.abc import Callable
from typing import Any

import pytest

from davfs.cluster import assign
from davfs.cluster.followers import Followers
from davfs.cluster.holder import Holder
from davfs.cluster.log import HolderLog
from davfs.cluster.replica import Replica
from davfs.core.effects import Call, Sleep, Spawn, Wait
from davfs.core.errors import NotSealed
from davfs.core.replica_set import ReplicaSet
from davfs.storage.index_view import SqliteIndexView

Mutant = Callable[[pytest.MonkeyPatch], None]


def answer_before_a_majority_has_the_record(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Followers, "majority_seq", lambda self, table: max(f.match for f in self.by_node.values()))


def no_fence(patch: pytest.MonkeyPatch) -> None:
    def check_sealed(self, epoch, digest):
        if epoch > self.store.sealed or not self._digest:
            raise NotSealed()

    patch.setattr(Replica, "check_sealed", check_sealed)


def read_before_seal(patch: pytest.MonkeyPatch) -> None:
    original = Replica.seal

    def seal(self, epoch, digest):
        status = self.status()
        yield Sleep(0.7)
        yield from original(self, epoch, digest)
        return status

    patch.setattr(Replica, "seal", seal)


def start_record_skipped(patch: pytest.MonkeyPatch) -> None:
    def open_unstarted(self, base, request_id):
        for node in self.log.followers.by_node:
            yield Spawn(self.log.replicate(node), f"replicate-{node}")
        self.serving = True

    patch.setattr(Holder, "open", open_unstarted)


def lease_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Holder, "leased", property(lambda self: self.serving and not self.log.stopped))


def own_log_adopted(patch: pytest.MonkeyPatch) -> None:
    def seal_and_adopt(site, volume_id, replica, credentials):
        yield from assign._seal(site, volume_id, credentials)
        return replica.store.last

    patch.setattr(assign, "_seal_and_adopt", seal_and_adopt)


def minority_sealed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(assign, "is_joint_majority", lambda members, sets: bool(set(members)))


def no_answer_remembered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SqliteIndexView, "reply", lambda self, request_id: None)


def unknown_told_as_done(patch: pytest.MonkeyPatch) -> None:
    def wait_committed(self, seq, limit):
        yield Wait(self.progress, lambda: self.committed >= seq or self.stopped, max(limit, 0.0))
        return True

    patch.setattr(HolderLog, "wait_committed", wait_committed)


def two_step_change_of_replicas(patch: pytest.MonkeyPatch) -> None:
    """The new set takes over from the old one at once: no moment in which both decide."""
    patch.setattr(ReplicaSet, "deciding", property(lambda self: (self.nodes,)))


def newcomer_not_awaited(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Followers, "has_caught_up", lambda self, node, seq: bool(self.by_node[node].incarnation))
    patch.setattr(HolderLog, "majority_holds_all", lambda self, version: True)


MUTANTS: dict[str, Mutant] = {
    mutant.__name__: mutant
    for mutant in (
        answer_before_a_majority_has_the_record,
        start_record_skipped,
        own_log_adopted,
        minority_sealed,
        no_answer_remembered,
        unknown_told_as_done,
    )
}

SEEDS = 120
"""Each mutant must be found by one of so many seeds."""


def call(node: str, request: dict[str, Any]) -> Call:
    """A client's request to a node."""
    return Call(node, "dav", request, timeout=25.0)
