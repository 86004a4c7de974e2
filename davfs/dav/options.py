"""OPTIONS (RFC 9110, 9.3.7; RFC 4918, 10.1): what this server can do, the same for every resource."""

from __future__ import annotations

from davfs.dav import tus
from davfs.dav.errors import ALLOW
from davfs.dav.partial import UPDATE_TYPE
from davfs.dav.request import Request, Response


def options(request: Request) -> Response:
    """The compliance classes and methods. Windows wants MS-Author-Via, Finder wants class 2."""
    return Response.empty(
        200,
        [
            ("DAV", "1, 2, 3, sabredav-partialupdate"),
            ("MS-Author-Via", "DAV"),
            ("Allow", ALLOW),
            ("Accept-Ranges", "bytes"),
            ("Accept-Patch", UPDATE_TYPE),
            *tus.discovery(),
        ],
    )
