"""Sessions: one DAV client's use of a volume, and the claim of the one that has an exclusive volume to itself. Pure.

The claim is Raft state, so that it outlives a takeover; who else uses a volume only its holder knows
(``cluster/sessions.py``).
"""

from __future__ import annotations

from typing import NamedTuple

from davfs.core.errors import VolumeHeld

MAX_AGENT = 200
"""Characters of a User-Agent that tell sessions apart."""

_FAMILIES = {
    "DavClnt": "Microsoft-WebDAV-MiniRedir",
    "Microsoft-WebDAV-MiniRedir": "Microsoft-WebDAV-MiniRedir",
    "WebDAVLib": "WebDAVFS",
    "WebDAVFS": "WebDAVFS",
}
"""Windows and macOS mount with one part of their client and go on with another: they would shut themselves out."""


class SessionKey(NamedTuple):
    """What makes a session: the account ("" without accounts), the client's address as the first node saw it, the
    User-Agent."""

    principal: str
    address: str
    agent: str

    def __str__(self) -> str:
        who = self.principal or "somebody"
        return f"{who} from {self.address or 'an unknown address'} ({self.agent or 'no User-Agent'})"


def agent_of(header: str) -> str:
    """What a User-Agent says about a session: printable, bounded, the same for all parts of one client."""
    agent = "".join(filter(str.isprintable, header))[:MAX_AGENT]
    return _FAMILIES.get(agent.partition("/")[0].strip(), agent)


def claim(current: SessionKey | None, wanted: SessionKey) -> SessionKey:
    """The claim after ``wanted`` asked for the volume; :class:`VolumeHeld` while another has it."""
    if current is not None and current != wanted:
        raise VolumeHeld(f"the volume is in use by {current} alone", session=list(current))
    return wanted


def release(current: SessionKey | None, ended: SessionKey) -> SessionKey | None:
    """The claim after ``ended`` is over; another's stays."""
    return None if current == ended else current
