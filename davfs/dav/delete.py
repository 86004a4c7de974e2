"""DELETE (RFC 4918, 9.6): a file, or a whole collection at once."""

from __future__ import annotations

from davfs.cluster.api import Volume
from davfs.core.errors import Forbidden
from davfs.dav import conditions
from davfs.dav.request import Request, Response


def delete(request: Request, volume: Volume) -> Response:
    """Delete what is at the path, with all its members and their locks."""
    path = request.target.path
    if not path:
        raise Forbidden("a volume is deleted with 'davfs volume delete', not over WebDAV")
    condition = conditions.of(request, volume, path)
    request.depth_of_all(lambda: (entry := volume.lookup(path)) is not None and entry.is_directory)
    with conditions.before_not_found(condition):
        volume.delete(path, condition=condition, caller=request.caller())
    return Response.empty(204)
