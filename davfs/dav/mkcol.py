"""MKCOL (RFC 4918, 9.3)."""

from __future__ import annotations

from davfs.cluster.api import Volume
from davfs.core.errors import AlreadyExists
from davfs.dav import conditions
from davfs.dav.errors import Refused
from davfs.dav.request import Request, Response


def mkcol(request: Request, volume: Volume) -> Response:
    """Make a collection. A body of any kind is not understood (415)."""
    path = request.target.path
    if request.body.read(1):
        raise Refused(415, "MKCOL takes no body")
    if not path:
        raise AlreadyExists("the volume exists already")
    volume.mkcol(
        path,
        condition=conditions.of(request, volume, path),
        caller=request.caller(),
        mtime_ns=request.mtime_ns(),
    )
    return Response.empty(201, request.mtime_headers())
