"""PUT (RFC 9110, 9.3.4; RFC 4918, 9.7): the file appears complete or not at all."""

from __future__ import annotations

from davfs.cluster.api import Volume
from davfs.core.errors import AlreadyExists
from davfs.dav import checksums, conditions
from davfs.dav.errors import Refused
from davfs.dav.partial import put_range
from davfs.dav.request import Request, Response


def put(request: Request, volume: Volume) -> Response:
    """Replace or create a file."""
    path = request.target.path
    if not path:
        raise AlreadyExists("a volume is a collection; a file cannot be put over it")
    content_range = request.header("Content-Range")
    if content_range is not None:
        return put_range(request, volume, content_range)
    if request.target.slash:
        raise Refused(409, "the address of a file does not end with a slash; use MKCOL to make a collection")
    entry, created = volume.put(
        path,
        request.body.read,
        request.body.length,
        mtime_ns=request.mtime_ns(),
        condition=conditions.of(request, volume, path, file_only=True),
        caller=request.caller(),
        digests=checksums.announced(request),
    )
    headers = [*conditions.validators(entry), *request.mtime_headers()]
    return Response.empty(201 if created else 204, headers)
