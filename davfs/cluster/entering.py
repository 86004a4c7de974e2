"""Entering a volume: a request of a session begins, and in an exclusive volume the first session claims it.

The claim is made through Raft, so that a session keeps the volume when another node takes over; it ends with the session,
but not while DAV locks live (design, section 7).
"""

from __future__ import annotations

import math
from typing import Any

from davfs.cluster.holder import Holder
from davfs.cluster.sessions import Visit
from davfs.core.cluster_state import value_of
from davfs.core.effects import Protocol_, Sleep, Submit
from davfs.core.errors import DavfsError, VolumeHeld
from davfs.core.sessions import SessionKey

EXCLUSIVE = "exclusive"
CONFIRMED = "confirmed"
CLOSING_PAUSE_S = 0.05
ENTER_TRIES = 40


def enter(holder: Holder, key: SessionKey, through: str) -> Protocol_[Visit]:
    """Begin a request of a session; :class:`VolumeHeld` while another has the volume to itself."""
    policy = holder.state().policy
    exclusive = policy.mode == EXCLUSIVE
    if policy.reads == CONFIRMED and not holder.alone:
        yield from holder.confirm()
    for _ in range(ENTER_TRIES):
        holder.check_lease()
        claimed = holder.state().session if exclusive else key
        if claimed == key:
            visit = holder.sessions.begin(key, through)
            if visit is not None:
                return visit
            yield Sleep(CLOSING_PAUSE_S)
        elif claimed is not None:
            yield from close_claim(holder, claimed)
            if holder.state().session == claimed:
                raise _in_use(holder, claimed)
        else:
            try:
                yield from _command(holder, "session_claim", key)
            except VolumeHeld:
                continue  # somebody was faster
    raise VolumeHeld("another client's use of the volume is just ending", retry_after=1)


def claim_is_over(holder: Holder) -> bool:
    """Whether the session that has the volume to itself has ended, so that ``close_claim`` is due."""
    claimed = holder.state().session
    return claimed is not None and not holder.sessions.remaining(claimed) and not holder.locks()


def close_claim(holder: Holder, claimed: SessionKey) -> Protocol_[None]:
    """End a claim through Raft, if its session is over and no DAV lock lives.

    Until Raft has said so its client waits outside: a command of unknown outcome may yet end the claim.
    """
    request_id = None if holder.locks() else holder.sessions.close(claimed, holder.site.request_id())
    if request_id is not None:
        yield from _command(holder, "session_release", claimed, request_id)
        holder.sessions.closed(claimed, request_id)


def describe(holder: Holder) -> list[dict[str, Any]]:
    """The live sessions as plain values; times are seconds ago."""
    now = holder.site.clock.now()
    claimed = holder.state().session
    return [
        {
            "volume": holder.state().name,
            "account": one.key.principal,
            "address": one.key.address,
            "agent": one.key.agent,
            "node": one.through,
            "began_s": round(now - one.began, 1),
            "quiet_s": 0.0 if one.under_way else round(now - one.last, 1),
            "requests": one.requests,
            "under_way": one.under_way,
            "exclusive": one.key == claimed,
        }
        for one in holder.sessions.live()
    ]


def _in_use(holder: Holder, claimed: SessionKey) -> DavfsError:
    # Its time is only known as far as nothing more comes from it: advice, as Retry-After is.
    wait = max(1, math.ceil(holder.sessions.remaining(claimed)))
    return VolumeHeld(
        f"{holder.state().name} is in use by {claimed} alone; try again later", session=list(claimed), retry_after=wait
    )


def _command(holder: Holder, verb: str, key: SessionKey, request_id: str = "") -> Protocol_[None]:
    credentials = holder.credentials
    command = (request_id or holder.site.request_id(), verb, credentials.volume, list(credentials.epoch), list(key))
    value_of((yield Submit(command, holder.site.timing.call)))
