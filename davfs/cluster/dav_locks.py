"""LOCK, refresh and UNLOCK: Raft commands that carry the holder's epoch, ordered with commits by the gates.

A grant takes the gate of its path: every change that is on its way there commits before it or sees it (design, section
3; invariant 10).
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import Any

from davfs.cluster import tree
from davfs.cluster.api import Caller, Condition, LockRequest
from davfs.cluster.changes import Build, change_gated, require_space
from davfs.cluster.holder import Holder
from davfs.core import locks
from davfs.core.chunking import etag_of
from davfs.core.cluster_state import value_of
from davfs.core.effects import Protocol_, Sleep, Spawn, Submit
from davfs.core.errors import (
    ConsensusUnavailable,
    DavfsError,
    Forbidden,
    LockTokenMismatch,
    NotHolder,
    OutcomeUnknown,
    PreconditionFailed,
    StaleEpoch,
)
from davfs.core.model import FILE, DavLock, Path
from davfs.core.namespace import Edits, make_manifest
from davfs.core.ports import IndexView

log = logging.getLogger(__name__)


def lock(
    holder: Holder, path: Path, request: LockRequest, condition: Condition, caller: Caller
) -> Protocol_[tuple[DavLock, bool]]:
    """Grant a lock (RFC 4918, 9.10); (the lock, whether an empty file was created for it).

    A request that is sent again (its token is made from its id) finds the lock that it was granted before.
    """
    wanted = DavLock(
        request.token, path, request.infinite, request.exclusive, request.owner, request.principal, request.timeout_s
    )
    ticket = yield from holder.gates.enter([path], holder.site.timing.gate)
    try:
        holder.check_lease()
        had = any(known.token == wanted.token for known in holder.locks())
        with holder.replica.store.view() as view:
            existing = tree.resolve(view, path)
            made_before = bool(caller.request_id) and view.reply(caller.request_id) is not None
            if not had:
                condition(existing)
                if existing is None:
                    require_space(holder)
                    tree.require_parent(view, path)
                    tree.require_unlocked(holder.locks(), caller, path, membership=True, members=False)
        if not had:
            locks.granted({known.token: known for known in holder.locks()}, wanted)  # refused without asking Raft
        if existing is None:
            holder.require_majority()
        if not had:
            yield from _grant(holder, wanted)
        if existing is None:
            yield from _create_empty_or_withdraw(holder, wanted, caller)
        return wanted, existing is None or made_before
    finally:
        holder.gates.leave(ticket)


def refresh(holder: Holder, path: Path, token: str, timeout_s: int, caller: Caller) -> Protocol_[DavLock]:
    """Give a lock its time anew (RFC 4918, 9.10.2)."""
    holder.check_lease()
    held = {lock.token: lock for lock in locks.covering(holder.locks(), path)}.get(token)
    if held is None:
        raise PreconditionFailed(f"no such lock covers /{'/'.join(path)}")
    _require_owner(held, caller)
    try:
        yield from _command(holder, "", "lock_refresh", token, timeout_s)
    except LockTokenMismatch as error:  # it ended a moment ago
        raise PreconditionFailed(f"no such lock covers /{'/'.join(path)} any more") from error
    return replace(held, timeout_s=timeout_s, refreshes=held.refreshes + 1)


def unlock(holder: Holder, path: Path, token: str, caller: Caller) -> Protocol_[None]:
    """End a lock (RFC 4918, 9.11). A request that is sent again is answered as it was before."""
    ticket = yield from holder.gates.enter([path], holder.site.timing.gate)
    try:
        holder.check_lease()
        held = {lock.token: lock for lock in holder.locks()}.get(token)
        if held is not None:
            if not held.covers(path):
                raise LockTokenMismatch(f"that token locks nothing at /{'/'.join(path)}")
            if not caller.admin:
                _require_owner(held, caller)
        # An unknown token goes to Raft too: it remembers whether this very request has ended the lock already.
        request_id = f"{caller.request_id}/unlock" if caller.request_id else ""
        if not (yield from _command(holder, request_id, "unlock", [token])):
            raise LockTokenMismatch(f"that token locks nothing at /{'/'.join(path)}")
    finally:
        holder.gates.leave(ticket)


def _require_owner(held: DavLock, caller: Caller) -> None:
    if held.principal != caller.principal:
        raise Forbidden("the lock belongs to another account")


def _grant(holder: Holder, wanted: DavLock) -> Protocol_[None]:
    request_id = holder.site.request_id()
    try:
        yield from _command(holder, request_id, "lock", asdict(wanted))
    except ConsensusUnavailable:
        # It may be granted yet, to a client that is told 503 and never learns of it: so it is taken back.
        yield Spawn(_withdraw(holder, request_id, wanted), "withdraw-lock")
        raise


def _withdraw(holder: Holder, request_id: str, wanted: DavLock) -> Protocol_[None]:
    """Learn whether a lock was granted, and end it if it was. Gives up with the grant: then its time ends it."""
    while not holder.log.stopped:
        try:
            yield from _command(holder, request_id, "lock", asdict(wanted))  # the same command: applied once at most
            yield from _command(holder, "", "unlock", [wanted.token])
        except ConsensusUnavailable:
            yield Sleep(1.0)
        except DavfsError:
            return  # it was refused, or another holds the volume now
        else:
            return


def _command(holder: Holder, request_id: str, verb: str, *arguments: Any) -> Protocol_[Any]:
    credentials = holder.credentials
    command = (
        request_id or holder.site.request_id(), verb, credentials.volume, list(credentials.epoch), *arguments
    )  # fmt: skip
    return value_of((yield Submit(command, holder.site.timing.call)))


def _create_empty_or_withdraw(holder: Holder, wanted: DavLock, caller: Caller) -> Protocol_[None]:
    try:
        yield from _create_empty(holder, wanted.path, caller)
    except (OutcomeUnknown, NotHolder, StaleEpoch):
        raise  # the request is sent again, and finds its lock
    except DavfsError:
        try:
            yield from _command(holder, "", "unlock", [wanted.token])
        except DavfsError as error:
            log.warning("the lock of /%s stays until its time is over: %s", "/".join(wanted.path), error)
        raise


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
