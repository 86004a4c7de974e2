"""What late records and merging need of a replica's store, beside ``ports.py``. Pure: may import only core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from davfs.core.facts import MergeView
from davfs.core.model import Manifest, Position


class MergedView(Protocol):
    """Part of :class:`davfs.core.ports.IndexView`."""

    def hidden_manifests(self) -> list[Manifest]:
        """Contents that a merge keeps without showing them."""
        ...

    def merging(self) -> MergeView:
        """The same state as merging sees it."""
        ...

    def settled(self) -> list[tuple[Position, str, str]]:
        """(position, version of the record that settled it, value of key ``l``) of late records, by position."""
        ...

    def is_settled(self, at: Position) -> bool:
        """Whether a late record was settled, or is in the committed history after all."""
        ...


class LateStore(Protocol):
    """Part of :class:`davfs.core.ports.ReplicaStore`."""

    def make_firm(self, seq: int) -> None:
        """A majority has what is committed up to ``seq``: it cannot be taken back any more."""
        ...

    @property
    def firm(self) -> Position:
        """Up to here what is committed stays; what is behind it only this and a few other replicas have."""
        ...

    @property
    def late(self) -> int:
        """How many late records there are."""
        ...

    def late_page(self, after: Position, limit_bytes: int) -> list[tuple[Position, bytes]]:
        """Late records that follow a position, by position; at least one if there is one."""
        ...

    def add_late(self, records: Sequence[tuple[Position, bytes]]) -> None:
        """Durably keep records of a replica that goes away as late ones, but for those that the log here has, or that were
        settled."""
        ...

    def drop_late(self) -> int:
        """Forget late records that were settled (``IndexView.is_settled``); how many."""
        ...
