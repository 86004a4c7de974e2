"""Who holds a volume: the table of tokens that Raft replicates (design, section 2, Assign and Free).

A grant is (epoch, token digest, refresh count). The digest is the owner; the address is advice for people and for
forwarding. No clock decides here: expiry is a command of the Raft leader that names the refresh count it saw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hmac import compare_digest

from davfs.core.errors import StaleEpoch, TokenExpired, TokenFreed, TokenRefused, TokenUnknown, VolumeHeld
from davfs.core.model import NO_EPOCH, Epoch


@dataclass(frozen=True, slots=True)
class Grant:
    """A token that is good now: ``digest`` is the hex BLAKE3 of the secret, ``ttl_s`` how long it lives unrefreshed.

    ``yields``: it is for maintenance only, and whoever else asks for the volume is granted it at once.
    """

    epoch: Epoch
    digest: str
    address: str
    ttl_s: float
    refreshes: int = 0
    yields: bool = False


PROGRAM = "program:"
"""Programs' names begin so, on their certificates and as addresses of grants; no node's name can."""

EXPIRED = "expired"
FREED = "freed"

_NO_DIGEST = "0" * 64  # compared where there is nothing to compare with, so that every refusal takes the same time


@dataclass(frozen=True, slots=True)
class Tenure:
    """A volume's current grant, if any, and the highest epoch it ever had.

    ``ended`` and ``ended_digest``: how the grant of ``last`` ended (EXPIRED, FREED) and whose it was, for the answer
    to its former bearer.
    """

    last: Epoch = NO_EPOCH
    grant: Grant | None = None
    ended: str = ""
    ended_digest: str = ""


JOINER = "join:"
"""So begins the name on the certificate in a join token: it is good for one request, to join."""


def is_joiner(name: str) -> bool:
    """Whether a peer is a machine that wants to become a node."""
    return name.startswith(JOINER)


def is_program(name: str) -> bool:
    """Whether a peer, or the address of a grant, is a program's."""
    return name.startswith(PROGRAM)


def assign(
    tenure: Tenure, incarnation: int, digest: str, address: str, ttl_s: float, yields: bool = False
) -> Tenure:
    """A new grant at the next epoch; :class:`VolumeHeld` while there is one that does not yield to this one."""
    if tenure.grant is not None and (yields or not tenure.grant.yields):
        raise VolumeHeld(
            f"the volume is held through {tenure.grant.address or 'a program'}",
            holder=tenure.grant.address,
            epoch=list(tenure.grant.epoch),
            ttl_s=tenure.grant.ttl_s,
        )
    epoch = Epoch(incarnation, tenure.last.counter + 1 if tenure.last.incarnation == incarnation else 1)
    return Tenure(epoch, Grant(epoch, digest, address, ttl_s, yields=yields))


def check(tenure: Tenure, epoch: Epoch, digest: str) -> Grant:
    """The grant, if (epoch, digest) is it; otherwise one of five refusals.

    :class:`TokenUnknown` (made up, or granted a moment ago and not known here), :class:`StaleEpoch` (granted to another
    since), :class:`TokenRefused` (wrong), :class:`TokenExpired`, :class:`TokenFreed`. The digests are compared first and
    whatever else is the case: how long a refusal takes tells nothing about the digest.
    """
    grant = tenure.grant
    same = _same(tenure.ended_digest or _NO_DIGEST if grant is None else grant.digest, digest)
    last = list(tenure.last)
    if epoch > tenure.last:
        raise TokenUnknown(f"epoch {epoch} was not granted as far as is known here (the highest was {tenure.last})", last=last)
    if epoch < tenure.last:
        raise StaleEpoch(f"epoch {epoch} is over: the volume was granted at {tenure.last} since", last=last)
    if not same:
        raise TokenRefused()
    if grant is None:
        raise (TokenFreed if tenure.ended == FREED else TokenExpired)(last=last)
    return grant


def require_same_digest(expected: str, digest: str) -> None:
    """:class:`TokenRefused` unless the digests are the same; takes the same time wherever they differ."""
    if not _same(expected, digest):
        raise TokenRefused()


def _same(expected: str, digest: str) -> bool:
    return compare_digest(expected.encode(), digest.encode())


def refresh(tenure: Tenure, epoch: Epoch, digest: str) -> Tenure:
    """Count one more refresh, so that an expiry that did not see it does nothing."""
    grant = check(tenure, epoch, digest)
    return replace(tenure, grant=replace(grant, refreshes=grant.refreshes + 1))


def free(tenure: Tenure, epoch: Epoch, digest: str) -> Tenure:
    """End the grant by its bearer's word."""
    grant = check(tenure, epoch, digest)
    return replace(tenure, grant=None, ended=FREED, ended_digest=grant.digest)


def expire(tenure: Tenure, epoch: Epoch, refreshes: int) -> Tenure:
    """End the grant if nothing refreshed it since the leader looked; else nothing happens."""
    grant = tenure.grant
    if grant is None or grant.epoch != epoch or grant.refreshes != refreshes:
        return tenure
    return replace(tenure, grant=None, ended=EXPIRED, ended_digest=grant.digest)
