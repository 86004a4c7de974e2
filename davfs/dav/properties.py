"""Live properties (RFC 4918, 15; RFC 4331) and how entries become ``response`` elements of a multistatus.

Made for speed: what a request asks for is worked out once, then each member costs a few string operations. Answers are
text, not trees: a directory of 100,000 members must not stand in memory twice.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from davfs.core.digests import Digests
from davfs.core.model import DavLock, Entry
from davfs.dav import checksums
from davfs.dav.conditions import quoted_etag
from davfs.dav.dates import http_date, iso_date
from davfs.dav.lock_xml import SUPPORTED_LOCK, active_locks
from davfs.dav.xml import DAV, empty_element, escape

_TYPES = mimetypes.MimeTypes()
CALENDARSERVER = "http://calendarserver.org/ns/"
DEFAULT_TYPE = "application/octet-stream"


@lru_cache(maxsize=1024)
def _type_of_extension(extension: str) -> str:
    return _TYPES.guess_type("x." + extension, strict=False)[0] or DEFAULT_TYPE


def content_type(name: str) -> str:
    """The media type that a name's extension stands for."""
    _, dot, extension = name.rpartition(".")
    return _type_of_extension(extension.lower()) if dot else DEFAULT_TYPE


@dataclass(slots=True)
class Subject:
    """One resource of an answer, with what its properties need."""

    entry: Entry
    href: str
    name: str
    dead: Mapping[str, str] = field(default_factory=dict)
    locks: Sequence[DavLock] = ()
    volume: str = ""
    quota: tuple[int, int] | None = None  # (used, available) bytes, for collections
    digests: Digests = ()
    sync_token: str = ""  # of collections
    prefix: str = ""  # what stands before all paths as the client sees them


Render = Callable[[Subject], str | None]


def _resource_type(s: Subject) -> str:
    if s.entry.is_directory:
        return "<D:resourcetype><D:collection/></D:resourcetype>"
    return "<D:resourcetype/>"


def _length(s: Subject) -> str | None:
    return None if s.entry.is_directory else f"<D:getcontentlength>{s.entry.size}</D:getcontentlength>"


def _type(s: Subject) -> str | None:
    if s.entry.is_directory:
        return None
    return f"<D:getcontenttype>{content_type(s.name)}</D:getcontenttype>"


def _etag(s: Subject) -> str | None:
    etag = quoted_etag(s.entry)
    return None if etag is None else f"<D:getetag>{etag}</D:getetag>"


def _modified(s: Subject) -> str:
    return f"<D:getlastmodified>{http_date(s.entry.mtime_ns)}</D:getlastmodified>"


def _created(s: Subject) -> str:
    return f"<D:creationdate>{iso_date(s.entry.created_ns)}</D:creationdate>"


def _display_name(s: Subject) -> str:
    return f"<D:displayname>{escape(s.name)}</D:displayname>"


def _lock_discovery(s: Subject) -> str:
    if not s.locks:
        return "<D:lockdiscovery/>"
    return f"<D:lockdiscovery>{active_locks(s.locks, s.volume, s.prefix)}</D:lockdiscovery>"


def _supported_lock(_: Subject) -> str:
    return SUPPORTED_LOCK


def _used(s: Subject) -> str | None:
    return None if s.quota is None else f"<D:quota-used-bytes>{s.quota[0]}</D:quota-used-bytes>"


def _available(s: Subject) -> str | None:
    return None if s.quota is None else f"<D:quota-available-bytes>{s.quota[1]}</D:quota-available-bytes>"


def _ctag(s: Subject) -> str | None:
    etag = quoted_etag(s.entry) if s.entry.is_directory else None
    return None if etag is None else f'<cs:getctag xmlns:cs="{CALENDARSERVER}">{etag}</cs:getctag>'


def _sync_token(s: Subject) -> str | None:
    return f"<D:sync-token>{escape(s.sync_token)}</D:sync-token>" if s.sync_token else None


