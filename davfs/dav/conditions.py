"""Conditions of requests: If-Match and its kin (RFC 9110, 13) and the If header (RFC 4918, 10.4), made into one check.

The check is run by the volume, under the gate of the path, against the state that the change will be applied to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from davfs.cluster.api import Condition, Volume
from davfs.core.errors import AlreadyExists, DavfsError, InvalidInput, NotFound, PreconditionFailed
from davfs.core.model import Entry, Path
from davfs.dav.dates import SECOND, http_date, parse_http_date
from davfs.dav.errors import NotModified
from davfs.dav.if_header import State
from davfs.dav.request import Headers, Request
from davfs.dav.target import host_name, parse_target

_ETAG = re.compile(r'[ \t,]*+(?:((?:W/)?"[^"]*")|([^, \t]++))')  # nothing is tried twice: a field has up to 64 KiB


def quoted_etag(entry: Entry) -> str | None:
    """The etag as headers and properties show it, None when there is none."""
    return f'"{entry.etag}"' if entry.etag else None


def validators(entry: Entry) -> Headers:
    """ETag and Last-Modified of an entry."""
    headers: Headers = [("Last-Modified", http_date(entry.mtime_ns))]
    etag = quoted_etag(entry)
    if etag:
        headers.insert(0, ("ETag", etag))
    return headers


def of(request: Request, volume: Volume, path: Path, *, file_only: bool = False) -> Condition:
    """The check for a request whose resource is at ``path``. It raises PreconditionFailed, or NotModified for reads.

    ``file_only``: also refuse a collection (PUT). Malformed headers are refused here already.
    """
    conditional = request.if_header is not None or any(
        request.header(name) for name in ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
    )

    def check(entry: Entry | None) -> None:
        request.recheck()  # an upload may last longer than its account's role
        if file_only and entry is not None and entry.is_directory:
            raise AlreadyExists("a collection has that name; a file cannot be put over it")
        if conditional:
            _check_if(request, volume, path, entry)
            check_preconditions(request, entry)

    return check


@contextmanager
def before_not_found(condition: Condition) -> Iterator[None]:
    """Where there is nothing, a condition that fails on nothing (412) comes before NotFound.

    Not asked beforehand: the volume first looks whether it has answered this very request already.
    """
    try:
        yield
    except NotFound:
        condition(None)
        raise


def check_preconditions(request: Request, entry: Entry | None) -> None:
    """RFC 9110, section 13.2.2, in its order."""
    reads = request.method in ("GET", "HEAD")
    etag = quoted_etag(entry) if entry is not None else None
    if_match = request.header("If-Match")
    if if_match is not None:
        if not _matches(if_match, entry, etag, weak=False):
            raise PreconditionFailed("If-Match: the file is not the one that you know")
    else:
        since = parse_http_date(request.header("If-Unmodified-Since"))
        if since is not None and (entry is None or entry.mtime_ns // SECOND > since):
            raise PreconditionFailed("If-Unmodified-Since: the file was changed meanwhile")
    if_none_match = request.header("If-None-Match")
    if if_none_match is not None:
        if _matches(if_none_match, entry, etag, weak=True):
            if reads and entry is not None:
                raise NotModified(validators(entry))
            raise PreconditionFailed("If-None-Match: there is one already")
    elif reads and entry is not None:
        since = parse_http_date(request.header("If-Modified-Since"))
        if since is not None and entry.mtime_ns // SECOND <= since:
            raise NotModified(validators(entry))


def range_applies(request: Request, entry: Entry) -> bool:
    """Whether Range is to be honoured, as far as If-Range goes (RFC 9110, 13.1.5: strong comparison, exact date)."""
    text = request.header("If-Range")
    if text is None:
        return True
    text = text.strip()
    if text.startswith(('"', "W/")):
        return text == quoted_etag(entry)
    since = parse_http_date(text)
    return since is not None and since == entry.mtime_ns // SECOND


def _matches(header: str, entry: Entry | None, etag: str | None, *, weak: bool) -> bool:
    if entry is None:
        return False
    if header.strip() == "*":
        return True
    if etag is None:
        return False
    for quoted, bare in _ETAG.findall(header.strip(" \t,")):
        value = quoted or f'"{bare}"'  # some clients forget the quotes
        if value == etag or (weak and value.removeprefix("W/") == etag):
            return True
    return False


def _check_if(request: Request, volume: Volume, path: Path, entry: Entry | None) -> None:
    header = request.if_header
    if header is None:
        return

    def state_of(tag: str | None) -> State:
        if tag is None:
            return _state(volume, path, entry)
        try:
            target = parse_target(tag, request.prefix)
        except InvalidInput:
            return State(None, frozenset())
        if "://" in tag and host_name(tag.partition("://")[2].partition("/")[0]) not in request.hosts():
            return State(None, frozenset())
        if target.volume != request.target.volume:
            return State(None, frozenset())
        same = target.path == path
        return _state(volume, target.path, entry if same else _lookup(volume, target.path))

    if not header.holds(state_of):
        raise PreconditionFailed("If: none of its lists holds for the resources as they are")


def _lookup(volume: Volume, path: Path) -> Entry | None:
    try:
        return volume.lookup(path)
    except DavfsError as error:
        if error.status >= 500:
            raise
        return None


def _state(volume: Volume, path: Path, entry: Entry | None) -> State:
    etag = quoted_etag(entry) if entry is not None else None
    return State(etag, frozenset(lock.token for lock in volume.locks(path)))
