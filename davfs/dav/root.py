"""The address ``/``: the volumes of the drive as collections, read-only."""

from __future__ import annotations

from collections.abc import Iterator

from davfs.core.errors import Forbidden
from davfs.core.model import DIRECTORY, ROOT, Entry
from davfs.dav import conditions
from davfs.dav.access import Access
from davfs.dav.properties import Subject, Wanted
from davfs.dav.propfind import check_depth, multistatus, read_wanted
from davfs.dav.request import Request, Response
from davfs.dav.target import href


class RootHandler:
    """Answers for ``/``, with the volumes that exist for who asks.

    ``started_ns``: what it shows as its time; volumes have none of their own here.
    """

    def __init__(self, access: Access, started_ns: int) -> None:
        self._access = access
        self._entry = Entry(
            inode=ROOT, parent="", name="", kind=DIRECTORY, version="", created_ns=started_ns, mtime_ns=started_ns
        )

    def handle(self, request: Request) -> Response:
        """PROPFIND and HEAD; everything that would change the list is refused."""
        if request.method == "HEAD":
            return Response(200, [*conditions.validators(self._entry), ("Content-Type", "text/html; charset=utf-8")])
        if request.method == "PROPFIND":
            wanted = read_wanted(request)
            return multistatus(self._responses(request, wanted, check_depth(request, collection=True)))
        raise Forbidden("the list of volumes is changed with 'davfs volume create' and 'delete', not over WebDAV")

    def _responses(self, request: Request, wanted: Wanted, depth: str) -> Iterator[str]:
        yield wanted.response(Subject(self._entry, href(None, (), True, request.base), ""))
        if depth == "1":
            for volume in self._access.volumes(request):
                own = href(volume.name, (), True, request.base)
                yield wanted.response(Subject(self._entry, own, volume.name))
