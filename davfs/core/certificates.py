"""Which certificates the cluster's authority gave out, and which of them open nothing any more.

A certificate is known by its serial number, lower-case hex. It is listed when it is issued, or when a node first sees it
(``davfs init`` issues before there is anything to list it in). Revoking a *name* ends whatever was made for it until then,
seen or not: from then on a certificate of that name counts only if it was listed as issued, and listing one that was merely
seen is refused. So no clock decides what "until then" is. Ends are seconds since 1970, told for people; the TLS of each node
decides what has ended. Tables are replaced, never changed. Pure: core only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from davfs.core.errors import InvalidInput, NotFound

LISTED_PER_NAME = 8
"""Certificates of one name that are listed; the one that ends first goes when there is one more."""

MOST_REVOKED = 10_000
_SERIAL = re.compile(r"[0-9a-f]{16,40}")


@dataclass(frozen=True, slots=True)
class Issued:
    """Whose certificate it is, and when it ends (seconds since 1970; 0: not known)."""

    name: str
    ends: int


@dataclass(frozen=True, slots=True)
class Certificates:
    """``listed``, ``revoked``: serial -> whose. ``strict``: names whose certificates count only if they are listed."""

    listed: Mapping[str, Issued] = field(default_factory=dict)
    revoked: Mapping[str, Issued] = field(default_factory=dict)
    strict: tuple[str, ...] = ()

    def refused(self, name: str, serial: str) -> bool:
        """Whether a certificate opens nothing, though the authority signed it."""
        return serial in self.revoked or (name in self.strict and serial not in self.listed)


def issue(table: Certificates, serial: str, name: str, ends: int) -> Certificates:
    """With a certificate that was signed now."""
    listed = {**table.listed, serial: Issued(name, ends)}
    own = sorted((issued.ends, key) for key, issued in listed.items() if issued.name == name)
    for _, key in own[:-LISTED_PER_NAME]:
        del listed[key]
    return replace(table, listed=listed)


def see(table: Certificates, serial: str, name: str, ends: int) -> Certificates:
    """With a certificate that a node was shown; nothing happens if it is refused, or listed already."""
    if serial in table.listed or table.refused(name, serial):
        return table
    return issue(table, serial, name, ends)


def revoke(table: Certificates, what: str, nodes: Collection[str] = ()) -> tuple[Certificates, list[str]]:
    """Without one certificate (``what`` is its serial) or all of a name; (table, the serials that are revoked with it).

    ``nodes``: names that are known besides the listed ones. :class:`NotFound` for what is neither.
    """
    if what in nodes or any(issued.name == what for issued in table.listed.values()) or what in table.strict:
        gone = {serial: issued for serial, issued in table.listed.items() if issued.name == what}
        table = replace(table, strict=tuple(sorted({*table.strict, what})))
    elif what in table.listed or what in table.revoked or _SERIAL.fullmatch(what):
        gone = {what: table.listed.get(what) or table.revoked.get(what) or Issued("", 0)}
    else:
        raise NotFound(f"there is no certificate of the name or with the serial number {what!r}; see `davfs cert list`")
    revoked = {**table.revoked, **gone}
    if len(revoked) > MOST_REVOKED:
        raise InvalidInput(f"{MOST_REVOKED} certificates are revoked already; no more can be kept in mind")
    listed = {serial: issued for serial, issued in table.listed.items() if serial not in gone}
    return replace(table, listed=listed, revoked=revoked), sorted(gone)


# --- at rest --------------------------------------------------------------------------------------------------------------


def dump(table: Certificates) -> dict[str, Any]:
    """Plain values for the snapshot of Raft's state."""
    return {
        "listed": [[serial, issued.name, issued.ends] for serial, issued in table.listed.items()],
        "revoked": [[serial, issued.name, issued.ends] for serial, issued in table.revoked.items()],
        "strict": list(table.strict),
    }


def load(value: Mapping[str, Any]) -> Certificates:
    """The inverse of :func:`dump`; what an older snapshot lacks is empty."""
    return Certificates(
        {serial: Issued(name, ends) for serial, name, ends in value.get("listed", [])},
        {serial: Issued(name, ends) for serial, name, ends in value.get("revoked", [])},
        tuple(value.get("strict", [])),
    )