def _reports(s: Subject) -> str:
    reports = "<D:supported-report><D:report><D:sync-collection/></D:report></D:supported-report>"
    return f"<D:supported-report-set>{reports if s.entry.is_directory else ''}</D:supported-report-set>"


def _checksums(s: Subject) -> str | None:
    return checksums.element(s.digests)


QUOTA = frozenset({DAV + "quota-used-bytes", DAV + "quota-available-bytes"})
LOCK_DISCOVERY = DAV + "lockdiscovery"
SYNC_TOKEN = DAV + "sync-token"

ALLPROP: dict[str, Render] = {
    DAV + "resourcetype": _resource_type,
    DAV + "getcontentlength": _length,
    DAV + "getcontenttype": _type,
    DAV + "getetag": _etag,
    DAV + "getlastmodified": _modified,
    DAV + "creationdate": _created,
    DAV + "displayname": _display_name,
    LOCK_DISCOVERY: _lock_discovery,
    DAV + "supportedlock": _supported_lock,
}
# RFC 4331, 2: quota is not part of allprop (and Finder takes long to mount where it is); nor is what costs a read of its own.
LIVE: dict[str, Render] = {
    **ALLPROP,
    DAV + "quota-used-bytes": _used,
    DAV + "quota-available-bytes": _available,
    checksums.OC_CHECKSUMS: _checksums,
    f"{{{CALENDARSERVER}}}getctag": _ctag,
    SYNC_TOKEN: _sync_token,
    DAV + "supported-report-set": _reports,
}

SETTABLE = frozenset({DAV + "displayname", DAV + "getlastmodified", DAV + "creationdate", checksums.OC_CHECKSUMS})
"""What PROPPATCH takes although it is live; a displayname is then kept like a dead property."""

PROTECTED = frozenset(LIVE) - SETTABLE


class Wanted:
    """What a PROPFIND asks for. ``names`` None: allprop, with ``include`` added; ``names_only``: propname."""

    def __init__(self, names: Sequence[str] | None, include: Collection[str] = (), *, names_only: bool = False) -> None:
        self._names_only = names_only
        self._all = names is None
        asked = (
            list(ALLPROP) + [n for n in include if n not in ALLPROP] if names is None else list(dict.fromkeys(names))
        )
        self._parts: list[tuple[str, Render | None, str]] = [(n, LIVE.get(n), empty_element(n)) for n in asked]
        self.locks = LOCK_DISCOVERY in asked and not names_only
        self.quota = bool(QUOTA.intersection(asked)) or names_only
        self.sync_token = SYNC_TOKEN in asked or names_only
        self.dead = names is None or any(name not in LIVE or name in SETTABLE for name in asked)
        self.digests = checksums.OC_CHECKSUMS in asked or names_only

    def response(self, s: Subject) -> str:
        """The ``response`` element of one resource."""
        if self._names_only:
            return self._names(s)
        found: list[str] = []
        missing: list[str] = []
        dead = s.dead
        for name, render, empty in self._parts:
            text = dead.get(name) if dead else None
            if text is None and render is not None:
                text = render(s)
            if text is not None:
                found.append(text)
            elif not self._all or render is None:
                missing.append(empty)
        if self._all and dead:
            asked = {name for name, _, _ in self._parts}
            found.extend(text for name, text in dead.items() if name not in asked)
        ok = f"<D:propstat><D:prop>{''.join(found)}</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>"
        if not missing:
            return f"<D:response><D:href>{s.href}</D:href>{ok}</D:response>\n"
        none = (
            f"<D:propstat><D:prop>{''.join(missing)}</D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>"
        )
        return f"<D:response><D:href>{s.href}</D:href>{ok if found else ''}{none}</D:response>\n"

    def _names(self, s: Subject) -> str:
        names = [name for name, render in LIVE.items() if render(s) is not None]
        names.extend(name for name in s.dead if name not in LIVE)
        return (
            f"<D:response><D:href>{s.href}</D:href><D:propstat><D:prop>{''.join(map(empty_element, names))}</D:prop>"
            "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\n"
        )
