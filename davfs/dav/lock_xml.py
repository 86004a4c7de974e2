"""DAV locks as XML: ``lockdiscovery`` and ``supportedlock`` (RFC 4918, 15.8 and 15.10). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from davfs.core.model import DavLock
from davfs.dav.target import href
from davfs.dav.xml import HEAD, escape


def _entry(scope: str) -> str:
    return f"<D:lockentry><D:lockscope><D:{scope}/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>"


SUPPORTED_LOCK = f"<D:supportedlock>{_entry('exclusive')}{_entry('shared')}</D:supportedlock>"


def active_lock(lock: DavLock, volume: str, prefix: str) -> str:
    """The ``activelock`` element of a lock. The owner is given back as it was sent."""
    root = href(volume, lock.path, lock.path == (), prefix)
    return (
        "<D:activelock><D:locktype><D:write/></D:locktype>"
        f"<D:lockscope><D:{'exclusive' if lock.exclusive else 'shared'}/></D:lockscope>"
        f"<D:depth>{'infinity' if lock.infinite else '0'}</D:depth>{lock.owner}"
        f"<D:timeout>Second-{lock.timeout_s}</D:timeout>"
        f"<D:locktoken><D:href>{escape(lock.token)}</D:href></D:locktoken>"
        f"<D:lockroot><D:href>{escape(root)}</D:href></D:lockroot></D:activelock>"
    )


def active_locks(locks: Sequence[DavLock], volume: str, prefix: str) -> str:
    """All of them."""
    return "".join(active_lock(lock, volume, prefix) for lock in locks)


def lock_answer(lock: DavLock, volume: str, prefix: str) -> str:
    """The body that answers a LOCK (RFC 4918, 9.10.1)."""
    return f'{HEAD}<D:prop xmlns:D="DAV:"><D:lockdiscovery>{active_lock(lock, volume, prefix)}</D:lockdiscovery></D:prop>\n'


def refused_below(member: str, asked: str) -> str:
    """The multistatus of a LOCK with Depth infinity of ``asked`` that the lock of a ``member`` forbids (both hrefs; RFC 4918,
    9.10.3, 9.10.9)."""
    return (
        f'{HEAD}<D:multistatus xmlns:D="DAV:">'
        f"<D:response><D:href>{escape(member)}</D:href><D:status>HTTP/1.1 423 Locked</D:status></D:response>"
        f"<D:response><D:href>{escape(asked)}</D:href><D:status>HTTP/1.1 424 Failed Dependency</D:status></D:response>"
        "</D:multistatus>\n"
    )
