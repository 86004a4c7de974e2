"""What a careless davfs would have done, as an edit of what this one did: syncs left out, or later than they must be.

Quicker than recording a broken davfs (``broken.py``) each time, and the same for the disk: it sees nothing but the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tests.crash.trace import Call


def _no_directory_sync(calls: Sequence[Call]) -> list[Call]:
    folders = {""} | {call.path.rpartition("/")[0] for call in calls if call.kind in ("create", "mkdir", "rename")}
    return [call for call in calls if not (call.kind in ("sync", "sync-data") and call.path in folders)]


def _rename_before_sync(calls: Sequence[Call]) -> list[Call]:
    """Each file's syncs before it is renamed come right after that."""
    done: list[Call] = []
    renamed = {call.path for call in calls if call.kind == "rename"}
    waiting: dict[str, Call] = {}
    for call in calls:
        if call.kind in ("sync", "sync-data") and call.path in renamed:
            waiting[call.path] = call
            continue
        done.append(call)
        if call.kind == "rename" and call.path in waiting:
            sync = waiting.pop(call.path)
            done.append(replace(sync, path=call.target, begun=call.ended + 1, ended=call.ended + 1))
    return done


def _answer_before_sync(calls: Sequence[Call]) -> list[Call]:
    """The syncs since the last answer come right after this one, but for those of new names."""
    done: list[Call] = []
    waiting: list[Call] = []
    for call in calls:
        if call.kind == "sync-data" and call.path.endswith("-wal"):
            waiting.append(call)
            continue
        done.append(call)
        if call.kind == "answer":
            done += [replace(sync, begun=call.ended + 1, ended=call.ended + 1) for sync in waiting]
            waiting = []
    return done + waiting


CARELESS: Mapping[str, Callable[[Sequence[Call]], list[Call]]] = {
    "no directory fsync": _no_directory_sync,
    "rename before fsync": _rename_before_sync,
    "acknowledge before fsync": _answer_before_sync,
}
