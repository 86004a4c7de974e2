"""REPORT (RFC 3253, 3.6): ``sync-collection`` (RFC 6578): what changed among however many files, by one request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree.ElementTree import Element

from davfs.cluster.api import ChangePage, Volume
from davfs.core.errors import InvalidInput, LimitTooSmall, NotFound, SyncTokenInvalid
from davfs.dav import conditions, xml
from davfs.dav.errors import Refused
from davfs.dav.properties import Subject, Wanted
from davfs.dav.propfind import multistatus, names_in
from davfs.dav.request import Request, Response

_NUMBER = re.compile(r"\d{1,18}")
PAGE = 10_000
"""Members in one answer; a client that is told of more (507 for the collection itself) asks again with the new token."""


class SyncRequest(NamedTuple):
    """The body of a sync-collection request."""

    token: str
    deep: bool
    limit: int
    wanted: Wanted


def report(request: Request, volume: Volume) -> Response:
    """The members of a collection that changed since a sync-token."""
    path = request.target.path
    root = xml.parse(request.xml_body(xml.MAX_BODY))
    if root is None:
        raise InvalidInput("REPORT needs a body that says which report")
    entry = volume.lookup(path)
    conditions.of(request, volume, path)(entry)
    if entry is None:
        raise NotFound(f"there is nothing at {request.href}")
    if root.tag != xml.DAV + "sync-collection" or not entry.is_directory:
        raise Refused(403, "the only report here is sync-collection, of a collection", "supported-report")
    asked = _parse(request, root)
    try:
        page = volume.changes(path, asked.token, deep=asked.deep, limit=asked.limit)
    except SyncTokenInvalid as error:
        raise Refused(403, error.message, "valid-sync-token") from error
    except LimitTooSmall as error:
        raise Refused(507, error.message, "number-of-matches-within-limits") from error
    token = f"<D:sync-token>{xml.escape(page.token)}</D:sync-token>\n"
    return multistatus(_responses(request, volume, page, asked.wanted), token)


def _parse(request: Request, root: Element) -> SyncRequest:
    token = (root.findtext(xml.DAV + "sync-token") or "").strip()
    level = (root.findtext(xml.DAV + "sync-level") or "").strip().lower()
    depth = request.depth(("0", "1", "infinity"), "0")
    if not level:
        level = "infinite" if depth == "infinity" else depth  # clients of the draft said it by Depth
    if level not in ("1", "infinite"):
        raise InvalidInput("sync-level is 1 or infinite")
    prop = root.find(xml.DAV + "prop")
    if prop is None:
        raise InvalidInput("sync-collection needs a prop element")
    count = root.findtext(f"{xml.DAV}limit/{xml.DAV}nresults")
    if count is not None and (not _NUMBER.fullmatch(count.strip()) or int(count.strip()) < 1):
        raise InvalidInput("nresults is a number from 1 on, of 18 digits at most")
    return SyncRequest(token, level == "infinite", min(int((count or str(PAGE)).strip()), PAGE), Wanted(names_in(prop)))


def _responses(request: Request, volume: Volume, page: ChangePage, wanted: Wanted) -> Iterator[str]:
    name, top = volume.info.name, request.target.path
    if page.truncated:  # RFC 6578, 3.6
        yield (
            f"<D:response><D:href>{xml.escape(request.href_of(top, collection=True))}</D:href>"
            "<D:status>HTTP/1.1 507 Insufficient Storage</D:status>"
            "<D:error><D:number-of-matches-within-limits/></D:error></D:response>\n"
        )
    for below, entry in page.members.items():
        path = (*top, *below)
        if entry is None:
            gone = xml.escape(request.href_of(path, collection=False))
            yield f"<D:response><D:href>{gone}</D:href><D:status>HTTP/1.1 404 Not Found</D:status></D:response>\n"
            continue
        yield wanted.response(
            Subject(
                entry,
                request.href_of(path, entry.is_directory),
                path[-1],
                volume.properties(entry) if wanted.dead else {},
                tuple(volume.locks(path)) if wanted.locks else (),
                name,
                volume.quota() if wanted.quota and entry.is_directory else None,
                volume.digests(entry) if wanted.digests else (),
                page.token if entry.is_directory else "",
                request.base,
            )
        )
