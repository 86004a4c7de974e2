"""The one tree of domain errors.

Every error carries a stable ``code`` (used on the wire between nodes), the HTTP status that a DAV client sees, a
message written for the person who reads it, and ``data`` with plain values. This module may import nothing of davfs.
"""

from __future__ import annotations

from typing import Any, ClassVar


class DavfsError(Exception):
    """Something that davfs refuses or cannot do, with the reason."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str = "", **data: Any) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().split("\n")[0])
        self.data: dict[str, Any] = data

    @property
    def message(self) -> str:
        return str(self.args[0])


# --- what the caller asked for is wrong -----------------------------------------------------------------------------


class InvalidInput(DavfsError):
    """The request is malformed."""

    code = "invalid-input"
    status = 400


class NameTooLong(InvalidInput):
    """A name or path is longer than the drive takes."""

    code = "name-too-long"
    status = 414


class ConfigError(InvalidInput):
    """The configuration is wrong."""

    code = "config"


class NotFound(DavfsError):
    """There is nothing of that name."""

    code = "not-found"
    status = 404


class VolumeNotFound(NotFound):
    """There is no volume of that name."""

    code = "volume-not-found"


class AccountNotFound(NotFound):
    """There is no account of that name."""

    code = "account-not-found"


class AlreadyExists(DavfsError):
    """Something of that name exists already."""

    code = "already-exists"
    status = 405


class NodeNotFound(NotFound):
    """There is no node of that name in the cluster."""

    code = "node-not-found"


class NodeInUse(DavfsError):
    """The node holds copies that are needed. ``data``: volumes."""

    code = "node-in-use"
    status = 409


class ParentMissing(DavfsError):
    """The parent collection does not exist; create it first (RFC 4918, 9.3.1)."""

    code = "parent-missing"
    status = 409


class NotACollection(DavfsError):
    """A file stands where a collection is needed."""

    code = "not-a-collection"
    status = 409


class Forbidden(DavfsError):
    """This is not allowed."""

    code = "forbidden"
    status = 403


class CertificateRefused(Forbidden):
    """The certificate was revoked, or has ended."""

    code = "certificate-refused"


class PreconditionFailed(DavfsError):
    """A condition of the request does not hold (RFC 9110, 13; RFC 4918, 10.4)."""

    code = "precondition-failed"
    status = 412


class Locked(DavfsError):
    """A DAV lock stands in the way; submit its token (RFC 4918, 7)."""

    code = "locked"
    status = 423


class SyncTokenInvalid(DavfsError):
    """What changed since that sync-token is not known any more; read the collection anew, with an empty token (RFC 6578)."""

    code = "sync-token-invalid"
    status = 403


class LimitTooSmall(DavfsError):
    """The change that comes next has more members than the limit of results allows (RFC 6578, 3.7)."""

    code = "limit-too-small"
    status = 507


class LockTokenMismatch(DavfsError):
    """That lock token does not lock this resource (RFC 4918, 9.11.1)."""

    code = "lock-token-mismatch"
    status = 409


class IncompleteBody(InvalidInput):
    """The request's body ended before it was complete; nothing was changed."""

    code = "incomplete-body"


class ChecksumMismatch(InvalidInput):
    """The request's body is not the one that its checksum was made of; nothing was changed."""

    code = "checksum-mismatch"


# --- tokens, epochs, leadership ------------------------------------------------------------------------------------


class VolumeHeld(DavfsError):
    """Somebody else holds the volume. ``data``: holder (address), epoch."""

    code = "volume-held"
    status = 423


class TokenRefused(DavfsError):
    """The token is not the one that holds the volume."""

    code = "token-refused"
    status = 403


class StaleEpoch(DavfsError):
    """The volume was sealed at a later epoch; whoever bears this one must assign the volume anew."""

    code = "stale-epoch"
    status = 503


class TokenExpired(StaleEpoch):
    """The token was not refreshed in time and has expired; assign the volume anew."""

    code = "token-expired"


class TokenFreed(StaleEpoch):
    """The token was given back; assign the volume anew."""

    code = "token-freed"


class TokenUnknown(StaleEpoch):
    """No such token was ever granted, as far as this node knows."""

    code = "token-unknown"


class NotSealed(DavfsError):
    """This replica was not sealed to that epoch yet."""

    code = "not-sealed"
    status = 503


class LogMismatch(DavfsError):
    """The replica's log does not continue with these records. ``data``: committed, last (positions)."""

    code = "log-mismatch"
    status = 503


class LogTrimmed(DavfsError):
    """The records that were asked for are in this replica's log no longer; a snapshot stands for them."""

    code = "log-trimmed"
    status = 503


class ReplicaSetChanged(DavfsError):
    """The set of a volume's replicas is another by now than the one that was meant; look at it again."""

    code = "replica-set-changed"
    status = 409


class NotHolder(DavfsError):
    """This node does not hold the volume. ``data``: holder (address or None)."""

    code = "not-holder"
    status = 503


class LeaseLost(NotHolder):
    """The lease of the volume ended before the request did."""

    code = "lease-lost"


# --- what is not possible right now --------------------------------------------------------------------------------


class Unavailable(DavfsError):
    """Not possible right now; try again shortly."""

    code = "unavailable"
    status = 503


class Unreachable(Unavailable):
    """The node cannot be reached; nothing was sent to it."""

    code = "unreachable"


class CallTimeout(Unavailable):
    """The node did not answer in time; it is unknown whether it did what was asked."""

    code = "call-timeout"


class ConsensusUnavailable(Unavailable):
    """Raft has no leader or no majority right now; it is unknown whether the command was or will be applied."""

    code = "consensus-unavailable"


class QuorumLost(Unavailable):
    """Too few nodes answer; nothing was changed."""

    code = "quorum-lost"


class OutcomeUnknown(Unavailable):
    """It is unknown whether the change took effect: it may yet, once."""

    code = "outcome-unknown"


class NoSpace(DavfsError):
    """The disk is full; nothing was changed."""

    code = "no-space"
    status = 507


class QuotaExceeded(NoSpace):
    """The volume's quota is used up; nothing was changed."""

    code = "quota-exceeded"


# --- what is broken ------------------------------------------------------------------------------------------------


class CorruptData(DavfsError):
    """Bytes do not have the digest or checksum that they must have."""

    code = "corrupt-data"


class ChunkMissing(DavfsError):
    """This node does not have the chunk."""

    code = "chunk-missing"


class ChunkLost(DavfsError):
    """No reachable node has a good copy of the chunk."""

    code = "chunk-lost"
    status = 503


class StorePoisoned(DavfsError):
    """The store failed to make data durable and takes no more writes; check the disk, then restart the node."""

    code = "store-poisoned"
    status = 503


class StoreDamaged(OutcomeUnknown):
    """This node's database of the volume is damaged; it serves the volume no more, and the other replicas go on. If this
    answers a change, it is unknown whether that took effect."""

    code = "store-damaged"


class UnknownFormat(DavfsError):
    """The data was written by a newer davfs; start that version."""

    code = "unknown-format"


def _tree(cls: type[DavfsError]) -> list[type[DavfsError]]:
    return [cls] + [c for sub in cls.__subclasses__() for c in _tree(sub)]


def by_code(code: str) -> type[DavfsError]:
    """The class of a code that came over the wire; an unknown code is a plain :class:`DavfsError`."""
    for cls in _tree(DavfsError):
        if cls.code == code:
            return cls
    return DavfsError
