"""What merges left for people to look at: conflict copies, things in other places, and late records that were dropped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from davfs.core import keys, late
from davfs.core.conflict_names import is_conflict_name
from davfs.core.late import Outcome
from davfs.core.model import TRASH
from davfs.core.ports import IndexView
from davfs.core.values import NameEntry

COPY = "copy"
MOVED = "moved"
DROPPED = "dropped"


def listing(view: IndexView) -> Iterator[dict[str, Any]]:
    """Each as ``kind`` (COPY, MOVED, DROPPED), ``path`` (where it is; of what was dropped what it was to do), ``wanted`` (the
    path that it was written to), ``record`` (the position of the record that lost), ``who`` and ``at_ns`` if known."""
    settled = {keys.version_of(at): late.decode(text) for at, _, text in view.settled()}
    merging = view.merging()

    def find(inode: str) -> NameEntry | None:
        stored = merging.stored_name(inode)
        return None if stored is None else stored[1]

    copies = {outcome.inode for outcome in settled.values() if outcome.inode}
    for inode in sorted({*merging.displaced(), *copies}):
        stored = merging.stored_name(inode)
        if stored is None or stored[1].parent == TRASH:
            continue
        version, entry = stored
        if inode in copies and not is_conflict_name(entry.name):
            continue  # somebody gave it a name of its own
        parent, name = entry.raw or (entry.parent, entry.name)
        if entry.origin:
            original = find(entry.origin)
            parent, name = (parent, name) if original is None else (original.parent, original.name)
        kind = COPY if is_conflict_name(entry.name) else MOVED
        wanted = late.path_of(find, parent, name)
        path = late.path_of(find, entry.parent, entry.name)
        if path != wanted:
            yield _row(kind, path, wanted, version, settled.get(version))
    for version, outcome in settled.items():
        if outcome.outcome == late.DROPPED:
            yield _row(DROPPED, outcome.what, "", version, outcome)


def _row(kind: str, path: str, wanted: str, version: str, outcome: Outcome | None) -> dict[str, Any]:
    at = keys.parse_version(version)
    return {
        "kind": kind,
        "path": path,
        "wanted": wanted,
        "record": f"{at.epoch.incarnation}.{at.epoch.counter}.{at.seq}",
        "who": "" if outcome is None else outcome.who,
        "at_ns": None if outcome is None else outcome.at_ns,
    }
