"""Who holds a volume: the table of tokens that Raft replicates (design, section 2, Assign and Free).

A grant is (epoch, token digest, refresh count). The digest is the owner; the address is advice for people and for
forwarding. No clock decides here: expiry is a command of the Raft leader that names the refresh count it saw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hmac import compare_digest

from davfs.core.errors import StaleEpoch, TokenRefused, VolumeHeld
from davfs.core.model import NO_EPOCH, Epoch


@dataclass(frozen=True, slots=True)
class Grant:
    """A token that is good now: ``digest`` is the hex BLAKE3 of the secret, ``ttl_s`` how long it lives unrefreshed."""

    epoch: Epoch
    digest: str
    address: str
    ttl_s: float
    refreshes: int = 0


@dataclass(frozen=True, slots=True)
class Tenure:
    """A volume's current grant, if any, and the highest epoch it ever had."""

    last: Epoch = NO_EPOCH
    grant: Grant | None = None


def assign(tenure: Tenure, incarnation: int, digest: str, address: str, ttl_s: float) -> Tenure:
    """A new grant at the next epoch; :class:`VolumeHeld` while there is one."""
    if tenure.grant is not None:
        raise VolumeHeld(
            f"the volume is held through {tenure.grant.address or 'a program'}",
            holder=tenure.grant.address,
            epoch=list(tenure.grant.epoch),
            ttl_s=tenure.grant.ttl_s,
        )
    epoch = Epoch(incarnation, tenure.last.counter + 1 if tenure.last.incarnation == incarnation else 1)
    return Tenure(epoch, Grant(epoch, digest, address, ttl_s))


def check(tenure: Tenure, epoch: Epoch, digest: str) -> Grant:
    """The grant, if (epoch, digest) is it; :class:`StaleEpoch` or :class:`TokenRefused` otherwise."""
    grant = tenure.grant
    if grant is None or grant.epoch != epoch:
        message = f"epoch {epoch} is not the current grant (the highest was {tenure.last})"
        raise StaleEpoch(message, last=list(tenure.last))
    require_same_digest(grant.digest, digest)
    return grant


def require_same_digest(expected: str, digest: str) -> None:
    """:class:`TokenRefused` unless the digests are the same; takes the same time wherever they differ."""
    if not compare_digest(expected, digest):
        raise TokenRefused()


def refresh(tenure: Tenure, epoch: Epoch, digest: str) -> Tenure:
    """Count one more refresh, so that an expiry that did not see it does nothing."""
    grant = check(tenure, epoch, digest)
    return replace(tenure, grant=replace(grant, refreshes=grant.refreshes + 1))


def free(tenure: Tenure, epoch: Epoch, digest: str) -> Tenure:
    """End the grant by its bearer's word."""
    check(tenure, epoch, digest)
    return replace(tenure, grant=None)


def expire(tenure: Tenure, epoch: Epoch, refreshes: int) -> Tenure:
    """End the grant if nothing refreshed it since the leader looked; else nothing happens."""
    grant = tenure.grant
    if grant is None or grant.epoch != epoch or grant.refreshes != refreshes:
        return tenure
    return replace(tenure, grant=None)
