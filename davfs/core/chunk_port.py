"""Ports for chunks: where a node keeps them, and the set of names that the collector compares them with.

``tests/conformance`` has suites that every store passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol


class ChunkPage(NamedTuple):
    """A walk over the chunks of one volume on one disk, a page at a time: (digest, size) of the ``old`` ones, by digest;
    ``seen`` and ``seen_bytes`` of all; ``after``: where the next page begins, None at the end."""

    old: list[tuple[str, int]]
    seen: int
    seen_bytes: int
    after: str | None


class ChunkStore(Protocol):
    """Immutable chunks under (volume id, hex BLAKE3 digest). Thread-safe."""

    def put(self, volume: str, digest: str, data: bytes | memoryview) -> None:
        """Store durably, then return. Verifies the digest (:class:`CorruptData`); :class:`NoSpace` when full.

        :class:`StorePoisoned` after a failed sync, for ever. A chunk that is there already is verified, not rewritten.
        """
        ...

    def get(self, volume: str, digest: str) -> bytes:
        """The bytes, verified. :class:`ChunkMissing`, or :class:`CorruptData` (the bad copy is set aside)."""
        ...

    def has(self, volume: str, digest: str) -> bool:
        """Whether a file of that name is there (not verified)."""
        ...

    def keep(self, volume: str, digest: str) -> int:
        """Say "have it" (design, section 3): the size of the chunk, verified, and its grace begun anew, durably.

        Errors as of ``get``. One that was removed a moment ago comes back. ``put`` does the same for what it stores.
        """
        ...

    def free_bytes(self) -> int: ...

    # --- for the collector: ages are nanoseconds of the store's own clock, see storage/age_clock.py ---

    def age_ns(self) -> int:
        """Now, on the clock that chunks age by. What is kept or put from now on is touched at or after it."""
        ...

    def page(self, volume: str, after: str, limit: int, before: int) -> ChunkPage:
        """Of about ``limit`` chunks whose digests follow ``after``, those that were last touched before ``before``."""
        ...

    def remove(self, volume: str, digests: Sequence[str], before: int) -> tuple[int, int]:
        """Set those aside that were last touched before ``before``; (how many, their bytes).

        ``get`` still finds what was set aside, ``has`` does not.
        """
        ...

    def sweep(self, volume: str, before: int) -> tuple[int, int]:
        """Delete for good what was set aside before ``before``; (how many, their bytes)."""
        ...


class VolumeFolders(Protocol):
    """Where a node keeps the chunks of each volume, for the end of a volume."""

    def volumes(self) -> list[str]:
        """The ids of the volumes that have a folder here."""
        ...

    def deleted_since(self, volume: str) -> int:
        """When the volume was first marked as deleted, on the clock that chunks age by: now, durably, if it was not yet."""
        ...

    def drop(self, volume: str) -> bool:
        """Remove some of what the volume has here; True when nothing is left."""
        ...


class References(Protocol):
    """A large set of names (``core/references.py``) that takes little memory, for one run of the collector. Thread-safe."""

    def add(self, names: Iterable[str]) -> None: ...

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those that are not in the set, in their order."""
        ...

    def count(self) -> int: ...

    def close(self) -> None:
        """Forget it all."""
        ...
