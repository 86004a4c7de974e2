"""Parts of files: PATCH with X-Update-Range (SabreDAV's partial update) and PUT with Content-Range (RFC 9110, 14.5).

The part is written in place, through the same flow as a program's writes at positions: only the chunks that it touches are
new, and a reader sees all of it or nothing.
"""

from __future__ import annotations

import re

from davfs.cluster.api import PartPlace, Volume
from davfs.core.digests import HEX_LENGTH
from davfs.core.errors import Forbidden, InvalidInput
from davfs.dav import checksums, conditions
from davfs.dav.errors import Refused
from davfs.dav.request import Request, Response

UPDATE_TYPE = "application/x-sabredav-partialupdate"
_UPDATE_RANGE = re.compile(r"bytes\s*=\s*(?:-(\d{1,18})|(\d{1,18})-(\d{0,18}))")
_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


def patch(request: Request, volume: Volume) -> Response:
    """Write the body where X-Update-Range says: ``bytes=3-6``, ``bytes=3-``, ``bytes=-4`` (from the end) or ``append``."""
    algorithm = request.header("X-Recalculate-Hash")
    if algorithm is not None:
        return _recalculate(request, volume, algorithm)
    content_type = str(request.environ.get("CONTENT_TYPE") or "").partition(";")[0].strip().lower()
    if content_type != UPDATE_TYPE:
        raise Refused(415, f"PATCH takes a body of type {UPDATE_TYPE}")
    place, length = _update_range(request)
    return _write(request, volume, place, length)


def put_range(request: Request, volume: Volume, header: str) -> Response:
    """Write the body where Content-Range says. The file must be there."""
    parts = _CONTENT_RANGE.fullmatch(header.strip().lower())
    if parts is None:
        raise InvalidInput("Content-Range of a PUT is 'bytes FIRST-LAST/LENGTH', LENGTH may be '*'")
    first, last = int(parts[1]), int(parts[2])
    length = _length(request)
    if last < first or length != last - first + 1:
        raise InvalidInput("Content-Range does not have as many bytes as the body")
    if parts[3] != "*":
        entry = volume.lookup(request.target.path)
        whole = int(parts[3])
        if whole <= last or (entry is not None and entry.size > whole):
            size = entry.size if entry is not None else 0
            raise Refused(416, f"the file has {size} bytes: it cannot have {whole} with these in it")
    return _write(request, volume, PartPlace(first), length)


def _write(request: Request, volume: Volume, place: PartPlace, length: int) -> Response:
    path = request.target.path
    if not path:
        raise Forbidden("a collection has no content")
    condition = conditions.of(request, volume, path)
    try:
        if place.from_end and place.position:
            entry = volume.lookup(path)
            place.start(entry.size if entry is not None else place.position)
    except InvalidInput as error:
        raise Refused(416, error.message) from error
    with conditions.before_not_found(condition):
        entry = volume.write_part(
            path,
            place,
            checksums.checked(request),
            length,
            mtime_ns=request.mtime_ns(),
            condition=condition,
            caller=request.caller(),
        )
    return Response.empty(204, [*conditions.validators(entry), *request.mtime_headers()])


def _recalculate(request: Request, volume: Volume, algorithm: str) -> Response:
    """Nextcloud's way to have a file's checksum worked out by the server; rclone asks when a file has none."""
    name = algorithm.strip().upper()
    if name not in HEX_LENGTH:
        raise InvalidInput(f"X-Recalculate-Hash is one of {', '.join(HEX_LENGTH).lower()}")
    path = request.target.path
    condition = conditions.of(request, volume, path)
    with conditions.before_not_found(condition):
        digests = dict(volume.keep_digests(path, [name], condition=condition, caller=request.caller()))
    return Response.empty(204, [("OC-Checksum", checksums.header_value(((name, digests[name]),)))])


def _length(request: Request) -> int:
    if request.body.length is None:
        raise Refused(411, "a part of a file needs a Content-Length")
    return request.body.length


def _update_range(request: Request) -> tuple[PartPlace, int]:
    text = request.header("X-Update-Range")
    if text is None:
        raise InvalidInput("PATCH needs a header X-Update-Range")
    length = _length(request)
    text = text.strip().lower()
    if text == "append":
        return PartPlace(0, from_end=True), length
    parts = _UPDATE_RANGE.fullmatch(text)
    if parts is None:
        raise InvalidInput("X-Update-Range is 'append', 'bytes=FIRST-LAST', 'bytes=FIRST-' or 'bytes=-COUNT'")
    if parts[1] is not None:
        return PartPlace(int(parts[1]), from_end=True), length
    first = int(parts[2])
    if parts[3] and int(parts[3]) - first + 1 != length:
        raise Refused(416, "X-Update-Range does not have as many bytes as the body")
    return PartPlace(first), length
