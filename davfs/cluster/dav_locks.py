"""LOCK, refresh and UNLOCK: Raft commands that carry the holder's epoch, ordered with commits by the gates.

A grant takes the gate of its path: every change that is on its way there commits before it or sees it (design, section
3; invariant 10).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from davfs.cluster import tree
from davfs.cluster.api import Caller, Condition, LockRequest
from davfs.cluster.changes import Build, change_gated, require_space
from davfs.cluster.holder import Holder
from davfs.core import locks
from davfs.core.chunking import etag_of
from davfs.core.cluster_state import value_of
from davfs.core.effects import Protocol_, Submit
from davfs.core.errors import Forbidden, Locked, LockTokenMismatch, PreconditionFailed
from davfs.core.model import FILE, DavLock, Path
from davfs.core.namespace import Edits, make_manifest
from davfs.core.ports import IndexView


def lock(
    holder: Holder, path: Path, request: LockRequest, condition: Condition, caller: Caller
) -> Protocol_[tuple[DavLock, bool]]:
    """Grant a lock (RFC 4918, 9.10); (the lock, whether an empty file was created for it)."""
    wanted = DavLock(
        request.token, path, request.infinite, request.exclusive, request.owner, request.principal, request.timeout_s
    )
    ticket = yield from holder.gates.enter([path], holder.site.timing.gate)
    try:
        holder.check_lease()
        with holder.replica.store.view() as view:
            existing = tree.resolve(view, path)
            condition(existing)
            if existing is None:
                require_space(holder)
                tree.require_parent(view, path)
                tree.require_unlocked(holder.locks(), caller, path, membership=True, members=False)
        if rivals := locks.conflicts(holder.locks(), wanted):
            raise Locked(f"/{'/'.join(rivals[0].path)} is locked", path=list(rivals[0].path), conflict=True)
        if existing is None:
            holder.require_majority()
        yield from _command(holder, "lock", asdict(wanted))
        if existing is None:
            yield from _create_empty(holder, path, caller)
        return wanted, existing is None
    finally:
        holder.gates.leave(ticket)


def refresh(holder: Holder, path: Path, token: str, timeout_s: int, caller: Caller) -> Protocol_[DavLock]:
    """Give a lock its time anew (RFC 4918, 9.10.2)."""
    holder.check_lease()
    held = {lock.token: lock for lock in locks.covering(holder.locks(), path)}.get(token)
    if held is None:
        raise PreconditionFailed(f"no such lock covers /{'/'.join(path)}")
    if held.principal != caller.principal:
        raise Forbidden("the lock belongs to another account")
    yield from _command(holder, "lock_refresh", token, timeout_s)
    return replace(held, timeout_s=timeout_s, refreshes=held.refreshes + 1)


def unlock(holder: Holder, path: Path, token: str, caller: Caller) -> Protocol_[None]:
    """End a lock (RFC 4918, 9.11)."""
    ticket = yield from holder.gates.enter([path], holder.site.timing.gate)
    try:
        holder.check_lease()
        held = {lock.token: lock for lock in locks.covering(holder.locks(), path)}.get(token)
        if held is None:
            raise LockTokenMismatch(f"that token locks nothing at /{'/'.join(path)}")
        if held.principal != caller.principal:
            raise Forbidden("the lock belongs to another account")
        yield from _command(holder, "unlock", [token])
    finally:
        holder.gates.leave(ticket)


def _command(holder: Holder, verb: str, *arguments: Any) -> Protocol_[Any]:
    credentials = holder.credentials
    command = (holder.site.request_id(), verb, credentials.volume, list(credentials.epoch), *arguments)
    return value_of((yield Submit(command, holder.site.timing.call)))


def _create_empty(holder: Holder, path: Path, caller: Caller) -> Protocol_[None]:
    """The empty file that a LOCK of an unmapped name creates (RFC 4918, 7.3). The lock is held already."""

    def prepare(view: IndexView) -> Build:
        parent = tree.require_parent(view, path)
        now = holder.site.clock.wall_ns()
        chunk_size = holder.state().policy.chunk_size
        manifest, _ = make_manifest((), chunk_size, now, etag_of(chunk_size, ()), "")

        def build(edits: Edits) -> None:
            edits.write(edits.create(parent.inode, path[-1], FILE, now), manifest, None)

        return build

    yield from change_gated(holder, caller, prepare)
